//! A fleet with nothing to do: no byte on the wire, no byte to the disk, no work for the processor. One
//! window is looked at, and each complaint of the field has its own verdict on it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use e2e::{Cable, Fleet, until};

const WINDOW: Duration = Duration::from_secs(10);
const WORKLOADS: usize = 10;

#[derive(Debug)]
struct Idle {
    wire_bytes: u64,
    agent_written: u64,
    shims_written: u64,
    hub_written: u64,
    /// By thread.
    agent_switches: BTreeMap<String, u64>,
    agent_cpu_ms: u64,
}

static IDLE: OnceLock<Idle> = OnceLock::new();

fn idle() -> &'static Idle {
    IDLE.get_or_init(look)
}

fn look() -> Idle {
    let mut fleet = Fleet::start(0);
    let cable = Cable::to(fleet.hub.mqtt);
    fleet.add_board_with("board-0", cable.port, &[]);
    fleet.online(0);
    fleet.hub.push("hello");
    let names: Vec<String> = (0..WORKLOADS).map(|n| format!("work-{n}")).collect();
    let quiet = "  args: [--every, \"600000\"]";
    fleet
        .hub
        .apply(&names.iter().map(|n| e2e::manifest(n, "hello", quiet)).collect::<Vec<_>>().join("---\n"));
    names.iter().for_each(|name| fleet.steady(name));
    let (agent, hub) = (fleet.boards[0].process.pid(), fleet.hub.process.pid());
    let shims: Vec<u32> = fleet.boards[0].pids().into_values().collect();
    // What was said and written for the start is through when nothing has moved for four seconds.
    let mut last = (0, 0);
    until("it has settled", || {
        std::thread::sleep(Duration::from_secs(4));
        let now = (cable.bytes(), written(agent) + written(hub));
        std::mem::replace(&mut last, now) == now
    });
    let now = || Idle {
        wire_bytes: cable.bytes(),
        agent_written: written(agent),
        shims_written: shims.iter().map(|pid| written(*pid)).sum(),
        hub_written: written(hub),
        agent_switches: switches(agent),
        agent_cpu_ms: fleet.boards[0].process.cpu_ms(),
    };
    let before = now();
    std::thread::sleep(WINDOW);
    let after = now();
    let idle = Idle {
        wire_bytes: after.wire_bytes - before.wire_bytes,
        agent_written: after.agent_written - before.agent_written,
        shims_written: after.shims_written - before.shims_written,
        hub_written: after.hub_written - before.hub_written,
        agent_switches: after
            .agent_switches
            .iter()
            .map(|(thread, n)| (thread.clone(), n - before.agent_switches.get(thread).unwrap_or(&0)))
            .filter(|(_, n)| *n > 0)
            .collect(),
        agent_cpu_ms: after.agent_cpu_ms - before.agent_cpu_ms,
    };
    println!("idle for {WINDOW:?} with {WORKLOADS} workloads: {idle:?}");
    fleet.finish();
    idle
}

/// Given to the block layer on behalf of this process.
fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("a living process");
    text.lines().find_map(|l| l.strip_prefix("write_bytes: ")?.parse().ok()).expect("a number")
}

/// How often each of its threads went to sleep or was sent there: before, it was awake.
fn switches(pid: u32) -> BTreeMap<String, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a living process").flatten();
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("status")).ok()?;
        let name = text.lines().find_map(|l| l.strip_prefix("Name:\t"))?.to_string();
        let counts =
            text.lines().filter_map(|l| l.split_once("ctxt_switches:")?.1.trim().parse::<u64>().ok());
        Some((format!("{name} {}", thread.file_name().to_string_lossy()), counts.sum()))
    };
    threads.filter_map(of).collect()
}

#[test]
fn f01_an_idle_fleet_says_nothing() {
    assert_eq!(idle().wire_bytes, 0, "heartbeats and pings are minutes apart: {:?}", idle());
}

#[test]
fn f03_an_idle_fleet_writes_nothing() {
    let Idle { agent_written, shims_written, hub_written, .. } = idle();
    assert_eq!((*agent_written, *shims_written, *hub_written), (0, 0, 0), "{:?}", idle());
}

#[test]
fn f30_an_idle_agent_sleeps() {
    // Nothing looks whether there is something to do: a few threads that had work end, and that is all.
    let switches: u64 = idle().agent_switches.values().sum();
    assert!(switches <= WINDOW.as_secs(), "{:?}", idle());
}
