//! `edge-agent try` from outside: streams and exit codes pass through, limits hold, nothing is left.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::*;

fn attempt(code: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(EXE);
    command.arg("try").arg(code).args(args);
    command
}

fn run(code: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = attempt(code, args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// Of the trial with that pid.
fn remains(pid: u32) -> Vec<PathBuf> {
    let cgroups = ["memory", "cpu", "pids", ""].map(|c| format!("/sys/fs/cgroup/{c}/skerry-try-{pid}"));
    let all = cgroups.into_iter().chain([format!("/run/skerry-try/{pid}")]).map(PathBuf::from);
    all.filter(|p| p.exists()).collect()
}

#[test]
fn streams_arguments_and_exit_code_pass_through() {
    let (code, out, err) = run(&guest("misbehave"), &["--", "exit", "9"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(9), "", ""));
    let (code, out, err) =
        run(&guest("hello"), &["-e", "GREETING=Servus", "--", "--exit", "0", "--after", "1"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("Servus"), "{out}");
    let (code, out, err) = run(&guest("misbehave"), &[]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("misbehave spin"));
}

#[test]
fn a_bad_end_is_explained_and_has_its_code() {
    let (code, _, err) = run(&guest("misbehave"), &["--", "trap"]);
    assert_eq!(code, Some(134));
    assert!(err.contains("trap: ") && err.contains("out of bounds") && err.contains("  at "), "{err}");
    let (code, _, err) = run(&guest("misbehave"), &["--memory", "16Mi", "--", "oom"]);
    assert_eq!(code, Some(137));
    assert!(err.contains("out of memory (limit 16Mi); give it more than --memory 16Mi"), "{err}");
    let tmp = tempfile::tempdir().unwrap();
    let garbage = tmp.path().join("garbage");
    std::fs::write(&garbage, b"\x7fELF and nothing").unwrap();
    let (code, _, err) = run(&garbage, &[]);
    assert_eq!(code, Some(125));
    assert!(err.contains("not code compiled by the hub"), "{err}");
    let (code, _, err) = run(&tmp.path().join("none"), &[]);
    assert_eq!(code, Some(125));
    assert!(err.contains("No such file"), "{err}");
    assert_eq!(run(&garbage, &["--memory", "lots"]).0, Some(2));
    let (code, _, err) = run(&garbage, &["--mount", "/nonexistent:/x"]);
    assert!(code == Some(2) && err.contains("--mount /nonexistent:/x"), "{err}");
}

#[test]
fn a_module_is_compiled_by_a_hub_and_kept() {
    let tmp = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads/samples/built/misbehave.wasm");
    // As `hub compile FILE -o OUT --engine ID`; counts its calls.
    let (hub, calls) = (tmp.path().join("hub"), tmp.path().join("calls"));
    let code = guest("misbehave");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\ncp {} \"$4\"\n", calls.display(), code.display());
    std::fs::write(&hub, script).unwrap();
    std::fs::set_permissions(&hub, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let mut command = attempt(&source, &["--hub", hub.to_str().unwrap(), "--", "exit", "6"]);
        assert_eq!(command.env("XDG_CACHE_HOME", tmp.path()).status().unwrap().code(), Some(6));
    }
    let calls = std::fs::read_to_string(calls).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}");
    assert!(calls.contains(&format!("--engine {}", wasm::native_engine())));

    let alone =
        attempt(&source, &[]).env("XDG_CACHE_HOME", tmp.path().join("x")).env("PATH", "").output().unwrap();
    let beside = Path::new(EXE).with_file_name("hub").exists();
    let err = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(beside || (alone.status.code() == Some(125) && err.contains("hub compile")), "{err}");
}

fn started(child: &mut Child) -> (u32, BufReader<std::process::ChildStdout>) {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "it said nothing");
    (child.id(), out)
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

#[test]
fn ctrl_c_ends_the_guest_and_leaves_nothing() {
    let mut child = attempt(&guest("misbehave"), &["--", "spin"]).stdout(Stdio::piped()).spawn().unwrap();
    let (pid, _out) = started(&mut child);
    signal(pid, rustix::process::Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(remains(pid), Vec::<PathBuf>::new());
}

#[test]
fn a_killed_trial_takes_its_guest_along_and_the_next_one_cleans_up() {
    let mut child = attempt(&guest("misbehave"), &["--", "spin"]).stdout(Stdio::piped()).spawn().unwrap();
    let (pid, mut out) = started(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe closes when the guest is gone too.
    out.read_to_end(&mut Vec::new()).unwrap();
    assert!(!remains(pid).is_empty());
    assert_eq!(run(&guest("misbehave"), &["--", "exit", "0"]).0, Some(0));
    // Another test's trial may be about the same at this moment.
    until("the leftovers are cleared", || remains(pid).is_empty());
}

#[test]
fn watch_starts_again_when_the_file_changes() {
    let tmp = tempfile::tempdir().unwrap();
    let file = tmp.path().join("app.cwasm");
    std::fs::copy(guest("misbehave"), &file).unwrap();
    let mut child = attempt(&file, &["--watch", "--", "spin"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (pid, mut out) = started(&mut child);
    // By renaming, as linkers and editors do; a guest that runs keeps its old file.
    let new = tmp.path().join("new");
    std::fs::copy(guest("misbehave"), &new).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "spinning\n");
    signal(pid, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(err.contains("app.cwasm changed, starting again"), "{err}");
    assert_eq!(remains(pid), Vec::<PathBuf>::new());
}

#[test]
fn the_guest_has_the_real_standard_input() {
    // `misbehave` does not read; that its input is open and then closed must not end it early.
    let mut child = attempt(&guest("misbehave"), &["--", "exit", "4"]).stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(b"x\n");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}
