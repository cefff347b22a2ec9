//! How often may somebody be wrong about a token? Ten times a minute from one address. Secrets have 192
//! bits, so this keeps the log short rather than the door shut; a carrier's NAT with many boards behind
//! it is not hurt, since tokens that have ended or are used up are no guesses.

use std::collections::BTreeMap;

use contract::time::Millis;

const WRONG_MAX: u32 = 10;
const WINDOW_MS: Millis = 60_000;
/// Addresses remembered; with more, all unknown ones share one.
const SOURCES_MAX: usize = 4_096;

#[derive(Debug, Clone, Default)]
pub struct Guesses(BTreeMap<String, Wrong>);

#[derive(Debug, Clone, Copy)]
struct Wrong {
    since: Millis,
    count: u32,
}

impl Guesses {
    /// How long this address has to wait, if it has to.
    pub fn wait_ms(&self, boot_ms: Millis, source: &str) -> Option<Millis> {
        let wrong = self.0.get(source).or_else(|| self.0.get(""))?;
        let ends = wrong.since + WINDOW_MS;
        (wrong.count >= WRONG_MAX && boot_ms < ends).then(|| ends - boot_ms)
    }

    pub fn wrong(&mut self, boot_ms: Millis, source: &str) {
        if self.0.len() >= SOURCES_MAX {
            self.0.retain(|_, wrong| boot_ms < wrong.since + WINDOW_MS);
        }
        let key = if self.0.len() < SOURCES_MAX || self.0.contains_key(source) { source } else { "" };
        let wrong = self.0.entry(key.to_string()).or_insert(Wrong { since: boot_ms, count: 0 });
        if boot_ms >= wrong.since + WINDOW_MS {
            *wrong = Wrong { since: boot_ms, count: 0 };
        }
        wrong.count = wrong.count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let mut guesses = Guesses::default();
        for _ in 0..WRONG_MAX {
            assert_eq!(guesses.wait_ms(5, "a"), None);
            guesses.wrong(5, "a");
        }
        assert_eq!(guesses.wait_ms(6, "a"), Some(WINDOW_MS - 1));
        assert_eq!(guesses.wait_ms(6, "b"), None);
        assert_eq!(guesses.wait_ms(5 + WINDOW_MS, "a"), None);
    }

    #[test]
    fn a_botnet_costs_bounded_memory() {
        let mut guesses = Guesses::default();
        for n in 0..SOURCES_MAX * 2 {
            guesses.wrong(1, &n.to_string());
        }
        assert!(guesses.0.len() <= SOURCES_MAX + 1);
        assert!(guesses.wait_ms(2, "new").is_some());
    }
}
