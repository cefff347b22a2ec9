//! Lives of real guests in real cgroups: how each ends, what bounds it, and that nothing is left.

mod common;

use std::time::{Duration, Instant};

use common::*;
use contract::run::{MountSource, RunMount};
use contract::status::Exit;
use edge_agent::instance::StartError;
use edge_agent::logs::{Origin, Query, read};

fn log_text(board: &Board, name: &str) -> String {
    let dir = board.settings().places.logs(&instance(name));
    let records = read(&dir, run_id(1), &Query::default()).unwrap();
    records.iter().map(|r| format!("{}\n", r.text)).collect()
}

#[tokio::test]
async fn an_exit_code_arrives_as_it_was() {
    let board = Board::new();
    for code in [0, 7, 126, 255] {
        let job = assignment(&instance("job"), &["exit", &code.to_string()]);
        assert_eq!(whole_life(&board, &job, &guest("misbehave")).await, Exit::Code { code });
    }
}

#[tokio::test]
async fn a_trap_is_told_in_words_and_its_frames_are_in_the_log() {
    let board = Board::new();
    let job = assignment(&instance("wild"), &["trap"]);
    let exit = whole_life(&board, &job, &guest("misbehave")).await;
    assert!(matches!(&exit, Exit::Trap { message } if message.contains("out of bounds")), "{exit}");
    let log = log_text(&board, "wild");
    assert!(log.contains("trapping") && log.contains("  at "), "{log}");
}

/// F28: one guest cannot take the board's memory.
#[tokio::test]
async fn f28_a_hog_is_refused_and_out_of_memory_is_named() {
    let board = Board::new();
    let mut hog = assignment(&instance("hog"), &["hog"]);
    hog.run.limits.memory_bytes = 24 << 20;
    assert_eq!(whole_life(&board, &hog, &guest("misbehave")).await, Exit::Code { code: 3 });
    assert!(log_text(&board, "hog").contains("refused after 1"));

    let mut oom = assignment(&instance("oom"), &["oom"]);
    oom.run.limits.memory_bytes = 24 << 20;
    let exit = whole_life(&board, &oom, &guest("misbehave")).await;
    assert_eq!(exit, Exit::OutOfMemory { limit_bytes: 24 << 20 });
    assert!(log_text(&board, "oom").contains("memory limit of 20 MiB reached"));
}

/// What the guest's own limit does not see, the kernel does: files in a tmpfs are memory too.
#[tokio::test]
async fn f28_the_kernels_oom_kill_is_named() {
    let board = Board::new();
    let mut fill = assignment(&instance("fill"), &["fill", "/tmp/x"]);
    fill.run.limits.memory_bytes = 16 << 20;
    fill.run.mounts = vec![RunMount {
        from: MountSource::Tmpfs { size_bytes: 256 << 20 },
        path: "/tmp".into(),
        read_only: false,
    }];
    let exit = whole_life(&board, &fill, &guest("misbehave")).await;
    assert_eq!(exit, Exit::OutOfMemory { limit_bytes: 16 << 20 });
}

/// A writer without end gets "no space" from its own volume, and what it wrote is there the next time.
#[tokio::test]
async fn f22_a_writer_without_end_fills_only_its_volume() {
    let board = Board::new();
    let mut fill = assignment(&instance("writer"), &["fill", "/data/x"]);
    let size_bytes = 8 << 20;
    fill.run.mounts = vec![RunMount {
        from: MountSource::Volume { name: "data".parse().unwrap(), size_bytes },
        path: "/data".into(),
        read_only: false,
    }];
    let exit = whole_life(&board, &fill, &guest("misbehave")).await;
    assert!(matches!(exit, Exit::Code { code } if code != 0), "{exit}");
    let log = log_text(&board, "writer");
    assert!(log.contains("space") || log.contains("NoSpc") || log.contains("os error"), "{log}");
    let image = board.settings().places.volumes(&instance("writer")).join("data.ext4");
    assert_eq!(image.metadata().unwrap().len(), size_bytes);

    // Second life: the volume is full from the first.
    let (agent, mut exits) = board.agent();
    agent.start(&instance("writer"), run_id(2), &fill, &guest("misbehave")).await.unwrap();
    assert!(matches!(exit_of(&mut exits).await.exit, Exit::Code { code } if code != 0));
    agent.remove(&instance("writer"), run_id(2)).await.unwrap();

    // A larger size in a later revision grows it.
    let MountSource::Volume { size_bytes, .. } = &mut fill.run.mounts[0].from else { unreachable!() };
    *size_bytes = 16 << 20;
    agent.start(&instance("writer"), run_id(3), &fill, &guest("misbehave")).await.unwrap();
    exit_of(&mut exits).await;
    agent.remove(&instance("writer"), run_id(3)).await.unwrap();
    assert_eq!(image.metadata().unwrap().len(), 16 << 20);
    board.assert_nothing_left();
}

