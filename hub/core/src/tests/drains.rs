//! Agents that are emptied: one by one, no faster than is safe, and with an end.

use contract::spec::{Disruption, Placement, Rollout, Toleration, TolerationOperator, Workload};

use super::bed::*;
use super::board::*;
use super::fleet::change;
use super::placement::{agents, joins};
use crate::fleet::{AgentChange, Drain, Nothing};
use crate::view::{DrainState, DrainView};

fn drain(bed: &mut Bed, name: &str, deadline_ms: Option<u64>) {
    change(bed, &[name], AgentChange::Drain(Drain { deadline_ms }));
}

fn state(bed: &Bed, name: &str) -> DrainView {
    bed.core.agent(bed.at(), &id(name)).unwrap().drain.expect("a drain")
}

fn talk(bed: &mut Bed, boards: &mut [Board]) {
    for _ in 0..20 {
        boards.iter_mut().for_each(|board| board.converse(bed));
    }
}

fn at_most(mut workload: Workload, n: u32, group_by: Option<&str>) -> Workload {
    let disruption = Disruption { group_by: group_by.map(str::to_string), max_unavailable: Some(n) };
    workload.spec.rollout = Some(Rollout { disruption: Some(disruption), ..Rollout::default() });
    workload
}

#[test]
fn replicas_move_one_by_one_and_what_runs_everywhere_stops_last() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut boards = vec![joins(&mut bed, "a", 4000, 1000, &[])];
    bed.apply(vec![replicas("w", "app:1", 3), every("e", "app:1")]);
    talk(&mut bed, &mut boards);
    assert_eq!(agents(&bed, "ns/w"), "a a a");
    drain(&mut bed, "a", None);
    let view = state(&bed, "a");
    assert_eq!((view.state, view.left), (DrainState::Draining, 4));
    assert_eq!(view.waits[0], "ns/e/0 stops when the others have left");
    assert_eq!(view.waits[1], "ns/w/0 waits for another agent with room for it");
    assert_eq!(agents(&bed, "ns/w"), "a a a", "nothing is stopped for nothing");

    let mut b = Board::new("b");
    b.mute = true;
    b.connect(&mut bed);
    boards.push(b);
    talk(&mut bed, &mut boards);
    let moved = |bed: &Bed| agents(bed, "ns/w").matches('b').count();
    assert_eq!(moved(&bed), 1, "one at a time");
    assert!(state(&bed, "a").waits.iter().any(|w| w.contains("at most 1 may be down at once")));
    bed.pass(3_600_000);
    assert_eq!(moved(&bed), 1, "and the next when that one is up");
    boards[1].mute = false;
    boards[1].reconnect(&mut bed);
    talk(&mut bed, &mut boards);
    assert_eq!(agents(&bed, "ns/w"), "b b b");
    assert_eq!(agents(&bed, "ns/e"), "b");
    assert_eq!(state(&bed, "a").state, DrainState::Drained);
    assert!(boards[0].desired.as_ref().unwrap().assignments.is_empty());
    // It stays closed, over a restart of the hub as well, until somebody opens it.
    bed.restart();
    bed.apply(vec![every("f", "app:1")]);
    assert_eq!(agents(&bed, "ns/f"), "b");
    change(&mut bed, &["a"], AgentChange::Uncordon(Nothing {}));
    let every = bed.durable.placements.keys().filter(|(k, a)| *a == id("a") && *k != key("ns/w")).count();
    assert_eq!(every, 2, "everyAgent comes back, replicas stay where they are");
    assert_eq!(agents(&bed, "ns/w"), "b b b");
}

#[test]
fn a_deadline_waits_for_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut boards = vec![joins(&mut bed, "a", 4000, 1000, &[])];
    let stays = Toleration { operator: Some(TolerationOperator::Exists), ..Toleration::default() };
    let mut tolerant = every("t", "app:1");
    tolerant.spec.placement = Some(Placement { tolerations: vec![stays], ..Placement::default() });
    bed.apply(vec![replicas("w", "app:1", 2), every("e", "app:1"), tolerant]);
    talk(&mut bed, &mut boards);
    drain(&mut bed, "a", Some(60_000));
    assert_eq!(state(&bed, "a").deadline_in_ms, Some(60_000));
    bed.pass(30_000);
    // The hub's own restart gives no more time.
    bed.restart();
    talk(&mut bed, &mut boards);
    assert!(state(&bed, "a").deadline_in_ms.unwrap() <= 30_000);
    assert_eq!(agents(&bed, "ns/w"), "a a");
    bed.pass(30_000);
    talk(&mut bed, &mut boards);
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/e")), ("".into(), "".into()));
    assert_eq!(agents(&bed, "ns/t"), "a", "what tolerates the drain stays");
    assert_eq!(bed.core.workload(&key("ns/w")).unwrap().targets.waiting, 2);
    boards[0].reconnect(&mut bed);
    talk(&mut bed, &mut boards);
    assert_eq!(state(&bed, "a").state, DrainState::Drained);
    fleet(&mut bed, &["b"]);
    assert_eq!(agents(&bed, "ns/w"), "b b");
}

#[test]
fn the_budget_is_the_workloads_own_and_counts_by_label() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut boards: Vec<Board> = [("a", "n"), ("b", "n"), ("c", "s"), ("d", "s")]
        .map(|(name, site)| joins(&mut bed, name, 4000, 1000, &[("site", site)]))
        .into();
    bed.apply(vec![at_most(replicas("w", "app:1", 8), 1, Some("site"))]);
    bed.apply(vec![at_most(replicas("v", "app:1", 4), 2, None)]);
    talk(&mut bed, &mut boards);
    // Nobody answers any more, so that what moves is not up again.
    boards.iter_mut().for_each(|board| board.mute = true);
    drain(&mut bed, "a", None);
    drain(&mut bed, "c", None);
    talk(&mut bed, &mut boards);
    // What left is down in its new place: one of each site at most, and of four two at least stay.
    let w = agents(&bed, "ns/w");
    assert!(w.matches(['a', 'c']).count() >= 2, "{w}");
    let v = agents(&bed, "ns/v");
    assert_eq!(v.matches(['a', 'c']).count(), 0, "two at once: {v}");
    boards.iter_mut().for_each(|board| board.mute = false);
    for board in &mut boards {
        board.reconnect(&mut bed);
    }
    talk(&mut bed, &mut boards);
    assert_eq!(agents(&bed, "ns/w").matches(['a', 'c']).count(), 0);
    assert_eq!((state(&bed, "a").state, state(&bed, "c").state), (DrainState::Drained, DrainState::Drained));
}

#[test]
fn after_the_hubs_start_nothing_moves_before_it_is_known_what_runs() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut boards = fleet(&mut bed, &["a", "b"]);
    bed.apply(vec![replicas("w", "app:1", 4)]);
    talk(&mut bed, &mut boards);
    boards.iter_mut().for_each(|board| board.mute = true);
    drain(&mut bed, "a", None);
    let before = agents(&bed, "ns/w");
    bed.restart();
    bed.pass(60_000);
    assert_eq!(agents(&bed, "ns/w"), before);
}
