//! The crash matrix of the shim contract: agent and shim die by SIGKILL at each arrow, and a fresh agent
//! finds every run, tells its end or adopts it, and can clear it away.

mod common;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_core::api::{FoundRun, FoundState};
use common::*;
use contract::status::Exit;
use edge_agent::instance::Runtime;
use edge_agent::instance::failpoint::ALL;

/// Not a test: the agent that dies, in a process of its own (see `doomed_agent`).
#[tokio::test]
async fn agent_process() {
    let Some(dir) = std::env::var_os("DOOMED_AGENT_DIR") else { return };
    let parent = std::env::var("DOOMED_AGENT_CGROUP").unwrap();
    let (agent, mut exits) = Runtime::open(Board::settings_of(dir.as_ref(), &parent)).unwrap();
    let id = instance("doomed");
    let args = std::env::var("DOOMED_AGENT_GUEST").unwrap();
    let job = assignment(&id, &args.split(' ').collect::<Vec<_>>());
    if agent.start(&id, run_id(1), &job, &guest("misbehave")).await.is_err() {
        std::process::exit(3);
    }
    println!("started");
    match std::env::var("DOOMED_AGENT_THEN").unwrap().as_str() {
        "remove" => agent.remove(&id, run_id(1)).await.unwrap(),
        "wait" => drop(exits.recv().await),
        _ => std::future::pending().await,
    }
}

