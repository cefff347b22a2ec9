//! Must whoever shows a wrong token wait? Ten *different* wrong ones a minute from one address, then no
//! token that was not good there before is looked at for the rest of the minute. So a carrier's NAT with
//! one guesser behind it locks out nobody who was in, a program that repeats one stale token locks out
//! nobody at all, and a guesser gets ten tries a minute at 192 bits.

use std::collections::{BTreeSet, VecDeque};

use contract::Digest;
use contract::time::Millis;

use crate::trust::Guesses;

/// Pairs of (address, token) that were good.
const GOOD_MAX: usize = 4_096;
/// Wrong tokens remembered, so that the same one counts once.
const STALE_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub struct Doorkeeper {
    guesses: Guesses,
    good: Remembered,
    stale: Remembered,
}

impl Doorkeeper {
    /// How long this token from this address is not looked at.
    pub fn wait_ms(&self, boot_ms: Millis, source: &str, token: &Digest) -> Option<Millis> {
        if self.good.has(source, token) {
            return None;
        }
        self.guesses.wait_ms(boot_ms, source)
    }

    pub fn right(&mut self, source: &str, token: Digest) {
        self.good.add(source, token, GOOD_MAX);
    }

    pub fn wrong(&mut self, boot_ms: Millis, source: &str, token: Digest) {
        if self.stale.add(source, token, STALE_MAX) {
            self.guesses.wrong(boot_ms, source);
        }
    }
}

/// The newest so many.
#[derive(Debug, Default)]
struct Remembered {
    pairs: BTreeSet<(String, Digest)>,
    order: VecDeque<(String, Digest)>,
}

impl Remembered {
    fn has(&self, source: &str, token: &Digest) -> bool {
        self.pairs.contains(&(source.to_string(), *token))
    }

    /// Whether it is new.
    fn add(&mut self, source: &str, token: Digest, max: usize) -> bool {
        let pair = (source.to_string(), token);
        if !self.pairs.insert(pair.clone()) {
            return false;
        }
        self.order.push_back(pair);
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.pairs.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(n: usize) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    #[test]
    fn a_guesser_waits_and_his_neighbours_behind_the_same_address_do_not() {
        let (mut door, own) = (Doorkeeper::default(), token(999_999));
        door.right("nat", own);
        for n in 0..10 {
            assert_eq!(door.wait_ms(5, "nat", &token(n)), None);
            door.wrong(5, "nat", token(n));
        }
        assert!(door.wait_ms(6, "nat", &token(11)).is_some());
        assert_eq!(door.wait_ms(6, "nat", &own), None);
        assert_eq!(door.wait_ms(6, "other", &token(11)), None);
        assert_eq!(door.wait_ms(60_005, "nat", &token(11)), None);
    }

    #[test]
    fn one_stale_token_is_one_guess() {
        let mut door = Doorkeeper::default();
        (0..1_000).for_each(|_| door.wrong(5, "nat", token(1)));
        assert_eq!(door.wait_ms(6, "nat", &token(2)), None);
    }

    #[test]
    fn a_botnet_costs_bounded_memory() {
        let mut door = Doorkeeper::default();
        for n in 0..20_000 {
            door.wrong(1, &n.to_string(), token(n));
            door.right(&n.to_string(), token(n));
        }
        assert_eq!((door.good.pairs.len(), door.stale.pairs.len()), (GOOD_MAX, STALE_MAX));
        assert_eq!((door.good.order.len(), door.stale.order.len()), (GOOD_MAX, STALE_MAX));
    }
}
