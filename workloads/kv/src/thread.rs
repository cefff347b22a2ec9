//! How does an event loop, which may never block, use a store that must wait for the disk?
//!
//! One thread owns the store. It takes what is waiting in a bounded queue, commits it as one group
//! with one sync, and tells each batch its own answer. It sleeps in a blocking receive: no polling.

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::batch::Batch;
use crate::{Kv, KvError};

/// Called once on the store thread with the answer; should only hand it on (a oneshot, a channel).
pub type Done = Box<dyn FnOnce(Result<(), KvError>) + Send>;

type Read = Box<dyn FnOnce(&dyn Kv) + Send>;

/// A group ends at whichever comes first. It must fit well into what a batch may be, and the first
/// batch of a group should not wait long for the others' bytes.
const GROUP_BATCHES_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 1 << 20;

enum Job {
    Commit(Batch, Done),
    Read(Read),
}

/// A thread that owns a store. Dropping it finishes what is queued and waits for that.
pub struct StoreThread {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<Box<dyn Kv>>>,
}

/// The job was not taken; a batch comes back with its callback, which was not called.
pub enum SubmitError<T> {
    /// The queue is full: more is waiting than the disk can take.
    Busy(T),
    /// The thread has ended, which only a panic in a callback can cause.
    Stopped(T),
}

impl<T> fmt::Debug for SubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SubmitError::Busy(_) => "the store's queue is full",
            SubmitError::Stopped(_) => "the store's thread has ended",
        })
    }
}

impl StoreThread {
    /// Moves `kv` to a thread of its own with room for `queue` waiting jobs.
    pub fn start(kv: Box<dyn Kv>, queue: usize) -> io::Result<StoreThread> {
        let (jobs, waiting) = sync_channel(queue.max(1));
        let thread = Builder::new().name("kv-store".into()).spawn(move || run(kv, &waiting))?;
        Ok(StoreThread { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a batch; never blocks. Batches are applied in the order of submission, and `done` is
    /// called in that order too.
    pub fn submit(
        &self,
        batch: Batch,
        done: impl FnOnce(Result<(), KvError>) + Send + 'static,
    ) -> Result<(), SubmitError<(Batch, Done)>> {
        self.send(Job::Commit(batch, Box::new(done))).map_err(|refused| {
            refused.map(|job| match job {
                Job::Commit(batch, done) => (batch, done),
                Job::Read(_) => unreachable!("a commit was sent"),
            })
        })
    }

    /// Queues a read, which sees all batches submitted before it; never blocks.
    pub fn read(&self, read: impl FnOnce(&dyn Kv) + Send + 'static) -> Result<(), SubmitError<()>> {
        self.send(Job::Read(Box::new(read))).map_err(|refused| refused.map(|_| ()))
    }

    /// Finishes what is queued and hands the store back; `None` if a callback panicked.
    pub fn stop(mut self) -> Option<Box<dyn Kv>> {
        self.jobs = None;
        self.thread.take()?.join().ok()
    }

    fn send(&self, job: Job) -> Result<(), SubmitError<Job>> {
        let Some(jobs) = &self.jobs else { return Err(SubmitError::Stopped(job)) };
        jobs.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) => SubmitError::Busy(job),
            TrySendError::Disconnected(job) => SubmitError::Stopped(job),
        })
    }
}

impl<T> SubmitError<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> SubmitError<U> {
        match self {
            SubmitError::Busy(job) => SubmitError::Busy(change(job)),
            SubmitError::Stopped(job) => SubmitError::Stopped(change(job)),
        }
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been reported on that thread
        }
    }
}

fn run(mut kv: Box<dyn Kv>, jobs: &Receiver<Job>) -> Box<dyn Kv> {
    let mut next = jobs.recv().ok();
    while let Some(job) = next.take() {
        match job {
            Job::Read(read) => read(&*kv),
            Job::Commit(batch, done) => next = commit_group(&mut *kv, batch, done, jobs),
        }
        next = next.or_else(|| jobs.recv().ok());
    }
    kv
}

/// Commits `batch` with all that waits behind it. Returns the job that ended the group, if it was
/// already taken from the queue.
fn commit_group(kv: &mut dyn Kv, batch: Batch, done: Done, jobs: &Receiver<Job>) -> Option<Job> {
    let mut bytes = batch.size();
    let (mut batches, mut callbacks) = (vec![batch], vec![done]);
    let mut ended_by = None;
    while batches.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
        match jobs.try_recv() {
            Ok(Job::Commit(batch, done)) => {
                bytes += batch.size();
                batches.push(batch);
                callbacks.push(done);
            }
            Ok(read) => {
                ended_by = Some(read);
                break;
            }
            Err(_) => break,
        }
    }
    for (answer, done) in kv.commit_all(batches).into_iter().zip(callbacks) {
        done(answer);
    }
    ended_by
}