fn doomed_agent(board: &Board, failpoint: &str, guest: &str, then: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["agent_process", "--exact", "--nocapture"])
        .env("DOOMED_AGENT_DIR", board.path())
        .env("DOOMED_AGENT_CGROUP", &board.cgroup_parent)
        .env("DOOMED_AGENT_GUEST", guest)
        .env("DOOMED_AGENT_THEN", then)
        .env("SKERRY_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The one run that a fresh agent finds; its log line must name the run even without a directory.
fn the_one(found: Vec<FoundRun>) -> FoundRun {
    let [one] = <[FoundRun; 1]>::try_from(found).unwrap_or_else(|f| panic!("{f:?}"));
    assert_eq!((&one.instance, one.run), (&instance("doomed"), run_id(1)));
    one
}

fn ended(found: &FoundRun) -> &Exit {
    match &found.state {
        FoundState::Ended(exit) => exit,
        running => panic!("{running:?}"),
    }
}

#[tokio::test]
async fn f14_an_agent_that_dies_while_starting_leaves_what_the_scan_names() {
    for failpoint in ["after-directory", "after-spec", "after-cgroup"] {
        let board = Board::new();
        doomed_agent(&board, failpoint, "sleep", "stay").wait().unwrap();
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        let exit = ended(&found);
        assert!(matches!(exit, Exit::StartFailed { message } if message.contains("died before")), "{exit}");
        assert_eq!(found.assignment.is_some(), failpoint != "after-directory", "{failpoint}");
        agent.remove(&found.instance, found.run).await.unwrap();
        board.assert_nothing_left();
    }
}

/// The shim is alive but nobody knows whether it has said who it is: it is adopted or cleared, never lost.
#[tokio::test]
async fn f14_an_agent_that_dies_right_after_spawn_loses_nothing() {
    for _ in 0..5 {
        let board = Board::new();
        doomed_agent(&board, "after-spawn", "sleep", "stay").wait().unwrap();
        let (agent, mut exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        let adopted = matches!(found.state, FoundState::Running { .. });
        agent.remove(&found.instance, found.run).await.unwrap();
        if adopted {
            assert_eq!(exit_of(&mut exits).await.exit, Exit::Signal { signal: 9 });
        }
        board.assert_nothing_left();
    }
}

#[tokio::test]
async fn an_agent_that_dies_while_removing_is_continued_by_the_next() {
    for failpoint in ["before-remove", "after-kill", "after-unmount", "after-cgroup-removed"] {
        let board = Board::new();
        doomed_agent(&board, failpoint, "sleep", "remove").wait().unwrap();
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        if failpoint != "before-remove" {
            // It was killed, and nobody wrote that down.
            assert!(matches!(ended(&found), Exit::Unknown { .. }), "{failpoint}: {:?}", found.state);
        }
        agent.remove(&found.instance, found.run).await.unwrap();
        board.assert_nothing_left();
    }
}

/// The environment reaches the shim, so the shim is the one that dies; the agent tells its end.
#[tokio::test]
async fn a_shim_that_dies_before_its_guest_runs_is_a_failed_start() {
    for failpoint in ["before-shim-json", "after-shim-json", "before-start"] {
        let board = Board::new();
        let status = doomed_agent(&board, failpoint, "sleep", "stay").wait().unwrap();
        assert_eq!(status.code(), Some(3), "{failpoint}: the start fails");
        board.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_shim_that_dies_later_ends_its_run_with_what_is_known() {
    for (failpoint, expected) in [
        ("after-start", Some(Exit::Signal { signal: 9 })),
        ("before-exit-json", Some(Exit::Signal { signal: 9 })),
        ("after-exit-json", Some(Exit::Code { code: 5 })),
    ] {
        let board = Board::new();
        let status = doomed_agent(&board, failpoint, "exit 5", "wait").wait().unwrap();
        assert!(status.success(), "{failpoint}");
        // The same, seen by an agent that was not there: without a record it says that it does not know.
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        match (&found.state, expected) {
            (FoundState::Ended(exit), Some(Exit::Code { code })) => assert_eq!(exit, &Exit::Code { code }),
            (FoundState::Ended(Exit::Unknown { evidence }), _) => assert!(evidence.contains("shim")),
            other => panic!("{failpoint}: {other:?}"),
        }
        agent.remove(&found.instance, found.run).await.unwrap();
        board.assert_nothing_left();
    }
}

/// F13, F16: what runs is not touched by the death of the agent, and its end is told to the next one.
#[tokio::test]
async fn f13_a_fresh_agent_adopts_what_runs() {
    let board = Board::new();
    let mut doomed = doomed_agent(&board, "", "sleep", "stay");
    until("the guest runs", || {
        board.settings().places.run(&instance("doomed"), run_id(1)).path().join("shim.json").exists()
    });
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let before = board.processes();
    assert_eq!(before.len(), 1);
    let (agent, mut exits) = board.agent();
    let found = the_one(agent.scan().unwrap());
    let FoundState::Running { pid, started_ms } = found.state else { panic!("{:?}", found.state) };
    assert_eq!(pid, before[0].0);
    assert!(started_ms > 0 && started_ms <= edge_agent::instance::boottime_ms());
    assert_eq!(found.assignment, Some(assignment(&found.instance, &["sleep"])));
    assert_eq!(agent.pid(&found.instance, found.run), Some(pid));
    // A second look changes nothing, and tells no end twice.
    agent.scan().unwrap();
    assert_eq!(board.processes(), before);
    agent.stop(&found.instance, found.run, "TERM", Duration::from_secs(20)).await.unwrap();
    assert_eq!(exits.try_recv().unwrap().exit, Exit::Signal { signal: 15 });
    agent.remove(&found.instance, found.run).await.unwrap();
    assert!(exits.try_recv().is_err());
    board.assert_nothing_left();
}

/// Agent and shim at once: the run is found and told as not known.
#[tokio::test]
async fn f14_a_shim_killed_while_no_agent_looked_is_unknown_with_evidence() {
    let board = Board::new();
    let mut doomed = doomed_agent(&board, "", "sleep", "stay");
    let shim_json = board.settings().places.run(&instance("doomed"), run_id(1)).path().join("shim.json");
    until("the guest runs", || shim_json.exists());
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let shim = board.processes()[0].0;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(shim as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("it is gone", || is_gone(shim));
    let (agent, _exits) = board.agent();
    let found = the_one(agent.scan().unwrap());
    assert!(matches!(ended(&found), Exit::Unknown { evidence } if evidence.contains(&shim.to_string())));
    agent.remove(&found.instance, found.run).await.unwrap();
    board.assert_nothing_left();
}

/// An adopted shim is not our child; the kernel still tells how it died (since 6.15).
#[tokio::test]
async fn an_adopted_shim_that_is_killed_is_told() {
    let board = Board::new();
    let mut doomed = doomed_agent(&board, "", "sleep", "stay");
    let shim_json = board.settings().places.run(&instance("doomed"), run_id(1)).path().join("shim.json");
    until("the guest runs", || shim_json.exists());
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let (agent, mut exits) = board.agent();
    let found = the_one(agent.scan().unwrap());
    let FoundState::Running { pid, .. } = found.state else { panic!("{:?}", found.state) };
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let exit = exit_of(&mut exits).await.exit;
    assert!(matches!(exit, Exit::Signal { signal: 9 } | Exit::Unknown { .. }), "{exit}");
    agent.remove(&found.instance, found.run).await.unwrap();
    board.assert_nothing_left();
}

/// A record of another boot names no process of this one, whatever its pid is now.
#[tokio::test]
async fn a_run_from_before_a_reboot_is_rebooted_and_its_pid_is_nobodys() {
    let board = Board::new();
    let dir = board.settings().places.run(&instance("doomed"), run_id(1));
    std::fs::create_dir_all(dir.path()).unwrap();
    let me = edge_agent::instance::identity::ProcessId::own().unwrap();
    for (process, expected) in [
        (edge_agent::instance::identity::ProcessId { kernel_boot: "gone".into(), ..me.clone() }, true),
        (edge_agent::instance::identity::ProcessId { start_ticks: 1, ..me.clone() }, false),
    ] {
        let job = assignment(&instance("doomed"), &[]);
        dir.write_shim(&edge_agent::instance::record::ShimRecord {
            proto: 1,
            process,
            instance: instance("doomed"),
            revision: job.revision,
            attempt: job.attempt,
        })
        .unwrap();
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        assert_eq!(ended(&found) == &Exit::Rebooted, expected, "{found:?}");
    }
    let (agent, _exits) = board.agent();
    agent.remove(&instance("doomed"), run_id(1)).await.unwrap();
    board.assert_nothing_left();
}

/// A cgroup whose directory was lost (a cleaned `/run`) still names its run.
#[tokio::test]
async fn f14_a_cgroup_without_a_directory_is_found_and_cleared() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("doomed");
    agent.start(&id, run_id(1), &assignment(&id, &["sleep"]), &guest("misbehave")).await.unwrap();
    std::fs::remove_dir_all(agent.settings().places.instance(&id)).unwrap();
    let found = the_one(agent.scan().unwrap());
    assert_eq!(found.assignment, None);
    agent.remove(&id, run_id(1)).await.unwrap();
    exit_of(&mut exits).await;
    board.assert_nothing_left();
}

/// The matrix is complete when each arrow of the list is in it.
#[test]
fn every_arrow_is_tested() {
    let here = include_str!("crash.rs");
    for name in ALL.iter().filter(|n| !n.starts_with("agent-")) {
        assert!(here.contains(&format!("\"{name}\"")), "{name}");
    }
}
