//! What becomes of a store that was damaged: by a crash in one of sled's weak moments, or at random?

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::*;
use skerry_kv::*;

/// Records of the store that is damaged at random.
const RECORDS: u64 = 400;

fn options() -> Options {
    Options { reserve_bytes: 0, ..Options::default() }
}

struct Store {
    dir: PathBuf,
    temp: tempfile::TempDir,
}

/// A store of `records` records, closed.
fn store(records: u64) -> Store {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let mut kv = SledKv::open(&dir, &options()).unwrap();
    for start in (0..records).step_by(10) {
        let mut batch = Batch::new();
        for n in start..records.min(start + 10) {
            batch.put_large(format!("key/{n:05}"), value(n));
        }
        kv.commit(batch).unwrap();
    }
    Store { dir, temp }
}

fn value(n: u64) -> Vec<u8> {
    bytes(n, if n.is_multiple_of(50) { 20_000 } else { 200 })
}

fn number_of(key: &[u8]) -> u64 {
    std::str::from_utf8(&key[4..]).unwrap().parse().unwrap()
}

fn open(dir: &Path) -> (SledKv, Opened) {
    SledKv::open_or_set_aside(dir, &options()).unwrap()
}

fn is_whole(store: &Store, records: usize) {
    let (kv, opened) = open(&store.dir);
    assert_eq!(opened, Opened::Existing);
    let found = kv.scan(b"").unwrap();
    assert_eq!(found.len(), records);
    found.into_iter().for_each(|(key, found)| assert!(found == value(number_of(&key))));
}

#[test]
fn an_unfinished_snapshot_is_removed() {
    let store = store(100);
    // Named as if newer than all others, so that sled would choose it.
    let stale = store.dir.join("snap.00FFFFFFFFFFFFFF.generating");
    fs::write(&stale, b"half a snapsh").unwrap();
    is_whole(&store, 100);
    assert!(!stale.exists());
}

#[test]
fn a_torn_conf_is_written_anew() {
    let store = store(100);
    let whole = fs::read(store.dir.join("conf")).unwrap();
    for torn in [&whole[..30], &whole[..0], &vec![0; whole.len()], &b"segment_size: 2x"[..]] {
        fs::write(store.dir.join("conf"), torn).unwrap();
        is_whole(&store, 100);
        assert_eq!(fs::read(store.dir.join("conf")).unwrap(), whole);
    }
    fs::remove_file(store.dir.join("conf")).unwrap();
    is_whole(&store, 100);
}

#[test]
fn the_store_of_another_version_is_left_alone() {
    let store = store(10);
    let text = b"segment_size: 524288\nuse_compression: false\nversion: 0.34\n";
    let other = [&text[..], &crc32fast::hash(text).to_le_bytes()].concat();
    fs::write(store.dir.join("conf"), &other).unwrap();
    let error = SledKv::open_or_set_aside(&store.dir, &options()).err().unwrap();
    assert!(matches!(error, KvError::Foreign { .. }), "{error}");
    assert!(error.to_string().contains("segment_size: 524288"), "{error}");
    assert_eq!(fs::read(store.dir.join("conf")).unwrap(), other);
}

#[test]
fn an_unreadable_store_is_set_aside_and_only_two_are_kept() {
    let store = store(100);
    for number in 1..=4 {
        for entry in fs::read_dir(&store.dir).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("snap.") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        fs::write(store.dir.join("snap.0000000000000001"), b"not a snapshot of sled").unwrap();
        assert!(check(&store.dir).is_err());
        assert!(SledKv::open(&store.dir, &options()).is_err(), "only the other call sets aside");
        let (mut kv, opened) = open(&store.dir);
        let Opened::SetAside { path, reason } = opened else { panic!("{opened:?}") };
        assert_eq!(path, store.temp.path().join(format!("state.corrupt-{number}")));
        assert!(path.join("db").exists() && !reason.is_empty());
        assert_eq!(kv.scan(b"").unwrap(), []);
        kv.commit(Batch::new().put("key/00001", value(1)).clone()).unwrap();
        drop(kv);
        is_whole(&store, 1);
        assert_eq!(check(&store.dir).unwrap(), Summary { records: 1, bytes: 209 });
    }
    let kept = ["state.corrupt-3", "state.corrupt-4"].map(|name| store.temp.path().join(name));
    assert!(kept.iter().all(|path| path.exists()));
    assert!(!store.temp.path().join("state.corrupt-2").exists());
}

