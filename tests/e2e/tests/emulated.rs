//! What only another machine can show: cgroup v2, a plug that is pulled, systemd as PID 1. Ignored unless asked
//! for (`--ignored`): it needs qemu, which `cross/board/build` installs.

use e2e::{Emulated, Hub, Init, Value};

const QUIET: &str = "  args: [--every, \"60000\"]\n  resources: {memory: 32Mi, cpu: 200m, pids: 8}";

struct Bench {
    board: Emulated,
    hub: Hub,
    // Last: nothing may write into it any more when it goes.
    _dir: tempfile::TempDir,
}

/// A hub on this machine and a board that is switched on and online.
fn bench(init: Init) -> Bench {
    let dir = tempfile::Builder::new().prefix("skerry-board-").tempdir().expect("a directory");
    let hub = Hub::start(dir.path().join("hub"), &[]);
    let mut board = Emulated::new(dir.path(), init, &hub);
    println!("power to first command: {:.1} s", board.power_on().as_secs_f64());
    hub.push("hello");
    hub.push("misbehave");
    Bench { board, hub, _dir: dir }
}

fn instance(hub: &Hub, name: &str) -> Value {
    hub.get(&format!("/v1/instances?workload={name}&agent=board"))["items"][0].clone()
}

fn the_limits_are_set(board: &Emulated, workload: &str) {
    assert_eq!(board.limit(workload, "memory.max"), (32 << 20).to_string());
    assert_eq!(board.limit(workload, "cpu.max"), "20000 100000");
    assert_eq!(board.limit(workload, "pids.max"), "8");
}

#[test]
#[ignore = "needs qemu"]
fn cgroup_v2_bounds_work_and_it_survives_its_agent() {
    let Bench { board, hub, _dir } = bench(Init::Busybox);
    board.online(&hub);
    board.run(&hub, "work", "hello", QUIET);
    the_limits_are_set(&board, "work");
    let work = board.pid("work");

    // The kernel ends the one that takes too much, by the limit's name; it slows the one that spins.
    let oom = "  args: [oom]\n  resources: {memory: 16Mi}\n  restartPolicy: Never";
    hub.apply(&e2e::manifest("oom", "misbehave", oom));
    let mut exit = Value::Null;
    board.until("the hog has ended", |_| {
        exit = instance(&hub, "oom")["lastExit"].clone();
        exit.is_object()
    });
    assert_eq!(exit["name"], "outOfMemory", "{exit}");
    board.run(&hub, "spin", "misbehave", "  args: [spin]\n  resources: {cpu: 50m, memory: 16Mi}");
    board.until("the spinner is slowed down", |board| {
        let stat = board.limit("spin", "cpu.stat");
        stat.lines().any(|l| l.strip_prefix("nr_throttled ").is_some_and(|n| n != "0"))
    });

    // The agent is killed: init starts it again, and it takes over what runs.
    let (agent, before) = (board.agent_pid(), board.pids());
    board.sh(&format!("kill -9 {agent}"));
    board.until("another agent answers", |board| board.agent_pid() != agent && board.status().is_some());
    board.online(&hub);
    board.steady(&hub, "work");
    assert_eq!(board.pids(), before, "it was restarted");
    assert_eq!(instance(&hub, "work")["restarts"], 0);

    // A frozen workload can be ended, too.
    board.sh(&format!("echo 1 | tee {}/default.spin.0.*/cgroup.freeze", board.cgroups));
    hub.delete("/v1/workloads/default/spin");
    hub.delete("/v1/workloads/default/oom");
    board.until("only the work's cgroup is left", |board| {
        board.sh(&format!("ls -d {}/*/ | wc -l", board.cgroups)) == "1"
    });
    assert_eq!(board.pid("work"), work);

    // The cable is cut: the work does not notice, and what was applied meanwhile comes with the cable.
    board.link(false);
    board.until("the hub misses it", |_| instance(&hub, "work")["fresh"] == false);
    hub.apply(&e2e::manifest("later", "hello", QUIET));
    assert_eq!(board.pid("work"), work);
    board.link(true);
    board.steady(&hub, "later");
    assert_eq!(board.pid("work"), work);
}

