//! `edge-agent join`: one attempt now; what is left of it the agent goes on with by itself.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use contract::AgentId;
use contract::identity::JoinToken;

use super::join::{JoinError, Joined, join};
use super::store::{IdentityDir, PendingJoin, key_digest};

#[derive(Debug, Args)]
#[command(after_help = "\
The token comes from 'hub join-token create' and says where the hub is. The board's key is made here and
never leaves. Begun and not finished (no network, not approved yet), 'edge-agent run' goes on with it.
Exit code: 0 joined, 3 waits to be approved, 1 anything else.")]
pub struct JoinArgs {
    /// The token; before it, if it has moved, where the hub is (host:port)
    #[arg(required = true, num_args = 1..=2, value_names = ["HUB", "TOKEN"])]
    words: Vec<String>,
    /// The board's name in the fleet, unless the hub expects it under another. The host name when left out
    #[arg(long)]
    id: Option<AgentId>,
    /// Leave the present identity and make a new key
    #[arg(long)]
    new_key: bool,
    #[command(flatten)]
    place: crate::cli::StateDir,
}

/// Joined, but for an operator's word.
const EXIT_WAITS: u8 = 3;

pub fn main(args: JoinArgs) -> anyhow::Result<ExitCode> {
    let pending = read(&args)?;
    let dir = IdentityDir::new(&args.place.state_dir);
    let _lock = dir.lock()?;
    if args.new_key {
        dir.forget_key()?;
    } else if let Some(present) = dir.identity()?
        && present.hub_key.trim() != pending.token()?.key.trim()
    {
        bail!("this board is {} of another hub; --new-key leaves that", present.enrolment.agent);
    }
    dir.write_pending(&pending)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(join(&dir, &pending)) {
        Ok(Joined::Yes(identity)) => {
            let key = key_digest(&dir.key()?).hex()[..16].to_string();
            println!("joined {} as {} (key {key})", identity.hubs.join(", "), identity.enrolment.agent);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Joined::Waits(agent)) => {
            println!(
                "{agent} waits to be approved: hub agents approve {agent}; 'edge-agent run' goes on asking"
            );
            Ok(ExitCode::from(EXIT_WAITS))
        }
        Err(why @ JoinError::Unreachable(_)) => {
            bail!("{why}; 'edge-agent run' goes on trying")
        }
        Err(why) => bail!("{why}"),
    }
}

fn read(args: &JoinArgs) -> anyhow::Result<PendingJoin> {
    let (tokens, hubs): (Vec<&String>, Vec<&String>) =
        args.words.iter().partition(|word| word.parse::<JoinToken>().is_ok());
    let [token] = tokens[..] else {
        bail!("{}", contract::identity::TokenError);
    };
    let hub = hubs.first().map(|hub| hub.trim_start_matches("https://").trim_end_matches('/').to_string());
    if let Some(hub) = &hub {
        transport::Endpoint::tls(hub).map_err(|_| anyhow::anyhow!("'{hub}' is not host:port"))?;
    }
    Ok(PendingJoin { token: token.clone(), id: args.id.clone(), hub })
}
