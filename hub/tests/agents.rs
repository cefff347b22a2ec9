//! The hub with a board at its other side: compile, sign, publish, report, logs.

mod common;

use std::time::Duration;

use common::agent::{FakeAgent, Logs};
use common::{MODULE, TestHub, manifest, wait};
use contract::codec::{self, Kind};
use contract::message::Compiled;
use contract::{Digest, WorkloadKey};
use ed25519_dalek::VerifyingKey;
use hub::compile::Limits;

fn pinned(hub: &TestHub) -> VerifyingKey {
    let line = std::fs::read_to_string(hub.dir.join("hub.pub")).unwrap();
    let hex = line.trim().strip_prefix("ed25519:").unwrap();
    let digest: Digest = format!("sha256:{hex}").parse().unwrap();
    VerifyingKey::from_bytes(digest.as_bytes()).unwrap()
}

fn board(hub: &TestHub, logs: Logs) -> FakeAgent {
    let agent = FakeAgent::start(&hub.runtime, &hub.broker, "press-1", pinned(hub), logs);
    wait("a fresh agent", || {
        let reply = hub.client.get("/v1/agents/press-1");
        (reply.status == 200 && reply.json()["state"] == "online").then_some(())
    });
    agent
}

fn steady(hub: &TestHub) {
    wait("a steady workload", || {
        let view = hub.client.get("/v1/workloads/default/a").ok().json();
        (view["steady"] == true).then_some(())
    });
}

#[test]
fn what_is_applied_is_compiled_signed_published_and_seen_running() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let (client, key) = (&hub.client, pinned(&hub));
    let agent = board(&hub, Logs::Hang);
    let source = client.push("guard:1", MODULE);
    client.post("/v1/apply", manifest("a", "guard:1", "  everyAgent: true\n")).ok();
    let assigned: WorkloadKey = "default/a".parse().unwrap();
    let assignment =
        wait("the document", || agent.seen.lock().unwrap().desired.clone()?.assignments.remove(&assigned));
    steady(&hub);

    // What the agent was told to fetch is there, and is what the hub states under its key.
    let artifact = assignment.run.artifact;
    let engine = artifact.engine.unwrap();
    let code = client.get_with(&format!("/v1/blobs/{}", artifact.digest), &[("authorization", "none")]).ok();
    assert_eq!((Digest::of(&code.bytes), code.bytes.len() as u64), (artifact.digest, artifact.size_bytes));
    let path = format!("/v1/blobs/{}/statement", artifact.digest);
    let statement = client.get(&format!("{path}?source={source}&engine={engine}")).ok();
    let stated: Compiled = codec::open(Kind::Compiled, &statement.bytes, Some(&key)).unwrap();
    let expected = Compiled {
        source: source.parse().unwrap(),
        engine,
        digest: artifact.digest,
        size_bytes: artifact.size_bytes,
    };
    assert_eq!(stated, expected);
    client.get(&format!("{path}?engine=other")).error(404, "not-found");
    let instances = client.get("/v1/instances?agent=press-1").ok().json();
    assert_eq!(instances["items"][0]["state"], "Running", "{instances}");

    // A board that goes takes its freshness along.
    drop(agent);
    wait("offline", || (client.get("/v1/agents/press-1").ok().json()["state"] == "offline").then_some(()));
    let instances = client.get("/v1/instances").ok().json();
    assert_eq!(instances["items"][0]["state"], "unknown (last known Running)", "{instances}");
    hub.stop();
}

