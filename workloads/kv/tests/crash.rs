//! Does an acknowledged commit survive kill -9 and power cuts, and is a batch ever torn?
//!
//! A child commits numbered batches and writes the number of each acknowledged one to a file. It is
//! ended at a random moment; then everything in the store must be exactly what the batches up to the
//! last acknowledged one make, or up to one that was under way.
//!
//! The power cut: the child works on ext4 on a loop device. At a random moment it is stopped, the
//! backing image is copied, so that only what had reached the block device counts, and the copy is
//! mounted (which replays the journal) and checked. The next cycle goes on with the copy. It does not
//! model a drive that lies about its cache.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use common::*;
use skerry_kv::*;

/// Batches in one group at most, hence how many may be on disk and not acknowledged.
const GROUP_MAX: u64 = 4;

/// After so many batches every key has been changed at least once.
const ROUND: u64 = 420;

fn options() -> Options {
    Options { reserve_bytes: 64 << 10, ..Options::default() }
}

/// What batch `n` does: two small records, now and then a large one, a deletion, a medium one.
fn changes(n: u64) -> Vec<(String, Option<Vec<u8>>)> {
    let small = |key: u64, len: u64| (format!("wl/{key:04}/state"), Some(bytes(n, len as usize)));
    let mut changes = vec![small(n % 50, 300 + n % 700), small((n * 7 + 1) % 50, 150)];
    if n.is_multiple_of(10) {
        changes.push((format!("medium/{}", n / 10 % 20), Some(bytes(n, 2_500 + n as usize % 5_000))));
    }
    if n.is_multiple_of(40) {
        changes.push((format!("spec/{}", n / 40 % 10), Some(bytes(n, 10_000 + (n as usize * 37) % 90_000))));
    }
    if n % 40 == 20 {
        changes.push((format!("spec/{}", n / 40 % 10), None));
    }
    changes.push(("number".into(), Some(n.to_le_bytes().to_vec())));
    changes
}

fn batch(n: u64) -> Batch {
    let mut batch = Batch::new();
    let before = n - 1;
    batch.expect("number", (before > 0).then(|| before.to_le_bytes().to_vec()));
    for (key, value) in changes(n) {
        match value {
            Some(value) => batch.put_large(key, value),
            None => batch.delete(key),
        };
    }
    batch
}

fn number(kv: &dyn Kv) -> u64 {
    let stored = kv.get(b"number").unwrap();
    stored.map_or(0, |number| u64::from_le_bytes(number.try_into().unwrap()))
}

/// The store holds exactly what its own number says, and that is not behind what was acknowledged.
fn verify(dir: &Path, acked: u64) -> Result<u64, String> {
    let (kv, opened) = SledKv::open_or_set_aside(dir, &options()).map_err(|e| e.to_string())?;
    if let Opened::SetAside { reason, .. } = opened {
        return Err(format!("set aside: {reason}"));
    }
    let number = number(&kv);
    if number < acked {
        return Err(format!("lost {} acknowledged batches", acked - number));
    }
    if number > acked + GROUP_MAX {
        return Err(format!("at {number}, though only {acked} was acknowledged"));
    }
    let mut expected = BTreeMap::new();
    for n in number.saturating_sub(ROUND).max(1)..=number {
        for (key, value) in changes(n) {
            expected.insert(key.into_bytes(), value);
        }
    }
    let expected = expected.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
    match kv.scan(b"").map_err(|e| e.to_string())?.into_iter().eq(expected) {
        true => Ok(number),
        false => Err(format!("torn or wrong records at {number}")),
    }
}

/// The child: commits for ever, in groups of varying size.
#[test]
fn role() {
    if std::env::var("KV_ROLE").as_deref() != Ok("writer") {
        return;
    }
    let mut acks = File::options().append(true).create(true).open(var("KV_ACKS")).unwrap();
    let mut kv = SledKv::open(&var("KV_DIR"), &options()).unwrap();
    let mut n = number(&kv);
    loop {
        let group = 1 + n % GROUP_MAX;
        let answers = kv.commit_all((n + 1..=n + group).map(batch).collect());
        answers.into_iter().for_each(|answer| answer.unwrap());
        n += group;
        acks.write_all(&n.to_le_bytes()).unwrap();
    }
}

fn writer(dir: &Path, acks: &Path) -> Child {
    let _ = fs::remove_file(acks);
    common::role("writer", &[("KV_DIR", dir), ("KV_ACKS", acks)])
}

/// The last number in the file; `before` if there is none yet.
fn last_ack(acks: &Path, before: u64) -> u64 {
    let written = fs::read(acks).unwrap_or_default();
    written.chunks_exact(8).last().map_or(before, |ack| u64::from_le_bytes(ack.try_into().unwrap()))
}

/// Most cycles end in the middle of the work, a third while the store is being opened.
fn moment(chance: &mut Chance, long_ms: u64) -> Duration {
    let end = if chance.below(3) == 0 { 25 } else { long_ms };
    Duration::from_micros(1_000 + chance.below(end * 1_000))
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, acks) = (temp.path().join("state"), temp.path().join("acks"));
    let mut chance = Chance::of_today("kill -9");
    let (cycles, mut at) = (cycles(40, 300), 0);
    for cycle in 0..cycles {
        let child = writer(&dir, &acks);
        std::thread::sleep(moment(&mut chance, 200)); // the random moment itself, nothing is awaited
        let stderr = kill(child);
        assert!(stderr.is_empty(), "cycle {cycle}: the writer said {stderr}");
        at = verify(&dir, last_ack(&acks, at)).unwrap_or_else(|e| panic!("cycle {cycle}: {e}"));
    }
    println!("kill -9: {cycles} cycles, {at} batches, none lost or torn");
    assert!(at > cycles, "the writer got to work");
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    if !may_mount("power cut") {
        return;
    }
    let memory = Path::new("/dev/shm");
    let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let (image, copy) = (temp.path().join("image"), temp.path().join("copy"));
    let (mnt, acks) = (temp.path().join("mnt"), temp.path().join("acks"));
    make_ext4(&image, 64 << 20);
    let mut chance = Chance::of_today("power cut");
    let (cycles, mut at) = (cycles(8, 100), 0);
    for cycle in 0..cycles {
        let mounted = Mount::image(&image, &mnt);
        let child = writer(&mnt.join("state"), &acks);
        std::thread::sleep(moment(&mut chance, 1_500)); // the random moment itself, nothing is awaited
        stop(&child);
        let acked = last_ack(&acks, at);
        copy_sparse(&image, &copy);
        let stderr = kill(child);
        assert!(stderr.is_empty(), "cycle {cycle}: the writer said {stderr}");
        drop(mounted);
        let mounted = Mount::image(&copy, &mnt);
        at = verify(&mnt.join("state"), acked).unwrap_or_else(|e| panic!("cycle {cycle}: {e}"));
        drop(mounted);
        fs::rename(&copy, &image).unwrap();
    }
    println!("power cut: {cycles} cycles, {at} batches, none lost or torn");
    assert!(at > cycles, "the writer got to work");
}

/// Stops every thread of the child, so that no acknowledgement is younger than the copy.
fn stop(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    until("all threads of the writer are stopped", || {
        fs::read_dir(&tasks).unwrap().flatten().all(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|state| state.starts_with(['T', 'Z', 'X']))
        })
    });
}
