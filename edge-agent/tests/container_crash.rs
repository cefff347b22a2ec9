//! The crash matrix for containers: agent, shim and the container's own first process die at each arrow; a
//! fresh agent finds every run, tells its end or adopts it, and nothing is left.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_core::api::{FoundRun, FoundState};
use common::container::*;
use common::*;
use contract::run::{MountSource, RunMount};
use contract::status::Exit;
use edge_agent::instance::{RemoveError, Runtime, StopError};
use rustix::process::{Pid, Signal, kill_process};

/// Not a test: the agent that dies, in a process of its own (see `doomed_agent`).
#[tokio::test]
async fn agent_process() {
    let Some(dir) = std::env::var_os("DOOMED_AGENT_DIR") else { return };
    let parent = std::env::var("DOOMED_AGENT_CGROUP").unwrap();
    let (agent, mut exits) = Runtime::open(Board::settings_of(dir.as_ref(), &parent)).unwrap();
    let id = instance("doomed");
    let job = container(&id, &std::env::var("DOOMED_AGENT_LINE").unwrap());
    if agent.start(&id, run_id(1), &job, image_at(Path::new(&dir))).await.is_err() {
        std::process::exit(3);
    }
    match std::env::var("DOOMED_AGENT_THEN").unwrap().as_str() {
        "remove" => agent.remove(&id, run_id(1)).await.unwrap(),
        "wait" => drop(exits.recv().await),
        _ => std::future::pending().await,
    }
}

