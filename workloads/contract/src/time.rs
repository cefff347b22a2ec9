//! What time is, to a core: milliseconds since the kernel booted, and perhaps a wall clock.

use serde::{Deserialize, Serialize};

/// Milliseconds. On the boottime clock unless the name says otherwise.
pub type Millis = u64;

/// Handed into every `step`. All decisions use `boot_ms` (CLOCK_BOOTTIME: never jumps, counts
/// through suspend). `wall_ms` (Unix time) only labels things for people; a board may have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    pub boot_ms: Millis,
    pub wall_ms: Option<Millis>,
}

/// A stable number from (id, attempt): jitter that needs no dice and replays. FNV-1a with a final
/// mix; not for security.
pub fn jitter_hash(id: &str, attempt: u64) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in id.bytes().chain(attempt.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// Exponential back-off: `base · 2^(attempt-1)`, at most `max`, less up to a quarter of jitter so
/// that a fleet does not return in step. `attempt` counts from 1; 0 means no wait.
pub fn backoff_ms(base_ms: Millis, max_ms: Millis, attempt: u32, id: &str) -> Millis {
    if attempt == 0 {
        return 0;
    }
    let full = base_ms.saturating_mul(1 << (attempt - 1).min(30)).min(max_ms);
    full - jitter_hash(id, u64::from(attempt)) % (full / 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_ends() {
        assert_eq!(backoff_ms(100, 1000, 0, "a"), 0);
        for attempt in 1..200 {
            let wait = backoff_ms(100, 60_000, attempt, "a");
            assert!((75..=60_000).contains(&wait), "{attempt}: {wait}");
        }
        assert_ne!(backoff_ms(1000, 60_000, 3, "a"), backoff_ms(1000, 60_000, 3, "b"));
    }
}
