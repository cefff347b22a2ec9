//! Commits in order, one in flight: what waits meanwhile leaves as one batch with one sync, all or
//! nothing. So no commit can become durable while one before it did not.

use std::collections::VecDeque;
use std::time::Duration;

use hub_core::api::{EffectId, Write};
use kv::{Batch, Kv, KvError, StoreThread};
use tokio::sync::mpsc;

use super::{Change, FORMAT, Key, changes};
use crate::failpoint::{self, Point};

/// A group ends before this, unless its first commit is larger by itself.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// A full disk is asked again after this long: nobody tells us when room is made.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// The end of one commit: these effects are durable, or the store is done for.
#[derive(Debug)]
pub enum Written {
    Durable(Vec<EffectId>),
    /// Nothing was written for lack of room: call [`StoreWriter::again`] after this long.
    Full {
        reason: String,
        wait: Duration,
    },
    Fault(KvError),
}

struct Waiting {
    id: EffectId,
    changes: Vec<Change>,
    bytes: usize,
}

pub struct StoreWriter {
    thread: StoreThread,
    answers: mpsc::UnboundedSender<Result<(), KvError>>,
    waiting: VecDeque<Waiting>,
    in_flight: Option<(Vec<EffectId>, Batch)>,
    oldest_event: u64,
}

impl StoreWriter {
    /// The receiver holds at most one answer: there is one commit in flight.
    pub fn start(
        kv: Box<dyn Kv>,
        oldest_event: u64,
    ) -> std::io::Result<(StoreWriter, mpsc::UnboundedReceiver<Result<(), KvError>>)> {
        let thread = StoreThread::start(kv, 1)?;
        let (answers, receiver) = mpsc::unbounded_channel();
        let waiting = VecDeque::new();
        Ok((StoreWriter { thread, answers, waiting, in_flight: None, oldest_event }, receiver))
    }

    pub fn persist(&mut self, id: EffectId, writes: &[Write]) {
        let changes: Vec<Change> = writes.iter().flat_map(|w| changes(w, &mut self.oldest_event)).collect();
        let bytes = changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        self.waiting.push_back(Waiting { id, changes, bytes });
        self.next();
    }

    /// Hand in what came from the receiver.
    pub fn answered(&mut self, answer: Result<(), KvError>) -> Written {
        match answer {
            Ok(()) => {
                let (ids, _) = self.in_flight.take().expect("an answer belongs to a commit");
                self.next();
                Written::Durable(ids)
            }
            Err(e @ KvError::Full { .. }) => Written::Full { reason: e.to_string(), wait: FULL_WAIT },
            Err(e) => Written::Fault(e),
        }
    }

    /// Try the commit that found no room once more; the ones behind it wait for it.
    pub fn again(&mut self) {
        self.submit();
    }

    /// Nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_empty()
    }

    fn next(&mut self) {
        if self.in_flight.is_some() || self.waiting.is_empty() {
            return;
        }
        let (mut ids, mut batch) = (Vec::new(), Batch::new());
        batch.put(Key::Format.bytes(), FORMAT.to_vec());
        let fits = |ids: &[EffectId], batch: &Batch, next: &Waiting| {
            ids.is_empty() || batch.size() + next.bytes <= GROUP_BYTES_MAX
        };
        while let Some(next) = self.waiting.pop_front_if(|next| fits(&ids, &batch, next)) {
            ids.push(next.id);
            for (key, value) in next.changes {
                match value {
                    Some(value) => batch.put_large(key, value),
                    None => batch.delete(key),
                };
            }
        }
        self.in_flight = Some((ids, batch));
        self.submit();
    }

    fn submit(&self) {
        let Some((_, batch)) = &self.in_flight else { return };
        if failpoint::enter(Point::DuringCommit) {
            return;
        }
        let answers = self.answers.clone();
        let sent = self.thread.submit(batch.clone(), move |answer| drop(answers.send(answer)));
        // One in flight and a queue of one: it can only fail when the thread is gone.
        if sent.is_err() {
            let why = "its thread has ended".to_string();
            let _ = self.answers.send(Err(KvError::Broken { dir: "store".into(), why }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Lineage, Term, Version};
    use hub_core::record::Meta;
    use kv::MemDisk;

    fn meta(version: u64) -> Vec<Write> {
        vec![Write::Meta(Meta { lineage: Lineage([0; 16]), term: Term(1), version: Version(version) })]
    }

    #[tokio::test]
    async fn commits_are_grouped_in_order_and_a_full_disk_holds_them() {
        let disk = MemDisk::new();
        let full = KvError::Full { dir: "d".into(), needed: 1, free: 0 };
        disk.fail_next(full);
        let (mut writer, mut answers) = StoreWriter::start(Box::new(disk.open().unwrap()), 0).unwrap();
        writer.persist(1, &meta(1));
        writer.persist(2, &meta(2));
        writer.persist(3, &meta(3));
        let first = answers.recv().await.unwrap();
        assert!(matches!(writer.answered(first), Written::Full { .. }));
        assert_eq!(disk.commits(), 0);
        writer.again();
        let first = answers.recv().await.unwrap();
        assert!(matches!(writer.answered(first), Written::Durable(ids) if ids == [1]));
        let rest = answers.recv().await.unwrap();
        assert!(matches!(writer.answered(rest), Written::Durable(ids) if ids == [2, 3]));
        assert!(writer.is_idle());
        drop(writer);
        assert_eq!(super::super::load(&disk.open().unwrap()).unwrap().meta.unwrap().version, Version(3));
    }

    #[tokio::test]
    async fn a_fault_is_told_once_and_nothing_follows() {
        let disk = MemDisk::new();
        disk.fail_next(KvError::Broken { dir: "d".into(), why: "fsync".into() });
        let (mut writer, mut answers) = StoreWriter::start(Box::new(disk.open().unwrap()), 0).unwrap();
        writer.persist(1, &meta(1));
        writer.persist(2, &meta(2));
        let answer = answers.recv().await.unwrap();
        assert!(matches!(writer.answered(answer), Written::Fault(_)));
        assert!(answers.try_recv().is_err(), "the second commit must not have been tried");
    }
}
