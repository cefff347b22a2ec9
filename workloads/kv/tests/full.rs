//! What happens on a full disk, and on one that fails in the middle of a write?

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use common::*;
use skerry_kv::*;

fn options() -> Options {
    Options { reserve_bytes: 512 << 10, ..Options::default() }
}

fn batch(n: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(format!("key/{n:06}"), bytes(n, 3_000)).put("number", n.to_le_bytes());
    batch
}

/// Everything up to `number`, and nothing else.
fn has_exactly(kv: &dyn Kv, number: u64) {
    let found = kv.get(b"number").unwrap().map_or(0, |n| u64::from_le_bytes(n.try_into().unwrap()));
    assert_eq!(found, number);
    for n in 1..=number {
        assert!(kv.get(format!("key/{n:06}").as_bytes()).unwrap() == Some(bytes(n, 3_000)), "record {n}");
    }
    assert_eq!(kv.scan(b"key/").unwrap().len() as u64, number);
}

/// Commits until one is refused or fails; the last acknowledged number and the answer.
fn fill(kv: &mut SledKv, from: u64) -> (u64, KvError) {
    for n in from + 1..100_000 {
        if let Err(error) = kv.commit(batch(n)) {
            return (n - 1, error);
        }
    }
    panic!("the disk never got full")
}

/// Somebody else takes every byte that is left.
fn take_the_rest(at: &Path) {
    let mut file = File::create(at.join("greedy")).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    while file.write_all(&[7]).is_ok() {}
}

#[test]
fn a_full_disk_is_a_refusal_and_the_store_lives_on() {
    if !may_mount("full disk") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&temp.path().join("disk"), "6m");
    let dir = disk.at.join("state");
    fs::write(disk.at.join("ballast"), vec![1; 1 << 20]).unwrap();
    let mut kv = SledKv::open(&dir, &options()).unwrap();
    assert!(dir.join("reserve").exists());
    let (number, error) = fill(&mut kv, 0);
    assert!(matches!(error, KvError::Full { .. }) && error.is_refusal() && !error.must_exit(), "{error}");
    assert!(error.to_string().contains("disk full") && number > 200, "{number}: {error}");
    assert!(!dir.join("reserve").exists(), "given up for the last commits");
    has_exactly(&kv, number);
    fs::remove_file(disk.at.join("ballast")).unwrap();
    kv.commit(batch(number + 1)).unwrap();
    has_exactly(&kv, number + 1);
    for n in (100..=number + 1).rev() {
        let mut batch = Batch::new();
        kv.commit(batch.delete(format!("key/{n:06}")).put("number", (n - 1).to_le_bytes()).clone()).unwrap();
    }
    drop(kv);
    has_exactly(&SledKv::open(&dir, &options()).unwrap(), 99);
}

/// The child: starts on a disk that others have filled, as an agent after kill -9 would.
#[test]
fn role() {
    match std::env::var("KV_ROLE").as_deref() {
        Ok("start") => start(),
        Ok("break") => break_it(),
        _ => {}
    }
}

fn start() {
    match SledKv::open_or_set_aside(&var("KV_DIR"), &options()) {
        Ok((kv, Opened::Existing)) => {
            let number = kv.get(b"number").unwrap().unwrap();
            has_exactly(&kv, u64::from_le_bytes(number.try_into().unwrap()));
            std::process::exit(10)
        }
        Err(KvError::Full { .. }) => std::process::exit(12),
        Ok((_, opened)) => panic!("{opened:?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_store_is_never_set_aside_because_others_filled_the_disk() {
    if !may_mount("disk filled by others") {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let disk = Mount::tmpfs(&temp.path().join("disk"), "6m");
    let dir = disk.at.join("state");
    let start = || {
        let mut child = common::role("start", &[("KV_DIR", &dir)]);
        let said = stderr_of(&mut child);
        let status = child.wait().unwrap();
        status.code().filter(|code| *code == 10 || *code == 12).unwrap_or_else(|| panic!("{status}: {said}"))
    };
    let mut kv = SledKv::open(&dir, &options()).unwrap();
    (1..=300).for_each(|n| kv.commit(batch(n)).unwrap());
    drop(kv);
    take_the_rest(&disk.at);
    assert_eq!(start(), 10, "the reserve is what the first open needs");
    let mut opened = 0;
    for _ in 0..6 {
        take_the_rest(&disk.at); // now there is no reserve left to give up
        opened += u64::from(start() == 10);
    }
    println!("disk filled by others, no reserve: {opened} of 6 starts could open");
    fs::remove_file(disk.at.join("greedy")).unwrap();
    let (mut kv, found) = SledKv::open_or_set_aside(&dir, &options()).unwrap();
    assert_eq!(found, Opened::Existing);
    has_exactly(&kv, 300);
    kv.commit(batch(301)).unwrap();
    assert!(
        fs::read_dir(&disk.at)
            .unwrap()
            .flatten()
            .all(|e| !e.file_name().to_string_lossy().contains("corrupt"))
    );
}

/// The child: commits until the disk fails under it, and says what was acknowledged.
fn break_it() {
    let mut kv = SledKv::open(&var("KV_DIR"), &options()).unwrap();
    let mut acks = File::options().append(true).create(true).open(var("KV_ACKS")).unwrap();
    for n in 1.. {
        match kv.commit(batch(n)) {
            Ok(()) => acks.write_all(&n.to_le_bytes()).unwrap(),
            Err(error) => {
                assert!(error.must_exit() && !error.is_refusal(), "{error}");
                break;
            }
        }
    }
    // What was not acknowledged must not be seen, and nothing may hang on the way out.
    assert!(kv.get(b"number").unwrap_err().must_exit());
    assert!(kv.scan(b"").unwrap_err().must_exit());
    assert!(kv.commit(batch(1)).unwrap_err().must_exit());
    drop(kv);
    assert!(matches!(SledKv::open(&var("KV_DIR"), &options()), Err(KvError::Locked { .. })));
    std::process::exit(10)
}

/// A write fails though there is room: the child may not make a file longer than one or two MiB.
#[test]
fn a_failing_write_breaks_the_store_but_loses_nothing_acknowledged() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, acks) = (temp.path().join("state"), temp.path().join("acks"));
    let limited = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" --exact role --nocapture --test-threads=1";
    let mut command = Command::new("sh");
    command.args(["-c", limited]).arg(std::env::current_exe().unwrap());
    command.env("KV_ROLE", "break").env("KV_DIR", &dir).env("KV_ACKS", &acks);
    let out = command.output().unwrap();
    assert_eq!(out.status.code(), Some(10), "{}", String::from_utf8_lossy(&out.stderr));
    let acked = fs::read(&acks).unwrap().chunks_exact(8).next_back().map(|n| n.try_into().unwrap());
    let acked = acked.map_or(0, u64::from_le_bytes);
    let (kv, opened) = SledKv::open_or_set_aside(&dir, &options()).unwrap();
    assert_eq!(opened, Opened::Existing);
    let number = u64::from_le_bytes(kv.get(b"number").unwrap().unwrap().try_into().unwrap());
    assert!(acked > 50 && (number == acked || number == acked + 1), "{acked} acknowledged, {number} found");
    has_exactly(&kv, number);
    println!("failing write: {acked} acknowledged, {number} found");
}
