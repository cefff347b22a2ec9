//! Which of the messages that were thrown away the operator is told of. A broker that lies must not be
//! able to flush the spool with them, nor to hide one lie behind another.

use std::collections::BTreeMap;

use contract::message::EventKind;
use contract::time::{Millis, jitter_hash};
use contract::{Now, limits};

use crate::core::Core;

/// One reason is told once in this time.
const AGAIN_MS: Millis = 600_000;
/// Reasons told of one kind of topic in that time: one for each way in which a message can be wrong, as
/// `contract::codec` and `desired` name them. Four kinds then fill a tenth of the spool at most.
const REASONS_MAX: usize = 12;

/// What was told, by kind of topic and hash of the reason.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    told: BTreeMap<(&'static str, u64), Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Tell,
    /// And say that no further reason will be told for a while.
    TellLast,
    Known,
}

impl Garbage {
    /// What stands behind a colon is detail: the column of a mistake in garbage does not make it another.
    pub fn news(&mut self, now: Millis, topic: &str, reason: &str) -> News {
        self.told.retain(|_, at| now < at.saturating_add(AGAIN_MS));
        let kind = kind(topic);
        let key = (kind, jitter_hash(reason.split(':').next().unwrap_or_default(), 0));
        let told = self.told.keys().filter(|(of, _)| *of == kind).count();
        if told >= REASONS_MAX || self.told.contains_key(&key) {
            return News::Known;
        }
        self.told.insert(key, now);
        if told + 1 == REASONS_MAX { News::TellLast } else { News::Tell }
    }
}

/// Commands have a topic each, and are one kind.
fn kind(topic: &str) -> &'static str {
    let level = topic.strip_prefix("agents/").and_then(|rest| rest.split('/').nth(1)).unwrap_or(topic);
    ["desired", "hello", "command"].into_iter().find(|known| *known == level).unwrap_or("hub")
}

impl Core {
    pub(crate) fn on_rejected(&mut self, now: Now, topic: &str, reason: &str) {
        let told = self.tell_refused(now, topic, reason);
        if told && topic.ends_with("/desired") {
            self.documents.refused = Some(limits::clip(&format!("{topic}: {reason}")));
        }
    }

    pub(crate) fn note_refused(&mut self, now: Now, topic: &str, reason: &str) {
        self.tell_refused(now, topic, reason);
    }

    /// Whether it was news.
    pub(crate) fn tell_refused(&mut self, now: Now, topic: &str, reason: &str) -> bool {
        let more = match self.garbage.news(now.boot_ms, topic, reason) {
            News::Known => return false,
            News::Tell => "",
            News::TellLast => " (what else is wrong with such messages is not told for ten minutes)",
        };
        self.tell(now, EventKind::Refused, None, format!("{topic}: {reason}{more}"));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_being_wrong_is_told_once() {
        let mut garbage = Garbage::default();
        let desired = "agents/a/desired";
        assert_eq!(garbage.news(0, desired, "is not JSON: column 1"), News::Tell);
        assert_eq!(garbage.news(1, desired, "is not JSON: column 2"), News::Known);
        assert_eq!(garbage.news(2, desired, "is signed by key 1"), News::Tell, "not hidden by the first");
        assert_eq!(garbage.news(3, "agents/a/hello", "is not JSON"), News::Tell);
        assert_eq!(garbage.news(AGAIN_MS, desired, "is not JSON"), News::Tell, "ten minutes later");
    }

    #[test]
    fn a_flood_is_bounded_and_says_so() {
        let mut garbage = Garbage::default();
        let mut told = Vec::new();
        for n in 0..1000 {
            let topic = format!("agents/a/command/c{n}");
            told.extend(Some(garbage.news(n, &topic, &n.to_string())).filter(|news| *news != News::Known));
        }
        assert_eq!(told.len(), REASONS_MAX);
        assert_eq!(told.last(), Some(&News::TellLast));
        assert_eq!(garbage.news(1000, "agents/a/desired", "x"), News::Tell, "another kind has its own room");
    }
}
