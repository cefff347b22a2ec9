//! A workload that misbehaves hurts only itself, and its end is told clearly.

use std::fs;
use std::time::Duration;

use e2e::{Fleet, eventually, until};

fn exit_of(fleet: &Fleet, name: &str) -> e2e::Value {
    let mut exit = e2e::Value::Null;
    until(&format!("{name} has ended"), || {
        exit = fleet.instance(name, 0)["lastExit"].clone();
        exit.is_object()
    });
    exit
}

#[test]
fn ends_are_told_as_they_were() {
    let fleet = Fleet::start(1);
    fleet.hub.push("misbehave");
    let never = |args: &str| format!("  args: [{args}]\n  restartPolicy: Never");
    fleet.hub.apply(&e2e::manifest("seven", "misbehave", &never("exit, \"7\"")));
    fleet.hub.apply(&e2e::manifest("trap", "misbehave", &never("trap")));
    fleet.hub.apply(&e2e::manifest("zero", "misbehave", &never("exit, \"0\"")));
    assert_eq!(exit_of(&fleet, "seven")["code"], 7);
    let trap = exit_of(&fleet, "trap");
    assert_eq!(trap["name"], "trap");
    assert!(trap["message"].as_str().unwrap().contains("wasm trap"), "{trap}");
    until("a job that ended well is completed", || fleet.instance("zero", 0)["state"] == "Completed");
    assert_eq!(fleet.instance("seven", 0)["state"], "Failed");
    fleet.finish();
}

#[test]
fn f28_a_hog_a_spinner_and_a_flood_hurt_only_themselves() {
    let fleet = Fleet::start(1);
    fleet.run("calm", "hello", "  args: [--every, \"60000\"]");
    let calm = fleet.boards[0].pid("calm");
    fleet.hub.push("misbehave");
    let all = [
        e2e::manifest(
            "hog",
            "misbehave",
            "  args: [hog]\n  resources: {memory: 24Mi}\n  restartPolicy: Never",
        ),
        e2e::manifest("spin", "misbehave", "  args: [spin]\n  resources: {cpu: 100m, memory: 16Mi}"),
        e2e::manifest("flood", "misbehave", "  args: [flood]\n  resources: {cpu: 200m, memory: 16Mi}"),
    ];
    fleet.hub.apply(&all.join("---\n"));
    // The guest's own malloc fails first (StoreLimits), or the kernel names the limit: never the board.
    let hog = exit_of(&fleet, "hog");
    assert!(hog["name"] == "outOfMemory" || hog["name"] == "trap" || hog["name"] == "code", "{hog}");
    let spin = fleet.boards[0].pid("spin");
    let ticks = || {
        fs::read_to_string(format!("/proc/{spin}/stat")).ok().and_then(|s| {
            let fields: Vec<u64> = s
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|f| f.parse().ok())
                .collect();
            Some(fields.iter().sum::<u64>())
        })
    };
    until("the spinner has used some time", || ticks().is_some_and(|t| t > 5));
    // The clock is read before and after the ticks: a machine that pauses here makes the share smaller.
    let (at, from) = (std::time::Instant::now(), ticks().unwrap());
    eventually(Duration::from_secs(4), || false);
    // Ticks are 10 ms; the quota is a tenth of a core, and half of that again is generous.
    let used = (ticks().unwrap() - from) as f64 * 10.0;
    let share = used / at.elapsed().as_millis() as f64;
    assert!(share < 0.15, "a quota of 0.1 core gave {share:.2}");
    // The ring is bounded, however much is said (F23).
    until("the flood has said a lot", || fleet.boards[0].log_bytes("flood") > 200 << 10);
    assert!(
        !eventually(Duration::from_secs(3), || fleet.boards[0].log_bytes("flood") > (1 << 20) + (64 << 10))
    );
    assert_eq!(fleet.boards[0].pid("calm"), calm);
    fleet.steady("calm");
    fleet.finish();
}

#[test]
fn out_of_memory_is_named_with_its_limit() {
    let fleet = Fleet::start(1);
    fleet.hub.push("misbehave");
    fleet.hub.apply(&e2e::manifest(
        "oom",
        "misbehave",
        "  args: [oom]\n  resources: {memory: 16Mi}\n  restartPolicy: Never",
    ));
    let exit = exit_of(&fleet, "oom");
    let told = exit.to_string().to_lowercase();
    assert!(told.contains("memory"), "{exit}");
    fleet.finish();
}

