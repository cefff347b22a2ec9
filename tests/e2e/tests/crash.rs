//! What survives when any part dies: kill -9 of workload, shim, agent, hub, broker, alone and together.

use std::time::Duration;

use e2e::{Fleet, eventually, kill9, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

#[test]
fn f16_restart_of_any_part_loses_nothing() {
    let mut fleet = Fleet::start(2);
    fleet.run("work", "hello", QUIET);
    let before = [fleet.boards[0].pid("work"), fleet.boards[1].pid("work")];

    // The agent dies: its work runs on, and is adopted.
    fleet.boards[0].kill();
    assert_eq!(fleet.boards[0].pid("work"), before[0]);
    fleet.boards[0].revive();
    fleet.online(0);
    // The hub dies and comes back: nothing restarts, all is fresh again.
    fleet.hub.kill();
    fleet.hub.revive();
    fleet.online(0);
    fleet.online(1);
    fleet.steady("work");
    // Both at once.
    fleet.hub.kill();
    fleet.boards[1].kill();
    fleet.boards[1].revive();
    fleet.hub.revive();
    fleet.online(1);
    fleet.steady("work");
    assert_eq!([fleet.boards[0].pid("work"), fleet.boards[1].pid("work")], before, "something was restarted");
    assert_eq!(fleet.instance("work", 0)["restarts"], 0);
    fleet.finish();
}

#[test]
fn a_killed_workload_is_replaced_and_its_end_is_told() {
    let fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    kill9(first);
    until("another process runs it", || fleet.boards[0].pids().values().any(|pid| *pid != first));
    until("the hub knows", || fleet.instance("work", 0)["restarts"] == 1);
    let exit = &fleet.instance("work", 0)["lastExit"];
    assert_eq!((exit["name"].as_str(), exit["signal"].as_i64()), (Some("signal"), Some(9)), "{exit}");
    fleet.steady("work");
    fleet.finish();
}

#[test]
fn f05_without_network_the_last_known_good_runs_from_disk() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    // As after a power cut: agent and work are gone, /run is empty, no hub, no broker.
    fleet.hub.kill();
    fleet.boards[0].kill();
    kill9(first);
    until("the work is gone", || fleet.boards[0].pids().is_empty());
    std::fs::remove_dir_all(&fleet.boards[0].run).unwrap();
    fleet.boards[0].revive();
    assert_ne!(fleet.boards[0].pid("work"), first);
    let status = fleet.boards[0].status().expect("the agent answers");
    assert_ne!(status["agent"]["session"]["name"], "connected");
    fleet.finish();
}

#[test]
fn an_unopenable_store_restarts_nothing() {
    let mut fleet = Fleet::start(1);
    fleet.hub.push("hello");
    let names: Vec<String> = (0..10).map(|n| format!("work-{n}")).collect();
    let all = names.iter().map(|n| e2e::manifest(n, "hello", QUIET)).collect::<Vec<_>>().join("---\n");
    fleet.hub.apply(&all);
    names.iter().for_each(|name| fleet.steady(name));
    let before = fleet.boards[0].pids();
    assert_eq!(before.len(), 10);
    fleet.boards[0].kill();
    let store = fleet.boards[0].state.join("store/db");
    let size = std::fs::metadata(&store).unwrap().len();
    std::fs::write(&store, vec![0x5a; size as usize]).unwrap();
    fleet.boards[0].revive();
    fleet.boards[0].answers();
    fleet.online(0);
    names.iter().for_each(|name| fleet.steady(name));
    assert_eq!(fleet.boards[0].pids(), before, "a lost store is no reason to restart");
    fleet.finish();
}

#[test]
fn f15_a_deletion_while_away_is_applied() {
    let mut fleet = Fleet::start(1);
    fleet.run("stays", "hello", QUIET);
    fleet.run("goes", "hello", QUIET);
    let stays = fleet.boards[0].pid("stays");
    fleet.boards[0].kill();
    fleet.hub.delete("/v1/workloads/default/goes");
    fleet.boards[0].revive();
    until("the deleted work is gone", || !fleet.boards[0].pids().contains_key("default/goes/0"));
    assert_eq!(fleet.boards[0].pid("stays"), stays);
    fleet.finish();
}

