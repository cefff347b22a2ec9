//! What can a store answer besides yes, and what should the caller do about it?

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A refusal (nothing was written, the store works on), or a fault of the store or its disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KvError {
    /// Refusal: an expectation of the batch does not hold.
    #[error("key {key} does not have the expected value")]
    Conflict { key: KeyText },

    /// Refusal: a key, value or batch over its limit.
    #[error("{key}: {size} bytes, at most {limit} are allowed")]
    TooLarge { key: KeyText, size: usize, limit: usize },

    /// Refusal: a key must have at least one byte.
    #[error("a record needs a key of at least one byte")]
    EmptyKey,

    /// Refusal: too little room left on the disk. Nothing was written; it may be tried again once
    /// there is space.
    #[error("{}: disk full, {free} bytes free, {needed} needed", dir.display())]
    Full { dir: PathBuf, needed: u64, free: u64 },

    /// Fault: the store failed part-way. Leave by `_exit` (see [`KvError::must_exit`]).
    #[error("{}: store failed, open it again in a new process: {why}", dir.display())]
    Broken { dir: PathBuf, why: String },

    /// Fault: what is on disk cannot be read as a store.
    #[error("{}: store is damaged: {why}", dir.display())]
    Corrupt { dir: PathBuf, why: String },

    /// Refusal: a store made by another version or with other parameters.
    #[error("{}: not a store of this version: {why}", dir.display())]
    Foreign { dir: PathBuf, why: String },

    /// Refusal: another process (or another handle in this one) has the store open.
    #[error("{}: store is in use by another process", dir.display())]
    Locked { dir: PathBuf },

    /// Fault: the operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: Arc<io::Error> },
}

impl KvError {
    /// Nothing was written, and the store goes on working.
    pub fn is_refusal(&self) -> bool {
        use KvError::*;
        matches!(self, Conflict { .. } | TooLarge { .. } | EmptyKey | Full { .. })
    }

    /// The process must leave by `_exit`, without running destructors: sled's own can hang after a
    /// failed write, and a new process is the only way to learn what became durable.
    pub fn must_exit(&self) -> bool {
        matches!(self, KvError::Broken { .. })
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        KvError::Io { path: path.to_path_buf(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(dir: &Path, why: impl Into<String>) -> Self {
        KvError::Corrupt { dir: dir.to_path_buf(), why: why.into() }
    }
}

/// A key as it appears in messages: printable bytes as they are, others escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(pub Vec<u8>);

impl fmt::Display for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key over the limit is shown by its start: messages are bounded too.
        let shown = &self.0[..self.0.len().min(crate::KEY_BYTES_MAX)];
        write!(f, "\"{}\"", shown.escape_ascii())
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
