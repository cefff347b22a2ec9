//! Who did what, when, from where, and how did it end? Whatever changes something is written down before
//! it is tried, and its end before it is answered. Looking is not written down, but for secrets.
//!
//! ```text
//! audit/changes-<first number>.jsonl   what was allowed; 16 files of 4 MiB
//! audit/denied-<first number>.jsonl    what was not; 4 files of 1 MiB, so that a flood of guesses
//!                                      pushes out no change
//! ```
//! One line of JSON when a deed begins, the same line with its outcome when it ends: a hub that died in
//! between leaves the first, which says so. Files are only appended to; the oldest goes when there are too
//! many.

mod deed;
mod file;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use crate::api::error::{ApiError, Code};
pub use deed::{Entry, Filter, Objects};
use file::Files;

/// Entries of 300 B or so, two lines each: the last 100,000 changes.
const CHANGES: (u64, usize) = (4 << 20, 16);
const DENIED: (u64, usize) = (1 << 20, 4);

/// What is being done; becomes an entry.
pub type Deed = Entry;

pub struct Audit {
    changes: Arc<Mutex<Files>>,
    denied: Mutex<Files>,
}

impl Audit {
    pub fn open(dir: &Path) -> std::io::Result<Audit> {
        let changes = Files::open(dir, "changes", CHANGES)?;
        Ok(Audit {
            changes: Arc::new(Mutex::new(changes)),
            denied: Mutex::new(Files::open(dir, "denied", DENIED)?),
        })
    }

    /// Do it between two lines of the log. What cannot be written down is not done.
    pub async fn around(
        &self,
        mut deed: Deed,
        mut request: Request,
        next: Next,
    ) -> Result<Response, ApiError> {
        let begun = lock(&self.changes).begin(&mut deed);
        begun
            .map_err(|e| unwritten(format!("nothing was done, for the audit log cannot be written: {e}")))?;
        let objects = Objects::default();
        request.extensions_mut().insert(objects.clone());
        let mut open = Open { files: Arc::clone(&self.changes), deed: Some(deed), objects };
        let response = next.run(request).await;
        let ended = open.end(response.status().as_u16());
        // In its own thread: an fsync takes as long as the disk likes.
        let files = Arc::clone(&self.changes);
        let durable = tokio::task::spawn_blocking(move || {
            let Some(deed) = ended else { return Ok(()) };
            let file = lock(&files).append(&deed)?;
            file.sync_data()
        });
        let durable = durable.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        durable.map_err(|e| unwritten(format!("it was done, but the audit log cannot be written: {e}")))?;
        Ok(response)
    }

    /// Not allowed. Bounded, and never in the way of an answer.
    pub fn denied(&self, mut deed: Deed) {
        let mut files = lock(&self.denied);
        deed.number = files.next();
        if let Err(e) = files.append(&deed) {
            tracing::warn!("the audit log cannot be written: {e}");
        }
    }

    /// The newest that fit, oldest first.
    pub fn read(&self, filter: &Filter) -> std::io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for files in [&*self.changes, &self.denied] {
            // Names only, under the lock; what is appended meanwhile does no harm.
            let paths = lock(files).paths()?;
            entries.extend(file::read(paths, filter)?);
        }
        entries.sort_by_key(|entry| (entry.at_ms, entry.number));
        let more = entries.len().saturating_sub(filter.limit);
        entries.drain(..more);
        Ok(entries)
    }
}

impl Entry {
    pub fn new(from: Option<SocketAddr>, parts: &Parts) -> Deed {
        let what = format!("{} {}", parts.method, parts.uri.path());
        Entry {
            at_ms: crate::trust::wall_ms(),
            from: from.map(|from| from.to_string()).unwrap_or_default(),
            what: contract::limits::clip(&what).to_string(),
            ..Entry::default()
        }
    }
}

/// Somebody who hangs up has it ended all the same; how, nobody knows.
struct Open {
    files: Arc<Mutex<Files>>,
    deed: Option<Deed>,
    objects: Objects,
}

impl Open {
    fn end(&mut self, status: u16) -> Option<Deed> {
        let mut deed = self.deed.take()?;
        deed.objects = self.objects.taken();
        deed.status = Some(status);
        Some(deed)
    }
}

/// What nginx writes for a client that did not wait.
const GONE: u16 = 499;

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(mut deed) = self.end(GONE) {
            deed.reason = "the client did not wait for the answer".into();
            let _ = lock(&self.files).append(&deed);
        }
    }
}

fn unwritten(message: String) -> ApiError {
    tracing::error!("{message}");
    ApiError::new(Code::Unavailable, message)
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}
