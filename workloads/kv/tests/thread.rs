//! Does the store thread keep order, group what waits, stay bounded, and tell everybody?

use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use skerry_kv::*;

fn put(key: &str, value: &str) -> Batch {
    Batch::new().put(key, value).clone()
}

/// A read that holds the thread until told, so that the queue behind it can be filled.
fn hold(thread: &StoreThread) -> SyncSender<()> {
    let (go, wait) = sync_channel(0);
    let (at_work, is_at_work) = sync_channel(0);
    let read = move |_: &dyn Kv| {
        at_work.send(()).unwrap();
        let _ = wait.recv();
    };
    thread.read(read).unwrap();
    is_at_work.recv().unwrap();
    go
}

fn submit(thread: &StoreThread, batch: Batch) -> Receiver<Result<(), KvError>> {
    let (send, receive) = channel();
    thread.submit(batch, move |answer| send.send(answer).unwrap()).unwrap();
    receive
}

#[test]
fn what_waits_is_committed_as_one_and_answered_each() {
    let disk = MemDisk::new();
    let thread = StoreThread::start(Box::new(disk.open().unwrap()), 64).unwrap();
    let go = hold(&thread);
    let mut answers: Vec<_> = (0..50).map(|n| submit(&thread, put("a", &n.to_string()))).collect();
    answers.push(submit(&thread, put("b", "never").expect("b", Some(vec![])).clone()));
    answers.push(submit(&thread, put("c", "last").expect("a", Some(b"49".to_vec())).clone()));
    drop(go);
    let fine: Vec<bool> = answers.iter().map(|answer| answer.recv().unwrap().is_ok()).collect();
    assert_eq!(fine.iter().filter(|fine| !**fine).count(), 1);
    assert!(!fine[50]);
    assert_eq!(disk.commits(), 1, "one sync for 52 batches");
    let kv = thread.stop().unwrap();
    assert_eq!(kv.get(b"a").unwrap(), Some(b"49".to_vec()));
    assert_eq!(kv.scan(b"").unwrap().len(), 2);
}

#[test]
fn a_read_sees_all_that_was_submitted_before_it_and_nothing_after() {
    let thread = StoreThread::start(Box::new(MemKv::new()), 64).unwrap();
    let go = hold(&thread);
    let (send, receive) = channel();
    for n in 0..5 {
        drop(submit_quietly(&thread, put("n", &n.to_string())));
        let send = send.clone();
        thread.read(move |kv: &dyn Kv| send.send(kv.get(b"n").unwrap().unwrap()).unwrap()).unwrap();
    }
    drop(go);
    let seen: Vec<Vec<u8>> = receive.iter().take(5).collect();
    assert_eq!(seen, [b"0", b"1", b"2", b"3", b"4"]);
}

fn submit_quietly(thread: &StoreThread, batch: Batch) -> Result<(), SubmitError<(Batch, Done)>> {
    thread.submit(batch, |answer| answer.unwrap())
}

#[test]
fn a_full_queue_hands_the_batch_back() {
    let thread = StoreThread::start(Box::new(MemKv::new()), 2).unwrap();
    let go = hold(&thread);
    submit_quietly(&thread, put("a", "1")).unwrap();
    submit_quietly(&thread, put("b", "1")).unwrap();
    let Err(SubmitError::Busy((batch, done))) = submit_quietly(&thread, put("c", "1")) else {
        panic!("the queue holds two")
    };
    assert_eq!(batch, put("c", "1"));
    drop(go);
    done(Ok(())); // ours to call, since the thread never will
    assert_eq!(thread.stop().unwrap().scan(b"").unwrap().len(), 2);
}

#[test]
fn a_fault_reaches_the_whole_group_and_all_after_it() {
    let disk = MemDisk::new();
    let thread = StoreThread::start(Box::new(disk.open().unwrap()), 64).unwrap();
    submit(&thread, put("a", "1")).recv().unwrap().unwrap();
    disk.crash_next(Crash::BeforeCommit);
    let go = hold(&thread);
    let answers: Vec<_> = (0..3).map(|n| submit(&thread, put("a", &n.to_string()))).collect();
    drop(go);
    answers.iter().for_each(|answer| assert!(answer.recv().unwrap().unwrap_err().must_exit()));
    assert!(submit(&thread, put("z", "1")).recv().unwrap().unwrap_err().must_exit());
    drop(thread);
    assert_eq!(disk.open().unwrap().get(b"a").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn dropping_the_thread_finishes_the_queue() {
    let disk = MemDisk::new();
    let thread = StoreThread::start(Box::new(disk.open().unwrap()), 64).unwrap();
    let go = hold(&thread);
    let answers: Vec<_> = (0..10).map(|n| submit(&thread, put(&n.to_string(), "x"))).collect();
    drop(go);
    drop(thread);
    assert!(answers.iter().all(|answer| answer.recv().unwrap().is_ok()));
    assert_eq!(disk.open().unwrap().scan(b"").unwrap().len(), 10);
}

#[test]
fn groups_on_the_real_store_are_durable_when_answered() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let kv = SledKv::open(&dir, &Options::default()).unwrap();
    let thread = StoreThread::start(Box::new(kv), 1024).unwrap();
    let (send, receive) = channel();
    for n in 0..1_000 {
        let send = send.clone();
        thread.submit(put(&format!("{n:04}"), "x"), move |answer| send.send((n, answer)).unwrap()).unwrap();
    }
    let order: Vec<u32> = receive.iter().take(1_000).map(|(n, answer)| answer.map(|()| n).unwrap()).collect();
    assert!(order.is_sorted(), "answers come in the order of submission");
    drop(thread);
    let kv = SledKv::open(&dir, &Options::default()).unwrap();
    assert_eq!(kv.scan(b"").unwrap().len(), 1_000);
}
