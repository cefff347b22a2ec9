//! Which events are kept, and which of an agent's are new? A ring of the newest; an agent's events
//! are taken in order, once, and acknowledged only when they are durable.

use std::collections::VecDeque;

use contract::message::{AgentEvent, Events};
use contract::{AgentId, Epoch};

use crate::record::{EVENTS_KEPT, EventRecord};

#[derive(Debug)]
pub struct EventLog {
    ring: VecDeque<EventRecord>,
    next: u64,
}

/// Old events are deleted so many at a time: one range in the store, not one delete for each.
const DROP_AT_ONCE: usize = 256;

impl EventLog {
    pub fn load(mut events: Vec<EventRecord>) -> EventLog {
        events.sort_by_key(|event| event.seq);
        let next = events.last().map_or(1, |event| event.seq.saturating_add(1));
        EventLog { ring: events.into(), next }
    }

    /// Number and keep an event. Returns the record to persist.
    pub fn push(&mut self, mut record: EventRecord) -> EventRecord {
        record.seq = self.next;
        self.next += 1;
        self.ring.push_back(record.clone());
        record
    }

    /// The number below which everything is to be deleted, now and then.
    pub fn trim(&mut self) -> Option<u64> {
        if self.ring.len() < EVENTS_KEPT + DROP_AT_ONCE {
            return None;
        }
        self.ring.drain(..self.ring.len() - EVENTS_KEPT);
        self.ring.front().map(|event| event.seq)
    }

    pub fn newest(&self) -> u64 {
        self.next - 1
    }

    /// Events above `after`, oldest first.
    pub fn after(&self, after: u64) -> impl DoubleEndedIterator<Item = &EventRecord> {
        let from = self.ring.partition_point(|event| event.seq <= after);
        self.ring.range(from..)
    }

    /// For drawing a record that `push` will number.
    pub fn record(wall_ms: Option<u64>, agent: Option<&AgentId>, event: AgentEvent) -> EventRecord {
        let workload = event.instance.as_ref().map(|instance| instance.workload.clone());
        EventRecord { seq: 0, wall_ms, agent: agent.cloned(), workload, event }
    }
}

/// How a batch of events stands to what the hub has.
#[derive(Debug, PartialEq, Eq)]
pub enum Intake {
    /// Skip so many of the batch: they are known.
    Take { skip: usize },
    /// Nothing new.
    Known,
    /// Numbers are missing before it: how many (within its agent start).
    Gap(u64),
    /// Numbers that no agent can send.
    Nonsense,
}

/// An event's number is `boots << 32 | n`, n from 1.
pub fn intake(have: u64, batch: &Events, epoch: Epoch) -> Intake {
    let len = batch.events.len() as u64;
    let boots = |seq: u64| seq >> 32;
    let (first, last) = (batch.first_seq, batch.first_seq.saturating_add(len.saturating_sub(1)));
    if len == 0 {
        return Intake::Known;
    }
    if first & 0xffff_ffff == 0 || boots(first) != boots(last) || boots(first) > epoch.boots {
        return Intake::Nonsense;
    }
    if last <= have {
        return Intake::Known;
    }
    let expected = if boots(first) == boots(have) { have + 1 } else { boots(first) << 32 | 1 };
    if first > expected {
        return Intake::Gap(first - expected);
    }
    Intake::Take { skip: (have + 1).saturating_sub(first) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::BoardId;

    #[test]
    fn the_ring_keeps_the_newest() {
        let mut log = EventLog::load(Vec::new());
        let event = batch(1, 1).events.remove(0);
        let mut below = Vec::new();
        for _ in 0..EVENTS_KEPT + 3 * DROP_AT_ONCE {
            log.push(EventLog::record(None, None, event.clone()));
            below.extend(log.trim());
            assert!(log.after(0).count() < EVENTS_KEPT + DROP_AT_ONCE);
        }
        assert_eq!(below, [257, 513, 769]);
        assert_eq!(log.after(0).next().unwrap().seq, 769);
        assert_eq!(
            log.after(10_760).map(|e| e.seq).collect::<Vec<_>>(),
            (10_761..=10_768).collect::<Vec<_>>()
        );
        // What is numbered after a restart goes on from there.
        let mut again = EventLog::load(log.after(0).cloned().collect());
        assert_eq!(again.push(EventLog::record(None, None, event)).seq, 10_769);
    }

    fn batch(first_seq: u64, n: usize) -> Events {
        let event = AgentEvent {
            at_ms: 0,
            boots: 1,
            wall_ms: None,
            instance: None,
            kind: contract::message::EventKind::Started,
            text: String::new(),
        };
        let epoch = Epoch { boots: 2, session: 1 };
        Events { board: BoardId([0; 16]), epoch, first_seq, now_ms: 0, events: vec![event; n] }
    }

    #[test]
    fn events_are_taken_once_and_in_order() {
        let seq = |boots: u64, n: u64| boots << 32 | n;
        let at = |have, first, n| intake(have, &batch(first, n), Epoch { boots: 2, session: 1 });
        assert_eq!(at(0, seq(1, 1), 3), Intake::Take { skip: 0 });
        assert_eq!(at(seq(1, 3), seq(1, 2), 4), Intake::Take { skip: 2 });
        assert_eq!(at(seq(1, 3), seq(1, 2), 2), Intake::Known);
        assert_eq!(at(seq(1, 3), seq(1, 6), 1), Intake::Gap(2));
        assert_eq!(at(seq(1, 3), seq(2, 1), 1), Intake::Take { skip: 0 });
        assert_eq!(at(seq(1, 3), seq(2, 3), 1), Intake::Gap(2));
        assert_eq!(at(seq(1, 3), seq(3, 1), 1), Intake::Nonsense);
        assert_eq!(at(0, u64::MAX, 2), Intake::Nonsense);
        assert_eq!(at(0, seq(1, 0), 1), Intake::Nonsense);
    }
}
