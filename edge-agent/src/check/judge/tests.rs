use std::path::PathBuf;

use contract::Lineage;

use super::judge;
use crate::cgroup::{Controller, Version};
use crate::check::facts::*;
use crate::check::finding::{Finding, State};

const NOW: u64 = 1_790_000_000_000;

fn dir(path: &str, is_volatile: bool) -> Dir {
    Dir {
        path: path.into(),
        exists: true,
        is_volatile,
        read_only: false,
        total_bytes: 8 << 30,
        free_bytes: 4 << 30,
        total_inodes: 500_000,
        free_inodes: 400_000,
    }
}

fn document(lineage: Lineage) -> Document {
    Document {
        place: "desired/a.json".into(),
        lineage: Some(lineage),
        for_agent: Some("board-1".into()),
        engines: vec!["e1".into()],
        containers: false,
        refused: None,
    }
}

/// Nothing to complain about: no agent runs, the hub announces itself.
fn board() -> Facts {
    let lineage = Lineage([1; 16]);
    let offered =
        |controller| Offered { controller, version: Version::V2, path: PathBuf::from("/sys/fs/cgroup") };
    Facts {
        system: System {
            release: "6.6.31+rpt-rpi-v8".into(),
            arch: "aarch64".into(),
            cmdline: "console=tty1 root=PARTUUID=1".into(),
            model: Some("Raspberry Pi 4 Model B Rev 1.4".into()),
            is_root: true,
            has_overlay: true,
            has_seccomp: true,
            namespaces: ["mnt", "pid", "ipc", "uts", "net", "cgroup", "user"].map(String::from).to_vec(),
            has_loop: true,
        },
        controllers: Controller::ALL.map(offered).to_vec(),
        allowed_missing: Vec::new(),
        allowed_missing_seccomp: false,
        state: dir("/var/lib/skerry/agent", false),
        run: dir("/run/skerry/agent", true),
        reserve_bytes: Some(1 << 20),
        has_store: true,
        set_aside: Vec::new(),
        wall_ms: NOW,
        newest_record_ms: Some(NOW - 1000),
        agent: Agent::Silent { holder: None, why: "no agent answers".into() },
        hub_key: Given::Usable,
        identity: Joined::No,
        token: Given::Usable,
        documents: vec![document(lineage)],
        broker: Broker::Reached {
            url: "mqtt://127.0.0.1:1883".into(),
            announced: Some(lineage),
            document: None,
        },
        unit: None,
        engine: "e1".into(),
    }
}

/// What is neither ok nor skipped.
fn complaints(facts: &Facts) -> Vec<Finding> {
    judge(facts).into_iter().filter(|f| matches!(f.state, State::Warn | State::Fail)).collect()
}

#[track_caller]
fn only(facts: &Facts, name: &str, state: State, words: &[&str]) {
    let found = complaints(facts);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].name, found[0].state), (name, state), "{found:#?}");
    let text = format!("{} / {}", found[0].found, found[0].remedy.as_deref().unwrap_or_default());
    for word in words {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

#[test]
fn a_good_board_has_no_complaint_and_every_name_is_there_once() {
    let found = judge(&board());
    assert_eq!(complaints(&board()), []);
    let mut names: Vec<_> = found.iter().map(|f| f.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), found.len());
    assert!(names.len() >= 20, "{names:?}");
}

#[test]
fn f27_a_raspberry_pi_without_the_memory_controller_is_told_its_kernel_flag() {
    let mut facts = board();
    facts.system.cmdline = "coherent_pool=1M cgroup_disable=memory console=tty1".into();
    facts.controllers.retain(|o| o.controller != Controller::Memory);
    let words = ["cgroup_enable=memory", "cmdline.txt", "Raspberry Pi 4", "says cgroup_disable=memory"];
    only(&facts, "cgroup-memory", State::Fail, &words);
    // Allowed by name it is a degraded mode, and shown as one.
    facts.allowed_missing = vec![Controller::Memory];
    let found = complaints(&facts);
    let names: Vec<_> = found.iter().map(|f| (f.name, f.state)).collect();
    assert_eq!(names, [("cgroup-memory", State::Warn), ("degraded", State::Warn)], "{found:#?}");
}

#[test]
fn an_old_kernel_and_a_stripped_one() {
    let mut facts = board();
    facts.system.release = "4.19.97-v7+".into();
    only(&facts, "kernel", State::Fail, &["4.19.97", "5.4"]);
    let mut facts = board();
    facts.system.namespaces.retain(|n| n != "pid");
    only(&facts, "namespaces", State::Warn, &["CONFIG_PID_NS"]);
    let mut facts = board();
    facts.system.arch = "arm".into();
    only(&facts, "seccomp", State::Warn, &["arm", "64-bit", "no `oci`", "--allow-missing-seccomp"]);
    // What was placed here is not run: that is no warning.
    facts.documents[0].containers = true;
    only(&facts, "seccomp", State::Fail, &["placed here"]);
    let mut facts = board();
    (facts.system.has_overlay, facts.documents[0].containers) = (false, true);
    only(&facts, "overlayfs", State::Fail, &["placed here", "modprobe overlay"]);
}

