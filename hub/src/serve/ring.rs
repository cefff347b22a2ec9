//! The last changes, numbered, for watchers to resume from. A number is `term << 32 | n`: after a
//! restart of the hub the term is another, so a watcher of before is told `gone` and lists again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub_core::api::Change;
use tokio::sync::watch;

/// 4096 × ~100 B = 400 KiB; at ten changes a second seven minutes to come back in.
pub const RING_MAX: usize = 4096;

/// Clones are the same ring.
#[derive(Clone)]
pub struct Ring(Arc<Inner>);

struct Inner {
    changes: Mutex<Changes>,
    newest: watch::Sender<u64>,
}

struct Changes {
    /// Of the newest; `first` with nothing in the ring.
    newest: u64,
    kept: VecDeque<Change>,
}

/// What a watcher is too late for: it has to list again.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

impl Ring {
    pub fn new(term: u64) -> Ring {
        let newest = term << 32;
        let changes = Mutex::new(Changes { newest, kept: VecDeque::new() });
        Ring(Arc::new(Inner { changes, newest: watch::Sender::new(newest) }))
    }

    pub fn push(&self, changes: impl IntoIterator<Item = Change>) {
        let mut ring = self.lock();
        for change in changes {
            if ring.kept.len() == RING_MAX {
                ring.kept.pop_front();
            }
            ring.kept.push_back(change);
            ring.newest += 1;
        }
        let newest = ring.newest;
        drop(ring);
        self.0.newest.send_replace(newest);
    }

    pub fn newest(&self) -> u64 {
        self.lock().newest
    }

    /// Up to `max` changes after this number, each with its own.
    pub fn after(&self, seq: u64, max: usize) -> Result<Vec<(u64, Change)>, Gone> {
        let ring = self.lock();
        let oldest = ring.newest - ring.kept.len() as u64;
        if seq < oldest || seq > ring.newest {
            return Err(Gone);
        }
        let from = (seq - oldest) as usize;
        let numbered = ring.kept.iter().skip(from).take(max).cloned();
        Ok((seq + 1..).zip(numbered).collect())
    }

    /// Told when there is something newer.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.0.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Change> {
        numbers.map(|seq| Change::Event { seq })
    }

    #[test]
    fn a_watcher_resumes_or_is_told_that_it_cannot() {
        let ring = Ring::new(2);
        let start = ring.newest();
        assert_eq!(ring.after(start, 9), Ok(vec![]));
        ring.push(events(0..3));
        assert_eq!(ring.after(start + 1, 1), Ok(vec![(start + 2, Change::Event { seq: 1 })]));
        assert_eq!(ring.after(start + 3, 9), Ok(vec![]));
        assert_eq!(ring.after(start + 4, 9), Err(Gone));
        assert_eq!(Ring::new(3).after(start + 3, 9), Err(Gone));
        ring.push(events(3..3 + RING_MAX as u64));
        assert_eq!(ring.after(start + 2, 1), Err(Gone));
        assert_eq!(ring.after(start + 3, 1).unwrap()[0].0, start + 4);
    }
}
