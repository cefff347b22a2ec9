//! What only another machine can show: cgroup v2, a plug that is pulled, systemd as PID 1. Ignored unless asked
//! for (`--ignored`): it needs qemu, which `cross/board/build` installs.

use std::time::{Duration, Instant};

use e2e::{Emulated, Hub, Init, Value, busybox};

const QUIET: &str = "  args: [--every, \"60000\"]\n  resources: {memory: 32Mi, cpu: 200m, pids: 8}";

/// A container; its first process ends when it is asked to. Asked before it can hear, it has its grace.
const BOX: &str = r#"  args: ["trap 'exit 0' TERM; sleep 100000 & wait"]
  stop: {grace: 1s}
  resources: {memory: 32Mi, cpu: 200m, pids: 8, storage: 8Mi}"#;

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
    let layout = busybox(&dir.path().join("image"), "");
    let (code, out, err) = hub.cli(&["push", layout.to_str().expect("a path"), "--tag", "box:1"]);
    assert_eq!(code, 0, "{out}{err}");
    Bench { board, hub, _dir: dir }
}

fn instance(hub: &Hub, name: &str) -> Value {
    hub.get(&format!("/v1/instances?workload={name}&agent=board"))["items"][0].clone()
}

fn the_limits_are_set(board: &Emulated) {
    for (workload, below) in [("work", ""), ("box", "work/")] {
        assert_eq!(board.limit(workload, &format!("{below}memory.max")), (32 << 20).to_string());
        assert_eq!(board.limit(workload, &format!("{below}cpu.max")), "20000 100000");
        assert_eq!(board.limit(workload, &format!("{below}pids.max")), "8");
    }
}

/// The kernel ends the one that takes too much, by the limit's name.
fn is_out_of_memory(board: &Emulated, hub: &Hub, workload: &str) {
    let mut exit = Value::Null;
    board.until(&format!("{workload} has ended"), |_| {
        exit = instance(hub, workload)["lastExit"].clone();
        exit.is_object()
    });
    assert_eq!(exit["name"], "outOfMemory", "{workload}: {exit}");
}

#[test]
#[ignore = "needs qemu"]
fn cgroup_v2_bounds_work_and_it_survives_its_agent() {
    let Bench { board, hub, _dir } = bench(Init::Busybox);
    board.online(&hub);
    board.run(&hub, "work", "hello", QUIET);
    board.run(&hub, "box", "box", BOX);
    the_limits_are_set(&board);
    let kept = |board: &Emulated| (board.pid("work"), board.pid("box"));
    let before_all = kept(&board);

    // A hog of either kind, a container that forks without end, a spinner.
    let never = "  resources: {memory: 16Mi, pids: 8}\n  restartPolicy: Never";
    let container = |script: &str| format!("  args: [\"{script}\"]\n{never}");
    hub.apply(&e2e::manifest("oom", "misbehave", &format!("  args: [oom]\n{never}")));
    hub.apply(&e2e::manifest("hog", "box", &container("tail /dev/zero")));
    hub.apply(&e2e::manifest("forks", "box", &container("while :; do sleep 100 & done")));
    is_out_of_memory(&board, &hub, "oom");
    is_out_of_memory(&board, &hub, "hog");
    board.until("no more than eight processes", |board| {
        board.try_sh("/opt/edge-agent logs forks").1.contains("can't fork")
    });
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

    // What is frozen can be ended, too.
    board.run(&hub, "ice", "box", BOX);
    let freeze = |group: &str| board.sh(&format!("echo 1 | tee {}/{group}/cgroup.freeze", board.cgroups));
    freeze("default.spin.0.*");
    freeze("default.ice.0.*/work");
    for name in ["spin", "ice", "oom", "hog", "forks"] {
        hub.delete(&format!("/v1/workloads/default/{name}"));
    }
    board.until("only the work's cgroups are left", |board| {
        board.sh(&format!("ls -d {}/*/ | wc -l", board.cgroups)) == "2"
    });
    assert_eq!(kept(&board), before_all);

    // The cable is cut: the work does not notice, and what was applied meanwhile comes with the cable.
    board.link(false);
    board.until("the hub misses it", |_| instance(&hub, "work")["fresh"] == false);
    hub.apply(&e2e::manifest("later", "hello", QUIET));
    assert_eq!(kept(&board), before_all);
    board.link(true);
    board.steady(&hub, "later");
    assert_eq!(kept(&board), before_all);
}

