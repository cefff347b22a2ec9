//! SIGKILL at each arrow of the contract between agent and shim, and of the agent's store, with a whole
//! system around it: what the arrow leaves is found, told and cleared, and the work runs again.

use e2e::{Fleet, Value, kill9, until};

const QUIET: &str = "  args: [--every, \"60000\"]";

fn one_run_lives(fleet: &Fleet, arrow: &str) {
    until(&format!("{arrow}: one run, and it lives"), || {
        fleet.boards[0].runs().len() == 1 && fleet.boards[0].pids().len() == 1
    });
}

#[test]
fn f14_what_the_agent_left_is_found_at_every_arrow_of_the_contract() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let arrows = [
        "after-directory",
        "after-spec",
        "after-cgroup",
        "after-spawn",
        "before-remove",
        "after-kill",
        "after-unmount",
        "after-cgroup-removed",
    ];
    for arrow in arrows {
        fleet.boards[0].kill();
        fleet.boards[0].revive_with(Some(arrow));
        fleet.boards[0].answers();
        // Its end makes the agent clear the old run and start a new one: both pass their arrows.
        kill9(fleet.boards[0].pid("work"));
        assert_eq!(fleet.boards[0].process.wait_for_end(), None, "{arrow}: killed by the fail point");
        fleet.boards[0].forget_restarts();
        fleet.boards[0].revive();
        fleet.online(0);
        one_run_lives(&fleet, arrow);
    }
    fleet.finish();
}

/// The shim inherits the arrow from its agent: every start dies there until the agent is a normal one.
fn armed(fleet: &mut Fleet, arrow: &str) {
    fleet.boards[0].kill();
    fleet.boards[0].revive_with(Some(arrow));
    fleet.boards[0].answers();
    fleet.online(0);
}

fn disarmed(fleet: &mut Fleet) {
    fleet.boards[0].kill();
    fleet.boards[0].forget_restarts();
    fleet.boards[0].revive();
    fleet.online(0);
}

fn last_exit(fleet: &Fleet, arrow: &str, is: impl Fn(&Value) -> bool) {
    until(&format!("{arrow}: the hub knows how it ended"), || is(&fleet.instance("work", 0)["lastExit"]));
}

#[test]
fn f14_a_shim_that_dies_at_an_arrow_of_its_start_is_told_and_replaced() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let signal = |exit: &Value| exit["name"] == "signal" && exit["signal"] == 9;
    let failed = |exit: &Value| {
        exit["name"] == "startFailed" && exit["message"].as_str().is_some_and(|m| m.contains("signal 9"))
    };
    for (arrow, starts) in [
        ("before-shim-json", false),
        ("after-shim-json", false),
        ("before-start", false),
        ("after-start", true),
    ] {
        armed(&mut fleet, arrow);
        kill9(fleet.boards[0].pid("work"));
        last_exit(&fleet, arrow, |exit| if starts { signal(exit) } else { failed(exit) });
        until(&format!("{arrow}: tried again, further and further apart"), || {
            fleet.instance("work", 0)["restarts"].as_u64() >= Some(2)
        });
        assert_eq!(fleet.instance("work", 0)["healthy"], false, "{arrow}");
        disarmed(&mut fleet);
        one_run_lives(&fleet, arrow);
        fleet.steady("work");
    }
    fleet.told("startFailed", "killed by signal 9");
    fleet.finish();
}

#[test]
fn f14_a_shim_that_dies_at_an_arrow_of_its_end_is_told_as_what_is_known() {
    let mut fleet = Fleet::start(1);
    fleet.hub.push("hello");
    let ends = "  args: [--exit, \"5\", --after, \"100\"]\n  restartPolicy: Never";
    fleet.hub.apply(&e2e::manifest("work", "hello", ends));
    last_exit(&fleet, "undisturbed", |exit| exit["code"] == 5);
    for (arrow, recorded) in [("before-exit-json", false), ("after-exit-json", true)] {
        armed(&mut fleet, arrow);
        let restarts = fleet.instance("work", 0)["restarts"].as_u64();
        let (code, out, err) = fleet.hub.cli(&["restart", "work", "--no-wait"]);
        assert_eq!(code, 0, "{out}{err}");
        until(&format!("{arrow}: it ran once more"), || {
            let now = fleet.instance("work", 0);
            now["restarts"].as_u64() > restarts && now["state"] == "Failed"
        });
        last_exit(&fleet, arrow, |exit| if recorded { exit["code"] == 5 } else { exit["signal"] == 9 });
        fleet.boards[0].kill();
        fleet.boards[0].revive();
        fleet.online(0);
        until(&format!("{arrow}: an end is final"), || fleet.instance("work", 0)["state"] == "Failed");
    }
    fleet.finish();
}

/// One arrow is passed by every start: agent and shim die together, whoever comes first.
#[test]
fn f14_agent_and_shim_killed_together_leave_nothing_unnamed() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    for arrow in ["before-shim-json", "after-shim-json", "before-start", "after-start"] {
        fleet.boards[0].kill();
        let old = fleet.boards[0].pid("work");
        fleet.boards[0].revive_with(Some(arrow));
        fleet.boards[0].answers();
        kill9(old);
        // The agent dies a moment after the shim that it has just started.
        until(&format!("{arrow}: a new run is begun"), || {
            !fleet.boards[0].pids().values().any(|pid| *pid == old)
        });
        fleet.boards[0].kill();
        fleet.boards[0].forget_restarts();
        fleet.boards[0].revive();
        fleet.online(0);
        one_run_lives(&fleet, arrow);
        fleet.steady("work");
    }
    fleet.finish();
}

#[test]
fn f16_an_agent_killed_around_its_commit_restarts_nothing_and_loses_no_apply() {
    let mut fleet = Fleet::start(1);
    fleet.run("work", "hello", QUIET);
    let before = fleet.boards[0].pid("work");
    // The first commit of a start counts it, the second one is the document's.
    for (n, arrow) in ["agent-before-persist", "agent-after-persist"].iter().enumerate() {
        for nth in 1..=2 {
            let arrow = format!("{arrow}:{nth}");
            fleet.boards[0].kill();
            fleet.boards[0].revive_with(Some(&arrow));
            fleet.hub.apply(&e2e::manifest(&format!("new-{n}-{nth}"), "hello", QUIET));
            assert_eq!(fleet.boards[0].process.wait_for_end(), None, "{arrow}: killed by the fail point");
            assert_eq!(fleet.boards[0].pid("work"), before, "{arrow}");
            fleet.boards[0].revive();
            fleet.online(0);
            fleet.steady(&format!("new-{n}-{nth}"));
            assert_eq!(fleet.boards[0].pid("work"), before, "{arrow}");
        }
    }
    fleet.finish();
}
