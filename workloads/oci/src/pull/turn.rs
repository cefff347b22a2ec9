//! Who fetches a piece when several want it at once: one after the other, so that it comes once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use contract::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Past so many, those that nobody holds are forgotten.
const KEPT_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>);

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code, reason = "held, never read")] OwnedMutexGuard<()>);

impl Turns {
    pub async fn take(&self, digest: &Digest) -> Turn {
        let turn = self.of(digest);
        Turn(turn.lock_owned().await)
    }

    fn of(&self, digest: &Digest) -> Arc<AsyncMutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= KEPT_MAX {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        turns.insert(*digest, Arc::downgrade(&turn));
        turn
    }
}
