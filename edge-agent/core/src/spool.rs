//! Events that the hub has not acknowledged yet: numbered, bounded, sent in order, trimmed at its
//! acknowledgement and at nothing else.
//!
//! Numbers (`boots << 32 | n`) have no holes within one start, so that a receiver sees what is missing:
//! * full, not all sent: of what was never sent, low priority goes first, the oldest first; the others
//!   are renumbered, and one `Lost` event stands where the first was and counts them;
//! * full, all sent (a hub that never acknowledges): the oldest goes, and the spool *begins* with `Lost`.

use std::collections::VecDeque;

use contract::limits::{EVENT_SPOOL_MAX, EVENTS_PER_MESSAGE_MAX};
use contract::message::{AgentEvent, EventKind, EventPriority, Events, FromAgent};
use contract::time::{Millis, backoff_ms};
use contract::{Epoch, Now};

use crate::api::{Op, Outcome};
use crate::core::Core;
use crate::outbox::Pending;

const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// After this long without an acknowledgement, an answer of the hub means: it did not arrive.
const STALE_MS: Millis = 10_000;
const NUMBER: u64 = u32::MAX as u64;

#[derive(Debug, Default)]
pub(crate) struct Spool {
    items: VecDeque<Item>,
    boots: u64,
    /// The `n` before the first item's: acknowledged, or dropped after it was sent.
    base: u64,
    /// Everything from this number on is to be sent in this session.
    send_from: u64,
    sent_ms: Millis,
    failures: u32,
    retry_at_ms: Option<Millis>,
}

#[derive(Debug)]
struct Item {
    seq: u64,
    event: AgentEvent,
    /// In any session: its number may be known to the hub.
    sent: bool,
    /// A `Lost` event stands for this many; 0: an ordinary event.
    lost: u32,
}

impl Spool {
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Of the last event that was ever sent, acknowledged or not.
    pub fn last_sent(&self) -> u64 {
        let sent = self.items.iter().rev().find(|item| item.sent);
        sent.map_or(self.boots << 32 | self.base, |item| item.seq)
    }

    /// A new counter of starts: nothing under it was ever sent.
    pub fn rebase(&mut self, boots: u64) {
        self.boots = boots;
        self.base = 0;
        self.send_from = 0;
        for item in &mut self.items {
            item.sent = false;
            item.event.boots = boots;
        }
        self.renumber();
    }

    pub fn push(&mut self, event: AgentEvent) {
        if self.items.len() >= EVENT_SPOOL_MAX {
            self.make_room();
        }
        let last = self.items.back().map_or(self.base, |item| item.seq & NUMBER);
        let seq = self.boots << 32 | (last + 1);
        self.items.push_back(Item { seq, event, sent: false, lost: 0 });
    }

    /// The hub has everything up to this number.
    pub fn acked(&mut self, seq: u64) {
        if seq >> 32 > self.boots {
            return; // Of a start that we know nothing of: the epoch floor settles that.
        }
        while self.items.front().is_some_and(|item| item.seq <= seq) {
            self.base = self.items.pop_front().map_or(self.base, |item| item.seq & NUMBER);
            self.failures = 0;
        }
        if seq >> 32 == self.boots {
            self.base = self.base.max(seq & NUMBER);
        }
    }

    pub fn end_session(&mut self) {
        self.retry_at_ms = None;
        self.failures = 0;
        self.send_again();
    }

    pub fn send_again(&mut self) {
        self.send_from = 0;
    }

    pub fn send_again_if_stale(&mut self, now: Millis) {
        if now >= self.sent_ms.saturating_add(STALE_MS) {
            self.send_again();
        }
    }

    /// When a batch that could not be sent is tried again.
    pub fn retry_at(&self) -> Option<Millis> {
        self.retry_at_ms
    }

    fn make_room(&mut self) {
        let first = self.items.partition_point(|item| item.sent);
        let marker = (first..self.items.len()).find(|n| self.items[*n].lost > 0);
        match (marker, self.victim(first)) {
            (Some(marker), Some(victim)) => self.drop_into(marker, victim),
            (None, Some(victim)) if self.items.len() - first > 1 => {
                // Its place is taken by the marker; a second one makes the room.
                self.mark_lost(victim, 1);
                if let Some(second) = self.victim(first) {
                    self.drop_into(victim, second);
                }
            }
            _ => self.drop_front(),
        }
        self.renumber();
    }

