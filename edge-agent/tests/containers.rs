//! Lives of real containers: how each ends, what bounds it, what it sees, and that nothing is left.

mod common;

use std::time::{Duration, Instant};

use common::container::*;
use common::*;
use contract::run::{Assignment, MountSource, RunMount};
use contract::spec::NetworkMode;
use contract::status::Exit;
use edge_agent::instance::StartError;
use edge_agent::logs::{Origin, Query, read};

async fn life(board: &Board, job: &Assignment) -> Exit {
    let (agent, mut exits) = board.agent();
    let id = contract::InstanceId { workload: job.workload.clone(), slot: 0 };
    agent.start(&id, run_id(1), job, image(board)).await.expect("it starts");
    let exited = exit_of(&mut exits).await;
    agent.remove(&id, run_id(1)).await.unwrap();
    assert_no_container_left(board);
    exited.exit
}

fn said(board: &Board, name: &str) -> Vec<(Origin, String)> {
    let dir = board.settings().places.logs(&instance(name));
    let records = read(&dir, run_id(1), &Query::default()).unwrap();
    records.into_iter().map(|r| (r.origin, r.text)).collect()
}

fn text(board: &Board, name: &str) -> String {
    said(board, name).into_iter().map(|(_, text)| text + "\n").collect()
}

#[tokio::test]
async fn an_exit_code_or_a_signal_arrives_as_it_was() {
    let board = Board::new();
    for (line, expected) in [
        ("exit 0", Exit::Code { code: 0 }),
        ("exit 7", Exit::Code { code: 7 }),
        ("exit 255", Exit::Code { code: 255 }),
        ("exec nothing-of-the-kind", Exit::Code { code: 127 }),
    ] {
        let job = container(&instance("job"), line);
        assert_eq!(life(&board, &job).await, expected, "{line}");
    }
}

#[tokio::test]
async fn what_it_says_is_in_the_log_to_the_last_word() {
    let board = Board::new();
    let line = "echo one; echo two >&2; head -c 300000 /dev/zero | wc -c; echo -n last";
    assert_eq!(life(&board, &container(&instance("talks"), line)).await, Exit::Code { code: 0 });
    let all = said(&board, "talks");
    assert!(all.contains(&(Origin::Stdout, "one".into())) && all.contains(&(Origin::Stderr, "two".into())));
    assert!(
        all.contains(&(Origin::Stdout, "300000".into())) && all.contains(&(Origin::Stdout, "last".into()))
    );
}

/// F23, and whoever writes without end is not held up for ever.
#[tokio::test]
async fn f23_a_flood_is_bounded_and_goes_on() {
    let board = Board::new();
    let id = instance("flood");
    let (agent, mut exits) = board.agent();
    let job = container(
        &id,
        "yes 0123456789012345678901234567890123456789 | head -c 8000000; echo end >&2; exec sleep 1000",
    );
    agent.start(&id, run_id(1), &job, image(&board)).await.unwrap();
    until("all of it was said", || text(&board, "flood").contains("end"));
    agent.stop(&id, run_id(1), "KILL", Duration::from_secs(5)).await.unwrap();
    assert_eq!(exit_of(&mut exits).await.exit, Exit::Signal { signal: 9 });
    let dir = board.settings().places.logs(&id);
    let size: u64 = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(size <= agent.settings().log_bytes_max, "{size}");
    agent.remove(&id, run_id(1)).await.unwrap();
    assert_no_container_left(&board);
}

/// F28: the payload's limits are its own; its shim lives to tell.
#[tokio::test]
async fn f28_out_of_memory_is_named_by_the_shim_that_it_spares() {
    let board = Board::new();
    for line in ["exec tail /dev/zero", "tail /dev/zero"] {
        let mut hog = container(&instance("hog"), line);
        hog.run.limits.memory_bytes = 24 << 20;
        assert_eq!(life(&board, &hog).await, Exit::OutOfMemory { limit_bytes: 24 << 20 }, "{line}");
        assert!(text(&board, "hog").contains("for want of memory"));
    }
}

