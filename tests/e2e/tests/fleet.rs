//! What an operator does with a fleet, and what a hub that lost or aged means to it.

use std::fs;

use e2e::{Fleet, json, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

#[test]
fn the_command_line_leads_through_a_day() {
    let fleet = Fleet::start(2);
    let sample = e2e::sample("hello").display().to_string();
    let (code, out, err) = fleet.hub.cli(&["push", &sample, "--tag", "hello:1"]);
    assert_eq!(code, 0, "{out}{err}");
    let file = fleet.dir.path().join("w.yaml");
    fs::write(&file, e2e::manifest("work", "hello", "  args: [hi]\n  replicas: 1")).unwrap();
    let file = file.display().to_string();
    let (code, _, _) = fleet.hub.cli(&["diff", "-f", &file]);
    assert_eq!(code, 1, "something would change");
    let (code, out, err) = fleet.hub.cli(&["apply", "-f", &file]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("default/work created") && out.contains("1 of 1 steady"), "{out}");
    let (code, out, _) = fleet.hub.cli(&["diff", "-f", &file]);
    assert_eq!((code, out.as_str()), (0, ""), "nothing would change");
    let (code, out, err) = fleet.hub.cli(&["scale", "work", "--replicas", "2"]);
    assert_eq!(code, 0, "{out}{err}");
    let (_, out, _) = fleet.hub.cli(&["get", "instances", "-o", "json"]);
    assert_eq!(serde_json::from_str::<e2e::Value>(&out).unwrap()["items"].as_array().unwrap().len(), 2);
    let (code, out, err) = fleet.hub.cli(&["logs", "work", "--tail", "5"]);
    assert!(code == 0 && out.contains("hello from work hi"), "{code} {out}{err}");
    let (code, out, err) = fleet.hub.cli(&["restart", "work"]);
    assert_eq!(code, 0, "{out}{err}");
    let (code, out, err) = fleet.hub.cli(&["logs", "work", "--previous"]);
    assert!(code == 0 && out.contains("hello from work hi"), "{code} {out}{err}");
    for args in [
        &["describe", "workload", "work"][..],
        &["describe", "agent", "board-0"],
        &["describe", "artifact", "hello:1"],
        &["get", "all"],
        &["agents"],
        &["events"],
        &["status"],
        &["get", "workload", "work", "-o", "yaml"],
    ] {
        let (code, out, err) = fleet.hub.cli(args);
        assert!(code == 0 && !out.is_empty(), "{args:?}: {code} {out}{err}");
    }
    let (code, out, err) = fleet.hub.cli(&["delete", "workload", "work"]);
    assert_eq!(code, 0, "{out}{err}");
    let codes = |args: &[&str]| fleet.hub.cli(args).0;
    assert_eq!(codes(&["describe", "workload", "work"]), 4);
    assert_eq!(codes(&["rollout"]), 2);
    assert_eq!(codes(&["--hub", "http://127.0.0.1:1", "agents"]), 6);
    assert_eq!(codes(&["explain", "workload.spec.nothing"]), 4);
    fleet.finish();
}

#[test]
fn a_wrong_manifest_is_answered_with_every_mistake_and_changes_nothing() {
    let fleet = Fleet::start(1);
    let file = fleet.dir.path().join("wrong.yaml");
    let text = "apiVersion: skerry/v1\nkind: Workload\nmetadata: {name: Oops}\nspec:\n  image: hello:1\n  replica: 2\n  resources: {memory: 64 MB}\n  livenessProbe: {tcp: {port: 80}}\n";
    fs::write(&file, text).unwrap();
    let (code, out, err) = fleet.hub.cli(&["apply", "-f", &file.display().to_string()]);
    assert_eq!((code, out.as_str()), (3, ""));
    for part in ["wrong.yaml:3:", "wrong.yaml:6:", "replicas", "wrong.yaml:7:"] {
        assert!(err.contains(part), "{part} is missing in:\n{err}");
    }
    let (status, answer) = fleet.hub.post("/v1/apply", text.as_bytes());
    assert_eq!(status, 422);
    assert!(answer["error"]["details"].as_array().unwrap().len() >= 3, "{answer:#}");
    assert_eq!(fleet.hub.get("/v1/workloads")["items"], json!([]));
    let (code, _, err) = fleet.hub.cli(&["push", &file.display().to_string()]);
    assert_eq!(code, 3, "{err}");
    assert!(err.to_lowercase().contains("webassembly") || err.contains("wasm"), "{err}");
    fleet.finish();
}

#[test]
fn every_example_is_admitted() {
    let fleet = Fleet::start(1);
    for image in ["hello", "sensor", "web"] {
        fleet.hub.push(image);
    }
    for image in ["nginx", "redis", "mosquitto", "postgres"] {
        e2e::push_stock(&fleet, image);
    }
    let site = e2e::busybox(&fleet.dir.path().join("site"), "");
    let (code, out, err) = fleet.hub.cli(&["push", site.to_str().unwrap(), "--tag", "site:1"]);
    assert_eq!(code, 0, "{out}{err}");
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for file in fs::read_dir(examples)
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
    {
        let (code, out, err) = fleet.hub.cli(&["apply", "--dry-run", "-f", &file.display().to_string()]);
        assert_eq!(code, 0, "{}: {out}{err}", file.display());
    }
    fleet.finish();
}

#[test]
fn a_restored_old_copy_rolls_nothing_back() {
    let mut fleet = Fleet::start(1);
    fleet.run("old", "hello", QUIET);
    fleet.hub.process.terminate();
    let copy = fleet.dir.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&fleet.hub.data).arg(&copy).status().unwrap();
    assert!(copied.success());
    fleet.hub.revive();
    fleet.online(0);
    fleet.run("new", "hello", QUIET);
    let before = fleet.boards[0].pids();
    assert_eq!(before.len(), 2);

    fleet.hub.process.terminate();
    fs::remove_dir_all(&fleet.hub.data).unwrap();
    fs::rename(&copy, &fleet.hub.data).unwrap();
    fleet.hub.revive();
    until("the board is in floor conflict", || {
        fleet.hub.find("/v1/agents/board-0").is_some_and(|a| a["state"] == "floor-conflict")
    });
    fleet.hub.push("hello");
    fleet.hub.apply(&e2e::manifest("third", "hello", QUIET));
    assert_eq!(fleet.boards[0].pids(), before, "an old copy changed the board");
    fleet.hub.apply(&e2e::manifest("new", "hello", QUIET));
    let (code, out, err) = fleet.hub.cli(&["restore", "accept"]);
    assert_eq!(code, 0, "{out}{err}");
    fleet.online(0);
    fleet.steady("third");
    for (instance, pid) in before {
        assert_eq!(fleet.boards[0].pids().get(&instance), Some(&pid), "{instance} was restarted");
    }
    fleet.finish();
}

