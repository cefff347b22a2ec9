//! A board for one test: directories, cgroups and guests of its own, and a check that nothing is left.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod container;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use contract::digest::Digest;
use contract::run::{ArtifactRef, Assignment, NetworkAllowance, ResourceLimits, RunSpec};
use contract::spec::{RestartPolicy, Runtime as Kind};
use contract::status::Exit;
use contract::{Attempt, InstanceId, RevisionId, RunId};
use edge_agent::cgroup::Tree;
use edge_agent::instance::{Exited, Places, Runtime, Settings};
use tokio::sync::mpsc::UnboundedReceiver;

pub const EXE: &str = env!("CARGO_BIN_EXE_edge-agent");
/// Anything that takes longer is stuck; this machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn run_id(number: u64) -> RunId {
    RunId { boots: 1, number }
}

pub fn instance(name: &str) -> InstanceId {
    format!("test/{name}/0").parse().unwrap()
}

/// A sample guest, compiled for this machine by the hub's compiler.
pub fn guest(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/built").join(name);
    compiled(&source.with_extension("wasm"))
}

pub fn compiled(source: &Path) -> PathBuf {
    let bytes = fs::read(source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled");
    fs::create_dir_all(&dir).unwrap();
    let out = dir.join(format!("{}-{}.cwasm", Digest::of(&bytes).hex(), wasm::native_engine()));
    if !out.exists() {
        let part = dir.join(format!("part-{}-{}", std::process::id(), next()));
        let output = compile_command(source, &part).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(part, &out).unwrap();
    }
    out
}

fn compile_command(source: &Path, out: &Path) -> Command {
    let hub = hub();
    let mut command = Command::new(&hub);
    if hub.ends_with("hub") {
        command.arg("compile").arg(source).arg("-o").arg(out);
    } else {
        command.arg(source).arg(out);
    }
    command
}

/// The hub, or the engine's own development tool, as built beside the agent. The agent's package cannot
/// depend on either: cargo would unite their features with its own.
fn hub() -> PathBuf {
    let beside = |name: &str| Path::new(EXE).with_file_name(name);
    let named = std::env::var_os("SKERRY_HUB_PROGRAM").map(PathBuf::from);
    [named, Some(beside("hub")), Some(beside("wasm-compile"))]
        .into_iter()
        .flatten()
        .find(|p| p.is_file())
        .expect("these tests need a compiler: first `cargo build --profile ci -p hub`")
}

fn next() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub struct Board {
    pub dir: tempfile::TempDir,
    pub cgroup_parent: String,
}

impl Board {
    pub fn new() -> Board {
        // With a space: the kernel writes such names otherwise in its tables.
        let dir = tempfile::Builder::new().prefix("skerry agent-").tempdir().unwrap();
        let cgroup_parent = format!("/skerry-test-{}-{}", std::process::id(), next());
        Board { dir, cgroup_parent }
    }

    /// The same board in another process.
    pub fn settings_of(dir: &Path, cgroup_parent: &str) -> Settings {
        let tree = Tree::open(cgroup_parent, &[]).expect("cgroups: these tests need root");
        let mut settings = Settings::new(Places::new(dir.join("run"), dir.join("state")), tree);
        settings.shim_exe = EXE.into();
        settings.start_deadline = PATIENCE;
        settings
    }

    pub fn settings(&self) -> Settings {
        Board::settings_of(self.dir.path(), &self.cgroup_parent)
    }

    pub fn agent(&self) -> (Runtime, UnboundedReceiver<Exited>) {
        Runtime::open(self.settings()).unwrap()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Everything of this board that is still there, by name.
    pub fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        let settings = self.settings();
        found.extend(settings.cgroups.leaves().unwrap().into_iter().map(|l| format!("cgroup {l}")));
        let runs = fs::read_dir(settings.places.instances()).into_iter().flatten().flatten();
        found.extend(runs.map(|e| format!("directory {}", e.path().display())));
        found.extend(self.mounts().into_iter().map(|point| format!("mount {}", point.display())));
        found.extend(self.processes().into_iter().map(|(pid, line)| format!("process {pid} {line}")));
        found
    }

    pub fn assert_nothing_left(&self) {
        let begin = Instant::now();
        // A killed process that has another parent stays a zombie for a moment.
        while !self.remains().is_empty() && begin.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        assert_eq!(self.remains(), Vec::<String>::new());
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let mut mounts = oci::run::mount_points().unwrap();
        mounts.retain(|point| point.starts_with(self.path()));
        mounts
    }

    /// Shims of this board, whoever is their parent.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let here = self.path().to_str().unwrap();
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let line = |pid: u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pids.map(|pid| (pid, String::from_utf8_lossy(&line(pid)).replace('\0', " ")))
            .filter(|(_, line)| line.contains(here))
            .collect()
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        for point in self.mounts().iter().rev() {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        let cgroups = self.settings().cgroups;
        for name in cgroups.leaves().unwrap_or_default() {
            let begin = Instant::now();
            while cgroups.leaf(&name).remove().is_err() && begin.elapsed() < PATIENCE {
                std::thread::yield_now();
            }
        }
        cgroups.remove_parent();
    }
}

/// What an assignment of a WASM workload looks like, to be changed by the test.
pub fn assignment(instance: &InstanceId, args: &[&str]) -> Assignment {
    let digest = Digest::of(b"test");
    let run = RunSpec {
        runtime: Kind::Wasm,
        artifact: ArtifactRef { source: digest, digest, size_bytes: 1, engine: None },
        command: vec![],
        args: args.iter().map(|a| a.to_string()).collect(),
        env: Default::default(),
        limits: ResourceLimits { cpu_millis: 1000, ..ResourceLimits::DEFAULT },
        network: NetworkAllowance::default(),
        mounts: vec![],
        restart_policy: RestartPolicy::Always,
        stop_signal: "TERM".into(),
        stop_grace_ms: 1000,
        healthy_after_ms: 0,
        health_deadline_ms: 1000,
        probes: None,
        container: None,
        data: None,
    };
    Assignment {
        workload: instance.workload.clone(),
        revision: RevisionId(digest),
        attempt: Attempt(1),
        slots: vec![0],
        run,
        requires: BTreeSet::new(),
        restarts: 0,
    }
}

pub async fn exit_of(exits: &mut UnboundedReceiver<Exited>) -> Exited {
    tokio::time::timeout(PATIENCE, exits.recv()).await.expect("no exit came").expect("the runtime lives")
}

/// Starts, waits for the end, and clears: the life of a guest that ends by itself.
pub async fn whole_life(board: &Board, assignment: &Assignment, code: &Path) -> Exit {
    let (agent, mut exits) = board.agent();
    let id = InstanceId { workload: assignment.workload.clone(), slot: 0 };
    agent.start(&id, run_id(1), assignment, code).await.expect("it starts");
    let exited = exit_of(&mut exits).await;
    assert_eq!((exited.instance, exited.run), (id.clone(), run_id(1)));
    agent.remove(&id, run_id(1)).await.unwrap();
    board.assert_nothing_left();
    exited.exit
}

/// Ended, whether or not somebody has taken note.
pub fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

/// What a test waits for, without guessing how long it takes.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
