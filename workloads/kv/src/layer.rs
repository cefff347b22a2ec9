//! How do records of any size, expectations and grouped batches become plain key-value writes that
//! the engine below can keep? Both stores share this file, so they cannot differ in it.
//!
//! # Why values are split, and where the limits come from
//!
//! sled keeps a page in its log only while the page is below a quarter of a segment; a bigger page
//! becomes a file in `blobs/`, which sled writes without any sync and *unlinks before* the page that
//! replaces it is durable. A power cut then loses acknowledged records. Pages are counted in
//! records, not bytes (a leaf splits above 16 records, an index page above 256), so the only way to
//! keep pages out of `blobs/` is to bound the records:
//!
//! * segment 256 KiB → a page must stay below 65,536 − 20 (segment header) − 32 (message header)
//! * index page: 256 + 1 before it splits, + 63 from a merged neighbour = 320 keys; each costs
//!   K + 7 bytes, and the page's two bounds cost 2 K: 322 K + 2,304 ≤ 65,484 → K ≤ 196
//! * leaf page: 16 + 1 before it splits, + 3 from a merged neighbour, + 1 = 21 records:
//!   21 (K + V + 8) + 2 K + 64 ≤ 65,484 → with K = 195, V ≤ 2,889
//!
//! K = 1 tag + 192 bytes of the caller's key + 2 bytes of piece number = 195. V = 2,560.
//! `tests/shape.rs` drives the worst case and checks that `blobs/` stays empty.

use std::collections::BTreeMap;
use std::path::Path;

use crate::batch::Batch;
use crate::error::{KeyText, KvError};

/// Engine keys: a record is `RECORD ++ key`, a piece of a large one `PIECE ++ key ++ number`.
/// Pieces are only ever looked up by their full name, so no two keys can be mistaken.
const RECORD: u8 = 0;
const PIECE: u8 = 1;

/// First byte of a stored record: the value follows, or the header of a split value follows.
const WHOLE: u8 = 0;
const SPLIT: u8 = 1;

pub(crate) const PIECE_BYTES: usize = 2_560;
const HEADER_BYTES: usize = 1 + 4 + 4;

/// The state after a group, by engine key: `None` deletes. One entry a key, so that ten changes to
/// one record in a group cost one write.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Called with a key and its value; an error ends the walk.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), KvError>;

/// Plain reads by engine key.
pub(crate) trait Source {
    fn dir(&self) -> &Path;
    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError>;
    /// Calls `each` with every record under `prefix` in byte order, until it fails.
    fn walk(&self, prefix: &[u8], each: Each<'_>) -> Result<(), KvError>;
}

/// A source that can make one all-or-nothing durable write.
pub(crate) trait Engine: Source {
    fn write(&mut self, writes: Writes) -> Result<(), KvError>;
}

pub(crate) fn get(source: &dyn Source, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
    let Some(stored) = source.read(&record_key(key))? else { return Ok(None) };
    assemble(source.dir(), key, &stored, &|piece| source.read(piece)).map(Some)
}

pub(crate) fn scan(source: &dyn Source, prefix: &[u8]) -> Result<Vec<crate::Record>, KvError> {
    let mut found = Vec::new();
    visit(source, prefix, &mut |key, value| found.push((key.to_vec(), value)))?;
    Ok(found)
}

/// Reads every record under `prefix`, checking split values, without holding more than one.
pub(crate) fn visit(
    source: &dyn Source,
    prefix: &[u8],
    each: &mut dyn FnMut(&[u8], Vec<u8>),
) -> Result<(), KvError> {
    source.walk(&record_key(prefix), &mut |stored_key, stored| {
        let key = &stored_key[1..];
        each(key, assemble(source.dir(), key, stored, &|piece| source.read(piece))?);
        Ok(())
    })
}

/// Judges each batch in order and writes all that were accepted as one.
pub(crate) fn commit_all(engine: &mut dyn Engine, batches: Vec<Batch>) -> Vec<Result<(), KvError>> {
    let mut writes = Writes::new();
    let mut answers: Vec<Result<(), KvError>> =
        batches.into_iter().map(|batch| admit(engine, &mut writes, batch)).collect();
    if writes.is_empty() {
        return answers; // only refusals and bare expectations: nothing needs to become durable
    }
    if let Err(error) = engine.write(writes) {
        answers.iter_mut().filter(|answer| answer.is_ok()).for_each(|answer| *answer = Err(error.clone()));
    }
    answers
}

fn admit(engine: &dyn Engine, writes: &mut Writes, batch: Batch) -> Result<(), KvError> {
    batch.validate()?;
    for (key, expected) in &batch.expects {
        if current(engine, writes, key)? != *expected {
            return Err(KvError::Conflict { key: KeyText(key.clone()) });
        }
    }
    // Everything that can fail is read before the first change goes into `writes`.
    let mut staged = Writes::new();
    for op in batch.ops {
        let old = pieces_now(engine, writes, &staged, &op.key)?;
        stage(&mut staged, op.key, op.value, old);
    }
    writes.append(&mut staged);
    Ok(())
}

/// The value of `key` as the batches admitted so far leave it.
fn current(engine: &dyn Engine, writes: &Writes, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
    let read = |stored_key: &[u8]| match writes.get(stored_key) {
        Some(pending) => Ok(pending.clone()),
        None => engine.read(stored_key),
    };
    let Some(stored) = read(&record_key(key))? else { return Ok(None) };
    assemble(engine.dir(), key, &stored, &read).map(Some)
}

/// How many pieces `key` has now, so that those no longer needed can be deleted.
fn pieces_now(engine: &dyn Engine, writes: &Writes, staged: &Writes, key: &[u8]) -> Result<usize, KvError> {
    let record = record_key(key);
    let stored = match staged.get(&record).or_else(|| writes.get(&record)) {
        Some(pending) => pending.clone(),
        None => engine.read(&record)?,
    };
    let header = stored.as_deref().and_then(Header::parse);
    Ok(header.map_or(0, |header| header.pieces()))
}

fn stage(staged: &mut Writes, key: Vec<u8>, value: Option<Vec<u8>>, old_pieces: usize) {
    let mut kept = 0;
    let record = value.map(|mut value| {
        if value.len() < PIECE_BYTES {
            value.insert(0, WHOLE);
            return value;
        }
        for piece in value.chunks(PIECE_BYTES) {
            staged.insert(piece_key(&key, kept), Some(piece.to_vec()));
            kept += 1;
        }
        Header { len: value.len(), crc: crc32fast::hash(&value) }.print()
    });
    for stale in kept..old_pieces {
        staged.insert(piece_key(&key, stale), None);
    }
    staged.insert(record_key(&key), record);
}

type Read<'a> = &'a dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, KvError>;

fn assemble(dir: &Path, key: &[u8], stored: &[u8], read: Read<'_>) -> Result<Vec<u8>, KvError> {
    let damaged = |what: &str| KvError::corrupt(dir, format!("record {}: {what}", KeyText(key.to_vec())));
    if let Some((&WHOLE, value)) = stored.split_first() {
        return Ok(value.to_vec());
    }
    let header = Header::parse(stored).ok_or_else(|| damaged("unknown form"))?;
    let mut value = Vec::with_capacity(header.len);
    for number in 0..header.pieces() {
        let piece = read(&piece_key(key, number))?.ok_or_else(|| damaged("a piece is missing"))?;
        value.extend_from_slice(&piece);
    }
    if value.len() != header.len || crc32fast::hash(&value) != header.crc {
        return Err(damaged("its pieces do not match its checksum"));
    }
    Ok(value)
}

struct Header {
    len: usize,
    crc: u32,
}

impl Header {
    fn parse(stored: &[u8]) -> Option<Header> {
        if stored.len() != HEADER_BYTES || stored[0] != SPLIT {
            return None;
        }
        let len = u32::from_le_bytes(stored[1..5].try_into().ok()?) as usize;
        let crc = u32::from_le_bytes(stored[5..9].try_into().ok()?);
        (len <= crate::LARGE_BYTES_MAX).then_some(Header { len, crc })
    }

