//! Which messages were not taken, of whom and why, and which of that becomes an event? Everything is
//! counted; an event is made of what no honest link brings about. A flood of forgeries is one event with a
//! count each ten minutes, and never pushes out the events of others.

use std::collections::{BTreeMap, BTreeSet};

use contract::AgentId;
use contract::time::Millis;
use serde::{Deserialize, Serialize};

/// Agents of which it is kept apart; of more, only the sum is. 10,000 × ~300 B.
const AGENTS_MAX: usize = 10_000;
/// Between two events of one agent and one reason, and for the bound over all agents.
const WINDOW_MS: Millis = 600_000;
/// Events in that time over all agents: a day of lies fills less than half of the log.
const EVENTS_PER_WINDOW: usize = 32;
/// Links repeat, reorder and bring late: so many of that are told as one event.
const HONEST_MAX: u64 = 20;

/// One word for counters; the sentence beside it says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// It cannot be read: truncated, too large, not one of ours.
    Damaged,
    /// On a topic where it does not belong.
    Misplaced,
    Unsigned,
    /// Signed by another key, or over other words.
    Forged,
    /// Nobody has joined under this name.
    NotJoined,
    /// The identity waits, was revoked or decommissioned.
    Barred,
    /// Numbers or versions that cannot be.
    Impossible,
    /// Said in another session than the present one.
    OtherSession,
    /// Of a session, or a start, before the known one.
    Older,
    Repeated,
    /// An answer to nothing that is open.
    Unasked,
}

impl Why {
    pub fn word(self) -> &'static str {
        match self {
            Why::Damaged => "damaged",
            Why::Misplaced => "misplaced",
            Why::Unsigned => "unsigned",
            Why::Forged => "forged",
            Why::NotJoined => "not joined",
            Why::Barred => "barred",
            Why::Impossible => "impossible",
            Why::OtherSession => "of another session",
            Why::Older => "older",
            Why::Repeated => "repeated",
            Why::Unasked => "unasked",
        }
    }

    /// How many of one window make an event.
    fn told_from(self) -> u64 {
        match self {
            Why::OtherSession | Why::Older | Why::Repeated | Why::Unasked => HONEST_MAX,
            _ => 1,
        }
    }
}

/// Shown beside an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RefusedView {
    pub why: Why,
    pub count: u64,
    /// Of the newest, in a sentence.
    pub last: String,
    pub age_ms: Millis,
}

#[derive(Debug, Default)]
pub struct Refusals {
    total: BTreeMap<Why, u64>,
    agents: BTreeMap<AgentId, BTreeMap<Why, Count>>,
    window: Window,
}

#[derive(Debug, Default)]
struct Count {
    count: u64,
    last: Box<str>,
    at: Millis,
    /// When an event told it, and the count that it told.
    told: Option<(Millis, u64)>,
    /// When the counting towards `HONEST_MAX` began, and from where.
    since: (Millis, u64),
}

/// Events made over all agents lately, and whose had to be left out.
#[derive(Debug, Default)]
struct Window {
    began: Millis,
    made: usize,
    left_out: BTreeSet<AgentId>,
}

impl Refusals {
    /// The text of an event, if this is to be one. `known`: an agent that the hub has heard of; what names
    /// others, a broker can make up without end.
    pub fn note(
        &mut self,
        now: Millis,
        agent: &AgentId,
        known: bool,
        why: Why,
        reason: &str,
    ) -> Option<String> {
        *self.total.entry(why).or_default() += 1;
        if !known || self.agents.len() >= AGENTS_MAX && !self.agents.contains_key(agent) {
            return None;
        }
        let count = self.agents.entry(agent.clone()).or_default().entry(why).or_default();
        count.take(now, reason);
        let told = count.due(now, why)?;
        let left_out = self.window.admits(now, agent)?;
        count.told = Some((now, count.count));
        let others = match left_out {
            0 => String::new(),
            n => format!("; the same befell {n} other agents: hub status"),
        };
        let more = if told > 1 { format!(" ({told} such messages)") } else { String::new() };
        Some(format!("refused as {}: {reason}{more}{others}", why.word()))
    }

