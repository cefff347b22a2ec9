//! How much of what an agent says about itself is kept? Enough for every honest board, and little
//! enough that a hundred thousand others fit beside it.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::Presence;
use contract::{label, limits};

use crate::record::AgentRecord;

const LABELS_MAX: usize = 64;
const FEATURES_MAX: usize = 64;
const ENGINES_MAX: usize = 8;
/// An engine id is a hash, a profile version and a target triple: ~100 bytes.
pub const ENGINE_BYTES_MAX: usize = 128;
const WORD_BYTES_MAX: usize = 64;

/// Take over what a presence says. Returns what of it was left out, for people.
pub fn learn(record: &mut AgentRecord, presence: &Presence) -> Option<String> {
    let labels: BTreeMap<String, String> = presence
        .labels
        .iter()
        .filter(|(key, value)| label::check_key(key).is_ok() && label::check_value(value).is_ok())
        .take(LABELS_MAX)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let words = presence.features.iter().filter(|word| is_word(word, WORD_BYTES_MAX)).take(FEATURES_MAX);
    let features: BTreeSet<String> = words.cloned().collect();
    let engines = presence.engines.iter().filter(|engine| is_word(engine, ENGINE_BYTES_MAX));
    let engines: Vec<String> = engines.take(ENGINES_MAX).cloned().collect();
    let left_out = left_out(presence, labels.len(), features.len(), engines.len());
    record.set_own_labels(labels);
    record.features = features;
    record.engines = engines;
    record.arch = word(&presence.arch);
    record.agent_version = word(&presence.agent_version);
    record.capacity = presence.capacity;
    left_out
}

fn left_out(presence: &Presence, labels: usize, features: usize, engines: usize) -> Option<String> {
    let mut parts = Vec::new();
    for (what, all, kept) in [
        ("labels", presence.labels.len(), labels),
        ("features", presence.features.len(), features),
        ("engines", presence.engines.len(), engines),
    ] {
        if kept < all {
            parts.push(format!("{} of its {all} {what}", all - kept));
        }
    }
    (!parts.is_empty()).then(|| format!("ignored as not legal or too many: {}", parts.join(", ")))
}

fn is_word(text: &str, max: usize) -> bool {
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn word(text: &str) -> String {
    if is_word(text, WORD_BYTES_MAX) { text.to_string() } else { String::new() }
}

/// A text of an agent, for people.
pub fn text(text: &str) -> String {
    limits::clip(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
