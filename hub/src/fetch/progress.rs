//! How far fetches are, for whoever watches: told when it changes, kept nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::image::ImageRef;
use contract::platform::Platform;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// One image on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FetchView {
    /// Grows with each fetch.
    pub id: u64,
    pub image: String,
    pub platforms: Vec<String>,
    /// Of what was missing; 0 of 0 while its registry is asked what it is.
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// Clones are the same.
#[derive(Clone)]
pub struct Progress {
    under_way: Arc<watch::Sender<Vec<FetchView>>>,
    next: Arc<AtomicU64>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { under_way: Arc::new(watch::Sender::new(Vec::new())), next: Arc::default() }
    }
}

impl Progress {
    pub fn subscribe(&self) -> watch::Receiver<Vec<FetchView>> {
        self.under_way.subscribe()
    }

    /// Shown until it is dropped.
    pub fn begin(&self, image: &ImageRef, platforms: &BTreeSet<Platform>, total_bytes: u64) -> Shown {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let platforms = platforms.iter().map(Platform::to_string).collect();
        let view = FetchView { id, image: image.to_string(), platforms, done_bytes: 0, total_bytes };
        self.under_way.send_modify(|all| all.push(view));
        Shown { progress: self.clone(), id, whole: AtomicU64::new(0) }
    }
}

pub struct Shown {
    progress: Progress,
    id: u64,
    /// Of the pieces that are whole.
    whole: AtomicU64,
}

impl Shown {
    /// So much of the present piece.
    pub fn arrived(&self, bytes: u64) {
        let done = self.whole.load(Ordering::Relaxed) + bytes;
        self.progress.under_way.send_modify(|all| {
            for view in all.iter_mut().filter(|view| view.id == self.id) {
                view.done_bytes = done.min(view.total_bytes);
            }
        });
    }

    pub fn piece(&self, size: u64) {
        self.whole.fetch_add(size, Ordering::Relaxed);
        self.arrived(0);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.progress.under_way.send_modify(|all| all.retain(|view| view.id != self.id));
    }
}