#[tokio::test]
async fn a_stop_is_heard_and_who_does_not_hear_is_killed_after_the_grace() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("stops");
    let hears = "trap 'echo heard; exit 3' USR1; echo ready; while :; do sleep 0.05; done";
    for (number, line, signal, expected) in [
        (1, hears, "USR1", Exit::Code { code: 3 }),
        // A first process without a handler never sees TERM.
        (2, "echo ready; sleep 1000; echo", "TERM", Exit::Signal { signal: 9 }),
        (3, "echo ready; sleep 1000; echo", "KILL", Exit::Signal { signal: 9 }),
    ] {
        let run = run_id(number);
        agent.start(&id, run, &container(&id, line), image(&board)).await.unwrap();
        let logs = agent.settings().places.logs(&id);
        until("it is ready", || !read(&logs, run, &Query::default()).unwrap_or_default().is_empty());
        let begin = Instant::now();
        agent
            .stop(&id, run, signal, Duration::from_millis(if number == 1 { 600_000 } else { 300 }))
            .await
            .unwrap();
        assert!(begin.elapsed() < PATIENCE * 2, "the grace was waited out");
        assert_eq!(exits.try_recv().unwrap().exit, expected, "{signal}");
        agent.remove(&id, run).await.unwrap();
    }
    assert_no_container_left(&board);
}

#[tokio::test]
async fn it_sees_what_the_manifest_says_over_what_the_image_says() {
    let board = Board::new();
    let data = board.path().join("shared");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "of the board").unwrap();
    let mut job = container(
        &instance("sees"),
        "echo $FROM $GREETING $(hostname) $(id -u):$(id -g) $(pwd); cat /shared/file; echo; cat /one-file; echo; \
         touch /shared/x 2>&1; df /tmp | tail -n 1 | grep -q tmpfs && echo tmpfs; touch /nope 2>&1; \
         ls /sys/class/net; echo x > /data/kept && echo wrote",
    );
    let mount = |from, path: &str, read_only| RunMount { from, path: path.into(), read_only };
    let host = |path: &std::path::Path| MountSource::HostPath { path: path.to_str().unwrap().into() };
    job.run.env.insert("GREETING".into(), "Ahoi".into());
    job.run.mounts = vec![
        mount(host(&data), "/shared", true),
        mount(host(&data.join("file")), "/one-file", true),
        mount(MountSource::Tmpfs { size_bytes: 1 << 20 }, "/tmp", false),
        mount(MountSource::Volume { name: "data".parse().unwrap(), size_bytes: 8 << 20 }, "/data", false),
    ];
    let asked = job.run.container.as_mut().unwrap();
    (asked.user, asked.workdir, asked.read_only_root) = (Some("web".into()), Some("/data".into()), true);
    assert_eq!(life(&board, &job).await, Exit::Code { code: 0 });
    let text = text(&board, "sees");
    for words in [
        "image Ahoi sees 101:102 /data\n",
        "of the board\nof the board\n",
        "/shared/x: Read-only",
        "tmpfs\n",
        "/nope: Read-only",
        "lo\n",
        "wrote\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("eth0"), "{text}");
}

#[tokio::test]
async fn command_and_arguments_replace_what_the_image_has() {
    let board = Board::new();
    let mut job = container(&instance("own"), "");
    job.run.args.clear();
    assert_eq!(life(&board, &job).await, Exit::Code { code: 0 });
    assert!(text(&board, "own").contains("from the image"));
    job.run.command = vec!["echo".into(), "from".into()];
    job.run.args = vec!["the manifest".into()];
    job.run.container.as_mut().unwrap().hostname = Some("other".into());
    job.run.network.mode = NetworkMode::Host;
    assert_eq!(life(&board, &job).await, Exit::Code { code: 0 });
    assert!(text(&board, "own").contains("from the manifest"));
}

