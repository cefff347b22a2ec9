//! `edge-agent shim exec`: a further command in a container that the agent runs, as a probe starts it.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::container::*;
use common::*;

fn exec(dir: &Path, flags: &[&str], command: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_edge-agent"))
        .args(["shim", "exec"])
        .arg(dir)
        .args(flags)
        .arg("--")
        .args(command)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

#[tokio::test]
async fn a_probe_is_a_command_in_the_container_and_leaves_nothing() {
    let board = Board::new();
    let id = instance("probed");
    let (agent, mut exits) = board.agent();
    agent.start(&id, run_id(1), &container(&id, "exec sleep 1000"), image(&board)).await.unwrap();
    let dir = board.settings().places.run(&id, run_id(1));
    let dir = dir.path();
    assert_eq!(
        exec(dir, &[], &["sh", "-c", "echo out; echo err >&2; exit 5"]),
        (5, "out\n".into(), "err\n".into())
    );
    assert_eq!(exec(dir, &["--user", "7", "--workdir", "/"], &["id", "-u"]).1, "7\n");
    assert_eq!(exec(dir, &["--tty"], &["sh", "-c", "test -t 1 && echo tty"]).1, "tty\r\n");
    let (code, _, err) = exec(dir, &[], &["nothing"]);
    assert!(code == 127 && err.contains("'nothing' is not in the container's PATH"), "{code} {err}");
    for (flags, why) in
        [(&["--user", "nobody-here"][..], "no 'nobody-here'"), (&["--workdir", "/none"], "/none")]
    {
        let (code, _, err) = exec(dir, flags, &["true"]);
        assert!(code == 125 && err.contains(why), "{code} {err}");
    }

    let start = Instant::now();
    let line = "trap '' TERM; (sleep 900 &) ; sleep 900 & sleep 900";
    for tty in [&[][..], &["--tty"]] {
        let flags = [&["--timeout-ms", "200"], tty].concat();
        let (code, _, err) = exec(dir, &flags, &["sh", "-c", line]);
        assert!(code == 124 && err.contains("within 200 ms"), "{code} {err}");
    }
    assert!(start.elapsed() < Duration::from_secs(60));
    let (_, processes, _) = exec(dir, &[], &["sh", "-c", "echo /proc/[0-9]*"]);
    assert_eq!(processes.split_whitespace().count(), 3, "the container's, the keeper, this one: {processes}");

    agent.stop(&id, run_id(1), "KILL", Duration::from_secs(5)).await.unwrap();
    exit_of(&mut exits).await;
    let (code, _, err) = exec(dir, &[], &["true"]);
    assert!(code == 125 && (err.contains("does not run") || err.contains("none runs here")), "{code} {err}");
    agent.remove(&id, run_id(1)).await.unwrap();
    assert_no_container_left(&board);
}
