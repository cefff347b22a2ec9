//! How fast may one client speak? What comes faster waits in its own connection: nothing is lost, nobody
//! is sent away, and whoever floods is slowed to what the hub takes in from one board without noticing.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A board that reports without a pause, events and a log beside it, says some tens of messages a second.
const MESSAGES_PER_SEC: f64 = 200.0;
/// After a reconnect all is said at once.
const MESSAGES_BURST: f64 = 1000.0;
/// A log that is followed: 16 KiB a piece, 64 a second.
const BYTES_PER_SEC: f64 = 1048576.0;
const BYTES_BURST: f64 = 8.0 * 1048576.0;
/// The longest that one message waits; the next one waits on.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Whoever was silent for so long has all his room again, and need not be kept.
const FULL_AGAIN: Duration = Duration::from_secs(10);
const KEPT_MAX: usize = 100_000;

#[derive(Debug)]
pub struct Pace<K>(Mutex<HashMap<K, Account>>);

#[derive(Debug, Clone, Copy)]
struct Account {
    messages: f64,
    bytes: f64,
    at: Instant,
}

impl<K> Default for Pace<K> {
    fn default() -> Pace<K> {
        Pace(Mutex::default())
    }
}

impl<K: Eq + Hash> Pace<K> {
    /// How long this message has to wait.
    pub fn take(&self, key: K, bytes: usize, now: Instant) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT_MAX {
            all.retain(|_, account| now.saturating_duration_since(account.at) < FULL_AGAIN);
        }
        let account =
            all.entry(key).or_insert(Account { messages: MESSAGES_BURST, bytes: BYTES_BURST, at: now });
        account.take(bytes as f64, now)
    }

    pub fn forget(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Account {
    fn take(&mut self, bytes: f64, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        // What was waited for is not waited for twice: debts end where the wait ends.
        let least = WAIT_MAX.as_secs_f64();
        let refill = |had: f64, rate: f64, most: f64| (had + passed * rate).clamp(-rate * least, most);
        self.messages = refill(self.messages, MESSAGES_PER_SEC, MESSAGES_BURST) - 1.0;
        self.bytes = refill(self.bytes, BYTES_PER_SEC, BYTES_BURST) - bytes;
        let owed = (-self.messages / MESSAGES_PER_SEC).max(-self.bytes / BYTES_PER_SEC);
        (owed > 0.0).then(|| Duration::from_secs_f64(owed.min(least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says so many messages as fast as it is let, and returns how long that took.
    fn says(pace: &Pace<&str>, who: &'static str, messages: usize, bytes: usize) -> Duration {
        let begun = Instant::now();
        let mut now = begun;
        for _ in 0..messages {
            now += pace.take(who, bytes, now).unwrap_or_default();
        }
        now - begun
    }

    #[test]
    fn a_burst_is_free_and_a_flood_is_slowed_and_hurts_nobody_else() {
        let pace = Pace::default();
        assert_eq!(says(&pace, "a", 1000, 100), Duration::ZERO);
        let slow = says(&pace, "a", 2000, 100).as_secs_f64();
        assert!((9.0..11.0).contains(&slow), "2,000 at 200 a second: {slow}");
        assert_eq!(says(&pace, "b", 1000, 100), Duration::ZERO);
        let large = says(&pace, "c", 64, 240 << 10).as_secs_f64();
        assert!((6.0..8.0).contains(&large), "15 MiB, 8 of them at once: {large}");
        pace.forget(&"a");
        assert_eq!(says(&pace, "a", 1000, 100), Duration::ZERO);
    }
}
