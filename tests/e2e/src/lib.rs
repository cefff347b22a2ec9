//! A fleet of real processes for the tests: hub, agents, shims and, where wanted, an external broker.
//!
//! Binaries are spawned, never linked, so that each is what its own build makes of it. Every test
//! ends with [`Fleet::finish`], which demands that no process, mount, cgroup or run is left.

mod board;
mod broker;
mod cable;
mod emulated;
pub mod forge;
mod hub;
mod image;
mod impostor;
mod leftovers;
mod process;
mod stock;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub use board::Board;
pub use broker::{Broker, Ear, Say};
pub use cable::Cable;
pub use emulated::{Emulated, Init};
pub use hub::{Hub, free_port};
pub use image::busybox;
pub use impostor::{Asked, Impostor};
pub use leftovers::{cgroups, clear};
pub use process::{Process, signal};
pub use serde_json::{Value, json};
pub use stock::{own_network, push_stock, stock_images};
pub use wait::{eventually, until};

/// The binaries of this build: beside a program's own executable, above a test's (`target/<profile>/deps/<test>`).
pub fn binary(name: &str) -> PathBuf {
    let places = match std::env::var_os("SKERRY_BIN_DIR") {
        Some(named) => vec![PathBuf::from(named)],
        None => {
            let own = std::env::current_exe().expect("a test has a path");
            own.ancestors().skip(1).take(2).map(Path::to_path_buf).collect()
        }
    };
    places.iter().map(|dir| dir.join(name)).find(|path| path.exists()).unwrap_or_else(|| {
        panic!(
            "{name} is not in {places:?}: cargo build --profile ci -p hub && cargo build --profile ci -p edge-agent"
        )
    })
}

/// A built guest of `workloads/samples`.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../workloads/samples/built/{name}.wasm"))
}

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct Fleet {
    pub hub: Hub,
    pub boards: Vec<Board>,
    pub dir: tempfile::TempDir,
    cgroup: String,
    finished: bool,
}

impl Fleet {
    /// A hub with its own broker and so many boards, all online.
    pub fn start(boards: usize) -> Fleet {
        Fleet::start_with(boards, &[])
    }

