//! `edge-agent logs` from outside: it reads the files, whether or not an agent lives.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::*;

fn logs(board: &Board, args: &[&str]) -> Command {
    let mut command = Command::new(EXE);
    command.arg("logs").args(args).arg("--state-dir").arg(board.path().join("state"));
    command
}

fn said(board: &Board, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = logs(board, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test]
async fn past_present_and_previous_are_shown() {
    let board = Board::new();
    let id = instance("hello");
    {
        let (agent, mut exits) = board.agent();
        for (run, greeting) in [(1, "first"), (2, "second")] {
            let mut job = assignment(&id, &["--exit", "3", "--after", "20", "--every", "1"]);
            job.run.env.insert("GREETING".into(), greeting.into());
            agent.start(&id, run_id(run), &job, &guest("hello")).await.unwrap();
            exit_of(&mut exits).await;
            agent.remove(&id, run_id(run)).await.unwrap();
        }
    }
    // No agent any more.
    let (code, out, _) = said(&board, &["hello"]);
    assert!(code == Some(0) && out.starts_with("second"), "{out}");
    let (_, previous, _) = said(&board, &["test/hello/0", "--previous"]);
    assert!(previous.starts_with("first"), "{previous}");
    let (_, tail, _) = said(&board, &["hello", "--tail", "2", "-t"]);
    assert_eq!(tail.lines().count(), 2);
    assert!(tail.lines().all(|l| l.as_bytes()[4] == b'-' && l.contains("Z ")), "{tail}");
    let last = tail.lines().last().unwrap().split_once("Z ").unwrap().1;
    assert_eq!(out.lines().last().unwrap(), last);
    assert_eq!(said(&board, &["hello", "--since", "0s"]).1, "");
    assert_eq!(said(&board, &["hello", "--since", "1h"]).1, out);
    let (code, _, err) = said(&board, &["nobody"]);
    assert!(code == Some(1) && err.contains("test/hello/0"), "{err}");
    assert_eq!(said(&board, &["hello", "--since", "soon"]).0, Some(2));
}

#[tokio::test]
async fn following_goes_on_over_a_restart() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("hello");
    let start = async |run, greeting: &str| {
        let mut job = assignment(&id, &["--every", "5"]);
        job.run.env.insert("GREETING".into(), greeting.into());
        agent.start(&id, run_id(run), &job, &guest("hello")).await.unwrap();
    };
    start(1, "first").await;
    let mut child = logs(&board, &["hello", "-f", "--tail", "1"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..5 {
        lines.next().unwrap().unwrap();
    }
    agent.stop(&id, run_id(1), "TERM", Duration::from_secs(10)).await.unwrap();
    agent.remove(&id, run_id(1)).await.unwrap();
    exit_of(&mut exits).await;
    start(2, "second").await;
    assert!(lines.any(|line| line.unwrap().starts_with("second")));
    child.kill().unwrap();
    child.wait().unwrap();
    agent.remove(&id, run_id(2)).await.unwrap();
    board.assert_nothing_left();
}

#[test]
fn a_reader_who_leaves_is_no_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(EXE).arg("version").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!((signal, output.stderr.as_slice()), (Some(13), &b""[..]));
}
