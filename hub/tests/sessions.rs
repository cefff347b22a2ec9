//! Sessions at the hub: who may have one, with which instance, and that it ends with either end.

mod common;

use std::time::{Duration, Instant};

use common::agent::{FakeAgent, Logs};
use common::image::images;
use common::session::Frames;
use common::{MODULE, TestHub, manifest, wait};
use contract::Digest;
use contract::session::{Frame, PAYLOAD_BYTES_MAX, PROTOCOL};
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};

/// Below what ends what nobody ends: silence, or half a day.
const PATIENCE: Duration = Duration::from_secs(45);

fn pinned(hub: &TestHub) -> VerifyingKey {
    let line = std::fs::read_to_string(hub.dir.join("hub.pub")).unwrap();
    let digest: Digest = format!("sha256:{}", line.trim().strip_prefix("ed25519:").unwrap()).parse().unwrap();
    VerifyingKey::from_bytes(digest.as_bytes()).unwrap()
}

/// Two boards that know sessions, with a container and a module on each.
fn world(dir: &std::path::Path, features: &[&str]) -> (TestHub, Vec<FakeAgent>) {
    let hub = TestHub::start(dir);
    let agents = ["press-1", "press-2"].map(|id| {
        FakeAgent::start_as(&hub.runtime, &hub.broker, id, pinned(&hub), Logs::Hang, features, "x86_64")
    });
    let (layout, _) = images(&["linux/amd64"]);
    hub.client.post("/v1/artifacts?tag=web:1", layout.tar()).ok();
    hub.client.push("guard:1", MODULE);
    for (name, image) in [("web", "web:1"), ("guard", "guard:1")] {
        hub.client.post("/v1/apply", manifest(name, image, "  everyAgent: true\n")).ok();
    }
    wait("all to run", || {
        let items = hub.client.get("/v1/instances").ok().json()["items"].as_array().unwrap().clone();
        (items.len() == 4 && items.iter().all(|i| i["state"] == "Running")).then_some(())
    });
    (hub, agents.into())
}

const ALL: [&str; 3] = ["wasm", "oci", "sessions"];

fn ask(workload: &str, agent: Option<&str>, command: &[&str]) -> Value {
    json!({"workload": workload, "agent": agent, "what": {"exec": {"command": command, "input": true}}})
}

fn open(hub: &TestHub, ask: &Value) -> (String, Frames) {
    open_as(hub, &hub.client.token, ask)
}

fn open_as(hub: &TestHub, token: &str, ask: &Value) -> (String, Frames) {
    let request = format!(
        "POST /v1/sessions HTTP/1.1\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}"
    );
    Frames::open(&hub.client.url, &request, &ask.to_string())
}

#[track_caller]
fn opened(hub: &TestHub, command: &str) -> Frames {
    let (head, frames) = open(hub, &ask("web", Some("press-1"), &[command]));
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains(&format!("upgrade: {PROTOCOL}")), "{head}");
    frames
}

#[track_caller]
fn refused(hub: &TestHub, ask: &Value, status: u16) -> String {
    let (head, mut frames) = open(hub, ask);
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head} {}", frames.rest());
    frames.rest()
}

#[test]
fn bytes_pass_in_both_directions_and_the_end_is_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _agents) = world(dir.path(), &ALL);
    let mut frames = opened(&hub, "echo");
    for round in 0..200_u32 {
        let sent = vec![round as u8; PAYLOAD_BYTES_MAX];
        frames.send(Frame::Input(sent.clone())).unwrap();
        assert_eq!(frames.next(), Some(Frame::Output(sent)), "round {round}");
    }
    frames.send(Frame::InputEnd).unwrap();
    assert_eq!(frames.next(), Some(Frame::Exit { code: 7, why: String::new() }));
    assert_eq!(frames.next(), None);
    hub.stop();
}

