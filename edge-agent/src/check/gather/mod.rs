//! Looks at the board, changing nothing: files and kernel tables, the agent through its socket, the
//! broker only when no agent has a session there. Every wait has an end.

mod command;
mod disk;
mod documents;
mod network;
mod system;
mod unit;

use std::path::Path;

use contract::AgentId;
use ed25519_dalek::VerifyingKey;

use super::args::BoardArgs;
use super::facts::{Agent, Broker, Facts, Given, Joined};
use crate::identity::trust::Way;
use crate::identity::{IdentityDir, Trust};
use crate::run::{RunArgs, agent_id, read_key, read_token};

pub use command::output_within;
pub use system::system;

pub fn gather(args: &BoardArgs) -> Facts {
    let (state, run) = (&args.state.state_dir, &args.run.run_dir);
    let holder = disk::holder(&state.join("lock"));
    let agent = ask(run, holder);
    let mut args = args.clone();
    if let Some(running) = holder.and_then(system::run_args_of) {
        args.fill_from(&running);
    }
    let (way, identity) = identity(state, &agent);
    let key = match (&args.hub_key, IdentityDir::new(state).identity()) {
        (Some(file), _) => Some(read_key(file)),
        (None, Ok(Some(identity))) => Some(identity.hub_key()),
        (None, _) => None,
    };
    let verifying: Option<VerifyingKey> = key.as_ref().and_then(|k| k.as_ref().ok()).copied();
    let token = args.token_file.as_deref().map(read_token);
    let id = agent.status().map(|s| Ok(s.agent.clone())).unwrap_or_else(|| agent_id(&args.id));
    let broker =
        broker(&args, &agent, &id, way, verifying.as_ref(), token.as_ref().and_then(|t| t.as_ref().ok()));
    let store = state.join("store");
    Facts {
        system: system(),
        controllers: system::controllers(),
        allowed_missing: args.allow_missing_cgroup.clone(),
        allowed_missing_seccomp: args.allow_missing_seccomp,
        state: disk::dir(state),
        run: disk::dir(run),
        reserve_bytes: std::fs::metadata(store.join("reserve")).ok().map(|m| m.len()),
        has_store: store.is_dir(),
        set_aside: disk::set_aside(state),
        wall_ms: disk::unix_ms(std::time::SystemTime::now()),
        newest_record_ms: disk::newest_record_ms(state),
        agent,
        hub_key: given(key),
        identity,
        token: given(token),
        documents: documents::on_disk(&state.join("desired"), verifying.as_ref()),
        broker,
        unit: unit::unit(holder),
        engine: wasm::native_engine().to_string(),
    }
}

fn ask(run: &Path, holder: Option<u32>) -> Agent {
    match crate::status::ask(run).and_then(|text| crate::status::read(&text)) {
        Ok(answer) => Agent::Answers {
            status: Box::new(answer.agent),
            store_waits: answer.store_waits,
            identity: answer.identity.map(Box::new),
        },
        Err(why) => Agent::Silent { holder, why: format!("{why:#}") },
    }
}

/// As whom a board that has joined comes, and what is known of that.
fn identity(state: &Path, agent: &Agent) -> (Option<Way>, Joined) {
    let dir = IdentityDir::new(state);
    if let Agent::Answers { identity: Some(view), .. } = agent {
        return (None, Joined::Yes(view.clone()));
    }
    match dir.identity() {
        Ok(Some(identity)) => match Trust::open(state, identity) {
            Ok(trust) => (trust.way().ok(), Joined::Yes(Box::new(trust.view()))),
            Err(why) => (None, Joined::Bad(format!("{why:#}"))),
        },
        Ok(None) => match (dir.pending(), dir.decommissioned()) {
            (Ok(Some(_)), _) => (None, Joined::Begun),
            (_, Some(reason)) => (None, Joined::Bad(format!("this board was decommissioned: {reason}"))),
            _ => (None, Joined::No),
        },
        Err(why) => (None, Joined::Bad(format!("{why:#}"))),
    }
}

fn given<T>(file: Option<anyhow::Result<T>>) -> Given {
    match file {
        None => Given::LeftOut,
        Some(Ok(_)) => Given::Usable,
        Some(Err(why)) => Given::Bad(format!("{why:#}")),
    }
}

/// An agent that runs has the session; another one under its name would only disturb.
fn broker(
    args: &BoardArgs,
    agent: &Agent,
    id: &Result<AgentId, String>,
    way: Option<Way>,
    key: Option<&VerifyingKey>,
    token: Option<&String>,
) -> Broker {
    if !matches!(agent, Agent::Silent { holder: None, .. }) {
        return Broker::NotTried;
    }
    let (url, way) = match (&args.broker, way) {
        (Some(url), _) => (url.clone(), network::plain(url, id, token)),
        (None, Some(way)) => (way.endpoint.to_string(), Ok(way.into())),
        (None, None) => return Broker::NotTried,
    };
    let asked = match id {
        Ok(id) => way.and_then(|way| network::ask(&url, way, &args.prefix, id, &args.state.state_dir, key)),
        Err(why) => Err(why.clone()),
    };
    asked.unwrap_or_else(|why| Broker::Refused { url, why })
}

impl BoardArgs {
    /// What was not said here is as the running agent was told.
    fn fill_from(&mut self, running: &RunArgs) {
        let absolute = |path: &std::path::PathBuf| path.is_absolute().then(|| path.clone());
        // One that has joined knows its own.
        if running.hub_key.is_some() {
            self.broker.get_or_insert_with(|| running.broker.clone());
        }
        self.hub_key = self.hub_key.take().or_else(|| running.hub_key.as_ref().and_then(absolute));
        self.token_file = self.token_file.take().or_else(|| running.token_file.as_ref().and_then(absolute));
        if self.allow_missing_cgroup.is_empty() {
            self.allow_missing_cgroup = running.allow_missing_cgroup.clone();
        }
        self.allow_missing_seccomp |= running.allow_missing_seccomp;
    }
}
