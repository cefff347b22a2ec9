//! Stories of the field (FIELD ids), and every bug that a seed found, told by itself in a calm world.

use agent_core::api::StoreState;
use hub_core::api::Request;
use sim::script::{apply, key, workload};
use sim::{Plan, World};

const MINUTE: u64 = 60_000;

/// A settled world of one board that runs w0.
fn settled() -> World {
    let mut world = World::new(7, Plan::calm(1), None, false);
    world.run_until(20_000);
    world.request(apply(vec![workload(0, 0, 0)]));
    rest(&mut world);
    assert_eq!(world.boards[0].runs.len(), 1);
    world
}

fn rest(world: &mut World) {
    world.settles();
    assert_eq!(world.failure, None);
}

fn pull_the_cable(world: &mut World) {
    world.boards[0].linked = false;
    for conn in world.conns_of(0) {
        world.cut(conn, 1_000);
    }
}

fn runs(world: &World) -> Vec<String> {
    world.boards[0].runs.keys().map(|(instance, run)| format!("{instance} {run}")).collect()
}

#[test]
fn f13_reconnect_restarts_nothing() {
    let mut world = settled();
    let before = runs(&world);
    pull_the_cable(&mut world);
    world.slice_until(world.now + 30 * MINUTE);
    world.boards[0].linked = true;
    rest(&mut world);
    assert_eq!(runs(&world), before);
}

#[test]
fn f15_deletion_while_away_is_applied() {
    let mut world = settled();
    pull_the_cable(&mut world);
    world.request(Request::Delete { keys: vec![key(0)], if_version: None });
    world.slice_until(world.now + 5 * MINUTE);
    assert_eq!(runs(&world).len(), 1, "away, it has not heard of it");
    world.boards[0].linked = true;
    rest(&mut world);
    assert!(runs(&world).is_empty());
}

#[test]
fn f16_restart_of_any_part_loses_nothing() {
    let mut world = settled();
    let before = runs(&world);
    world.hub_dies();
    world.agent_dies(0, true);
    world.broker_dies();
    world.slice_until(world.now + MINUTE);
    world.hub_starts();
    world.broker_starts();
    world.agent_restarts(0);
    rest(&mut world);
    assert_eq!(runs(&world), before);
}

#[test]
fn f20_newer_document_supersedes_a_stuck_one() {
    let mut world = settled();
    world.request(apply(vec![workload(0, 8, 1)])); // It cannot be started.
    world.slice_until(world.now + 2_000);
    world.request(apply(vec![workload(0, 1, 2)]));
    rest(&mut world);
    let run = world.boards[0].runs.values().next().expect("it runs");
    assert_eq!(run.assignment.run.args, ["2"]);
}

#[test]
fn f21_power_cut_in_mid_deploy() {
    for moment in 0..60 {
        let mut world = settled();
        world.request(apply(vec![workload(0, 1, 1)]));
        world.run_until(world.now + moment * 7);
        world.power_cut(0);
        world.run_until(world.now + MINUTE);
        world.power_on(0);
        rest(&mut world);
        assert_eq!(runs(&world).len(), 1);
    }
}

#[test]
fn f12_a_pulled_cable_shows_unknown() {
    let mut world = settled();
    world.boards[0].linked = false;
    for conn in world.conns_of(0) {
        world.cut(conn, 100 * MINUTE); // Neither end is told.
    }
    world.run_until(world.now + 40 * MINUTE); // Two and a half heartbeats are 37.5.
    let view =
        world.hub.core.as_ref().and_then(|core| core.agents(world.hub_now(), &Default::default()).pop());
    assert!(!view.expect("it is known").fresh);
}

/// Found by seed 73: the lost counter came back to the very number that the hub knew, under a lower
/// session; the hub took its presence for an old one, for ever.
#[test]
fn a_board_that_lost_its_store_in_its_first_start_is_greeted() {
    let mut world = settled();
    for _ in 0..4 {
        pull_the_cable(&mut world);
        world.run_until(world.now + 3 * MINUTE);
        world.boards[0].linked = true;
        rest(&mut world);
    }
    // Nothing ran that would tell the scan of the earlier start.
    world.request(Request::Delete { keys: vec![key(0)], if_version: None });
    rest(&mut world);
    world.agent_dies(0, true);
    world.boards[0].store_lost = Some(StoreState::Fresh);
    world.agent_restarts(0);
    world.run_until(world.now + MINUTE);
    rest(&mut world);
}