#[test]
fn disks_without_bytes_and_without_inodes() {
    let mut facts = board();
    facts.state.free_bytes = 1 << 20;
    only(&facts, "disk-space", State::Fail, &["1 MiB free of 8192 MiB", "edge-agent volumes"]);
    let mut facts = board();
    facts.state.free_inodes = 3;
    only(&facts, "disk-inodes", State::Fail, &["3 of 500000", "du --inodes"]);
    let mut facts = board();
    (facts.state.total_inodes, facts.state.free_inodes) = (0, 0); // btrfs
    assert_eq!(complaints(&facts), []);
    facts.reserve_bytes = None;
    only(&facts, "disk-reserve", State::Warn, &["used up"]);
    let mut facts = board();
    facts.state.read_only = true;
    only(&facts, "state-dir", State::Fail, &["read-only"]);
}

#[test]
fn a_clock_of_1970_is_no_failure_and_is_behind_the_records() {
    let mut facts = board();
    facts.wall_ms = 42_000;
    let names: Vec<_> = complaints(&facts).iter().map(|f| (f.name, f.state)).collect();
    assert_eq!(names, [("clock", State::Warn), ("time-floor", State::Warn)]);
    facts.wall_ms = NOW - 3_600_000;
    only(&facts, "time-floor", State::Warn, &["3599 s behind"]);
}

#[test]
fn another_hub_another_key_another_engine() {
    let mut facts = board();
    let other = Lineage([2; 16]);
    facts.broker = Broker::Reached { url: "u".into(), announced: Some(other), document: None };
    only(&facts, "lineage", State::Fail, &["01010101", "02020202", "restore accept --lineage"]);
    let mut facts = board();
    facts.documents[0].refused = Some("is not signed by the hub's key".into());
    only(&facts, "document", State::Fail, &["not signed", "hub.pub"]);
    let mut facts = board();
    facts.engine = "e2".into();
    only(&facts, "engine", State::Fail, &["e1", "e2"]);
}

#[test]
fn no_broker_is_named_and_the_hub_behind_it() {
    let mut facts = board();
    facts.broker = Broker::Refused { url: "mqtt://127.0.0.1:1".into(), why: "no broker there".into() };
    let found = complaints(&facts);
    let names: Vec<_> = found.iter().map(|f| (f.name, f.state)).collect();
    assert_eq!(names, [("broker", State::Fail), ("hub", State::Fail)]);
    assert!(found[0].remedy.as_ref().unwrap().contains("workloads run on"), "{found:#?}");
}

#[test]
fn unit_shapes_that_harm_what_runs() {
    let good = [
        ("LoadState", "loaded"),
        ("Restart", "always"),
        ("StartLimitIntervalUSec", "0"),
        ("WatchdogUSec", "1min"),
        ("Delegate", "no"),
        ("ControlGroup", "/system.slice/edge-agent.service"),
        ("ExecStart", "{ argv[]=edge-agent run --cgroup /system.slice/skerry-workloads.service/agent ; }"),
        ("RuntimeDirectory", "skerry/agent"),
        ("RuntimeDirectoryPreserve", "yes"),
        ("PrivateTmp", "no"),
        ("ProtectSystem", "no"),
    ];
    let with = |name: &str, value: &str| {
        let mut facts = board();
        let mut unit = Unit { name: "edge-agent.service".into(), ..Unit::default() };
        unit.properties = good.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        unit.properties.insert(name.to_string(), value.to_string());
        facts.unit = Some(unit);
        facts
    };
    assert_eq!(complaints(&with("Restart", "always")), []);
    only(&with("Restart", "no"), "systemd-unit", State::Warn, &["Restart=always"]);
    only(&with("StartLimitIntervalUSec", "10s"), "systemd-unit", State::Warn, &["given up"]);
    only(&with("WatchdogUSec", "0"), "systemd-unit", State::Warn, &["WatchdogSec=60"]);
    only(&with("LoadState", "not-found"), "systemd-unit", State::Warn, &["at boot"]);
    only(&with("Delegate", "yes"), "systemd-unit", State::Fail, &["219/CGROUP"]);
    only(&with("RuntimeDirectoryPreserve", "no"), "systemd-unit", State::Fail, &["run directory"]);
    only(&with("PrivateTmp", "yes"), "systemd-unit", State::Fail, &["mount namespace"]);
    let own = "{ argv[]=edge-agent run --cgroup /system.slice/edge-agent.service/w ; }";
    only(&with("ExecStart", own), "systemd-unit", State::Fail, &["die with it"]);
}

#[test]
fn an_agent_that_holds_and_is_silent() {
    let mut facts = board();
    facts.agent = Agent::Silent { holder: Some(7), why: "no agent answers at x".into() };
    facts.broker = Broker::NotTried;
    only(&facts, "agent", State::Fail, &["process 7", "--run-dir"]);
}