#[test]
#[ignore = "needs qemu"]
fn f05_after_a_power_cut_the_last_known_good_runs_without_hub() {
    let Bench { mut board, mut hub, _dir } = bench(Init::Busybox);
    let rounds = if std::env::var_os("SKERRY_LONG").is_some() { 50 } else { 10 };
    let seed = std::env::var("SKERRY_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1_u64);
    println!("{rounds} cuts, SKERRY_SEED={seed}");
    board.online(&hub);
    let mut random = seed;
    for round in 1..=rounds {
        let begun = Instant::now();
        // A new revision of each; when it has become the good one, the hub is told so, and must not be told too early.
        let acknowledged = apply(&hub, &round.to_string());
        WORKS.iter().for_each(|(name, ..)| board.steady(&hub, name));
        // Others are on their way when the plug is pulled, some 0 to 1023 ms later.
        let newest = apply(&hub, &format!("{round}, next"));
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(random >> 54));
        board.cut_power();
        hub.kill();
        let cut = begun.elapsed();

        let booted = board.power_on();
        let [work, container] = board.first_pids(WORKS.map(|(name, ..)| name));
        let [agent, work, container] = board.started([board.agent_pid(), work, container]);
        let status = board.status().expect("the agent answers");
        let text = status.to_string();
        for (old, new) in acknowledged.iter().zip(&newest) {
            assert!(text.contains(old) || text.contains(new), "{old} was acknowledged: {status:#}");
        }
        assert_ne!(status["agent"]["session"]["name"], "connected");
        let (looked, back) = (begun.elapsed() - cut - booted, Instant::now());
        hub.revive();
        board.online(&hub);
        println!(
            "cut {round}: by the board's clock the agent started at {agent:.2} s, its module {:.2} s later, its \
             container {:.2} s; here {:.1} s of work, {:.1} of boot, {:.1} of looking, {:.1} until the hub heard it",
            work - agent,
            container - agent,
            cut.as_secs_f64(),
            booted.as_secs_f64(),
            looked.as_secs_f64(),
            back.elapsed().as_secs_f64()
        );
    }
    WORKS.iter().for_each(|(name, ..)| board.steady(&hub, name));
    the_limits_are_set(&board);
}

const WORKS: [(&str, &str, &str); 2] = [("work", "hello", QUIET), ("box", "box", BOX)];

/// A revision of each workload; their names.
fn apply(hub: &Hub, round: &str) -> [String; 2] {
    let spec = |spec: &str| format!("{spec}\n  env: {{ROUND: \"{round}\"}}");
    let manifests = WORKS.map(|(name, image, own)| e2e::manifest(name, image, &spec(own)));
    hub.apply(&manifests.join("---\n"));
    WORKS.map(|(name, ..)| {
        let workload = hub.get(&format!("/v1/workloads/default/{name}"));
        workload["revision"].as_str().expect("a revision").to_string()
    })
}

