//! A container's life in the whole system: pushed, applied, fetched, run, killed, adopted, deleted.

use std::fs;
use std::path::PathBuf;

use e2e::{Board, Fleet, busybox, cgroups, kill9, until};

const TALKS: &str = r#"  args: ["echo begin $MODE; exec sleep 100000"]
  env: {MODE: as-told}
  stop: {grace: 500ms}
  resources: {memory: 32Mi, storage: 8Mi}"#;

fn push(fleet: &Fleet, name: &str, salt: &str) {
    let layout = busybox(&fleet.dir.path().join(format!("image-{name}{salt}")), salt);
    let (code, out, err) = fleet.hub.cli(&["push", layout.to_str().unwrap(), "--tag", &format!("{name}:1")]);
    assert_eq!(code, 0, "{out}{err}");
}

/// The cgroups of the payloads on a board, of one hierarchy.
fn payloads(board: &Board) -> Vec<PathBuf> {
    let is_payload = |dir: &PathBuf| dir.ends_with("work") && dir.to_string_lossy().contains("memory");
    let on_v2 = |dir: &PathBuf| dir.ends_with("work") && dir.join("memory.max").exists();
    cgroups(&board.cgroup).into_iter().filter(|dir| is_payload(dir) || on_v2(dir)).collect()
}

fn payload_pids(board: &Board) -> Vec<u32> {
    let files = payloads(board).into_iter().map(|dir| dir.join("cgroup.procs"));
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    texts.flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>()).collect()
}

#[test]
fn a_container_is_run_replaced_adopted_and_cleared_away() {
    let mut fleet = Fleet::start(1);
    push(&fleet, "box", "");
    fleet.hub.apply(&e2e::manifest("work", "box", TALKS));
    fleet.steady("work");
    let shim = fleet.boards[0].pid("work");
    until("it spoke", || fleet.boards[0].said("work").contains("begin as-told"));
    let (_, out, _) = fleet.hub.cli(&["logs", "work"]);
    assert!(out.contains("begin as-told"), "{out}");
    // Packed layers are not kept beside the unpacked ones: a manifest and a configuration are.
    assert_eq!(fs::read_dir(fleet.boards[0].state.join("images/blobs/sha256")).unwrap().count(), 2);

    let first = payload_pids(&fleet.boards[0]);
    assert_eq!(first.len(), 1);
    kill9(first[0]);
    until("the hub knows", || fleet.instance("work", 0)["restarts"] == 1);
    let exit = fleet.instance("work", 0)["lastExit"].clone();
    assert_eq!((exit["name"].as_str(), exit["signal"].as_i64()), (Some("signal"), Some(9)), "{exit}");
    fleet.steady("work");
    let second = payload_pids(&fleet.boards[0]);
    assert!(second.len() == 1 && second != first);

    // The agent dies: the container runs on and is adopted.
    let shim_before = fleet.boards[0].pid("work");
    assert_ne!(shim_before, shim);
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!((fleet.boards[0].pid("work"), payload_pids(&fleet.boards[0])), (shim_before, second));
    assert_eq!(fleet.instance("work", 0)["restarts"], 1);

    // The shim dies: what it leaves is killed, and another one runs.
    kill9(shim_before);
    until("another shim runs it", || fleet.boards[0].pids().values().any(|pid| *pid != shim_before));
    fleet.steady("work");
    assert_eq!(payload_pids(&fleet.boards[0]).len(), 1);
    let (state, images) = (fleet.boards[0].state.clone(), |dir: &str| fs::read_dir(dir).unwrap().count());
    fleet.hub.delete("/v1/workloads/default/work");
    for dir in
        ["images/ready", "images/blobs/sha256", "images/layers/diff", "images/layers/chain", "writable"]
    {
        let dir = state.join(dir).display().to_string();
        until(&format!("{dir} is empty"), || images(&dir) == 0);
    }
    fleet.finish();
}