#[test]
fn it_ends_with_either_end_and_with_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, agents) = world(dir.path(), &ALL);
    let mut frames = opened(&hub, "die");
    frames.send(Frame::Input(b"x".to_vec())).unwrap();
    assert_eq!(frames.next(), None, "no exit frame: the board is gone");

    let frames = opened(&hub, "echo");
    drop(frames);
    wait("the board to be told", || {
        let seen = agents[0].seen.lock().unwrap();
        let cancels =
            |c: &contract::message::Command| matches!(c.op, contract::message::CommandOp::Cancel { .. });
        seen.commands.iter().any(cancels).then_some(())
    });

    let mut frames = opened(&hub, "echo");
    let start = Instant::now();
    hub.stop();
    assert_eq!(frames.next(), None);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn who_cannot_be_joined_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, agents) = world(dir.path(), &ALL);
    let several = refused(&hub, &ask("web", None, &["echo"]), 422);
    for line in ["2 instances run", "web/0 @press-1  Running", "web/0 @press-2  Running"] {
        assert!(several.contains(line), "{several}");
    }
    assert!(refused(&hub, &ask("none", None, &["echo"]), 404).contains("no instance of none"));
    assert!(refused(&hub, &ask("web", Some("press-1"), &[]), 422).contains("say what to run"));
    assert!(refused(&hub, &ask("guard", Some("press-1"), &["echo"]), 422).contains("is WebAssembly"));
    assert!(refused(&hub, &ask("web", Some("press-1"), &["refuse"]), 422).contains("not today"));
    assert!(
        refused(&hub, &ask("web", Some("press-1"), &[&"x".repeat(40_000)]), 422).contains("at most 32768")
    );
    let copy = json!({"workload": "web", "agent": "press-1", "what": {"copyOut": {"path": "etc"}}});
    assert!(refused(&hub, &copy, 422).contains("'etc' is not absolute"));

    let plain = hub.client.post("/v1/sessions", ask("web", Some("press-1"), &["echo"]).to_string());
    assert!(plain.error(426, "invalid")["message"].as_str().unwrap().contains("Upgrade"));
    let headers = [("authorization", "Bearer wrong"), ("connection", "upgrade"), ("upgrade", PROTOCOL)];
    hub.client.send("POST", "/v1/sessions", &headers, Some(b"{}")).error(401, "unauthorized");

    drop(agents);
    wait("offline", || {
        (hub.client.get("/v1/agents/press-1").ok().json()["state"] == "offline").then_some(())
    });
    let start = Instant::now();
    assert!(refused(&hub, &ask("web", Some("press-1"), &["echo"]), 422).contains("press-1 is not online"));
    assert!(start.elapsed() < PATIENCE);
    hub.stop();
}

#[test]
fn a_token_of_another_namespace_enters_nothing_here() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _agents) = world(dir.path(), &ALL);
    let enters = |namespace: &str| {
        let new = json!({"name": namespace, "roles": ["operator"], "namespaces": [namespace]});
        let made = hub.client.post("/v1/tokens", new.to_string()).ok().json();
        open_as(&hub, made["token"].as_str().unwrap(), &ask("web", Some("press-1"), &["echo"])).0
    };
    assert!(enters("elsewhere").starts_with("HTTP/1.1 404"), "there is nothing that it may see");
    assert!(enters("default").starts_with("HTTP/1.1 101"));
    let told = hub.client.get("/v1/audit?verb=exec&about=default/web").ok().json();
    assert_eq!(told["items"][0]["objects"], json!(["default/web: exec echo"]), "{told}");
    hub.stop();
}

#[test]
fn an_address_is_good_for_one_board_once() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, agents) = world(dir.path(), &ALL);
    let frames = opened(&hub, "echo");
    let ticket = agents[0].seen.lock().unwrap().commands.last().unwrap().ticket.clone().unwrap();
    for ticket in [ticket.as_str(), "/v1/sessions/0000"] {
        let request = format!("GET {ticket} HTTP/1.1\r\nconnection: upgrade\r\nupgrade: {PROTOCOL}");
        let (head, _) = Frames::open(&hub.client.url, &request, "");
        assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    }
    drop(frames);
    hub.stop();
}

#[test]
fn an_older_agent_is_named_and_not_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, agents) = world(dir.path(), &["wasm", "oci"]);
    let why = refused(&hub, &ask("web", Some("press-1"), &["echo"]), 422);
    assert!(why.contains("agent press-1 knows no sessions (exec, cp): it needs a newer edge-agent"), "{why}");
    assert!(agents[0].seen.lock().unwrap().commands.is_empty());
    hub.stop();
}