#[test]
fn f22_a_writer_without_end_is_bounded_by_its_volume() {
    let fleet = Fleet::start(1);
    fleet.hub.push("misbehave");
    let spec = "  args: [fill, /data/x]\n  restartPolicy: Never\n  mounts: [{volume: data, path: /data, size: 16Mi}]";
    fleet.hub.apply(&e2e::manifest("fill", "misbehave", spec));
    let exit = exit_of(&fleet, "fill");
    assert_ne!(exit["name"], "startFailed", "{exit}");
    let said = fleet.boards[0].said("fill");
    let used: u64 = disk_bytes(&fleet.boards[0].state.join("volumes"));
    assert!(used <= 24 << 20, "{used} bytes on disk for a volume of 16Mi; it said: {said}");
    fleet.finish();
}

/// A guest of ours cannot fork, and threads are not offered to it either; what a hole in the sandbox could
/// do is done here by a real shell within the workload's own cgroup.
#[test]
fn f28_a_fork_bomb_ends_at_the_workloads_pids_limit() {
    let fleet = Fleet::start(1);
    let quiet = "  args: [--every, \"60000\"]";
    fleet.run("calm", "hello", quiet);
    let (status, answer) = fleet.hub.post("/v1/artifacts?tag=threads:1", SPAWNS_THREADS);
    assert!(status == 422 && answer.to_string().contains("thread-spawn"), "{status} {answer:#}");

    fleet.run("bomb", "hello", &format!("{quiet}\n  resources: {{pids: 24}}"));
    let before = fleet.boards[0].pids();
    let inside =
        e2e::cgroups(&fleet.boards[0].cgroup).into_iter().filter(|dir| dir.join("pids.max").exists());
    let dir =
        inside.into_iter().find(|dir| dir.to_string_lossy().contains("default.bomb.0")).expect("its cgroup");
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_string();
    assert_eq!(
        (read("pids.max"), read("pids.current")),
        ("24".into(), "1".into()),
        "one process, one thread"
    );
    let script = format!("echo $$ > {}/cgroup.procs; while :; do sleep 600 & done", dir.display());
    let mut shell = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("the limit is reached", || read("pids.events").split(' ').nth(1).is_some_and(|n| n != "0"));
    assert!(read("pids.current").parse::<u32>().unwrap() <= 24, "{}", read("pids.current"));
    assert_eq!(fleet.boards[0].pids(), before, "it hurts nobody, not even the guest");
    fleet.hub.delete("/v1/workloads/default/bomb");
    until("all of it is gone with the workload", || !dir.exists());
    shell.wait().unwrap();
    assert_eq!(fleet.boards[0].pid("calm"), before["default/calm/0"]);
    fleet.finish();
}

/// A module that imports `wasi` `thread-spawn`.
const SPAWNS_THREADS: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x09\x02\x60\x01\x7f\x01\x7f\x60\0\0\
    \x02\x15\x01\x04wasi\x0cthread-spawn\0\0\
    \x03\x02\x01\x01\
    \x05\x03\x01\0\x01\
    \x07\x13\x02\x06_start\0\x01\x06memory\x02\0\
    \x0a\x04\x01\x02\0\x0b";

fn disk_bytes(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| {
            e.metadata().map_or(0, |m| if m.is_dir() { disk_bytes(&e.path()) } else { m.blocks() * 512 })
        })
        .sum()
}

#[test]
fn mounts_are_what_they_say() {
    let fleet = Fleet::start(1);
    let host = fleet.dir.path().join("sensor");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("value"), "21").unwrap();
    fleet.hub.push("misbehave");
    let spec = format!(
        "  args: [fill, /ro/x]\n  restartPolicy: Never\n  mounts: [{{hostPath: {}, path: /ro, readOnly: true}}, {{tmpfs: 4Mi, path: /tmp}}]",
        host.display()
    );
    fleet.hub.apply(&e2e::manifest("ro", "misbehave", &spec));
    let exit = exit_of(&fleet, "ro");
    assert_ne!(exit["code"], 0, "writing to a read-only mount must fail: {exit}");
    assert!(!host.join("x").exists());
    fleet.finish();
}