/// F5: without hub and network a container starts from disk as well.
#[test]
fn f05_a_container_starts_from_disk() {
    let mut fleet = Fleet::start(1);
    push(&fleet, "box", "");
    fleet.hub.apply(&e2e::manifest("work", "box", TALKS));
    fleet.steady("work");
    let first = payload_pids(&fleet.boards[0]);
    fleet.hub.kill();
    fleet.boards[0].kill();
    fleet.boards[0].pids().values().for_each(|pid| kill9(*pid));
    first.iter().for_each(|pid| kill9(*pid));
    until("the work is gone", || fleet.boards[0].pids().is_empty());
    std::fs::remove_dir_all(&fleet.boards[0].run).unwrap();
    fleet.boards[0].revive();
    fleet.boards[0].pid("work");
    until("it runs", || payload_pids(&fleet.boards[0]).iter().any(|pid| !first.contains(pid)));
    fleet.finish();
}

fn node(path: &std::path::Path) {
    let made = std::process::Command::new("mknod").arg(path).args(["c", "1", "11"]).status().unwrap();
    assert!(made.success(), "mknod: these tests need root");
}

#[test]
fn a_device_is_waited_for_and_replugged_only_its_user_restarts() {
    let fleet = Fleet::start(1);
    push(&fleet, "box", "");
    let device = fleet.dir.path().join("plugs/plc");
    let spec = format!("{TALKS}\n  devices: [{{path: {}, as: /dev/plc}}]", device.display());
    fleet.hub.apply(&e2e::manifest("user", "box", &spec));
    fleet.hub.apply(&e2e::manifest("other", "box", TALKS));
    fleet.steady("other");
    let waits = || {
        let now = fleet.instance("user", 0);
        now["state"] == "Waiting" && now.to_string().contains("waiting for device")
    };
    until("it waits for its device", waits);
    let other = fleet.boards[0].pid("other");
    // Even the directory comes later.
    fs::create_dir(device.parent().unwrap()).unwrap();
    node(&device);
    fleet.steady("user");
    let first = fleet.boards[0].pid("user");
    fs::remove_file(&device).unwrap();
    until("it is stopped and waits", waits);
    assert!(!fleet.boards[0].pids().contains_key("default/user/0"));
    node(&device);
    until("it runs again", || fleet.boards[0].pids().get("default/user/0").is_some_and(|pid| *pid != first));
    fleet.steady("user");
    assert_eq!(
        (fleet.boards[0].pid("other"), fleet.instance("other", 0)["restarts"].as_u64()),
        (other, Some(0))
    );
    fleet.finish();
}

/// Whoever deletes images by hand takes down nothing that runs; what starts next is fetched again.
#[test]
fn an_image_removed_under_a_container_is_fetched_again_for_the_next() {
    let fleet = Fleet::start(1);
    push(&fleet, "box", "");
    fleet.hub.apply(&e2e::manifest("work", "box", TALKS));
    fleet.steady("work");
    let (shim, payload) = (fleet.boards[0].pid("work"), payload_pids(&fleet.boards[0]));
    for dir in ["images/layers/diff", "images/layers/chain", "images/blobs/sha256"] {
        let dir = fleet.boards[0].state.join(dir);
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!((fleet.boards[0].pid("work"), payload_pids(&fleet.boards[0])), (shim, payload.clone()));
    kill9(payload[0]);
    until("another one runs", || payload_pids(&fleet.boards[0]).iter().any(|pid| *pid != payload[0]));
    fleet.steady("work");
    fleet.finish();
}

/// What fetching, unpacking and starting needed is given back when it is done.
#[test]
fn an_agent_that_started_a_container_is_small_again() {
    let fleet = Fleet::start(1);
    push(&fleet, "box", "");
    fleet.hub.apply(&e2e::manifest("work", "box", TALKS));
    fleet.steady("work");
    let agent = fleet.boards[0].process.pid();
    let mut kib = 0;
    let pss = || {
        let rollup = fs::read_to_string(format!("/proc/{agent}/smaps_rollup")).expect("it lives");
        rollup.lines().find_map(|l| l.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
    };
    until("it holds 5 MiB at most", || {
        kib = pss().expect("a sum");
        kib <= 5 << 10
    });
    println!("PSS of an agent that has started a container: {kib} KiB");
    fleet.finish();
}