    pub fn start_with(boards: usize, hub_args: &[&str]) -> Fleet {
        let dir = tempfile::Builder::new().prefix("skerry-e2e-").tempdir().expect("a directory");
        let cgroup = format!("/skerry-e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut hub_args = hub_args.to_vec();
        // The same tests once more, over TLS, with boards that have joined.
        let encrypted = std::env::var_os("SKERRY_E2E_TLS").is_some();
        if encrypted && !hub_args.contains(&"--broker") && !hub_args.contains(&"--tls") {
            hub_args.push("--tls");
        }
        let hub = Hub::start(dir.path().join("hub"), &hub_args);
        let mut fleet = Fleet { hub, boards: Vec::new(), dir, cgroup, finished: false };
        for n in 0..boards {
            fleet.add_board(&format!("board-{n}"));
        }
        for n in 0..boards {
            fleet.online(n);
        }
        fleet
    }

    /// Over a broker that runs already; the boards are online.
    pub fn start_over(broker: &Broker, boards: usize, hub_args: &[&str]) -> Fleet {
        let url = broker.url();
        let mut fleet = Fleet::start_with(0, &[hub_args, &["--broker", &url]].concat());
        fleet.hub.mqtt = broker.port;
        for n in 0..boards {
            fleet.add_board(&format!("board-{n}"));
            fleet.online(n);
        }
        fleet
    }

    pub fn add_board(&mut self, id: &str) -> usize {
        self.add_board_with(id, self.hub.mqtt, &[])
    }

    /// One that has not joined nor started yet.
    pub fn add_idle_board(&mut self, id: &str, args: &[&str]) -> usize {
        let place = self.dir.path().join(format!("{id}-{}", self.boards.len()));
        let cgroup = format!("{}/{}", self.cgroup, self.boards.len());
        self.boards.push(Board::idle(id, &place, &cgroup, &self.hub, self.hub.mqtt, args));
        self.boards.len() - 1
    }

    /// One that connects to this port, with more on its command line.
    pub fn add_board_with(&mut self, id: &str, broker: u16, args: &[&str]) -> usize {
        let place = self.dir.path().join(format!("{id}-{}", self.boards.len()));
        let cgroup = format!("{}/{}", self.cgroup, self.boards.len());
        self.boards.push(Board::start(id, &place, &cgroup, &self.hub, broker, args));
        self.boards.len() - 1
    }

    pub fn online(&self, n: usize) {
        let path = format!("/v1/agents/{}", self.boards[n].id);
        until(&format!("{} is online", self.boards[n].id), || {
            self.hub.find(&path).is_some_and(|a| a["state"] == "online")
        });
    }

    /// Push a sample and apply a workload made of it; returns when it is steady.
    pub fn run(&self, name: &str, image: &str, spec: &str) {
        self.hub.push(image);
        self.hub.apply(&manifest(name, image, spec));
        self.steady(name);
    }

    pub fn steady(&self, name: &str) {
        until(&format!("{name} is steady"), || {
            self.hub.get(&format!("/v1/workloads/default/{name}"))["steady"] == true
        });
    }

    /// The hub's view of the only instance of a workload on a board.
    pub fn instance(&self, name: &str, board: usize) -> Value {
        let id = &self.boards[board].id;
        let list = self.hub.get(&format!("/v1/instances?workload={name}&agent={id}"));
        list["items"][0].clone()
    }

    /// An event that the operator is shown, of which some words are known.
    #[track_caller]
    pub fn told(&self, kind: &str, words: &str) {
        let fits = |e: &Value| e["kind"] == kind && e["text"].as_str().is_some_and(|t| t.contains(words));
        let told = eventually(wait::LONGEST, || self.hub.events().iter().any(fits));
        assert!(told, "the operator is not told: {kind}, {words}; but {:#?}", self.hub.events());
    }

    /// Everything is deleted, every board clears up, every process ends, and nothing is left.
    pub fn finish(mut self) {
        self.hub.revive();
        for board in &mut self.boards {
            board.revive();
        }
        let works = self.hub.get("/v1/workloads");
        for work in works["items"].as_array().expect("a list") {
            self.hub.delete(&format!("/v1/workloads/{}", work["key"].as_str().expect("a key")));
        }
        for board in &self.boards {
            until(&format!("{} has cleared everything", board.id), || {
                board.runs().is_empty() && leftovers::cgroups(&board.cgroup).is_empty()
            });
        }
        for board in &mut self.boards {
            board.process.terminate();
        }
        self.hub.process.terminate();
        leftovers::assert_nothing(self.dir.path(), &self.cgroup);
        self.finished = true;
    }
}

impl Drop for Fleet {
    /// After a failed test: its parts' last words, and no process left to disturb the next one.
    fn drop(&mut self) {
        if !self.finished {
            eprintln!("--- hub\n{}", self.hub.process.tail());
            for board in &self.boards {
                eprintln!("--- {}\n{}", board.id, board.process.tail());
            }
        }
        for board in &mut self.boards {
            board.process.kill();
        }
        self.hub.process.kill();
        leftovers::clear(self.dir.path(), &self.cgroup);
    }
}

/// A workload on every board, of a pushed sample.
pub fn manifest(name: &str, image: &str, spec: &str) -> String {
    let everywhere = if spec.contains("replicas:") { "" } else { "  everyAgent: true\n" };
    let healthy = if spec.contains("rollout:") { "" } else { "  rollout: {healthyAfter: 100ms}\n" };
    format!(
        "apiVersion: skerry/v1\nkind: Workload\nmetadata: {{name: {name}}}\nspec:\n  image: {image}:1\n{everywhere}{healthy}{spec}\n"
    )
}

/// kill -9.
pub fn kill9(pid: u32) {
    signal(pid, libc::SIGKILL);
}
