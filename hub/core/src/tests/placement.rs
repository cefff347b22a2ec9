//! Where work goes, and that it stays there.

use std::collections::BTreeMap;

use contract::spec::{Expression, Operator, Selector};

use super::bed::*;
use super::board::*;
use crate::api::*;

/// `slot → agent` of one workload.
pub fn slots(bed: &Bed, name: &str) -> BTreeMap<u32, String> {
    let placed = bed.durable.placements.iter().filter(|((k, _), _)| *k == key(name));
    placed.flat_map(|((_, agent), p)| p.slots.iter().map(|s| (*s, agent.to_string()))).collect()
}

pub fn agents(bed: &Bed, name: &str) -> String {
    slots(bed, name).into_values().collect::<Vec<_>>().join(" ")
}

pub fn joins(bed: &mut Bed, name: &str, cpu: u32, memory: u64, pairs: &[(&str, &str)]) -> Board {
    let mut board = Board::labelled(name, pairs);
    board.presence.capacity = capacity(cpu, memory);
    board.connect(bed);
    board
}

#[test]
fn replicas_spread_and_every_agent_means_every() {
    let mut bed = Bed::new();
    bed.push("app:1");
    fleet(&mut bed, &["a", "b", "c"]);
    bed.apply(vec![replicas("w", "app:1", 5), every("e", "app:1")]);
    assert_eq!(agents(&bed, "ns/w"), "a b c a b");
    let every: Vec<_> = bed.durable.placements.keys().filter(|(k, _)| *k == key("ns/e")).collect();
    assert_eq!(every.len(), 3);
    bed.apply(vec![replicas("x", "app:1", 1)]);
    assert_eq!(agents(&bed, "ns/x"), "c", "where the fewest instances are");
    fleet(&mut bed, &["d"]);
    assert_eq!(agents(&bed, "ns/w"), "a b c a b", "a new board moves nothing");
    assert!(bed.durable.placements.contains_key(&(key("ns/e"), id("d"))));
    bed.ask(Request::Scale { key: key("ns/w"), replicas: 2, if_version: None });
    assert_eq!(agents(&bed, "ns/w"), "a b", "the highest slots go first");
}

#[test]
fn limits_are_reservations_and_what_has_no_room_waits_by_name() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = joins(&mut bed, "a", 1000, 100, &[]);
    bed.apply(vec![needs(replicas("w", "app:1", 3), 100, 40)]);
    assert_eq!(agents(&bed, "ns/w"), "a a");
    let view = bed.core.workload(&key("ns/w")).unwrap();
    assert_eq!((view.targets.total, view.targets.waiting), (3, 1));
    let why = bed.core.describe(bed.at(), &key("ns/w")).unwrap().not_here;
    assert_eq!(why[0].reason, "needs 120Mi of memory, 100Mi free");
    joins(&mut bed, "b", 50, 1000, &[]);
    assert_eq!(agents(&bed, "ns/w"), "a a", "too little cpu");
    joins(&mut bed, "c", 100, 40, &[]);
    assert_eq!(agents(&bed, "ns/w"), "a a c");
    // A board that comes back smaller throws nothing out.
    a.presence.capacity = capacity(1000, 10);
    a.reboot(&mut bed);
    bed.restart();
    assert_eq!(agents(&bed, "ns/w"), "a a c");
}

#[test]
fn room_that_is_freed_is_used() {
    let mut bed = Bed::new();
    bed.push("app:1");
    joins(&mut bed, "a", 1000, 100, &[]);
    bed.apply(vec![needs(every("first", "app:1"), 100, 80)]);
    bed.apply(vec![needs(every("e", "app:1"), 100, 80), needs(replicas("b", "app:1", 1), 100, 20)]);
    assert_eq!((agents(&bed, "ns/e"), agents(&bed, "ns/b")), ("".into(), "a".into()));
    let describe = bed.core.describe(bed.at(), &key("ns/e")).unwrap();
    assert_eq!(describe.not_here[0].reason, "needs 80Mi of memory, 0 free");
    bed.ask(Request::Delete { keys: vec![key("ns/first")], if_version: None });
    assert_eq!(agents(&bed, "ns/e"), "a");
}

