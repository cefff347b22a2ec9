//! How is a moment caught without disturbing what is watched? By looking at files of the board, never
//! by asking the hub or the agent while the clock is running.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::{Board, Fleet, Value};

/// Prints one line, then sleeps.
pub const QUIET: &str = "  args: [--every, \"86400000\"]";
pub const IMAGE: &str = "hello";
/// Short beside every budget, long enough to leave the processor to others.
const STEP: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_secs(60);

/// The moment at which it held.
#[track_caller]
pub fn moment(what: &str, mut holds: impl FnMut() -> bool) -> Instant {
    let end = Instant::now() + LONGEST;
    loop {
        if holds() {
            return Instant::now();
        }
        assert!(Instant::now() < end, "not within {LONGEST:?}: {what}");
        std::thread::sleep(STEP);
    }
}

pub fn ms(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}

pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// What a workload has when its manifest names no limit.
pub const CPU_DEFAULT: u32 = 500;

/// Both say one line and then nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Wasm,
    /// Out of a stock image of three layers.
    Container,
}

impl Kind {
    pub fn image(self) -> &'static str {
        if self == Kind::Wasm { IMAGE } else { "redis" }
    }

    /// The beginning of its figures' ids.
    pub fn id(self) -> &'static str {
        if self == Kind::Wasm { "" } else { "oci." }
    }

    fn spec(self) -> &'static str {
        if self == Kind::Wasm { QUIET } else { "  command: [sh, -c, \"echo up; exec sleep 86400\"]" }
    }
}

/// A limit is a reservation too: what runs on one board must fit two cores together.
pub fn manifest(kind: Kind, names: &[String], cpu_millis: u32) -> String {
    let spec = format!("{}\n  resources: {{cpu: {cpu_millis}m}}", kind.spec());
    names.iter().map(|name| e2e::manifest(name, kind.image(), &spec)).collect::<Vec<_>>().join("---\n")
}

/// A hub and one board, nothing on it.
pub fn empty(hub_args: &[&str]) -> Fleet {
    let mut fleet = Fleet::start_with(0, hub_args);
    // The port is open a moment before the files are there.
    e2e::until("the hub has written its files", || {
        ["hub.pub", "agent-token", "token"].iter().all(|name| fleet.hub.data.join(name).exists())
    });
    let board = fleet.add_board("board-0");
    fleet.online(board);
    fleet
}

/// A hub, one board, and so many steady workloads, fetched and compiled code on the board.
pub fn fleet(workloads: usize, cpu_millis: u32, hub_args: &[&str]) -> (Fleet, Vec<String>) {
    let fleet = empty(hub_args);
    fleet.hub.push(IMAGE);
    let names = names("base", workloads);
    fleet.hub.apply(&manifest(Kind::Wasm, &names, cpu_millis));
    names.iter().for_each(|name| fleet.steady(name));
    (fleet, names)
}

/// The last commit and report are out, memory is given back, and nothing is about to happen.
pub fn settle() {
    std::thread::sleep(Duration::from_secs(5));
}

/// Returns when only `left` runs are on the board.
pub fn delete(fleet: &Fleet, names: &[String], left: usize) {
    for name in names {
        fleet.hub.delete(&format!("/v1/workloads/default/{name}"));
    }
    e2e::until("the deleted workloads are cleared", || fleet.boards[0].runs().len() == left);
}

/// The logs in which a workload's runs have said something. A run has a file of its own.
pub fn spoken(board: &Board, workload: &str) -> BTreeSet<PathBuf> {
    let dir = board.state.join("logs").join(format!("default.{workload}.0"));
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).map(|f| f.path()).collect()
}

/// How many instances of these the hub shows Running by a fresh report, restarted so often.
pub fn shown(fleet: &Fleet, prefix: &str, restarts: u64) -> usize {
    let list = fleet.hub.get(&format!("/v1/instances?agent={}", fleet.boards[0].id));
    let runs = |item: &&Value| {
        let named = item["instance"].as_str().is_some_and(|id| id.starts_with(&format!("default/{prefix}")));
        named && item["state"] == "Running" && item["fresh"] == true && item["restarts"] == restarts
    };
    list["items"].as_array().map_or(0, |items| items.iter().filter(runs).count())
}

/// How many instances the agent itself calls Running, if it answers.
pub fn told(board: &Board) -> Option<usize> {
    let mut text = String::new();
    let mut socket = UnixStream::connect(board.run.join("agent.sock")).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.read_to_string(&mut text).ok()?;
    let status: Value = serde_json::from_str(&text).ok()?;
    let works = status["agent"]["workloads"].as_object()?;
    let running = |work: &Value| work["status"]["instances"]["0"]["state"]["name"] == "running";
    Some(works.values().filter(|work| running(work)).count())
}