    /// The next to go among what was never sent.
    fn victim(&self, first: usize) -> Option<usize> {
        let of = |priority| {
            let goes =
                |n: &usize| self.items[*n].lost == 0 && self.items[*n].event.kind.priority() == priority;
            (first..self.items.len()).find(goes)
        };
        of(EventPriority::Low).or_else(|| of(EventPriority::High))
    }

    fn drop_into(&mut self, marker: usize, victim: usize) {
        let lost = self.items[marker].lost + 1;
        self.mark_lost(marker, lost);
        self.items.remove(victim);
    }

    fn drop_front(&mut self) {
        let Some(front) = self.items.pop_front() else { return };
        self.base = front.seq & NUMBER;
        let Some(next) = self.items.front() else { return };
        // The next one's place is taken by the marker, so it is lost too, unless it is one already.
        let lost = front.lost.max(1) + next.lost.max(1);
        self.mark_lost(0, lost);
    }

    fn mark_lost(&mut self, n: usize, lost: u32) {
        let item = &mut self.items[n];
        item.lost = lost;
        item.event.kind = EventKind::Lost;
        item.event.instance = None;
        item.event.text = format!("{lost} events were dropped: nobody acknowledged them");
    }

    /// What was never sent follows what was, without a hole.
    fn renumber(&mut self) {
        let first = self.items.partition_point(|item| item.sent);
        let mut last = first.checked_sub(1).map_or(self.base, |sent| self.items[sent].seq & NUMBER);
        for item in self.items.range_mut(first..) {
            last += 1;
            item.seq = self.boots << 32 | last;
        }
    }

    /// The next message's worth: consecutive, of one session.
    fn take_batch(&mut self, now: Millis) -> Option<(u64, Vec<AgentEvent>)> {
        let from = self.items.partition_point(|item| item.seq < self.send_from);
        let to = self.items.len().min(from + EVENTS_PER_MESSAGE_MAX);
        let first = self.items.get(from)?.seq;
        let batch = self.items.range_mut(from..to).map(|item| {
            item.sent = true;
            item.event.clone()
        });
        let batch: Vec<AgentEvent> = batch.collect();
        self.send_from = first + batch.len() as u64;
        self.sent_ms = now;
        Some((first, batch))
    }

    fn has_unsent(&self) -> bool {
        self.items.back().is_some_and(|item| item.seq >= self.send_from)
    }
}

impl Core {
    pub(crate) fn send_events(&mut self, now: Now) {
        let Some((epoch, _)) = self.session.greeted() else { return };
        if self.spool.retry_at_ms.is_some_and(|at| at > now.boot_ms) {
            return;
        }
        self.spool.retry_at_ms = None;
        let after = self.out.last_persist();
        let mut free =
            BATCHES_IN_FLIGHT_MAX.saturating_sub(self.out.count(|p| matches!(p, Pending::Events(_))));
        while free > 0 && self.spool.has_unsent() {
            free -= 1;
            let Some((first_seq, events)) = self.spool.take_batch(now.boot_ms) else { return };
            let board = self.me.board;
            let message = Events { board, epoch, first_seq, now_ms: now.boot_ms, events };
            self.out.emit_after(after, Op::Publish(FromAgent::Events(message)), Pending::Events(epoch));
        }
    }

