//! An old store, another store.

use contract::Lineage;

use super::bed::*;
use super::board::*;
use crate::api::*;
use crate::view::AgentState;

fn state(bed: &Bed, name: &str) -> AgentState {
    bed.core.agent(bed.at(), &id(name)).unwrap().state
}

#[test]
fn a_store_restored_from_an_old_copy_touches_nobody_until_it_is_accepted() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let old = bed.durable.clone();
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    assert_eq!(a.desired.as_ref().unwrap().assignments.len(), 1);

    let mut bed = Bed::with(Default::default(), old);
    bed.take();
    // Even a change made before the board is heard of does not reach it.
    bed.push("app:2");
    bed.apply(vec![every("other", "app:2")]);
    bed.apply(vec![every("third", "app:2")]);
    a.reconnect(&mut bed);
    assert_eq!((state(&bed, "a"), bed.documents), (AgentState::FloorConflict, 0));
    assert_eq!(a.desired.as_ref().unwrap().assignments.len(), 1, "its work is untouched");
    let seen = bed.core.instances(bed.at(), &Default::default());
    assert!(seen.iter().any(|v| v.workload == key("ns/w") && v.leaving), "and shown: {seen:?}");

    bed.apply(vec![every("other", "app:1")]);
    assert_eq!(bed.documents, 0, "nor does a change that comes later reach it");

    let before = a.desired.as_ref().unwrap().head();
    bed.ask(Request::AcceptRestore { lineage: None });
    a.converse(&mut bed);
    let after = a.desired.as_ref().unwrap().head();
    assert!(after.generation > before.generation && after.term > before.term);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert_eq!(
        a.desired.unwrap().assignments.keys().collect::<Vec<_>>(),
        [&key("ns/other"), &key("ns/third")]
    );
}

#[test]
fn a_new_store_takes_over_the_fleet_of_a_lost_one_only_when_told() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let mut bed = Bed::new();
    let mine = bed.durable.meta.unwrap().lineage;
    let old = Lineage([42; 16]);
    a.desired.as_mut().unwrap().lineage = old;
    a.desired.as_mut().unwrap().generation.0 = 900;
    a.reconnect(&mut bed);
    assert_eq!((state(&bed, "a"), bed.documents), (AgentState::OtherLineage, 0));
    let wrong = bed.ask(Request::AcceptRestore { lineage: Some(Lineage([9; 16])) });
    assert!(matches!(wrong, Answer::Refused { .. }));
    assert_eq!(bed.durable.meta.unwrap().lineage, mine);
    bed.ask(Request::AcceptRestore { lineage: Some(old) });
    a.converse(&mut bed);
    let head = a.desired.unwrap().head();
    assert!(head.lineage == old && head.generation.0 > 900, "{head:?}");
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert_eq!(bed.durable.meta.unwrap().lineage, old);
}

/// The board saw the same document under a term that this copy of the store does not know.
#[test]
fn a_store_behind_in_terms_alone_is_seen_too() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    a.desired.as_mut().unwrap().term.0 += 5;
    a.heartbeat(&mut bed, 0);
    assert_eq!(state(&bed, "a"), AgentState::FloorConflict);
    bed.ask(Request::AcceptRestore { lineage: None });
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert!(bed.durable.meta.unwrap().term.0 > 6);
}