#[tokio::test]
async fn a_spinning_guest_gets_its_share_and_no_more() {
    let board = Board::new();
    let mut spin = assignment(&instance("spin"), &["spin"]);
    spin.run.limits.cpu_millis = 200;
    let (agent, _exits) = board.agent();
    // Before the process: a machine that pauses makes the share smaller.
    let begin = Instant::now();
    let started = agent.start(&instance("spin"), run_id(1), &spin, &guest("misbehave")).await.unwrap();
    let cpu_ms = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.pid)).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
    };
    tokio::time::sleep(Duration::from_secs(2)).await;
    until("it spins (other tests may share the cores)", || cpu_ms() >= 200);
    let used = cpu_ms() as f64;
    let share = used / begin.elapsed().as_millis() as f64;
    // A fifth and one period.
    assert!(share < 0.27, "{share}");
    agent.remove(&instance("spin"), run_id(1)).await.unwrap();
    board.assert_nothing_left();
}

/// F23: logs are bounded by default.
#[tokio::test]
async fn f23_a_flood_of_log_stays_within_its_limit() {
    let board = Board::new();
    let flood = assignment(&instance("flood"), &["flood"]);
    let (agent, mut exits) = board.agent();
    agent.start(&instance("flood"), run_id(1), &flood, &guest("misbehave")).await.unwrap();
    let dir = agent.settings().places.logs(&instance("flood"));
    let old = dir.join("1-1.old");
    until("the log rotates", || old.exists());
    let first = std::os::unix::fs::MetadataExt::ino(&old.metadata().unwrap());
    until("it rotates again", || {
        old.metadata().is_ok_and(|m| std::os::unix::fs::MetadataExt::ino(&m) != first)
    });
    agent.stop(&instance("flood"), run_id(1), "TERM", Duration::from_secs(5)).await.unwrap();
    assert_eq!(exit_of(&mut exits).await.exit, Exit::Signal { signal: 15 });
    let size: u64 = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= agent.settings().log_bytes_max, "{size}");
    agent.remove(&instance("flood"), run_id(1)).await.unwrap();
    board.assert_nothing_left();
}

#[tokio::test]
async fn a_stop_ends_a_busy_guest_at_once_and_says_by_what() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    for (number, (what, signal, expected)) in
        [("sleep", "TERM", 15), ("spin", "INT", 2), ("sleep", "KILL", 9)].into_iter().enumerate()
    {
        let (id, run) = (instance("busy"), run_id(number as u64 + 1));
        agent.start(&id, run, &assignment(&id, &[what]), &guest("misbehave")).await.unwrap();
        let begin = Instant::now();
        agent.stop(&id, run, signal, Duration::from_secs(600)).await.unwrap();
        assert!(begin.elapsed() < PATIENCE * 2, "the grace was waited out");
        // Already in the channel when stop returns.
        assert_eq!(exits.try_recv().unwrap().exit, Exit::Signal { signal: expected });
        agent.remove(&id, run).await.unwrap();
    }
    board.assert_nothing_left();
}

#[tokio::test]
async fn a_guest_that_does_not_hear_is_killed_after_its_grace() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("deaf");
    agent.start(&id, run_id(1), &assignment(&id, &["sleep"]), &guest("misbehave")).await.unwrap();
    // CONT does nothing to a process that runs: a stop signal that is not heard.
    agent.stop(&id, run_id(1), "CONT", Duration::from_millis(100)).await.unwrap();
    assert_eq!(exits.try_recv().unwrap().exit, Exit::Signal { signal: 9 });
    // Not alive any more: at once.
    agent.stop(&id, run_id(1), "TERM", Duration::from_secs(60)).await.unwrap();
    agent.remove(&id, run_id(1)).await.unwrap();
    agent.remove(&id, run_id(1)).await.unwrap();
    board.assert_nothing_left();
}

