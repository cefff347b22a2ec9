//! Who goes first where there is not room for all; and what has run to its end needs none.

use contract::message::EventKind;
use contract::spec::{RestartPolicy, Workload};
use contract::status::InstanceState;

use super::bed::*;
use super::board::*;
use super::placement::{agents, joins};
use crate::api::*;

fn priority(mut workload: Workload, n: i32) -> Workload {
    workload.spec.priority = Some(n);
    workload
}

fn warnings(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Applied { warnings, .. } => warnings,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_higher_priority_takes_the_place_of_the_lowest_and_only_when_it_has_none() {
    let mut bed = Bed::new();
    bed.push("app:1");
    joins(&mut bed, "a", 1000, 100, &[]);
    bed.apply(vec![
        priority(needs(replicas("low", "app:1", 1), 10, 40), -5),
        priority(needs(replicas("mid", "app:1", 1), 10, 40), 3),
    ]);
    let said = warnings(bed.apply(vec![priority(needs(replicas("top", "app:1", 1), 10, 40), 9)]));
    assert_eq!(said[0], "ns/low/0 on a makes room for ns/top, of priority 9 over its -5");
    let all = |bed: &Bed| ["low", "mid", "top"].map(|n| agents(bed, &format!("ns/{n}")));
    assert_eq!(all(&bed), ["", "a", "a"]);
    let events = bed.core.events(None, 10, &Default::default());
    let evicted: Vec<_> = events.iter().filter(|e| e.kind == EventKind::Evicted).collect();
    assert_eq!(evicted[0].instance.as_ref().unwrap().to_string(), "ns/low/0");
    // Its place is not taken back, and it gets another one when there is one.
    bed.restart();
    assert_eq!(all(&bed), ["", "a", "a"]);
    joins(&mut bed, "b", 1000, 40, &[]);
    assert_eq!(all(&bed), ["b", "a", "a"]);
    // Equal ones never yield.
    let said = warnings(bed.apply(vec![priority(needs(replicas("x", "app:1", 1), 10, 40), -5)]));
    assert_eq!(said, ["ns/x: no agent has room for 1 of 1 replicas"]);
    assert_eq!(all(&bed), ["b", "a", "a"]);
    // One that goes down in priority may have to yield.
    bed.apply(vec![priority(needs(replicas("low", "app:1", 1), 10, 40), -6)]);
    assert_eq!((agents(&bed, "ns/low"), agents(&bed, "ns/x")), ("".into(), "b".into()));
}

#[test]
fn every_agent_takes_room_on_its_board_and_a_priority_restarts_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    joins(&mut bed, "a", 1000, 100, &[]);
    joins(&mut bed, "b", 1000, 100, &[]);
    bed.apply(vec![needs(replicas("w", "app:1", 3), 10, 40)]);
    let revision = bed.core.workload(&key("ns/w")).unwrap().revision;
    bed.apply(vec![priority(needs(every("e", "app:1"), 10, 60), 1)]);
    let placed: Vec<_> = bed.durable.placements.keys().map(|(k, a)| format!("{k} {a}")).collect();
    assert_eq!(placed, ["ns/e a", "ns/e b", "ns/w a", "ns/w b"]);
    assert_eq!(bed.core.workload(&key("ns/w")).unwrap().targets.waiting, 1);
    bed.apply(vec![priority(needs(replicas("w", "app:1", 3), 10, 40), 2)]);
    assert_eq!(bed.core.workload(&key("ns/w")).unwrap().revision, revision);
    assert_eq!(agents(&bed, "ns/w").len(), 5, "and now the others yield");
}

#[test]
fn what_has_completed_reserves_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = joins(&mut bed, "a", 1000, 100, &[]);
    let mut job = needs(every("job", "app:1"), 500, 80);
    job.spec.restart_policy = Some(RestartPolicy::Never);
    bed.apply(vec![job]);
    bed.apply(vec![needs(every("w", "app:1"), 600, 80)]);
    a.converse(&mut bed);
    assert_eq!(agents(&bed, "ns/w"), "");
    let ends = |a: &mut Board, state: InstanceState| {
        let status = a.workloads.get_mut(&key("ns/job")).unwrap();
        let instance = status.instances.get_mut(&0).unwrap();
        (instance.state, instance.ready, instance.healthy) = (state, false, false);
    };
    ends(&mut a, InstanceState::Completed);
    a.full(&mut bed);
    assert_eq!(agents(&bed, "ns/w"), "a");
    let view = bed.core.agent(bed.at(), &id("a")).unwrap();
    assert_eq!(view.allocated.memory_bytes, 80 << 20);
    a.converse(&mut bed);
    ends(&mut a, InstanceState::Completed);
    a.full(&mut bed);
    // The hub's start changes nothing of it.
    bed.restart();
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap().allocated.memory_bytes, 80 << 20);
    a.reconnect(&mut bed);
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/job")), ("a".into(), "a".into()));
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap().allocated.memory_bytes, 80 << 20);
    // To run again it needs room again.
    bed.ask(Request::Restart { key: key("ns/job") });
    assert_eq!((agents(&bed, "ns/w"), agents(&bed, "ns/job")), ("a".into(), "".into()));
}
