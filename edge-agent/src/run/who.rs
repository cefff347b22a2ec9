//! As whom does this agent run, and for which hub? A board that has joined has an identity; one beside its
//! hub may be told the hub's key and come in plain; one that was given a token joins first.

use std::rc::Rc;

use anyhow::{Context as _, bail};
use contract::AgentId;
use ed25519_dalek::VerifyingKey;
use tokio::runtime::Runtime;
use transport::{Credentials, Endpoint, Prefix};

use super::args::{RunArgs, agent_id};
use super::link::To;
use super::{read_key, read_token};
use crate::identity::join::{join_patiently, take_file};
use crate::identity::store::PendingJoin;
use crate::identity::{Identity, IdentityDir, Trust, wipe};

pub struct Who {
    pub agent: AgentId,
    pub to: To,
    pub prefix: Prefix,
    pub hub_key: VerifyingKey,
    /// In words.
    pub broker: String,
}

pub fn find(args: &RunArgs, runtime: &Runtime) -> anyhow::Result<Who> {
    let dir = IdentityDir::new(&args.place.state_dir);
    let identity = match (dir.identity()?, begun(args, &dir)?) {
        (Some(identity), _) => identity,
        (None, Some(pending)) => first(args, &dir, pending, runtime)?,
        (None, None) => return plain(args, &dir),
    };
    let prefix = identity.enrolment.prefix.parse().context("identity.json: prefix")?;
    let (agent, hub_key) = (identity.enrolment.agent.clone(), identity.hub_key()?);
    let broker = identity.enrolment.broker.clone().unwrap_or_else(|| identity.hubs.join(", "));
    let trust = Rc::new(Trust::open(&args.place.state_dir, identity)?);
    Ok(Who { agent, to: To::Joined(trust), prefix, hub_key, broker })
}

/// Beside its hub, with the hub's key instead of an identity.
fn plain(args: &RunArgs, dir: &IdentityDir) -> anyhow::Result<Who> {
    if let Some(reason) = dir.decommissioned() {
        // The power may have gone while it was wiped.
        wipe::data(&args.place.state_dir)?;
        bail!("this board was decommissioned ({reason}); edge-agent join makes it another's");
    }
    let Some(file) = &args.hub_key else {
        bail!(
            "this board has not joined a hub: edge-agent join <token>, with a token of 'hub join-token create'; for a hub on this machine --hub-key does without"
        );
    };
    let agent = agent_id(&args.id).map_err(anyhow::Error::msg)?;
    let endpoint = Endpoint::parse(&args.broker, false).context("--broker")?;
    let password = args.token_file.as_deref().map(read_token).transpose().context("--token-file")?;
    let credentials = password.map(|password| Credentials { username: agent.to_string(), password });
    Ok(Who {
        to: To::Plain(endpoint, credentials),
        prefix: args.prefix.parse().context("--prefix")?,
        hub_key: read_key(file).context("--hub-key")?,
        broker: args.broker.clone(),
        agent,
    })
}

/// A join that is not finished, or one that lies on the card.
fn begun(args: &RunArgs, dir: &IdentityDir) -> anyhow::Result<Option<PendingJoin>> {
    match (dir.identity()?, dir.pending()?) {
        (Some(_), _) => Ok(None),
        (None, Some(pending)) => Ok(Some(pending)),
        (None, None) => take_file(dir, args.join_file.as_deref()),
    }
}

/// A board without an identity has no work yet: nothing waits for this.
fn first(
    args: &RunArgs,
    dir: &IdentityDir,
    mut pending: PendingJoin,
    runtime: &Runtime,
) -> anyhow::Result<Identity> {
    pending.id = pending.id.or_else(|| args.id.clone());
    let _lock = dir.lock()?;
    runtime.block_on(join_patiently(dir, &pending))
}