    /// Nobody's, as far as can be told.
    pub fn note_nobodys(&mut self, why: Why) {
        *self.total.entry(why).or_default() += 1;
    }

    pub fn total(&self) -> BTreeMap<Why, u64> {
        self.total.clone()
    }

    pub fn sum(&self) -> u64 {
        self.total.values().sum()
    }

    pub fn of(&self, now: Millis, agent: &AgentId) -> Vec<RefusedView> {
        let counts = self.agents.get(agent).into_iter().flatten();
        let view = |(why, count): (&Why, &Count)| RefusedView {
            why: *why,
            count: count.count,
            last: count.last.to_string(),
            age_ms: now.saturating_sub(count.at),
        };
        counts.map(view).collect()
    }
}

impl Count {
    fn take(&mut self, now: Millis, reason: &str) {
        if now >= self.since.0 + WINDOW_MS {
            self.since = (now, self.count);
        }
        self.count += 1;
        self.at = now;
        if *self.last != *reason {
            self.last = reason.into();
        }
    }

    /// How many there were since the last event, when it is time for one.
    fn due(&self, now: Millis, why: Why) -> Option<u64> {
        let (quiet, before) = match self.told {
            Some((at, count)) => (now < at + WINDOW_MS, count),
            None => (false, 0),
        };
        let enough = self.count - self.since.1 >= why.told_from();
        (enough && !quiet).then(|| self.count - before)
    }
}

impl Window {
    /// How many agents were left out before, when one more event may be made.
    fn admits(&mut self, now: Millis, agent: &AgentId) -> Option<usize> {
        if now >= self.began + WINDOW_MS {
            (self.began, self.made) = (now, 0);
        }
        if self.made >= EVENTS_PER_WINDOW {
            if self.left_out.len() < AGENTS_MAX {
                self.left_out.insert(agent.clone());
            }
            return None;
        }
        self.made += 1;
        Some(std::mem::take(&mut self.left_out).len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> AgentId {
        format!("a{n}").parse().unwrap()
    }

    #[test]
    fn a_flood_is_one_event_with_a_count_each_window() {
        let mut refusals = Refusals::default();
        let mut told = Vec::new();
        for n in 0..20_000u64 {
            told.extend(refusals.note(n * 100, &id(0), true, Why::Forged, "a forgery"));
        }
        assert_eq!(told.len(), 4, "2,000 s are four windows: {told:?}");
        assert_eq!(told[0], "refused as forged: a forgery");
        assert!(told[1].contains("6000 such messages"), "{told:?}");
        assert_eq!(refusals.of(2_000_000, &id(0))[0].count, 20_000);
        assert_eq!(refusals.sum(), 20_000);
    }

    #[test]
    fn each_reason_is_told_by_itself_and_what_links_do_only_in_numbers() {
        let mut refusals = Refusals::default();
        assert!(refusals.note(0, &id(0), true, Why::Unsigned, "x").is_some());
        assert!(refusals.note(0, &id(0), true, Why::Forged, "x").is_some(), "not hidden by the first");
        let repeated = |refusals: &mut Refusals, n| refusals.note(n, &id(0), true, Why::Repeated, "x");
        let told = (0..HONEST_MAX).filter_map(|n| repeated(&mut refusals, n)).count();
        assert_eq!(told, 1, "the twentieth");
        let mut rare = Refusals::default();
        assert!((0..100).all(|n| repeated(&mut rare, n * WINDOW_MS).is_none()), "one now and then is none");
    }

    #[test]
    fn invented_names_cost_nothing_and_many_liars_are_told_as_few() {
        let mut refusals = Refusals::default();
        assert!((0..1000).all(|n| refusals.note(0, &id(n), false, Why::NotJoined, "x").is_none()));
        assert!(refusals.agents.is_empty());
        let told = (0..1000).filter_map(|n| refusals.note(0, &id(n), true, Why::Forged, "x")).count();
        assert_eq!(told, EVENTS_PER_WINDOW);
        let next = refusals.note(WINDOW_MS, &id(0), true, Why::Forged, "x").unwrap();
        assert!(next.contains("968 other agents"), "{next}");
    }
}