#[test]
#[ignore = "needs qemu"]
fn f05_after_a_power_cut_the_last_known_good_runs_without_hub() {
    let Bench { mut board, mut hub, _dir } = bench(Init::Busybox);
    let rounds = if std::env::var_os("SKERRY_LONG").is_some() { 50 } else { 10 };
    let seed = std::env::var("SKERRY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1_u64);
    println!("{rounds} cuts, SKERRY_SEED={seed}");
    board.online(&hub);
    board.run(&hub, "work", "hello", QUIET);
    let mut random = seed;
    for round in 1..=rounds {
        // A new revision; when it has become the good one, the hub is told so, and must not be told too early.
        let spec = format!("{QUIET}\n  env: {{ROUND: \"{round}\"}}");
        hub.apply(&e2e::manifest("work", "hello", &spec));
        board.steady(&hub, "work");
        let acknowledged = instance(&hub, "work")["revision"].clone();
        // Another one is on its way when the plug is pulled, some 0 to 1023 ms later.
        let next = format!("{QUIET}\n  env: {{ROUND: \"{round}, next\"}}");
        hub.apply(&e2e::manifest("work", "hello", &next));
        let newest = hub.get("/v1/workloads/default/work")["revision"].clone();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(std::time::Duration::from_millis(random >> 54));
        board.cut_power();
        hub.kill();

        let booted = board.power_on();
        let pid = board.pid("work");
        let took = board.started(pid) - board.started(board.agent_pid());
        let status = board.status().expect("the agent answers");
        let text = status.to_string();
        let revision = |r: &Value| r.as_str().is_some_and(|r| text.contains(r));
        assert!(revision(&acknowledged) || revision(&newest), "{acknowledged} was acknowledged: {status:#}");
        assert_ne!(status["agent"]["session"]["name"], "connected");
        println!("cut {round}: up after {:.1} s, work {took:.2} s after its agent", booted.as_secs_f64());
        hub.revive();
        board.online(&hub);
    }
    board.steady(&hub, "work");
    the_limits_are_set(&board, "work");
}

#[test]
#[ignore = "needs qemu"]
fn a_restart_of_the_systemd_unit_touches_no_work() {
    let Bench { mut board, hub, _dir } = bench(Init::Systemd);
    board.sh(
        "mkdir -p /etc/skerry && cp /opt/agent.env /etc/skerry/ && cp /opt/edge-agent /usr/bin/ && \
         cp /opt/*.service /etc/systemd/system/ && systemctl daemon-reload && systemctl enable --now edge-agent",
    );
    board.online(&hub);
    board.run(&hub, "work", "hello", QUIET);
    board.run(&hub, "other", "hello", QUIET);
    the_limits_are_set(&board, "work");
    let before = board.pids();
    assert_eq!(before.len(), 2);

    for how in
        ["systemctl restart edge-agent", "systemctl kill -s KILL edge-agent", "systemctl daemon-reexec"]
    {
        let agent = board.agent_pid();
        board.sh(how);
        if !how.ends_with("daemon-reexec") {
            board.until("another agent answers", |b| b.agent_pid() != agent && b.status().is_some());
        }
        board.online(&hub);
        board.steady(&hub, "work");
        assert_eq!(board.pids(), before, "{how}");
    }
    board.sh("systemctl stop edge-agent");
    assert_eq!(board.pids(), before, "stopping the agent stops no work");
    board.sh("sync");
    board.cut_power();
    board.power_on();
    let pid = board.pid("work");
    println!("work {:.2} s after its agent", board.started(pid) - board.started(board.agent_pid()));
    board.pid("other");
    board.sh("systemctl stop skerry-workloads");
    board.until("all work has ended", |board| board.pids().is_empty());
}
