//! Does an open store cost nothing while nobody commits: no wakeups, no bytes written?

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use skerry_kv::*;

/// What one thread of this process has done so far.
struct Seen {
    name: String,
    wakeups: u64,
}

fn threads_of_the_store() -> Vec<Seen> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let seen = tasks.flatten().filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        let wakeups = line.split_whitespace().nth(1)?.parse().ok()?;
        (name.starts_with("sled-io") || name == "kv-store").then_some(Seen { name, wakeups })
    });
    seen.collect()
}

fn wakeups() -> u64 {
    threads_of_the_store().iter().map(|seen| seen.wakeups).sum()
}

fn commit(thread: &StoreThread, key: String, value: Vec<u8>) {
    let (send, receive) = std::sync::mpsc::channel();
    let mut batch = Batch::new();
    batch.put_large(key, value);
    thread.submit(batch, move |answer| send.send(answer).unwrap()).unwrap();
    receive.recv().unwrap().unwrap();
}

/// Newest change to any file of the store.
fn last_written(dir: &Path) -> std::time::SystemTime {
    let files = fs::read_dir(dir).unwrap().flatten();
    files.map(|file| file.metadata().unwrap().modified().unwrap()).max().unwrap()
}

#[test]
fn an_idle_store_neither_wakes_nor_writes() {
    let seconds = common::cycles(5, 60);
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let kv = SledKv::open(&dir, &Options::default()).unwrap();
    let thread = StoreThread::start(Box::new(kv), 16).unwrap();
    for n in 0..200 {
        commit(&thread, format!("workload/{}", n % 50), vec![n as u8; 300]);
    }
    // Big enough to fill the queue of sled's pool, which then starts more threads.
    commit(&thread, "large".into(), vec![1; LARGE_BYTES_MAX]);
    commit(&thread, "large".into(), vec![2; LARGE_BYTES_MAX]);
    settle();
    let threads: Vec<String> = threads_of_the_store().into_iter().map(|seen| seen.name).collect();
    assert!(threads.len() >= 8, "sled's pool and ours are there to be counted: {threads:?}");
    let (before, written) = (wakeups(), last_written(&dir));
    std::thread::sleep(Duration::from_secs(seconds)); // idleness has no event to wait for
    let woken = wakeups() - before;
    println!("{seconds} s idle, {} threads: {woken} wakeups", threads.len());
    assert_eq!(last_written(&dir), written, "something was written at idle");
    // Without the timer slack it is 7 a second.
    assert!(woken <= 7, "{woken} wakeups in {seconds} s of idleness by {threads:?}");
    let started = Instant::now();
    commit(&thread, "after".into(), vec![1]);
    assert!(started.elapsed() < Duration::from_secs(60), "late timers do not delay the work");
}

/// The last jobs of sled's pool end after the commit that started them.
fn settle() {
    let mut quiet = (wakeups(), Instant::now());
    common::until("the store is quiet for half a second", || {
        let now = wakeups();
        if now != quiet.0 {
            quiet = (now, Instant::now());
        }
        quiet.1.elapsed() > Duration::from_millis(500)
    });
}