#[test]
fn a_workload_that_outgrows_its_board_moves() {
    let mut bed = Bed::new();
    bed.push("app:1");
    joins(&mut bed, "a", 1000, 100, &[]);
    joins(&mut bed, "b", 1000, 500, &[]);
    bed.apply(vec![needs(replicas("w", "app:1", 2), 100, 60)]);
    assert_eq!(agents(&bed, "ns/w"), "a b");
    bed.apply(vec![needs(replicas("w", "app:1", 2), 100, 200)]);
    assert_eq!(agents(&bed, "ns/w"), "b b");
}

#[test]
fn selectors_select_and_a_changed_label_moves_a_slot() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = joins(&mut bed, "a", 1000, 500, &[("line", "1")]);
    joins(&mut bed, "b", 1000, 500, &[("line", "2")]);
    joins(&mut bed, "c", 1000, 500, &[]);
    let mut workload = replicas("w", "app:1", 1);
    let expression =
        Expression { key: "line".into(), operator: Operator::In, values: vec!["1".into(), "2".into()] };
    workload.spec.placement = Some(contract::spec::Placement {
        selector: Some(Selector { match_expressions: vec![expression], ..Selector::default() }),
        ..Default::default()
    });
    bed.apply(vec![workload, on(every("e", "app:1"), &[("line", "1")])]);
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/e")), ("b".into(), "a".into()));
    let why = bed.core.describe(bed.at(), &key("ns/e")).unwrap().not_here;
    let why: Vec<_> = why.iter().map(|n| (n.count, n.agents.clone(), n.reason.as_str())).collect();
    assert_eq!(why, [(2, vec![id("b"), id("c")], "selector wants line=1")]);
    a.presence.labels = labels(&[("line", "9")]);
    a.reboot(&mut bed);
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/e")), ("b".into(), "".into()));
    assert!(a.desired.unwrap().assignments.is_empty());
}

#[test]
fn outages_of_boards_broker_and_hub_replace_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let boards = fleet(&mut bed, &["a", "b", "c"]);
    bed.apply(vec![replicas("w", "app:1", 2), every("e", "app:1")]);
    let before = bed.durable.placements.clone();
    boards[0].leave(&mut bed);
    bed.pass(86_400_000);
    bed.send(Event::BusDown { reason: "x".into() });
    bed.pass(86_400_000);
    bed.restart();
    bed.pass(86_400_000);
    assert_eq!(bed.durable.placements, before);
}

#[test]
fn new_slots_go_where_somebody_is() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let boards = fleet(&mut bed, &["a", "b"]);
    boards[0].leave(&mut bed);
    bed.apply(vec![replicas("w", "app:1", 2)]);
    assert_eq!(agents(&bed, "ns/w"), "b b");
}

#[test]
fn an_agent_without_the_feature_or_engine_is_passed_over() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut plain = Board::new("a");
    plain.presence.features.clear();
    plain.connect(&mut bed);
    let mut odd = Board::new("b");
    odd.presence.engines = vec!["e9".into()];
    odd.connect(&mut bed);
    bed.apply(vec![replicas("w", "app:1", 1), every("e", "app:1")]);
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/e")), ("".into(), "b".into()));
    let why = bed.core.describe(bed.at(), &key("ns/w")).unwrap().not_here;
    let why: Vec<_> = why.iter().map(|n| n.reason.as_str()).collect();
    assert_eq!(why, ["its engine e9 is served by no compile worker", "lacks the feature 'wasm'"]);
}

#[test]
fn every_agent_and_replicas_change_into_each_other() {
    let mut bed = Bed::new();
    bed.push("app:1");
    fleet(&mut bed, &["a", "b", "c"]);
    bed.apply(vec![replicas("w", "app:1", 5)]);
    bed.apply(vec![every("w", "app:1")]);
    let placed: Vec<_> = bed.durable.placements.values().map(|p| p.slots.clone()).collect();
    assert_eq!(placed, vec![[0].into(), [0].into(), [0].into()]);
    bed.apply(vec![replicas("w", "app:1", 2)]);
    assert_eq!(agents(&bed, "ns/w"), "a b");
}