    fn print(&self) -> Vec<u8> {
        let mut out = vec![SPLIT];
        out.extend_from_slice(&(self.len as u32).to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
        out
    }

    fn pieces(&self) -> usize {
        self.len.div_ceil(PIECE_BYTES)
    }
}

fn record_key(key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(RECORD);
    out.extend_from_slice(key);
    out
}

/// 8 MiB / 2,560 = 3,277 pieces at most: two bytes hold the number.
fn piece_key(key: &[u8], number: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + key.len());
    out.push(PIECE);
    out.extend_from_slice(key);
    out.extend_from_slice(&(number as u16).to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kv, MemKv};

    fn engine_keys(kv: &MemKv) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut note = |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            Ok(())
        };
        kv.walk(b"", &mut note).unwrap();
        keys
    }

    fn put_large(kv: &mut MemKv, key: &str, len: usize) {
        kv.commit(Batch::new().put_large(key, vec![7; len]).clone()).unwrap();
    }

    #[test]
    fn no_piece_outlives_its_value() {
        let mut kv = MemKv::new();
        for (len, pieces) in [(PIECE_BYTES * 3 + 1, 4), (PIECE_BYTES, 1), (PIECE_BYTES * 2, 2), (10, 0)] {
            put_large(&mut kv, "a", len);
            assert_eq!(engine_keys(&kv).len(), 1 + pieces, "{len} bytes");
            assert_eq!(kv.get(b"a").unwrap().unwrap().len(), len);
        }
        put_large(&mut kv, "a", PIECE_BYTES * 5);
        kv.commit(Batch::new().delete("a").clone()).unwrap();
        assert_eq!(engine_keys(&kv), Vec::<Vec<u8>>::new());
    }

    /// The second batch of a group must count the pieces that the first one is about to write.
    #[test]
    fn pieces_are_counted_across_a_group_and_within_a_batch() {
        let mut kv = MemKv::new();
        let big = Batch::new().put_large("a", vec![1; PIECE_BYTES * 4]).clone();
        let small = Batch::new().put("a", "x").clone();
        assert!(kv.commit_all(vec![big, small]).iter().all(Result::is_ok));
        assert_eq!(engine_keys(&kv).len(), 1);
        let mut both = Batch::new();
        both.put_large("a", vec![1; PIECE_BYTES * 4]).put_large("a", vec![2; PIECE_BYTES]);
        kv.commit(both).unwrap();
        assert_eq!(engine_keys(&kv).len(), 2);
        assert_eq!(kv.get(b"a").unwrap(), Some(vec![2; PIECE_BYTES]));
    }

    #[test]
    fn damaged_pieces_are_named_and_never_returned() {
        let mut kv = MemKv::new();
        put_large(&mut kv, "plan/a", PIECE_BYTES * 2);
        let mut hurt = Writes::new();
        hurt.insert(piece_key(b"plan/a", 1), Some(vec![8; PIECE_BYTES]));
        kv.write(hurt.clone()).unwrap();
        let error = kv.get(b"plan/a").unwrap_err().to_string();
        assert!(error.contains("\"plan/a\"") && error.contains("checksum"), "{error}");
        hurt.insert(piece_key(b"plan/a", 1), None);
        kv.write(hurt).unwrap();
        let error = kv.scan(b"").unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
