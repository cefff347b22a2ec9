//! Strangers, liars and damage: each is refused with a reason, and nothing that runs is touched.

use std::fs;
use std::process::Command;

use e2e::{Fleet, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

/// Debian's mosquitto_pub, as anybody has it.
fn publish(fleet: &Fleet, user: &str, password: &str, topic: &str, payload: &[u8], retain: bool) -> bool {
    let file = fleet.dir.path().join("payload");
    fs::write(&file, payload).unwrap();
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "-V",
        "mqttv5",
        "-h",
        "127.0.0.1",
        "-q",
        "1",
        "-i",
        user,
        "-u",
        user,
        "-P",
        password,
        "-t",
        topic,
        "-f",
    ]);
    command.arg(&file).arg("-p").arg(fleet.hub.mqtt.to_string());
    if retain {
        command.arg("-r");
    }
    let output = command.output().expect("mosquitto_pub (apt-get install mosquitto-clients)");
    output.status.success() && output.stderr.is_empty()
}

#[test]
fn strangers_are_kept_out_and_agents_keep_to_their_own_topics() {
    let fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let token = fs::read_to_string(fleet.hub.data.join("agent-token")).unwrap().trim().to_string();
    assert!(!publish(&fleet, "stranger", "wrong", "skerry/v1/agents/board-0/desired", b"{}", true));
    // A member of the fleet, but not the hub: another's topics, and the hub's, are not its own.
    publish(&fleet, "board-9", &token, "skerry/v1/agents/board-0/desired", b"{}", true);
    publish(&fleet, "board-9", &token, "skerry/v1/agents/board-0/observed", b"{}", false);
    publish(&fleet, "board-9", &token, "skerry/v1/hub", b"{}", true);
    let (status, _) = fleet.hub.post("/v1/apply", b"apiVersion: skerry/v1");
    assert_eq!(status, 422);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
}

#[test]
fn garbage_from_an_agent_is_named_and_hurts_nobody() {
    let fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let token = fs::read_to_string(fleet.hub.data.join("agent-token")).unwrap().trim().to_string();
    for payload in [
        &b"garbage"[..],
        b"{\"v\":1,\"kind\":\"observed\",\"body\":{}}",
        b"{\"v\":9}",
        &vec![b'x'; 300 << 10],
        b"",
    ] {
        publish(&fleet, "board-9", &token, "skerry/v1/agents/board-9/observed", payload, false);
    }
    until("the hub names what it rejected", || fleet.hub.get("/v1/status")["rejected"].as_u64() > Some(0));
    fleet.steady("work");
    fleet.finish();
}

/// Twenty thousand messages as fast as they go, while another board's work is applied.
#[test]
fn f10_a_flood_of_one_agent_holds_up_no_other() {
    let fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let token = fs::read_to_string(fleet.hub.data.join("agent-token")).unwrap().trim().to_string();
    let mut flood = Command::new("mosquitto_pub");
    flood.args([
        "-V",
        "mqttv5",
        "-h",
        "127.0.0.1",
        "-q",
        "1",
        "-i",
        "board-9",
        "-u",
        "board-9",
        "-P",
        &token,
    ]);
    flood.args(["-t", "skerry/v1/agents/board-9/observed", "-l", "-p"]).arg(fleet.hub.mqtt.to_string());
    let mut flood = flood.stdin(std::process::Stdio::piped()).spawn().expect("mosquitto_pub");
    let mut lines = flood.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        let line = format!("{}\n", "x".repeat(1000));
        (0..20_000).take_while(|_| lines.write_all(line.as_bytes()).is_ok()).count()
    });
    until("the hub hears the flood", || fleet.hub.get("/v1/status")["rejected"].as_u64() > Some(100));
    let begun = std::time::Instant::now();
    fleet.hub.apply(&e2e::manifest("new", "hello", QUIET));
    fleet.steady("new");
    let took = begun.elapsed();
    let heard = fleet.hub.get("/v1/status")["rejected"].as_u64().unwrap();
    println!("apply to steady: {} ms beside a flood of which {heard} messages were heard", took.as_millis());
    assert_eq!(fleet.instance("work", 0)["fresh"], true);
    let _ = flood.kill();
    let _ = (flood.wait(), writer.join());
    assert_eq!(fleet.boards[0].pids()["default/work/0"], before["default/work/0"]);
    fleet.finish();
}

#[test]
fn code_that_changed_on_disk_is_fetched_again_and_not_run() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    fleet.boards[0].kill();
    let artifacts = fleet.boards[0].state.join("artifacts");
    let file = fs::read_dir(&artifacts).unwrap().flatten().map(|e| e.path()).next().expect("the code");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::remove_file(&file).unwrap();
    fs::write(&file, &bytes).unwrap();
    e2e::kill9(first);
    until("the old process is gone", || fleet.boards[0].pids().is_empty());
    fleet.boards[0].revive();
    assert_ne!(fleet.boards[0].pid("work"), first);
    fleet.online(0);
    fleet.steady("work");
    assert!(fleet.boards[0].process.text().contains("has changed"), "{}", fleet.boards[0].process.tail());
    assert_ne!(fs::read(&file).unwrap(), bytes);
    fleet.finish();
}

#[test]
fn f22_a_full_disk_stops_no_work_and_all_is_adopted() {
    let mut fleet = Fleet::start(0);
    let place = fleet.dir.path().join("board-0-0");
    fs::create_dir(&place).unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(&place).status().unwrap();
    assert!(mounted.success(), "mounting a small disk needs root");
    fleet.add_board("board-0");
    fleet.online(0);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    // Outsiders take every byte.
    let filled = Command::new("sh")
        .arg("-c")
        .arg(format!("cat /dev/zero > {}/filler 2>/dev/null; true", place.display()))
        .status()
        .unwrap();
    assert!(filled.success());
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    fleet.boards[0].answers();
    assert_eq!(fleet.boards[0].pids(), before, "a full disk is no reason to restart");
    e2e::kill9(before["default/work/0"]);
    until("healing needs no disk", || {
        fleet.boards[0].pids().get("default/work/0").is_some_and(|pid| *pid != before["default/work/0"])
    });
    fs::remove_file(place.join("filler")).unwrap();
    fleet.online(0);
    fleet.steady("work");
    fleet.hub.delete("/v1/workloads/default/work");
    until("all is cleared", || fleet.boards[0].runs().is_empty());
    fleet.boards[0].process.terminate();
    fleet.boards.clear();
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    fleet.finish();
}
