//! The rules of the fair queue, one by one, and against any order of pushes and pops.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn agent(n: usize) -> AgentId {
    format!("a{n}").parse().unwrap()
}

fn message(n: usize, kind: Kind, text: &str) -> Inbound {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Inbound { agent: agent(n), kind, payload, content_type: String::new(), retained: false }
}

fn small() -> FairQueue {
    FairQueue::new(FairLimits { per_agent: 3, per_agent_bytes: 2000, total_bytes: 10_000, agents: 4 })
}

fn drain(queue: &FairQueue) -> Vec<String> {
    std::iter::from_fn(|| queue.try_pop()).map(|event| word(&event)).collect()
}

fn word(event: &BusEvent) -> String {
    match event {
        BusEvent::Message(m) => format!("{} {}", m.agent, String::from_utf8_lossy(&m.payload)),
        BusEvent::Overflow { agent } => format!("{agent} overflow"),
        BusEvent::Unsent { topic, .. } => format!("unsent {topic}"),
        BusEvent::Up => "up".into(),
        BusEvent::Down { reason } => format!("down {reason}"),
    }
}

#[test]
fn agents_take_turns() {
    let queue = small();
    for text in ["1", "2", "3"] {
        queue.push(message(0, Kind::Observed, text));
    }
    queue.push(message(1, Kind::Events, "x"));
    assert_eq!(drain(&queue), ["a0 1", "a1 x", "a0 2", "a0 3"]);
}

#[test]
fn overflow_drops_the_oldest_and_is_told_once() {
    let queue = small();
    queue.push(message(1, Kind::Observed, "x"));
    queue.push(message(0, Kind::Presence, "here"));
    for n in 1..=6 {
        queue.push(message(0, Kind::Observed, &n.to_string()));
    }
    assert_eq!(drain(&queue), ["a1 x", "a0 overflow", "a0 here", "a0 4", "a0 5", "a0 6"]);
    assert_eq!(queue.stats().dropped, 3);
    assert_eq!(queue.stats().queued_bytes, 0);
}

#[test]
fn what_is_lost_after_the_telling_is_told_when_the_lane_is_dry() {
    let queue = small();
    for n in 1..=4 {
        queue.push(message(0, Kind::Observed, &n.to_string()));
    }
    assert_eq!(word(&queue.try_pop().unwrap()), "a0 overflow");
    for n in 5..=6 {
        queue.push(message(0, Kind::Observed, &n.to_string()));
    }
    assert_eq!(drain(&queue), ["a0 4", "a0 5", "a0 6", "a0 overflow"]);
    assert_eq!(drain(&queue), [""; 0]);
}

#[test]
fn the_latest_presence_wins_and_keeps_its_place() {
    let queue = small();
    queue.push(message(0, Kind::Presence, "old"));
    queue.push(message(0, Kind::Observed, "1"));
    queue.push(message(0, Kind::Presence, "new"));
    assert_eq!(drain(&queue), ["a0 1", "a0 new"]);
    assert_eq!(queue.stats().replaced, 1);
    queue.push(message(0, Kind::Presence, &"x".repeat(PRESENCE_BYTES_MAX + 1)));
    assert_eq!(drain(&queue), ["a0 overflow"]);
}

#[test]
fn the_total_is_bounded_and_hits_the_newest() {
    let limits = FairLimits { per_agent: 100, per_agent_bytes: 5000, total_bytes: 5000, agents: 4 };
    let queue = FairQueue::new(limits);
    queue.push(message(0, Kind::Observed, &"x".repeat(4000)));
    queue.push(message(1, Kind::Observed, &"y".repeat(4000)));
    queue.push(message(1, Kind::Presence, "here"));
    let got = drain(&queue);
    assert_eq!(got.len(), 3, "{got:?}");
    assert_eq!(&got[1..], ["a1 overflow", "a1 here"]);
}

#[test]
fn too_many_agents_are_counted() {
    let queue = small();
    for n in 0..6 {
        queue.push(message(n, Kind::Observed, "1"));
    }
    assert_eq!(queue.stats().untold, 2);
    assert_eq!(drain(&queue).len(), 4);
}

#[test]
fn link_events_come_first_and_only_the_last_pair() {
    let queue = small();
    queue.push(message(0, Kind::Observed, "1"));
    queue.up();
    queue.down("a".into());
    queue.up();
    queue.down("b".into());
    queue.up();
    queue.up();
    assert_eq!(drain(&queue), ["down b", "up", "a0 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_delivers_what_it_has_and_ends() {
    let queue = small();
    queue.push(message(0, Kind::Observed, "1"));
    queue.close();
    assert!(queue.pop().await.is_some());
    assert!(queue.pop().await.is_none());
}

proptest! {
    /// Whatever comes and goes: bounded, in order per agent, every gap told, nobody waits longer
    /// than one turn of each other.
    #[test]
    fn any_order_of_pushes_and_pops(steps in prop::collection::vec((0usize..4, 0usize..5), 1..400)) {
        let queue = small();
        let mut sent = [0u32; 4];
        let mut seen = [0u32; 4];
        let mut gap_ok = [false; 4];
        let mut check = |event: Option<BusEvent>| -> Result<(), TestCaseError> {
            match event {
                Some(BusEvent::Overflow { agent }) => {
                    gap_ok[agent.as_str()[1..].parse::<usize>().unwrap()] = true;
                }
                Some(BusEvent::Message(m)) => {
                    let n: usize = m.agent.as_str()[1..].parse().unwrap();
                    let number: u32 = String::from_utf8_lossy(&m.payload).parse().unwrap();
                    prop_assert!(number > seen[n], "order of a{}", n);
                    seen[n] = number;
                }
                _ => {}
            }
            Ok(())
        };
        for (n, what) in steps {
            if what < 4 {
                sent[n] += 1;
                let kind = if what == 0 { Kind::Presence } else { Kind::Observed };
                queue.push(message(n, kind, &sent[n].to_string()));
            } else {
                check(queue.try_pop())?;
            }
            prop_assert!(queue.stats().queued_bytes <= 4 * 2000 + 4 * 300);
        }
        while let Some(event) = queue.try_pop() {
            check(Some(event))?;
        }
        let stats = queue.stats();
        prop_assert_eq!(stats.queued_bytes, 0);
        prop_assert_eq!(stats.received, stats.delivered + stats.dropped + stats.replaced);
        prop_assert_eq!(stats.dropped > 0, gap_ok.contains(&true));
        for n in 0..4 {
            prop_assert!(seen[n] == sent[n], "the newest of a{} always arrives: {} of {}", n, seen[n], sent[n]);
        }
    }
}
