//! `edge-agent run`: gathers what is on the board, starts the loop, and touches the network last.

mod args;
mod artifacts;
mod board;
pub(crate) mod containers;
mod contents;
mod devices;
mod driver;
mod facts;
mod fetch;
mod fetch_image;
pub(crate) mod frugal;
mod gate;
pub(crate) mod http;
pub(crate) mod images;
mod link;
mod local;
mod notes;
mod persist;
mod serve;
mod session;
mod supervisor;
mod who;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use agent_core::api::Event;
use agent_core::{Core, CoreConfig};
use anyhow::{Context as _, bail};
use contract::codec;
use ed25519_dalek::VerifyingKey;
use tokio::sync::mpsc::channel;
use tokio::task::LocalSet;
use transport::Connector;

pub use args::RunArgs;
pub(crate) use args::agent_id;
use artifacts::Artifacts;
pub(crate) use board::write_durable;
use board::{Board, Lock};
use contents::Contents;
use devices::Devices;
pub(crate) use driver::now;
use driver::{Driver, Inputs};
use gate::Gate;
use images::Images;
use link::{Link, LinkConfig, To};
use notes::Notes;
use persist::PersistThread;
use serve::ServeConfig;
use supervisor::Supervisor;
use who::Who;

use crate::cgroup::Tree;
use crate::instance::{Places, Runtime, Settings};
use crate::probe::Prober;

/// Ends of tasks waiting for the loop. Tasks wait when it is full, and nothing is lost.
const EVENTS: usize = 256;
/// Replies waiting for room in the session.
const REPLIES: usize = 8;
/// The usage and configuration errors of this command, as clap's own.
const EXIT_USAGE: u8 = 2;

pub fn main(args: RunArgs) -> ExitCode {
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-agent: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn start(args: RunArgs) -> anyhow::Result<()> {
    frugal::one_heap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Who { agent, to, prefix, hub_key, broker } = who::find(&args, &runtime)?;
    let (board, lock) = Board::open(agent, &args.place.state_dir, &args.run_dir)?;
    let parent = args.cgroup.clone().unwrap_or_else(|| format!("/skerry/{}", board.agent));
    let tree = Tree::open(&parent, &args.allow_missing_cgroup)?;
    let link = LinkConfig {
        connector: Connector::Mqtt,
        to,
        prefix,
        agent: board.agent.clone(),
        board: board.id,
        keep_alive: Duration::from_secs(args.keep_alive),
        hub_key,
    };
    // In a box: handed on by value, each hand would take its size from the stack for good.
    LocalSet::new().block_on(&runtime, Box::pin(run(args, board, lock, tree, link, broker)))
}

/// Within the runtime: everything from here on may wait.
async fn run(
    args: RunArgs,
    board: Board,
    _lock: Lock,
    tree: Tree,
    link: LinkConfig,
    broker: String,
) -> anyhow::Result<()> {
    let (events, event_queue) = channel(EVENTS);
    let (persisted, persisted_queue) = channel(EVENTS);
    let (replies, reply_queue) = channel(REPLIES);
    let hub_key = link.hub_key;
    let places = Places::new(&board.run, &board.state);
    let logs = places.log_dir.clone();
    let lacks = containers::lacks(args.allow_missing_seccomp);
    let mut settings = Settings::new(places, tree);
    settings.seccomp = containers::seccomp(args.allow_missing_seccomp);
    containers::forget_writable(&settings.places);
    let (runtime, exits) = Runtime::open(settings)?;
    let prober =
        Prober::new(runtime.settings().shim_exe.clone(), runtime.settings().places.clone(), events.clone());
    let (notes, artifacts) = (Notes::new(&board.run), Artifacts::new(&board.state));
    let images = Images::open(&board.state).map_err(|e| anyhow::anyhow!(crate::instance::told(&e)))?;
    let (store, opened) = facts::open_store(&board.state.join("store"))?;
    let mut facts = facts::gather(&args, &board, &*store, opened, &runtime, &notes, &artifacts, &hub_key)?;
    facts.artifacts.extend(images.list());
    let token = match &link.to {
        To::Plain(_, credentials) => credentials.as_ref().map(|known| known.password.clone()),
        To::Joined(_) => None,
    };
    let contents = Contents::new(&board.state, artifacts.clone(), board.agent.clone(), hub_key, token);
    facts.artifacts.extend(contents.list());
    if lacks.is_empty() {
        facts.presence.features.extend(containers::FEATURES.map(String::from));
    } else {
        eprintln!("edge-agent: containers cannot be run: {}", lacks.join("; "));
    }
    let store = PersistThread::start(store, board.state.clone(), move |report| {
        drop(persisted.blocking_send(report))
    })?;
    eprintln!("edge-agent: {} runs; state {}, broker {}", board.agent, board.state.display(), broker);
    let config = CoreConfig { connect_max_ms: args.reconnect_max * 1000, ..CoreConfig::default() };
    let trust = match &link.to {
        To::Joined(trust) => Some(Rc::clone(trust)),
        To::Plain(..) => None,
    };
    if let Some(trust) = trust.clone() {
        tokio::task::spawn_local(async move { trust.keep().await });
    }
    let identity = trust.as_ref().map(|_| board.state.clone());
    let serve = ServeConfig { logs, replies, exe: "/proc/self/exe".into(), identity };
    let driver = Driver {
        core: Core::new(config),
        gate: Gate::default(),
        link: Link::new(link),
        store,
        runtime,
        artifacts,
        contents,
        images,
        devices: Devices::default(),
        hub_key,
        trust,
        state: board.state.clone(),
        notes,
        serve,
        serving: BTreeMap::new(),
        prober,
        base_url: None,
        events,
        store_waits: None,
        supervisor: Supervisor::new(),
    };
    use tokio::signal::unix::{SignalKind, signal};
    let inputs = Inputs {
        events: event_queue,
        exits,
        persisted: persisted_queue,
        replies: reply_queue,
        socket: local::listen(&board.socket()).with_context(|| board.socket().display().to_string())?,
        stop: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    Box::pin(driver.run(inputs, Event::Boot(Box::new(facts)))).await
}

pub(crate) fn read_key(path: &std::path::Path) -> anyhow::Result<VerifyingKey> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    match codec::parse_public_key(&text) {
        Some(key) => Ok(key),
        None => bail!(
            "{} is not a public key: the hub's file hub.pub holds one (ed25519: and 64 hex digits)",
            path.display()
        ),
    }
}

pub(crate) fn read_token(path: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let token = text.trim();
    if token.is_empty() || token.len() > 1024 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        bail!(
            "{} holds no token: the hub's file agent-token is one line of printable characters",
            path.display()
        );
    }
    Ok(token.to_string())
}