/// Workload → process, before and after something that must not touch work; another agent, where one is due.
fn unharmed(board: &Emulated, hub: &Hub, how: &str, other_agent: bool, act: impl FnOnce()) {
    let (agent, before, begun) = (board.agent_pid(), board.pids(), Instant::now());
    act();
    if other_agent {
        board.until(&format!("{how}: another agent answers"), |b| {
            b.try_agent_pid().is_some_and(|pid| pid != agent) && b.status().is_some()
        });
    }
    board.online(hub);
    board.steady(hub, "work");
    board.steady(hub, "box");
    assert_eq!(board.pids(), before, "{how}");
    println!("{how}: {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
#[ignore = "needs qemu"]
fn the_package_its_units_and_the_watchdog_touch_no_work() {
    let Bench { mut board, hub, _dir } = bench(Init::Systemd);
    let begun = Instant::now();
    installed(&board);
    board.online(&hub);
    board.run(&hub, "work", "hello", QUIET);
    board.run(&hub, "other", "hello", QUIET);
    board.run(&hub, "box", "box", BOX);
    println!("installed, and three instances run: {:.1} s", begun.elapsed().as_secs_f64());
    the_limits_are_set(&board);
    assert_eq!(board.pids().len(), 3);
    board.until("a line for people", |b| {
        b.sh("systemctl show -P StatusText edge-agent") == "3 of 3 instances run; connected to the hub"
    });
    let shape = board.check("systemd-unit");
    assert_eq!(shape["state"], "ok", "{shape}");

    for how in
        ["systemctl restart edge-agent", "systemctl kill -s KILL edge-agent", "systemctl daemon-reexec"]
    {
        let other_agent = !how.ends_with("daemon-reexec");
        unharmed(&board, &hub, how, other_agent, || drop(board.sh(how)));
    }
    the_watchdog(&board, &hub);
    upgrades(&board, &hub);

    let (before, begun) = (board.pids(), Instant::now());
    board.sh("systemctl stop edge-agent");
    assert_eq!(board.pids(), before, "stopping the agent stops no work");
    board.sh("sync");
    board.cut_power();
    board.power_on();
    let [work, container, _] = board.first_pids(["work", "box", "other"]);
    let [agent, work, container] = board.started([board.agent_pid(), work, container]);
    println!("work {:.2} s after its agent, container {:.2} s", work - agent, container - agent);
    println!("stopped, cut, and back: {:.1} s", begun.elapsed().as_secs_f64());
    removal(&board);
}

/// As a person does it: the package, then what the board must know. Until then the agent is not started.
fn installed(board: &Emulated) {
    board.sh("/usr/bin/dpkg -i /opt/edge-agent_1_amd64.deb");
    assert_eq!(board.sh("systemctl is-enabled edge-agent"), "enabled");
    assert_eq!(board.try_sh("systemctl is-active edge-agent").1, "inactive", "no key, and no failure");
    board.sh("cat /opt/agent.env > /etc/skerry/agent.env && systemctl start edge-agent");
}

fn the_watchdog(board: &Emulated, hub: &Hub) {
    // A minute is long in a test.
    let drop_in = "/run/systemd/system/edge-agent.service.d";
    board.sh(&format!("mkdir -p {drop_in}"));
    let unit = format!("(echo [Service]; echo WatchdogSec=5) > {drop_in}/test.conf");
    board.sh(&format!("{unit} && systemctl daemon-reload"));
    unharmed(board, hub, "restart", true, || drop(board.sh("systemctl restart edge-agent")));

    let agent = board.agent_pid();
    unharmed(board, hub, "an agent that is stopped", true, || drop(board.sh(&format!("kill -STOP {agent}"))));

    // The loop itself is stuck, and nothing else in the process: it opens a pipe that nobody reads.
    let note = "/run/skerry/agent/restarts/default.other.0.tmp";
    let begun = Instant::now();
    let (agent, work, other) = (board.agent_pid(), board.pid("work"), board.pid("other"));
    board.sh(&format!("mkfifo {note} && kill -9 {other}"));
    board.until("an agent that is stuck is ended", |b| b.try_agent_pid() != Some(agent));
    board.sh(&format!("rm {note}"));
    board.until("another agent answers", |b| b.status().is_some());
    board.steady(hub, "other");
    assert_eq!(board.pid("work"), work);
    println!("an agent that is stuck: {:.1} s", begun.elapsed().as_secs_f64());
    board.sh(&format!("rm -r {drop_in} && systemctl daemon-reload"));
    unharmed(board, hub, "restart", true, || drop(board.sh("systemctl restart edge-agent")));
}

fn upgrades(board: &Emulated, hub: &Hub) {
    for version in ["2", "1"] {
        let install = format!("/usr/bin/dpkg -i /opt/edge-agent_{version}_amd64.deb");
        unharmed(board, hub, &install, true, || drop(board.sh(&install)));
        assert_eq!(board.sh("/usr/bin/dpkg-query -W -f '${Version}' edge-agent"), version);
    }
    assert!(
        board.sh("cat /etc/skerry/agent.env").contains("SKERRY_AGENT_ID=board"),
        "it is the person's file"
    );
}

/// Removed, nothing runs and all that the board knows is kept; installed again, work goes on; purged, it is gone.
fn removal(board: &Emulated) {
    let begun = Instant::now();
    board.sh("/usr/bin/dpkg -r edge-agent");
    board.until("all work has ended", |board| board.pids().is_empty());
    assert_eq!(board.try_sh("grep skerry /proc/mounts").1, "");
    board.sh("test -d /var/lib/skerry/agent && ! test -e /run/skerry/agent/instances");
    board.sh("/usr/bin/dpkg -i /opt/edge-agent_2_amd64.deb");
    board.pid("work");
    board.pid("box");
    board.sh("/usr/bin/dpkg -P edge-agent");
    board.until("all work has ended", |board| board.pids().is_empty());
    board.sh("! test -e /var/lib/skerry && ! test -e /etc/skerry/agent.env");
    assert_eq!(board.try_sh("systemctl list-unit-files | grep -E 'edge-agent|skerry'").1, "");
    println!("removed, installed, purged: {:.1} s", begun.elapsed().as_secs_f64());
}