#[test]
fn an_open_that_killed_its_process_is_not_repeated_for_ever() {
    let store = store(100);
    let opening = store.dir.join("opening");
    for before in ["1\n", "2\n", "", "1"] {
        fs::write(&opening, before).unwrap(); // what a power cut in the middle of an open leaves
        is_whole(&store, 100);
        assert!(!opening.exists(), "a success is struck out");
    }
    fs::write(&opening, "1\npanicked at page.rs: no such node").unwrap();
    let (_kv, opened) = open(&store.dir);
    assert!(matches!(&opened, Opened::SetAside { reason, .. } if reason.contains("no such node")));
    fs::write(&opening, "3\n").unwrap();
    let error = SledKv::open_or_set_aside(&store.dir, &options()).err().unwrap();
    assert!(matches!(error, KvError::Locked { .. }), "another handle is at work: {error}");
}

#[test]
fn check_names_what_is_missing() {
    let temp = tempfile::tempdir().unwrap();
    let error = check(&temp.path().join("nothing")).unwrap_err().to_string();
    assert!(error.contains("there is no store"), "{error}");
    assert!(!temp.path().join("nothing").exists());
}

/// The child: opens as an agent does at its start, and ends with a code that tells how it went.
#[test]
fn role() {
    if std::env::var("KV_ROLE").as_deref() != Ok("opener") {
        return;
    }
    let (mut kv, opened) = open(&var("KV_DIR"));
    let records = kv.scan(b"").unwrap();
    let shortened = records.len() < RECORDS as usize;
    for (key, found) in records {
        assert!(found == value(number_of(&key)), "{} was made up", number_of(&key));
    }
    kv.commit(Batch::new().put("key/00001", value(1)).clone()).unwrap();
    assert!(kv.get(b"key/00001").unwrap() == Some(value(1)));
    std::process::exit(match opened {
        Opened::SetAside { .. } => 11,
        _ if shortened => 12,
        _ => 10,
    });
}

/// Random damage to any file of the store. However sled takes it, the program starts again and
/// again by itself until it has a store that works, and never reads what nobody wrote.
#[test]
fn random_damage_never_keeps_the_program_from_starting() {
    let original = store(RECORDS);
    let dir = original.temp.path().join("damaged");
    let mut chance = Chance::of_today("random damage");
    let (mut whole, mut shortened, mut set_aside, mut died) = (0, 0, 0, 0);
    let cycles = cycles(60, 1_000);
    for cycle in 0..cycles {
        let _ = fs::remove_dir_all(&dir);
        copy_dir(&original.dir, &dir);
        let what = damage(&mut chance, &dir);
        let mut starts = 0;
        loop {
            let mut child = common::role("opener", &[("KV_DIR", &dir)]);
            let said = stderr_of(&mut child);
            let status = child.wait().unwrap();
            assert!(!said.contains("was made up"), "cycle {cycle}, {what}: {said}");
            starts += 1;
            match status.code() {
                Some(10) => whole += 1,
                Some(12) => shortened += 1,
                Some(11) => set_aside += 1,
                _ if starts < 5 => {
                    died += 1;
                    continue;
                }
                _ => panic!("cycle {cycle}, {what}: {starts} starts, {status}: {said}"),
            }
            break;
        }
        clear_aside(&dir);
    }
    println!(
        "random damage: {cycles} stores, {whole} whole, {shortened} shortened, {set_aside} set aside; \
         {died} starts died"
    );
    assert!(set_aside > 0, "the damage was worth the name");
}

fn clear_aside(dir: &Path) {
    for number in 1..=3 {
        let _ = fs::remove_dir_all(format!("{}.corrupt-{number}", dir.display()));
    }
}

fn damage(chance: &mut Chance, dir: &Path) -> String {
    let files: Vec<PathBuf> = fs::read_dir(dir).unwrap().flatten().map(|file| file.path()).collect();
    let files: Vec<&PathBuf> = files.iter().filter(|path| path.is_file()).collect();
    let log = dir.join("db");
    // Two thirds of the damage to the log, the rest to conf and snapshot.
    let path = if chance.below(3) > 0 { &log } else { files[chance.below(files.len() as u64) as usize] };
    let file = File::options().read(true).write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len().max(1);
    let at = chance.below(len);
    let what = match chance.below(4) {
        0 => {
            file.set_len(at).unwrap();
            "cut"
        }
        1 => {
            let zeros = vec![0; chance.below(len - at + 1).min(70_000) as usize];
            file.write_all_at(&zeros, at).unwrap();
            "zeros"
        }
        2 => {
            let noise = bytes(chance.next(), chance.below(len - at + 1).min(5_000) as usize);
            file.write_all_at(&noise, at).unwrap();
            "noise"
        }
        _ => {
            for _ in 0..1 + chance.below(30) {
                file.write_all_at(&[chance.next() as u8], chance.below(len)).unwrap();
            }
            "single bytes"
        }
    };
    format!("{what} in {} at {at} of {len}", path.file_name().unwrap().display())
}
