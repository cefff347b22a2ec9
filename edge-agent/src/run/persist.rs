//! How records reach the disk: one thread, in order, grouped, retried while the disk is full.
//!
//! The loop never waits for this thread, so no local decision depends on how long a sync takes (F4).
//! The document's signed bytes lie in a file named by their digest, because a store of small pages
//! is no place for them; the record points to it, and is committed after the file is durable.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use agent_core::api::{EffectId, Write};
use anyhow::Context as _;
use contract::Digest;
use contract::message::DesiredHead;
use contract::time::backoff_ms;
use kv::{Batch, Kv, KvError};
use serde::{Deserialize, Serialize};

use super::board::write_durable;

/// Writes waiting for the disk. The core has at most one a step in flight; more than this means
/// that the disk has stood still for very long.
const QUEUE: usize = 256;
const RETRY_BASE_MS: u64 = 500;
const RETRY_MAX_MS: u64 = 30_000;

pub const BOOTS: &[u8] = b"boots";
pub const DESIRED: &[u8] = b"desired";
pub const WORKLOAD: &[u8] = b"w/";

/// The store's pointer to the document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DesiredPointer {
    pub head: DesiredHead,
    /// Names the file: the digest of the signed bytes.
    pub file: Digest,
}

pub fn desired_path(state: &Path, file: &Digest) -> PathBuf {
    state.join("desired").join(format!("{}.json", file.hex()))
}

pub enum Persisted {
    Done(EffectId),
    /// The disk is full; it is tried again, and everything that depends on it waits.
    Waiting(String),
    /// The store is broken: leave by exit, the shims live on.
    Broken(String),
}

pub struct PersistThread {
    jobs: SyncSender<(EffectId, Vec<Write>)>,
}

impl PersistThread {
    pub fn start(
        store: Box<dyn Kv>,
        state: PathBuf,
        report: impl FnMut(Persisted) + Send + 'static,
    ) -> std::io::Result<PersistThread> {
        let (jobs, waiting) = sync_channel(QUEUE);
        let worker = Worker { store, state, report: Box::new(report) };
        std::thread::Builder::new().name("store".into()).spawn(move || worker.run(&waiting))?;
        Ok(PersistThread { jobs })
    }

    /// Never blocks. An error means that the disk has stood still for `QUEUE` commits.
    pub fn submit(&self, id: EffectId, writes: Vec<Write>) -> Result<(), String> {
        self.jobs.try_send((id, writes)).map_err(|_| "the store does not keep up".to_string())
    }
}

struct Worker {
    store: Box<dyn Kv>,
    state: PathBuf,
    report: Box<dyn FnMut(Persisted) + Send>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<(EffectId, Vec<Write>)>) {
        while let Ok(first) = jobs.recv() {
            let group: Vec<_> = std::iter::once(first).chain(jobs.try_iter().take(QUEUE)).collect();
            let mut attempt = 1;
            while let Err(error) = self.commit(&group) {
                if !is_full(&error) {
                    return (self.report)(Persisted::Broken(format!("{error:#}")));
                }
                (self.report)(Persisted::Waiting(format!("{error:#}")));
                std::thread::sleep(Duration::from_millis(backoff_ms(
                    RETRY_BASE_MS,
                    RETRY_MAX_MS,
                    attempt,
                    "store",
                )));
                attempt += 1;
            }
            group.iter().for_each(|(id, _)| (self.report)(Persisted::Done(*id)));
        }
    }

    /// One commit for the whole group: the later write of a key wins, as it would one by one.
    fn commit(&mut self, group: &[(EffectId, Vec<Write>)]) -> anyhow::Result<()> {
        crate::instance::failpoint::reach("agent-before-persist");
        let mut batch = Batch::new();
        let mut document = None;
        for write in group.iter().flat_map(|(_, writes)| writes) {
            match write {
                Write::Boots(boots) => drop(batch.put(BOOTS, boots.to_string())),
                Write::Desired { head, signed } => document = Some((head, signed)),
                Write::Workload { key, record } => {
                    let key = [WORKLOAD, key.to_string().as_bytes()].concat();
                    match record {
                        Some(record) => drop(batch.put_large(key, serde_json::to_vec(record)?)),
                        None => drop(batch.delete(key)),
                    }
                }
            }
        }
        if let Some((head, signed)) = document {
            let file = Digest::of(signed);
            let path = desired_path(&self.state, &file);
            write_durable(&path, signed).with_context(|| format!("cannot write {}", path.display()))?;
            batch.put(DESIRED, serde_json::to_vec(&DesiredPointer { head: *head, file })?);
            self.store.commit(batch)?;
            forget_others(&self.state, &file);
        } else {
            self.store.commit(batch)?;
        }
        crate::instance::failpoint::reach("agent-after-persist");
        Ok(())
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    let full = |io: &std::io::Error| io.kind() == std::io::ErrorKind::StorageFull;
    error.chain().any(|cause| {
        matches!(cause.downcast_ref::<KvError>(), Some(KvError::Full { .. }))
            || cause.downcast_ref::<std::io::Error>().is_some_and(full)
    })
}

/// Older documents: nothing points to them any more. What cannot be removed now is at the next one.
fn forget_others(state: &Path, keep: &Digest) {
    let keep = desired_path(state, keep);
    let Ok(entries) = fs::read_dir(state.join("desired")) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != keep) {
        let _ = fs::remove_file(path);
    }
}