fn doomed_agent(board: &Board, failpoint: &str, line: &str, then: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["agent_process", "--exact", "--nocapture"])
        .env("DOOMED_AGENT_DIR", board.path())
        .env("DOOMED_AGENT_CGROUP", &board.cgroup_parent)
        .env("DOOMED_AGENT_LINE", line)
        .env("DOOMED_AGENT_THEN", then)
        .env("SKERRY_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

const SLEEPS: &str = "exec sleep 1000";

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

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

fn shim_of(board: &Board) -> u32 {
    let dir = board.settings().places.run(&instance("doomed"), run_id(1));
    let mut pid = 0;
    until("the shim is named", || {
        dir.read_shim().ok().flatten().is_some_and(|shim| {
            pid = shim.process.pid;
            true
        })
    });
    pid
}

fn runs(board: &Board) {
    until("the container runs", || !payload(board, &instance("doomed")).is_empty());
    until("its program runs", || {
        let first = payload(board, &instance("doomed")).into_iter().next().unwrap_or(0);
        fs::read(format!("/proc/{first}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    });
}

/// Of this board's payload in the freezer's hierarchy, or in the only one.
fn freezer(board: &Board) -> Option<(PathBuf, &'static str)> {
    let leaf = cgroups(board).into_iter().map(|dir| dir.join("work"));
    let v1 = |dir: &PathBuf| dir.join("freezer.state").exists();
    let all: Vec<_> = leaf.collect();
    let found = all.iter().find(|d| v1(d)).map(|d| (d.join("freezer.state"), "FROZEN"));
    found.or_else(|| {
        all.iter().find(|d| d.join("cgroup.freeze").exists()).map(|d| (d.join("cgroup.freeze"), "1"))
    })
}

fn freeze(board: &Board) {
    let (file, word) = freezer(board).expect("a freezer");
    fs::write(&file, word).unwrap();
    if word == "FROZEN" {
        until("it is frozen", || fs::read_to_string(&file).unwrap().trim() == "FROZEN");
    }
}

#[tokio::test]
async fn f14_an_agent_that_dies_while_starting_leaves_what_the_scan_names() {
    for failpoint in ["after-directory", "after-spec", "after-cgroup", "after-spawn"] {
        let board = Board::new();
        image(&board);
        doomed_agent(&board, failpoint, SLEEPS, "stay").wait().unwrap();
        let (agent, mut exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        let adopted = matches!(found.state, FoundState::Running { .. });
        agent.remove(&found.instance, found.run).await.unwrap();
        if adopted {
            exit_of(&mut exits).await;
        }
        assert_no_container_left(&board);
    }
}

#[tokio::test]
async fn an_agent_that_dies_while_removing_is_continued_by_the_next() {
    for failpoint in ["before-remove", "after-kill", "after-unmount", "after-cgroup-removed"] {
        let board = Board::new();
        image(&board);
        doomed_agent(&board, failpoint, SLEEPS, "remove").wait().unwrap();
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        agent.remove(&found.instance, found.run).await.unwrap();
        assert_no_container_left(&board);
    }
}

#[tokio::test]
async fn a_shim_that_dies_before_its_container_runs_is_a_failed_start() {
    for failpoint in ["before-shim-json", "after-shim-json", "before-start"] {
        let board = Board::new();
        image(&board);
        let status = doomed_agent(&board, failpoint, SLEEPS, "stay").wait().unwrap();
        assert_eq!(status.code(), Some(3), "{failpoint}: the start fails");
        assert_no_container_left(&board);
    }
}

/// Its container is no shim's any more: what is known is told, and all of it goes.
#[tokio::test]
async fn a_shim_that_dies_later_ends_its_run_with_what_is_known() {
    for (failpoint, code) in [("after-start", None), ("before-exit-json", None), ("after-exit-json", Some(5))]
    {
        let board = Board::new();
        image(&board);
        let line = if failpoint == "after-start" { SLEEPS } else { "exit 5" };
        assert!(doomed_agent(&board, failpoint, line, "wait").wait().unwrap().success(), "{failpoint}");
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        match (ended(&found), code) {
            (Exit::Code { code: found }, Some(code)) => assert_eq!(*found, code),
            (Exit::Unknown { evidence }, None) => assert!(evidence.contains("shim"), "{evidence}"),
            other => panic!("{failpoint}: {other:?}"),
        }
        agent.remove(&found.instance, found.run).await.unwrap();
        assert_no_container_left(&board);
    }
}

/// F13, F16: what runs is not touched by the death of the agent.
#[tokio::test]
async fn f13_a_fresh_agent_adopts_a_container() {
    let board = Board::new();
    image(&board);
    let mut doomed = doomed_agent(&board, "", SLEEPS, "stay");
    runs(&board);
    let (shim, before) = (shim_of(&board), payload(&board, &instance("doomed")));
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    let (agent, mut exits) = board.agent();
    let found = the_one(agent.scan().unwrap());
    assert!(matches!(found.state, FoundState::Running { pid, .. } if pid == shim), "{:?}", found.state);
    assert_eq!(payload(&board, &instance("doomed")), before);
    agent.stop(&found.instance, found.run, "TERM", Duration::from_millis(200)).await.unwrap();
    assert_eq!(exits.try_recv().unwrap().exit, Exit::Signal { signal: 9 });
    agent.remove(&found.instance, found.run).await.unwrap();
    assert_no_container_left(&board);
}

/// Shim and agent at once, the payload frozen, its directory lost: the cgroup alone names it.
#[tokio::test]
async fn f14_a_frozen_container_without_shim_and_directory_is_found_and_cleared() {
    for lost in [false, true] {
        let board = Board::new();
        image(&board);
        let mut doomed = doomed_agent(&board, "", SLEEPS, "stay");
        runs(&board);
        freeze(&board);
        doomed.kill().unwrap();
        doomed.wait().unwrap();
        let shim = shim_of(&board);
        kill(shim);
        until("its shim is gone", || is_gone(shim));
        if lost {
            fs::remove_dir_all(board.settings().places.instance(&instance("doomed"))).unwrap();
        }
        let (agent, _exits) = board.agent();
        let found = the_one(agent.scan().unwrap());
        assert_eq!(found.assignment.is_none(), lost);
        agent.remove(&found.instance, found.run).await.unwrap();
        assert_no_container_left(&board);
    }
}

#[tokio::test]
async fn a_frozen_container_is_stopped_and_its_shim_tells_how() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("doomed");
    agent.start(&id, run_id(1), &container(&id, SLEEPS), image(&board)).await.unwrap();
    runs(&board);
    freeze(&board);
    agent.stop(&id, run_id(1), "TERM", Duration::from_millis(100)).await.unwrap();
    assert_eq!(exits.try_recv().unwrap().exit, Exit::Signal { signal: 9 });
    agent.remove(&id, run_id(1)).await.unwrap();
    assert_no_container_left(&board);
}

/// A state directory, mount points and a cgroup with somebody in it, where the container is to be: as a crash
/// between two steps of another version might leave them.
#[tokio::test]
async fn what_lies_stale_in_a_runs_place_is_cleared_with_it() {
    let board = Board::new();
    let id = instance("doomed");
    let dir = board.settings().places.run(&id, run_id(1));
    fs::create_dir_all(dir.container_state().join("half")).unwrap();
    fs::create_dir_all(dir.bundle().join("rootfs")).unwrap();
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let cgroup = board.settings().cgroups.split_leaf("test.doomed.0.1-1");
    for dir in &cgroup.dirs {
        fs::create_dir_all(dir.path.join("work/deeper")).unwrap();
    }
    let memory = cgroup.dirs.iter().find(|d| d.controllers.contains(&edge_agent::cgroup::Controller::Memory));
    fs::write(memory.unwrap().path.join("work/deeper/cgroup.procs"), stranger.id().to_string()).unwrap();
    let (agent, mut exits) = board.agent();
    let found = the_one(agent.scan().unwrap());
    assert!(matches!(ended(&found), Exit::StartFailed { .. }));
    agent.remove(&id, run_id(1)).await.unwrap();
    assert!(is_gone(stranger.id()));
    // Whoever was first has reaped it.
    let _ = stranger.wait();
    assert_no_container_left(&board);
    // And the next run of it has its place.
    agent.start(&id, run_id(2), &container(&id, "exit 4"), image(&board)).await.unwrap();
    assert_eq!(exit_of(&mut exits).await.exit, Exit::Code { code: 4 });
    agent.remove(&id, run_id(2)).await.unwrap();
    assert_no_container_left(&board);
}

/// Whenever the container's first process is killed, created or started: a start that fails or an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_containers_first_process_killed_as_soon_as_it_is_there() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("doomed");
    let image = image(&board);
    for number in 1..=12 {
        let run = run_id(number);
        let spec = board.settings().places.run(&id, run);
        let pause = Duration::from_micros(300 * (number - 1));
        let killer = std::thread::spawn(move || {
            let begin = std::time::Instant::now();
            while begin.elapsed() < PATIENCE {
                let inside = spec.read_spec().ok().flatten().map(|s| s.cgroup.payload()).unwrap_or_default();
                if let Some(first) = inside.first() {
                    std::thread::sleep(pause);
                    let _ = kill_process(Pid::from_raw(*first as i32).unwrap(), Signal::KILL);
                    return;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        match agent.start(&id, run, &container(&id, SLEEPS), image.clone()).await {
            Ok(_) => assert_eq!(exit_of(&mut exits).await.exit, Exit::Signal { signal: 9 }),
            Err(e) => println!("{number}: {e}"),
        }
        killer.join().unwrap();
        agent.remove(&id, run).await.unwrap();
        assert_no_container_left(&board);
    }
}

/// A process that hangs in the kernel (it writes to a file system that is frozen): said by name, and cleared
/// when the kernel lets go.
#[tokio::test]
async fn a_process_that_hangs_in_the_kernel_is_named_and_cleared_later() {
    let board = Board::new();
    let mut settings = board.settings();
    settings.kill_deadline = Duration::from_millis(600);
    let (agent, mut exits) = Runtime::open(settings).unwrap();
    let id = instance("doomed");
    let line = "trap 'exec touch /data/hangs' USR1; while :; do sleep 0.05; done";
    let mut job = container(&id, line);
    let from = MountSource::Volume { name: "data".parse().unwrap(), size_bytes: 8 << 20 };
    job.run.mounts = vec![RunMount { from, path: "/data".into(), read_only: false }];
    agent.start(&id, run_id(1), &job, image(&board)).await.unwrap();
    let mounted = board.settings().places.run(&id, run_id(1)).mounts().join("0");
    let fsfreeze = |how: &str| Command::new("fsfreeze").arg(how).arg(&mounted).status().unwrap().success();
    assert!(fsfreeze("-f"), "fsfreeze (util-linux) is missing");
    let first = payload(&board, &id)[0];
    until("it hangs", || {
        // Until it can hear that.
        let _ = kill_process(Pid::from_raw(first as i32).unwrap(), Signal::USR1);
        let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" D"))
    });
    let stopped = agent.stop(&id, run_id(1), "TERM", Duration::ZERO).await;
    let removed = agent.remove(&id, run_id(1)).await;
    let thawed = fsfreeze("-u");
    assert!(thawed);
    // The shim ends on being killed; what is in its container does not.
    assert!(matches!(stopped, Ok(()) | Err(StopError::Unkillable { .. })), "{stopped:?}");
    assert!(
        matches!(&removed, Err(RemoveError::Unkillable { pids, .. }) if pids.contains(&first)),
        "{removed:?}"
    );
    exit_of(&mut exits).await;
    agent.remove(&id, run_id(1)).await.unwrap();
    assert_no_container_left(&board);
}

/// The matrix is complete when each arrow of the list is in it.
#[test]
fn every_arrow_is_tested() {
    let here = include_str!("container_crash.rs");
    for name in edge_agent::instance::failpoint::ALL.iter().filter(|n| !n.starts_with("agent-")) {
        assert!(here.contains(&format!("\"{name}\"")), "{name}");
    }
}
