//! What a hub does when its disk is full, and when its store fails.

mod common;

use std::time::{Duration, Instant};

use common::{MODULE, TestHub, limits, manifest};
use hub::serve::exit::STORE_FAULT;
use hub::store::{Found, load};
use kv::{KvError, MemDisk};

fn start(dir: &std::path::Path, disk: &MemDisk) -> TestHub {
    let kv = disk.open().unwrap();
    TestHub::start_on(dir, limits(), |_| {
        let loaded = load(&kv).unwrap();
        Found { kv: Box::new(kv), loaded, remark: None }
    })
}

fn scaled(replicas: u32) -> String {
    manifest("a", "guard:1", &format!("  replicas: {replicas}\n"))
}

#[test]
fn a_full_disk_refuses_changes_keeps_order_and_is_over_when_there_is_room() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemDisk::new());
    let hub = start(dir.path(), &disk);
    let client = hub.client.clone();
    client.push("guard:1", MODULE);
    disk.fill(true);
    let began = Instant::now();
    let first = std::thread::spawn({
        let client = client.clone();
        move || client.post("/v1/apply", scaled(1)).ok()
    });
    // The first waits for room, a later one is refused at once, and looking goes on. (Asked with what
    // would come to nothing: it never waits for the disk itself.)
    let refused = common::wait("a refusal", || {
        let reply = client.delete("/v1/workloads/default/none");
        (reply.status == 507).then_some(reply)
    });
    let error = refused.error(507, "unavailable");
    assert!(error["message"].as_str().unwrap().contains("disk full"), "{error}");
    client.post("/v1/apply", scaled(2)).error(507, "unavailable");
    client.get("/v1/status").ok();
    disk.fill(false);
    first.join().unwrap();
    client.post("/v1/apply?dryRun=true", scaled(2)).ok();
    assert!(began.elapsed() >= Duration::from_secs(5), "it was tried again too soon");
    client.post("/v1/apply", scaled(3)).ok();
    assert_eq!(client.get("/v1/workloads/default/a").ok().json()["replicas"], 3);
    hub.stop();
}

#[test]
fn after_a_store_fault_nothing_is_answered_and_the_hub_ends() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), MemDisk::new());
    let hub = start(dir.path(), &disk);
    hub.client.push("guard:1", MODULE);
    hub.client.post("/v1/apply", scaled(1)).ok();
    disk.fail_next(KvError::Broken { dir: "d".into(), why: "fsync: input/output error".into() });
    let reply = hub.client.try_send("POST", "/v1/apply", &[], Some(scaled(2).as_bytes()));
    assert!(!matches!(&reply, Ok(reply) if reply.status < 500), "{reply:?}");
    let exit = hub.ended().unwrap_err();
    assert_eq!(exit.code, STORE_FAULT);
    let hub = start(dir.path(), &disk);
    assert_eq!(hub.client.get("/v1/workloads/default/a").ok().json()["replicas"], 1);
    hub.stop();
}