    /// PUBACK says nothing about the hub: `Done` trims nothing.
    pub(crate) fn on_events_end(&mut self, now: Now, epoch: Epoch, outcome: &Outcome) {
        if self.session.epoch() != Some(epoch) || matches!(outcome, Outcome::Done | Outcome::Started { .. }) {
            return;
        }
        let spool = &mut self.spool;
        spool.failures = spool.failures.saturating_add(1);
        spool.send_again();
        let (base, max) = (self.config.report_base_ms, self.config.report_max_ms);
        let wait = backoff_ms(base, max, spool.failures, self.me.agent.as_str());
        spool.retry_at_ms = Some(now.boot_ms + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(kind: EventKind, text: &str) -> AgentEvent {
        AgentEvent { at_ms: 0, boots: 1, wall_ms: None, instance: None, kind, text: text.into() }
    }

    fn spool() -> Spool {
        let mut spool = Spool::default();
        spool.rebase(1);
        spool
    }

    fn send_all(spool: &mut Spool) -> Vec<(u64, EventKind)> {
        let mut sent = Vec::new();
        while let Some((first, events)) = spool.take_batch(0) {
            assert!(events.len() <= EVENTS_PER_MESSAGE_MAX);
            sent.extend(events.into_iter().enumerate().map(|(n, e)| (first + n as u64, e.kind)));
        }
        sent
    }

    fn check(spool: &Spool) {
        assert!(spool.len() <= EVENT_SPOOL_MAX);
        let seqs: Vec<u64> = spool.items.iter().map(|item| item.seq).collect();
        assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "a hole: {seqs:?}");
        let first = spool.items.front();
        let follows = first.is_none_or(|item| item.seq & NUMBER == spool.base + 1);
        let marked = first.is_some_and(|item| item.lost > 0);
        assert!(follows || marked, "what is missing before the first event is not named");
    }

    #[test]
    fn high_priority_outlives_low_and_what_was_lost_is_counted() {
        let mut spool = spool();
        for n in 0..EVENT_SPOOL_MAX * 2 {
            let kind = if n % 8 == 0 { EventKind::FellBack } else { EventKind::Started };
            spool.push(event(kind, &n.to_string()));
            check(&spool);
        }
        let sent = send_all(&mut spool);
        assert_eq!(sent.iter().filter(|(_, kind)| *kind == EventKind::FellBack).count(), EVENT_SPOOL_MAX / 4);
        let lost: u32 = spool.items.iter().map(|item| item.lost).sum();
        assert_eq!(sent.iter().filter(|(_, kind)| *kind == EventKind::Lost).count(), 1);
        assert_eq!(spool.len() - 1 + lost as usize, EVENT_SPOOL_MAX * 2);
    }

    #[test]
    fn a_hub_that_never_acknowledges_is_told_what_it_missed() {
        let mut spool = spool();
        for n in 0..EVENT_SPOOL_MAX + 10 {
            spool.push(event(EventKind::Refused, &n.to_string()));
            send_all(&mut spool);
            check(&spool);
        }
        assert_eq!(spool.items[0].event.kind, EventKind::Lost);
        assert_eq!(spool.items[0].lost, 11);
        assert_eq!(spool.items.back().unwrap().seq, 1 << 32 | (EVENT_SPOOL_MAX as u64 + 10));
    }

    #[test]
    fn only_an_acknowledgement_trims() {
        let mut spool = spool();
        (0..5).for_each(|n| spool.push(event(EventKind::Started, &n.to_string())));
        assert_eq!(send_all(&mut spool).len(), 5);
        assert_eq!(spool.len(), 5);
        spool.acked(1 << 32 | 2);
        assert_eq!((spool.len(), spool.items[0].seq), (3, 1 << 32 | 3));
        spool.acked(9 << 32);
        assert_eq!(spool.len(), 3, "of a start that is not ours");
        spool.end_session();
        assert_eq!(send_all(&mut spool).len(), 3, "sent again in the next session");
        spool.acked(1 << 32 | 99);
        spool.push(event(EventKind::Started, "new"));
        assert_eq!(spool.items[0].seq, 1 << 32 | 100, "a number the hub has is never given again");
    }

    proptest! {
        #[test]
        fn numbers_have_no_holes(acts in prop::collection::vec((0u8..6, 0u64..40), 0..3000)) {
            let mut spool = spool();
            let mut boots = 1;
            let mut taken = 0;
            for (act, n) in acts {
                match act {
                    0 => { send_all(&mut spool); }
                    1 if n == 0 => { boots += 1; spool.rebase(boots); }
                    1 => spool.end_session(),
                    2 => { taken = taken.max(boots << 32 | n); spool.acked(boots << 32 | n); }
                    _ => (0..n).for_each(|n| {
                        let kind = if n % 2 == 0 { EventKind::Started } else { EventKind::FellBack };
                        spool.push(event(kind, "x"));
                    }),
                }
                check(&spool);
                prop_assert!(spool.items.front().is_none_or(|item| item.seq > taken));
            }
        }
    }
}
