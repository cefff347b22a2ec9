//! Do boards of other processors run work? On emulated ones, with the static programs of `cross/build`. Ignored
//! unless asked for (`--ignored`): building them takes minutes; `tests/run --all` does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::{Emulated, Hub, Init, Value};

const QUIET: &str = "  args: [--every, \"60000\"]\n  resources: {memory: 32Mi, cpu: 200m, pids: 8}";

fn built(arch: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cross/build");
    let output = Command::new(script).arg(arch).env("SKERRY_PROFILE", "ci").stderr(Stdio::inherit()).output();
    let output = output.expect("the script runs");
    assert!(output.status.success(), "cross/build {arch}: {}", output.status);
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The hub compiles for a processor that is not its own; the board bounds it, and the next agent takes it over.
fn a_board_runs_work(arch: &str, seccomp: &str) {
    let dir = tempfile::Builder::new().prefix("skerry-arm-").tempdir().expect("a directory");
    let hub = Hub::start(dir.path().join("hub"), &[]);
    let mut board = Emulated::of(arch, &built(arch), dir.path(), Init::Busybox, &hub);
    println!("{arch}: power to first command {:.1} s", board.power_on().as_secs_f64());
    hub.push("hello");
    hub.push("misbehave");
    board.online(&hub);
    for name in ["kernel", "cgroup-memory", "cgroup-cpu", "cgroup-pids", "overlayfs", "namespaces"] {
        assert_eq!(board.check(name)["state"], "ok", "{}", board.check(name));
    }
    assert_eq!(board.check("seccomp")["state"], seccomp, "{}", board.check("seccomp"));

    board.run(&hub, "work", "hello", QUIET);
    assert_eq!(board.limit("work", "memory.max"), (32 << 20).to_string());
    let oom = "  args: [oom]\n  resources: {memory: 16Mi}\n  restartPolicy: Never";
    hub.apply(&e2e::manifest("oom", "misbehave", oom));
    let mut exit = Value::Null;
    board.until("the hog has ended", |_| {
        exit = hub.get("/v1/instances?workload=oom&agent=board")["items"][0]["lastExit"].clone();
        exit.is_object()
    });
    assert_eq!(exit["name"], "outOfMemory", "{exit}");

    let (agent, before) = (board.agent_pid(), board.pid("work"));
    board.sh(&format!("kill -9 {agent}"));
    board.until("another agent answers", |board| board.agent_pid() != agent && board.status().is_some());
    board.online(&hub);
    board.steady(&hub, "work");
    assert_eq!(board.pid("work"), before, "it was restarted");
    board.sh("sync");
    board.cut_power();
    board.power_on();
    board.pid("work");
}

#[test]
#[ignore = "needs qemu and a cross build"]
fn arm64_runs_compiled_code() {
    a_board_runs_work("arm64", "ok");
}

#[test]
#[ignore = "needs qemu and a cross build"]
fn armhf_runs_bytecode() {
    a_board_runs_work("armhf", "warn");
}
