//! What a broker has to be told so that it lets each client do what is its own, and nothing else: the same
//! rules that the embedded one keeps (`hub/broker/src/access.rs`), in another broker's words.

use std::fmt::Write as _;

use clap::{Subcommand, ValueEnum};
use contract::AgentId;
use transport::Prefix;
use transport::topic::{agent_filters, agent_says, hub_filters, hub_says};

use super::exit::Done;

#[derive(Debug, Subcommand)]
pub enum BrokerCommand {
    /// The access rules for a broker of your own
    #[command(after_help = "\
Mosquitto takes the user name from a client's certificate, if its listener says so:

  listener 8883
  cafile /etc/mosquitto/skerry-ca.crt      # hub ca show
  certfile /etc/mosquitto/broker.crt
  keyfile /etc/mosquitto/broker.key
  require_certificate true
  use_identity_as_username true
  allow_anonymous false
  acl_file /etc/mosquitto/skerry.acl
  max_packet_size 249856

  hub broker acl --format mosquitto > /etc/mosquitto/skerry.acl")]
    Acl(AclArgs),
}

#[derive(Debug, clap::Args)]
pub struct AclArgs {
    #[arg(long, value_enum, default_value = "mosquitto")]
    format: Format,
    /// What all topics begin with, as the hub was told.
    #[arg(long, default_value = "skerry/v1")]
    prefix: Prefix,
    /// The name in the certificate that the hub shows this broker (--broker-cert), or its --broker-user.
    #[arg(long, value_name = "NAME", default_value = "$hub", value_parser = user)]
    hub_user: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Mosquitto,
}

/// A name with a space in it, or a line's end, would be another rule.
fn user(text: &str) -> Result<String, String> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    // A board of that name would be the hub.
    let board = text.parse::<AgentId>().is_ok();
    match plain && !board {
        true => Ok(text.to_string()),
        false => {
            Err("printable characters without spaces, and no name that a board may have: $hub, say".into())
        }
    }
}

pub fn run(command: BrokerCommand) -> Done {
    let BrokerCommand::Acl(args) = command;
    match args.format {
        Format::Mosquitto => say!("{}", mosquitto(&args.prefix, &args.hub_user).trim_end()),
    }
    Ok(())
}

fn mosquitto(prefix: &Prefix, hub: &str) -> String {
    let mut text = String::from(
        "# Who may hear and say what. The user is the name in a client's certificate (use_identity_as_username).\n\
         # The hub.\n",
    );
    let mut line = |rule: &str, topic: &str| {
        let _ = writeln!(text, "{rule} {topic}");
    };
    line("user", hub);
    hub_filters(prefix).iter().for_each(|topic| line("topic read", topic));
    hub_says(prefix).iter().for_each(|topic| line("topic write", topic));
    line("#", "each board: its own, %u being its name, and the hub's announcement");
    let own = |topic: &String| topic.replace(&format!("/agents/{EXAMPLE}/"), "/agents/%u/");
    let example: AgentId = EXAMPLE.parse().expect("a legal name");
    agent_filters(prefix, &example).iter().map(own).for_each(|topic| line("pattern read", &topic));
    agent_says(prefix, &example).iter().map(own).for_each(|topic| line("pattern write", &topic));
    text
}

/// Stands for any board while the rules are printed.
const EXAMPLE: &str = "each-board";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_embedded_broker_in_mosquittos_words() {
        let text = mosquitto(&"board/agents".parse().unwrap(), "$hub");
        for line in [
            "user $hub",
            "topic read board/agents/agents/+/presence",
            "topic write board/agents/agents/+/desired",
            "topic write board/agents/hub",
            "pattern read board/agents/agents/%u/desired",
            "pattern read board/agents/hub",
            "pattern write board/agents/agents/%u/reply/+",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(!text.contains("each-board"), "{text}");
        assert!(
            !text.contains("topic readwrite") && !text.contains('#')
                || text.lines().all(|l| { l.starts_with('#') || !l.contains('#') })
        );
    }

    #[test]
    fn no_name_of_the_hub_is_a_boards_or_another_rule() {
        for wrong in ["", "a b", "x\ntopic readwrite #", "board-1"] {
            assert!(user(wrong).is_err(), "{wrong}");
        }
        assert_eq!(user("$hub").unwrap(), "$hub");
        assert!(user("hub.skerry.internal").is_ok());
    }
}