#[tokio::test]
async fn a_guest_sees_its_arguments_environment_and_directories() {
    let board = Board::new();
    let data = board.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut hello = assignment(&instance("hello"), &["--exit", "4", "--after", "1"]);
    hello.run.env.insert("GREETING".into(), "Ahoi".into());
    assert_eq!(whole_life(&board, &hello, &guest("hello")).await, Exit::Code { code: 4 });
    assert!(log_text(&board, "hello").contains("Ahoi"));

    let mut fill = assignment(&instance("ro"), &["fill", "/data/x"]);
    let path = data.to_str().unwrap().to_string();
    fill.run.mounts =
        vec![RunMount { from: MountSource::HostPath { path }, path: "/data".into(), read_only: true }];
    let exit = whole_life(&board, &fill, &guest("misbehave")).await;
    assert!(matches!(exit, Exit::Code { code } if code != 0), "{exit}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 0);
}

#[tokio::test]
async fn what_can_never_start_is_refused_by_name_and_leaves_nothing() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("never");
    let garbage = board.path().join("garbage");
    std::fs::write(&garbage, "not code").unwrap();
    let nowhere = RunMount {
        from: MountSource::HostPath { path: "/nonexistent".into() },
        path: "/x".into(),
        read_only: false,
    };
    let with = |change: &dyn Fn(&mut contract::run::RunSpec)| {
        let mut made = assignment(&id, &[]);
        change(&mut made.run);
        made
    };
    let code = guest("hello");
    for (number, (job, code, says)) in [
        (with(&|_| {}), garbage.clone(), "not code compiled by the hub"),
        (with(&|_| {}), board.path().join("none"), "No such file"),
        (with(&|r| r.mounts = vec![nowhere.clone()]), code.clone(), "/nonexistent"),
        (with(&|r| r.runtime = contract::spec::Runtime::Oci), code.clone(), "none for runtime"),
        (with(&|r| r.network.mode = contract::spec::NetworkMode::Private), code.clone(), "private"),
        (with(&|r| r.stop_signal = "BARK".into()), code.clone(), "BARK"),
        (with(&|r| r.network.connect = vec!["nocolon".into()]), code.clone(), "nocolon"),
    ]
    .into_iter()
    .enumerate()
    {
        match agent.start(&id, run_id(number as u64), &job, &code).await {
            Err(StartError::Refused(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{says}: {other:?}"),
        }
        board.assert_nothing_left();
    }
    assert!(exits.try_recv().is_err(), "what never started never exited");
}

#[tokio::test]
async fn two_runs_of_one_instance_are_never_alive_at_once() {
    let board = Board::new();
    let (agent, _exits) = board.agent();
    let id = instance("single");
    let job = assignment(&id, &["sleep"]);
    agent.start(&id, run_id(1), &job, &guest("misbehave")).await.unwrap();
    let second = agent.start(&id, run_id(2), &job, &guest("misbehave")).await;
    assert!(matches!(&second, Err(StartError::Fault(why)) if why.contains("1-1")), "{second:?}");
    assert_eq!(board.processes().len(), 1);
    agent.remove(&id, run_id(1)).await.unwrap();
    board.assert_nothing_left();
}

#[tokio::test]
async fn a_start_that_is_dropped_leaves_no_process() {
    let board = Board::new();
    let (agent, _exits) = board.agent();
    let id = instance("dropped");
    let job = assignment(&id, &["sleep"]);
    for (number, ms) in [0, 1, 2, 3, 5, 8].into_iter().enumerate() {
        let run = run_id(number as u64);
        let code = guest("misbehave");
        let start = agent.start(&id, run, &job, &code);
        let _ = tokio::time::timeout(Duration::from_millis(ms), start).await;
        agent.remove(&id, run).await.unwrap();
        board.assert_nothing_left();
    }
}

#[tokio::test]
async fn a_second_agent_is_refused() {
    let board = Board::new();
    let (_agent, _exits) = board.agent();
    let second = edge_agent::instance::Runtime::open(board.settings());
    assert!(second.is_err_and(|e| e.to_string().contains("another agent")));
}

#[tokio::test]
async fn the_log_tells_who_said_what_and_keeps_the_run_before() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("twice");
    for number in 1..=3 {
        let job = assignment(&id, &["exit", "0"]);
        agent.start(&id, run_id(number), &job, &guest("misbehave")).await.unwrap();
        exit_of(&mut exits).await;
        agent.remove(&id, run_id(number)).await.unwrap();
    }
    let usage = assignment(&id, &["nonsense"]);
    agent.start(&id, run_id(4), &usage, &guest("misbehave")).await.unwrap();
    exit_of(&mut exits).await;
    agent.remove(&id, run_id(4)).await.unwrap();
    let dir = agent.settings().places.logs(&id);
    assert_eq!(edge_agent::logs::runs(&dir).unwrap(), [run_id(3), run_id(4)]);
    let records = read(&dir, run_id(4), &Query::default()).unwrap();
    assert_eq!(records[0].origin, Origin::Stderr);
    assert!(records[0].text.starts_with("misbehave spin"));
}

/// F22: a full disk costs the log and nothing else.
#[tokio::test]
async fn f22_a_full_disk_does_not_keep_work_from_running() {
    let board = Board::new();
    let logs = board.settings().places.log_dir;
    std::fs::create_dir_all(&logs).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &logs, "tmpfs", flags, c"size=64k,nr_inodes=16").unwrap();
    let mut filler = std::fs::File::create(logs.join("filler")).unwrap();
    while std::io::Write::write(&mut filler, &[0; 4096]).is_ok_and(|n| n > 0) {}
    for (number, inodes_too) in [(1, false), (2, true)] {
        if inodes_too {
            (0..32).for_each(|n| drop(std::fs::create_dir(logs.join(n.to_string()))));
        }
        let (agent, mut exits) = board.agent();
        let id = instance(&format!("full{number}"));
        let job = assignment(&id, &["--exit", "4", "--after", "1"]);
        agent.start(&id, run_id(number), &job, &guest("hello")).await.unwrap();
        assert_eq!(exit_of(&mut exits).await.exit, Exit::Code { code: 4 });
        agent.remove(&id, run_id(number)).await.unwrap();
    }
    drop(filler);
    rustix::mount::unmount(&logs, rustix::mount::UnmountFlags::DETACH).unwrap();
    board.assert_nothing_left();
}
