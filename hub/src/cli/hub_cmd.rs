//! The commands about the hub itself: status, restore.

use clap::{Args, Subcommand};
use hub_core::api::Answer;
use hub_core::view::StatusView;

use super::client::Client;
use super::exit::{Code, Done, Failure};
use super::style::{Color, paint};

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[arg(short, long)]
    output: Option<super::describe::JsonOnly>,
}

pub fn status(client: &Client, args: &StatusArgs) -> Done {
    if args.output.is_some() {
        let value: serde_json::Value = client.get("/v1/status")?;
        say!("{}", serde_json::to_string_pretty(&value).unwrap_or_default());
        return Ok(());
    }
    let s: StatusView = client.get("/v1/status")?;
    let up = if s.broker.up { paint("up", Color::Green) } else { paint("down", Color::Red) };
    say!("Hub           {} {} (key {})", client.context.hub, s.hub_version, s.fingerprint);
    say!("Store         version {}, term {}, lineage {}", s.version, s.term, s.lineage);
    say!(
        "Broker        {} {}, {up}{}",
        s.broker.kind,
        s.broker.url,
        s.broker.reason.map_or_else(String::new, |r| format!(" ({r})"))
    );
    let a = &s.agents;
    let mut parts = vec![format!("{} online", a.online)];
    for (count, word) in [
        (a.offline, "offline"),
        (a.unknown, "unknown"),
        (a.duplicate, "duplicate"),
        (a.floor_conflict, "in floor conflict (see 'hub restore --help')"),
        (a.other_lineage, "of another lineage (see 'hub restore --help')"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    say!("Agents        {} in all: {}", a.total, parts.join(", "));
    say!("Workloads     {}", s.workloads);
    if s.rejected > 0 {
        let counts: Vec<String> = s.refused.iter().map(|(why, n)| format!("{n} {}", why.word())).collect();
        say!("Refused       {} messages of agents: {}", s.rejected, counts.join(", "));
    }
    if let Some(last) = s.last_rejected {
        say!("              the last: {last}");
    }
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// Make this hub's store the truth for boards that have seen a newer or another one
    #[command(after_help = "\
After a restore from an old copy, boards have seen more than the hub: they keep what they run, the hub
publishes nothing to them, and 'hub agents' shows 'floor-conflict'. After a lost store they show
'other-lineage'. Bring the workloads up to date first (hub apply), then accept:
  hub restore accept
  hub restore accept --lineage 3f0c…   take over the fleet of a lost store (same signing key)")]
    Accept {
        /// The lineage to take over, as 'hub describe agent' shows it
        #[arg(long)]
        lineage: Option<contract::Lineage>,
        /// Do it although this hub has no workloads: the boards will then stop theirs
        #[arg(long)]
        yes: bool,
    },
}

pub fn restore(client: &Client, command: &RestoreCommand) -> Done {
    let RestoreCommand::Accept { lineage, yes } = command;
    let status: StatusView = client.get("/v1/status")?;
    if status.workloads == 0 && !yes {
        let text = "this hub has no workloads: accepting would stop everything on the boards. Apply the manifests first, or add --yes";
        return Err(Failure::new(Code::Usage, text));
    }
    let body = match lineage {
        Some(lineage) => serde_json::json!({"lineage": lineage}),
        None => serde_json::json!({}),
    };
    let _: Answer = client.post("/v1/restore/accept", "application/json", body.to_string().as_bytes())?;
    say!("accepted: this hub's store is the truth; every board gets its document anew");
    Ok(())
}