#[test]
fn f21_one_bad_revision_falls_back_alone() {
    let fleet = Fleet::start(1);
    fleet.run("good", "hello", QUIET);
    fleet.run("tries", "hello", QUIET);
    let good = fleet.boards[0].pid("good");
    let old = fleet.hub.get("/v1/workloads/default/tries")["revision"].clone();
    fleet.hub.apply(&e2e::manifest("tries", "hello", "  args: [--exit, \"3\", --after, \"10\"]"));
    until("the board fell back", || {
        let now = fleet.instance("tries", 0);
        now["revision"] == old && now["state"] == "Running" && now["healthy"] == true
    });
    until("an event says so", || fleet.hub.events().iter().any(|e| e["kind"] == "fellBack"));
    assert_eq!(fleet.boards[0].pid("good"), good);
    fleet.finish();
}

/// Success is the revision that was asked for, seen healthy by a fresh report; nothing less.
#[test]
fn f18_an_old_revision_that_runs_is_no_success() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let old = fleet.hub.get("/v1/workloads/default/work")["revision"].clone();
    fleet.hub.apply(&e2e::manifest("work", "hello", "  args: [--exit, \"3\", --after, \"10\"]"));
    fleet.told("fellBack", "");
    let is_no_success = |fleet: &Fleet| {
        let work = fleet.hub.get("/v1/workloads/default/work");
        assert_ne!(work["revision"], old);
        assert_eq!(work["steady"], false, "{work:#}");
        assert!(work["message"].as_str().is_some_and(|m| !m.is_empty()), "{work:#}");
    };
    until("the old one runs", || {
        fleet.instance("work", 0)["revision"] == old && fleet.instance("work", 0)["healthy"] == true
    });
    is_no_success(&fleet);
    // Neither a new agent nor a new hub forgets that.
    fleet.boards[0].kill();
    fleet.boards[0].revive();
    fleet.online(0);
    is_no_success(&fleet);
    fleet.hub.kill();
    fleet.hub.revive();
    fleet.online(0);
    is_no_success(&fleet);
    fleet.hub.apply(&e2e::manifest("work", "hello", "  args: [--every, \"50000\"]"));
    fleet.steady("work");
    fleet.finish();
}

#[test]
fn f12_a_dead_agent_is_never_shown_running() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    fleet.boards[0].kill();
    until("its work is unknown", || {
        let now = fleet.instance("work", 0);
        now["fresh"] == false && now["state"].as_str().is_some_and(|s| s.starts_with("unknown"))
    });
    fleet.boards[0].revive();
    fleet.online(0);
    fleet.steady("work");
    fleet.finish();
}

#[test]
fn f13_an_outage_of_the_hub_changes_nothing_and_healing_goes_on() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let first = fleet.boards[0].pid("work");
    fleet.hub.kill();
    assert!(
        !eventually(Duration::from_secs(3), || fleet.boards[0].pids().get("default/work/0") != Some(&first)),
        "it was touched"
    );
    kill9(first);
    until("it is replaced", || fleet.boards[0].pids().get("default/work/0").is_some_and(|pid| *pid != first));
    let second = fleet.boards[0].pid("work");
    fleet.hub.revive();
    fleet.online(0);
    fleet.steady("work");
    assert_eq!(fleet.boards[0].pid("work"), second, "reconnecting restarts nothing");
    fleet.finish();
}

#[test]
fn an_acknowledged_apply_survives_the_hubs_death_at_any_arrow() {
    // Six deaths of the hub in a row would make the agent wait ever longer.
    let mut fleet = Fleet::start(0);
    fleet.add_board_with("board-0", fleet.hub.mqtt, &["--reconnect-max", "1"]);
    fleet.online(0);
    fleet.hub.push("hello");
    for (n, arrow) in [
        "before-persist",
        "after-persist",
        "before-answer",
        "after-answer",
        "before-publish-desired",
        "after-publish-desired",
    ]
    .iter()
    .enumerate()
    {
        fleet.hub.kill();
        fleet.hub.revive_with(Some(&format!("{arrow}:{}", 3 + n % 2)));
        let http = fleet.hub.http;
        until("the hub listens, or has died on its way", || {
            std::net::TcpStream::connect(("127.0.0.1", http)).is_ok() || !fleet.hub.process.is_alive()
        });
        let name = format!("work-{n}");
        let manifest = e2e::manifest(&name, "hello", QUIET);
        let acknowledged =
            fleet.hub.try_post("/v1/apply", manifest.as_bytes()).is_some_and(|(status, _)| status == 200);
        fleet.hub.kill();
        fleet.hub.revive();
        let there = fleet.hub.find(&format!("/v1/workloads/default/{name}")).is_some();
        assert!(there || !acknowledged, "{arrow}: an acknowledged apply is gone");
        fleet.hub.apply(&manifest);
        fleet.online(0);
        fleet.steady(&name);
    }
    fleet.finish();
}