#[test]
fn a_module_that_is_too_much_for_the_compiler_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { memory_bytes: 1 << 30, cpu_secs: 1, wall: Duration::from_secs(600) };
    let hub = TestHub::start_with(dir.path(), limits);
    let client = &hub.client;
    let agent = board(&hub, Logs::Hang);
    // A second of processor time is not enough for this; the next module needs milliseconds.
    let step = |n: u32| {
        let (from, to) = (n * 4 % 60_000, (n * 8 + 4) % 60_000);
        format!("i32.const 0 i32.const 0 i32.load offset={from} i32.const 3 i32.mul i32.store offset={to}\n")
    };
    let body: String = (0..200_000).map(step).collect();
    let heavy = format!(r#"(module (memory (export "memory") 1) (func (export "_start") {body}))"#);
    client.push("heavy:1", &heavy);
    client.push("guard:1", MODULE);
    client.post("/v1/apply", manifest("h", "heavy:1", "  everyAgent: true\n")).ok();
    client.post("/v1/apply", manifest("a", "guard:1", "  everyAgent: true\n")).ok();
    let failed = wait("the failure", || {
        let view = client.get("/v1/artifacts/heavy:1").ok().json();
        let (_, compiled) = view["compiled"].as_object()?.iter().next()?;
        (compiled["state"] == "failed").then(|| compiled["reason"].as_str().unwrap().to_string())
    });
    assert!(failed.contains("1 s of processor time"), "{failed}");
    steady(&hub);
    let waits = client.get("/v1/instances?workload=h").ok().json();
    assert!(waits["items"][0]["waiting"].as_str().unwrap().contains("processor time"), "{waits}");
    drop(agent);
    hub.stop();
}

#[test]
fn logs_come_in_lines_large_ones_by_ticket_and_refusals_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let client = &hub.client;
    client.push("guard:1", MODULE);
    client.post("/v1/apply", manifest("a", "guard:1", "  everyAgent: true\n")).ok();
    client.get("/v1/logs?workload=a").error(404, "not-found");
    let lines = |logs: Logs| {
        let agent = board(&hub, logs);
        wait("an instance", || {
            let items = client.get("/v1/instances").ok().json()["items"].as_array().unwrap().clone();
            items.iter().any(|item| item["fresh"] == true && item["state"] == "Running").then_some(())
        });
        let events: Vec<_> = client.events("/v1/logs?workload=a&tail=10", None).collect();
        drop(agent);
        wait("offline", || (client.get("/v1/agents/press-1").ok().json()["state"] != "online").then_some(()));
        events
    };
    let events = lines(Logs::Pieces(vec!["one\ntw".into(), "o\nthree".into()]));
    let texts: Vec<&str> = events.iter().filter_map(|e| e.data["text"].as_str()).collect();
    assert_eq!((texts, events.last().unwrap().event.as_str()), (vec!["one", "two", "three"], "end"));

    let large = "a line of log\n".repeat(20_000);
    let events = lines(Logs::Ticket(large));
    assert_eq!(events.iter().filter(|e| e.event == "line").count(), 20_000);
    assert_eq!(events.last().unwrap().event, "end");

    let events = lines(Logs::Refuse("no such run".into()));
    assert_eq!((events[0].event.as_str(), &events[0].data["sources"]), ("start", &1.into()));
    assert_eq!((events[1].event.as_str(), &events[1].data["reason"]), ("error", &"no such run".into()));

    // It is away now: said at once.
    let events: Vec<_> = client.events("/v1/logs?workload=a", None).collect();
    assert!(events[1].data["reason"].as_str().unwrap().contains("not online"), "{events:?}");
    client.send("PUT", "/v1/tickets/0123", &[], Some(b"x")).error(404, "not-found");
    hub.stop();
}

#[test]
fn a_client_that_hangs_up_cancels_what_it_asked_of_the_board() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    hub.client.push("guard:1", MODULE);
    hub.client.post("/v1/apply", manifest("a", "guard:1", "  everyAgent: true\n")).ok();
    let agent = board(&hub, Logs::Hang);
    steady(&hub);
    let events = hub.client.events("/v1/logs?workload=a&follow=true", None);
    let commands = || agent.seen.lock().unwrap().commands.len();
    wait("the command", || (commands() == 1).then_some(()));
    drop(events);
    // A dropped connection is noticed at the next write: the keep-alive comment.
    wait("the cancel", || (commands() == 2).then_some(()));
    hub.stop();
}