/// F22: what it writes beside its volumes is bounded, and gone with it.
#[tokio::test]
async fn f22_a_writer_without_end_fills_only_its_own_layer() {
    let board = Board::new();
    let mut job = container(&instance("fills"), "dd if=/dev/zero of=/fill bs=1M 2>&1; df -k / | tail -n 1");
    job.run.limits.storage_bytes = 8 << 20;
    assert_eq!(life(&board, &job).await, Exit::Code { code: 0 });
    assert!(text(&board, "fills").contains("No space left"), "{}", text(&board, "fills"));
    assert_eq!(std::fs::read_dir(board.settings().places.writable()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_can_never_start_is_refused_by_name_and_leaves_nothing() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let id = instance("never");
    let with = |change: &dyn Fn(&mut contract::run::RunSpec)| {
        let mut made = container(&id, "true");
        change(&mut made.run);
        made
    };
    for (number, (job, says)) in [
        (with(&|r| r.command = vec!["/bin/none".into()]), "'/bin/none' is not in the image"),
        (with(&|r| r.container.as_mut().unwrap().user = Some("nobody".into())), "passwd has no 'nobody'"),
        (with(&|r| r.network.mode = NetworkMode::Private), "private"),
        (with(&|r| r.runtime = contract::spec::Runtime::Wasm), "none for runtime"),
        (
            with(&|r| r.container.as_mut().unwrap().add_capabilities = vec!["FLY".into()]),
            "'FLY' is no capability",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        match agent.start(&id, run_id(number as u64), &job, image(&board)).await {
            Err(StartError::Refused(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{says}: {other:?}"),
        }
        assert_no_container_left(&board);
    }
    assert!(exits.try_recv().is_err(), "what never started never exited");
}

/// Another container's shim has a copy of the board's mounts; it must not keep a volume's disk.
#[tokio::test]
async fn a_volume_is_free_when_its_instance_is_gone_though_others_run() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let (id, other) = (instance("holds"), instance("other"));
    let mut job = container(&id, "touch /data/$RUN; echo $(ls /data); exec sleep 1000");
    job.run.mounts = vec![RunMount {
        from: MountSource::Volume { name: "data".parse().unwrap(), size_bytes: 8 << 20 },
        path: "/data".into(),
        read_only: false,
    }];
    for number in 1..=3 {
        job.run.env.insert("RUN".into(), format!("run-{number}"));
        agent.start(&id, run_id(number), &job, image(&board)).await.unwrap();
        if number == 1 {
            agent
                .start(&other, run_id(1), &container(&other, "exec sleep 1000"), image(&board))
                .await
                .unwrap();
        }
        let logs = agent.settings().places.logs(&id);
        until("it spoke", || !read(&logs, run_id(number), &Query::default()).unwrap_or_default().is_empty());
        agent.stop(&id, run_id(number), "KILL", Duration::ZERO).await.unwrap();
        exit_of(&mut exits).await;
        agent.remove(&id, run_id(number)).await.unwrap();
    }
    agent.remove(&other, run_id(1)).await.unwrap();
    exit_of(&mut exits).await;
    assert_no_container_left(&board);
    let logs = agent.settings().places.logs(&id);
    let records = read(&logs, run_id(3), &Query::default()).unwrap();
    assert!(records.iter().any(|r| r.text.contains("run-1") && r.text.contains("run-2")), "{records:?}");
}

/// F30: while nothing happens the shim does nothing.
#[tokio::test]
async fn f30_an_idle_shim_sleeps() {
    let board = Board::new();
    let (agent, _exits) = board.agent();
    let id = instance("idle");
    let started =
        agent.start(&id, run_id(1), &container(&id, "exec sleep 1000"), image(&board)).await.unwrap();
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", started.pid)).unwrap();
        let count = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap()
        };
        (count("voluntary_ctxt_switches:"), count("Threads:"))
    };
    let mut before = switches();
    until("it has begun", || {
        std::thread::sleep(Duration::from_secs(1));
        std::mem::replace(&mut before, switches()) == before
    });
    assert_eq!(before.1, 1);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(), before);
    agent.remove(&id, run_id(1)).await.unwrap();
    assert_no_container_left(&board);
}

/// Exactly what is named: a node that somebody makes by himself leads nowhere where the kernel is asked.
#[tokio::test]
async fn devices_are_those_that_are_named() {
    let board = Board::new();
    let line = "(: </dev/ctl) && echo reads; (: >/dev/ctl); mknod /dev/other c 10 229; (: </dev/other); true";
    let mut job = container(&instance("devices"), line);
    let (path, inside) = ("/dev/loop-control".into(), "/dev/ctl".into());
    let device = contract::run::RunDevice { path, inside, access: "r".into() };
    job.run.container.as_mut().unwrap().devices = vec![device];
    assert_eq!(life(&board, &job).await, Exit::Code { code: 0 });
    let text = text(&board, "devices");
    assert!(text.contains("reads"), "{text}");
    // cgroup v1 asks; on v2 nobody can make a node, and what is named can be opened either way.
    let on_v1 = std::path::Path::new("/sys/fs/cgroup/devices").exists();
    assert!(text.contains("Operation not permitted"), "{text}");
    assert!(!on_v1 || text.contains("/dev/ctl: Operation not permitted"), "{text}");
}