#[test]
fn a_lost_store_stops_nothing_and_the_fleet_can_be_taken_over() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pids();
    let lineage = fleet.hub.get("/v1/status")["lineage"].as_str().unwrap().to_string();
    fleet.hub.process.terminate();
    fs::remove_dir_all(fleet.hub.data.join("store")).unwrap();
    fleet.hub.add_arg("--new-lineage-if-lost");
    fleet.hub.revive();
    until("the board is of another lineage", || {
        fleet.hub.find("/v1/agents/board-0").is_some_and(|a| a["state"] == "other-lineage")
    });
    assert_eq!(fleet.boards[0].pids(), before);
    let (code, _, err) = fleet.hub.cli(&["restore", "accept", "--lineage", &lineage]);
    assert_eq!(code, 2, "a hub without workloads must be told --yes: {err}");
    fleet.hub.push("hello");
    fleet.hub.apply(&e2e::manifest("work", "hello", QUIET));
    // Refused while the code is being compiled: accepting then would take the work away for that time.
    let mut last = String::new();
    until("it is accepted", || {
        let (code, out, err) = fleet.hub.cli(&["restore", "accept", "--lineage", &lineage]);
        last = format!("{out}{err}");
        assert!(code == 0 || last.contains("compiled"), "{last}");
        code == 0
    });
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before, "taking over restarts nothing that is unchanged");
    fleet.finish();
}

#[test]
fn f11_an_agent_that_lost_its_store_comes_back_above_the_floor() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    for _ in 0..2 {
        fleet.boards[0].kill();
        fleet.boards[0].revive();
        fleet.online(0);
    }
    let before = fleet.boards[0].pids();
    let boots = fleet.hub.get("/v1/agents/board-0")["epoch"]["boots"].as_u64().unwrap();
    fleet.boards[0].kill();
    fs::remove_dir_all(fleet.boards[0].state.join("store")).unwrap();
    fleet.boards[0].revive();
    until("it is back, above the floor", || {
        fleet
            .hub
            .find("/v1/agents/board-0")
            .is_some_and(|a| a["state"] == "online" && a["epoch"]["boots"].as_u64() > Some(boots))
    });
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pids(), before);
    fleet.finish();
}

#[test]
fn two_boards_with_one_id_are_shown_and_neither_flaps() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    let clone = fleet.add_board("board-0");
    until("the duplicate is shown", || {
        fleet.hub.find("/v1/agents/board-0").is_some_and(|a| a["state"] == "duplicate")
    });
    assert!(fleet.boards[clone].process.is_alive());
    assert_eq!(fleet.boards[0].pid("work"), first, "the first board is not touched");
    // The clone is taken off the net with all that it ran: it is no member of the fleet any more.
    let mut gone = fleet.boards.pop().unwrap();
    gone.process.terminate();
    e2e::clear(gone.state.parent().unwrap(), &gone.cgroup);
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pid("work"), first);
    fleet.finish();
}
