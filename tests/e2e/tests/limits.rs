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
    let (from, at) = (ticks().unwrap(), std::time::Instant::now());
    eventually(Duration::from_secs(4), || false);
    // Ticks are 10 ms; the quota is a tenth of a core, and half of that again is generous.
    let share = (ticks().unwrap() - from) as f64 * 10.0 / at.elapsed().as_millis() as f64;
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
