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
use super::facts::{Agent, Broker, Facts, Given};
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
    let key = args.hub_key.as_deref().map(read_key);
    let verifying: Option<VerifyingKey> = key.as_ref().and_then(|k| k.as_ref().ok()).copied();
    let token = args.token_file.as_deref().map(read_token);
    let id = agent.status().map(|s| Ok(s.agent.clone())).unwrap_or_else(|| agent_id(&args.id));
    let broker = broker(&args, &agent, &id, verifying.as_ref(), token.as_ref().and_then(|t| t.as_ref().ok()));
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
        token: given(token),
        documents: documents::on_disk(&state.join("desired"), verifying.as_ref()),
        broker,
        unit: unit::unit(holder),
        engine: wasm::native_engine().to_string(),
    }
}

fn ask(run: &Path, holder: Option<u32>) -> Agent {
    match crate::status::ask(run).and_then(|text| crate::status::read(&text)) {
        Ok(answer) => Agent::Answers { status: Box::new(answer.agent), store_waits: answer.store_waits },
        Err(why) => Agent::Silent { holder, why: format!("{why:#}") },
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
    key: Option<&VerifyingKey>,
    token: Option<&String>,
) -> Broker {
    if !matches!(agent, Agent::Silent { holder: None, .. }) {
        return Broker::NotTried;
    }
    let Some(url) = args.broker.clone() else { return Broker::NotTried };
    let asked = match id {
        Ok(id) => network::ask(&url, &args.prefix, id, &args.state.state_dir, key, token),
        Err(why) => Err(why.clone()),
    };
    asked.unwrap_or_else(|why| Broker::Refused { url, why })
}

impl BoardArgs {
    /// What was not said here is as the running agent was told.
    fn fill_from(&mut self, running: &RunArgs) {
        let absolute = |path: &std::path::PathBuf| path.is_absolute().then(|| path.clone());
        self.broker.get_or_insert_with(|| running.broker.clone());
        self.hub_key = self.hub_key.take().or_else(|| absolute(&running.hub_key));
        self.token_file = self.token_file.take().or_else(|| running.token_file.as_ref().and_then(absolute));
        if self.allow_missing_cgroup.is_empty() {
            self.allow_missing_cgroup = running.allow_missing_cgroup.clone();
        }
        self.allow_missing_seccomp |= running.allow_missing_seccomp;
    }
}
