//! Watching: changes as they happen, resuming after a break, and being told when that is not possible.

mod common;

use common::{MODULE, TestHub, manifest};

fn scaled(name: &str, replicas: u32) -> String {
    manifest(name, "guard:1", &format!("  replicas: {replicas}\n"))
}

#[test]
fn a_watcher_sees_what_changed_and_resumes_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let client = &hub.client;
    client.push("guard:1", MODULE);
    let mut events = client.events("/v1/watch?kinds=workload", None);
    assert_eq!(events.next().unwrap().event, "ready");
    client.post("/v1/apply", scaled("a", 1)).ok();
    let first = events.next().unwrap();
    assert_eq!(first.data["change"]["workload"]["workload"], "default/a", "{first:?}");
    assert_eq!((&first.data["object"]["replicas"], first.id), (&1.into(), first.data["seq"].as_u64()));
    drop(events);

    // Meanwhile, without a watcher: another change, and one that comes to nothing.
    client.post("/v1/apply", scaled("a", 2)).ok();
    client.post("/v1/apply", scaled("b", 1)).ok();
    client.delete("/v1/workloads/default/b").ok();
    let mut events = client.events("/v1/watch?kinds=workload", first.id);
    assert_eq!(events.next().unwrap().data["seq"].as_u64(), first.id);
    let (mut a, mut b) = (None, None);
    while a.is_none() || b.is_none() {
        let event = events.next().unwrap();
        assert!(event.id > first.id);
        let slot = if event.data["change"]["workload"]["workload"] == "default/a" { &mut a } else { &mut b };
        *slot = Some(event.data["object"].clone());
    }
    assert_eq!((&a.unwrap()["replicas"], b.unwrap().is_null()), (&2.into(), true));

    // A list says where to watch on from.
    let seq = client.get("/v1/workloads").ok().json()["seq"].as_u64().unwrap();
    let mut events = client.events(&format!("/v1/watch?after={seq}&kinds=workload"), None);
    events.next().unwrap();
    client.post("/v1/apply", scaled("a", 3)).ok();
    assert_eq!(events.next().unwrap().data["object"]["replicas"], 3);
    hub.stop();
    // The stream ends with the hub.
    assert!(events.find(|event| event.event == "change").is_none());
}

#[test]
fn a_watcher_of_before_a_restart_is_told_to_list_again() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    hub.client.push("guard:1", MODULE);
    let seq = hub.client.get("/v1/workloads").ok().json()["seq"].as_u64().unwrap();
    hub.stop();
    let hub = TestHub::start(dir.path());
    let names: Vec<String> = hub.client.events("/v1/watch", Some(seq)).map(|event| event.event).collect();
    assert_eq!(names, ["gone"]);
    hub.client.get("/v1/watch?kinds=workloads").error(422, "invalid");
    hub.client.get_with("/v1/watch", &[("last-event-id", "x")]).error(422, "invalid");
    hub.stop();
}
