//! Where do hub and agent keep what must survive? In one small key-value store whose commits are
//! all-or-nothing and durable on return.
//!
//! * [`Kv`] is the seam, [`Batch`] the unit of change, [`KvError`] the three kinds of answer.
//! * [`SledKv`] is the real store: sled 0.34.7 with its known faults wrapped (README.md lists each).
//! * [`MemKv`] keeps the same promises in memory and fails on demand, for tests and the simulator.
//! * [`StoreThread`] gives either to an event loop: one thread, a bounded queue, grouped commits.
//!
//! Every promise written at [`Kv`] is checked against both stores by `tests/promises.rs`.
#![forbid(unsafe_code)]

mod batch;
mod error;
mod layer;
mod mem;
mod sled_kv;
mod thread;

pub use batch::{BATCH_BYTES_MAX, Batch, KEY_BYTES_MAX, LARGE_BYTES_MAX, VALUE_BYTES_MAX};
pub use error::{KeyText, KvError};
pub use mem::{Crash, MemDisk, MemKv};
pub use sled_kv::{Opened, Options, SledKv, Summary, check};
pub use thread::{Done, StoreThread, SubmitError};

/// A key and its value, as [`Kv::scan`] returns them.
pub type Record = (Vec<u8>, Vec<u8>);

/// A durable map from bytes to bytes.
///
/// Promises, each with a test that every implementation runs:
/// 1. What [`commit`](Kv::commit) answered with `Ok` is there after any crash or power cut.
/// 2. A batch is applied as a whole or not at all, also by a crash in the middle.
/// 3. A refused batch ([`KvError::is_refusal`]) has written nothing and the store works on.
/// 4. An expectation that does not hold is answered with [`KvError::Conflict`].
/// 5. After [`KvError::Broken`] nothing is read or written any more: the last batch may or may
///    not be on disk, and only opening again tells. The process must leave by `_exit`.
/// 6. A reader never sees a record of a batch that was not acknowledged.
/// 7. `scan` returns keys in byte order; a value comes back as it was put, whatever its size.
pub trait Kv: Send {
    /// The value of `key`, small or large.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;

    /// All records whose key starts with `prefix`, in byte order.
    fn scan(&self, prefix: &[u8]) -> Result<Vec<Record>, KvError>;

    /// Applies several batches in order with one sync. Each is judged on its own, seeing what the
    /// ones before it changed: a conflict refuses that batch and no other.
    fn commit_all(&mut self, batches: Vec<Batch>) -> Vec<Result<(), KvError>>;

    /// Applies one batch; durable when it returns `Ok`.
    fn commit(&mut self, batch: Batch) -> Result<(), KvError> {
        self.commit_all(vec![batch]).pop().unwrap_or(Ok(()))
    }
}
