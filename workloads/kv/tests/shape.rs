//! Do all pages of sled stay in its log? A page in `blobs/` is not safe against a power cut; the
//! limits in `layer.rs` are chosen so that none can come to be. This drives them to their worst.

mod common;

use std::fs;
use std::path::Path;

use common::{Chance, bytes, cycles};
use skerry_kv::*;

fn blobs(dir: &Path) -> usize {
    fs::read_dir(dir.join("blobs")).unwrap().count()
}

fn open(dir: &Path) -> SledKv {
    SledKv::open(dir, &Options { reserve_bytes: 0, ..Options::default() }).unwrap()
}

/// The longest key there may be, without a common start that sled could leave out: index pages get
/// as big as they can.
fn longest_key(n: u64) -> Vec<u8> {
    let mut key = bytes(n, 12);
    key.resize(KEY_BYTES_MAX, b'x');
    key
}

/// Keys that differ only at their end: index pages hold them at full length.
fn alike_key(n: u64) -> Vec<u8> {
    let mut key = vec![b'y'; KEY_BYTES_MAX - 8];
    key.extend_from_slice(format!("{n:08}").as_bytes());
    key
}

/// The biggest value that is stored in one piece.
const FULL: usize = 2_559;

#[test]
fn the_biggest_records_there_may_be_stay_in_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let mut kv = open(&dir);
    let mut chance = Chance::of_today("shape");
    for round in 0..cycles(60, 400) {
        let mut batch = Batch::new();
        for _ in 0..80 {
            let n = chance.below(2_500);
            let key = if n.is_multiple_of(2) { longest_key(n) } else { alike_key(n) };
            match chance.below(4) {
                0 => batch.delete(key),
                _ => batch.put(key, bytes(round, FULL)),
            };
        }
        kv.commit(batch).unwrap();
        assert_eq!(blobs(&dir), 0, "round {round}");
    }
    let records = kv.scan(b"").unwrap();
    assert!(records.len() > 500);
    // Deleting in order merges neighbouring pages as far as sled ever does.
    for group in records.chunks(100) {
        let mut batch = Batch::new();
        group.iter().enumerate().filter(|(n, _)| n % 7 != 0).for_each(|(_, (key, _))| {
            batch.delete(key.clone());
        });
        kv.commit(batch).unwrap();
        assert_eq!(blobs(&dir), 0);
    }
    drop(kv);
    let kv = open(&dir);
    assert_eq!(kv.scan(b"").unwrap().len(), records.chunks(100).map(|g| g.len().div_ceil(7)).sum::<usize>());
    assert_eq!(blobs(&dir), 0);
}

#[test]
fn an_index_of_the_longest_keys_stays_in_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let mut kv = open(&dir);
    let count = cycles(6_000, 30_000);
    for start in (0..count).step_by(500) {
        let mut batch = Batch::new();
        for n in start..start + 500 {
            batch.put(alike_key(n), b"v".to_vec());
        }
        kv.commit(batch).unwrap();
        assert_eq!(blobs(&dir), 0, "at {start} records");
    }
    assert_eq!(kv.scan(b"").unwrap().len() as u64, count);
}

#[test]
fn large_values_stay_in_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let mut kv = open(&dir);
    for (n, len) in [LARGE_BYTES_MAX, 3, 1 << 20, LARGE_BYTES_MAX, 100_000].into_iter().enumerate() {
        let mut batch = Batch::new();
        batch.put_large(longest_key(1), bytes(n as u64, len)).put_large(longest_key(2), bytes(7, len / 3));
        kv.commit(batch).unwrap();
        assert_eq!(blobs(&dir), 0, "{len} bytes");
        assert!(kv.get(&longest_key(1)).unwrap() == Some(bytes(n as u64, len)));
    }
}
