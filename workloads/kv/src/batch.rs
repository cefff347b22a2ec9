//! What is one change to the store, and how big may it be?

use crate::error::{KeyText, KvError};

/// Longest key: `x` + three names of 63 bytes + two separators. The sum that makes this the limit
/// stands in `layer.rs` ([`crate::layer`]): it keeps every page of sled inside its log.
pub const KEY_BYTES_MAX: usize = 192;

/// Values put by [`Batch::put`] are below 16 KiB: what is bigger should be put knowingly.
pub const VALUE_BYTES_MAX: usize = (16 << 10) - 1;

/// Values put by [`Batch::put_large`]. Anything bigger belongs into a file named by its digest.
pub const LARGE_BYTES_MAX: usize = 8 << 20;

/// All keys and values of one batch together: one large value and plenty of small ones. The store
/// holds a batch in memory about twice while it is written.
pub const BATCH_BYTES_MAX: usize = 12 << 20;

/// A set of changes that is applied as a whole or not at all. Within a batch the last change to a
/// key wins; expectations are all judged against the state before the batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) expects: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(crate) ops: Vec<Op>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Op {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub limit: usize,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`; the value must be below 16 KiB.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.op(key.into(), Some(value.into()), VALUE_BYTES_MAX)
    }

    /// Sets `key` to a value of up to 8 MiB. It is read back by the ordinary `get` and `scan`.
    pub fn put_large(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.op(key.into(), Some(value.into()), LARGE_BYTES_MAX)
    }

    /// Removes `key`, small or large; a key that is not there is fine.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.op(key.into(), None, VALUE_BYTES_MAX)
    }

    /// Refuses the whole batch with [`KvError::Conflict`] unless `key` has exactly this value
    /// (`None`: is absent) when the batch is applied.
    pub fn expect(&mut self, key: impl Into<Vec<u8>>, value: Option<Vec<u8>>) -> &mut Self {
        self.expects.push((key.into(), value));
        self
    }

    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.expects.is_empty()
    }

    /// Bytes of all keys and values to be written.
    pub fn size(&self) -> usize {
        self.ops.iter().map(|op| op.key.len() + op.value.as_ref().map_or(0, Vec::len)).sum()
    }

    fn op(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, limit: usize) -> &mut Self {
        self.ops.push(Op { key, value, limit });
        self
    }

    /// Judges all sizes before anything is looked up or written.
    pub(crate) fn validate(&self) -> Result<(), KvError> {
        for (key, _) in &self.expects {
            validate_key(key)?;
        }
        for op in &self.ops {
            validate_key(&op.key)?;
            let size = op.value.as_ref().map_or(0, Vec::len);
            if size > op.limit {
                return Err(KvError::TooLarge { key: KeyText(op.key.clone()), size, limit: op.limit });
            }
        }
        match (self.size(), self.ops.last()) {
            (size, Some(last)) if size > BATCH_BYTES_MAX => {
                Err(KvError::TooLarge { key: KeyText(last.key.clone()), size, limit: BATCH_BYTES_MAX })
            }
            _ => Ok(()),
        }
    }
}

fn validate_key(key: &[u8]) -> Result<(), KvError> {
    match key.len() {
        0 => Err(KvError::EmptyKey),
        size if size > KEY_BYTES_MAX => {
            Err(KvError::TooLarge { key: KeyText(key.to_vec()), size, limit: KEY_BYTES_MAX })
        }
        _ => Ok(()),
    }
}
