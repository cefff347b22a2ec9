//! Boards as operators see and mark them: in pages and numbers, labelled, tainted, drained; over HTTP and by
//! the command line.

mod common;

use std::process::Command;

use common::agent::{FakeAgent, Logs};
use common::{MODULE, TestHub, manifest, wait};
use contract::Digest;
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};

fn pinned(hub: &TestHub) -> VerifyingKey {
    let line = std::fs::read_to_string(hub.dir.join("hub.pub")).unwrap();
    let digest: Digest = format!("sha256:{}", line.trim().strip_prefix("ed25519:").unwrap()).parse().unwrap();
    VerifyingKey::from_bytes(digest.as_bytes()).unwrap()
}

fn boards(hub: &TestHub, names: &[&str]) -> Vec<FakeAgent> {
    let key = pinned(hub);
    let start = |name: &&str| FakeAgent::start(&hub.runtime, &hub.broker, name, key, Logs::Hang);
    let boards = names.iter().map(start).collect();
    for name in names {
        wait("a fresh agent", || {
            let reply = hub.client.get(&format!("/v1/agents/{name}"));
            (reply.status == 200 && reply.json()["state"] == "online").then_some(())
        });
    }
    boards
}

fn change(hub: &TestHub, agents: &[&str], change: Value) -> Value {
    hub.client.post("/v1/agents", json!({"agents": agents, "change": change}).to_string()).ok().json()
}

/// The operator's program, against this hub.
fn cli(hub: &TestHub, args: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    command.args(args).env("SKERRY_HUB", &hub.client.url).env("SKERRY_TOKEN_FILE", hub.dir.join("token"));
    let output = command.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code())
}

#[test]
fn the_fleet_is_paged_counted_and_marked() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let _boards = boards(&hub, &["a", "b", "c"]);
    let page = hub.client.get("/v1/agents?limit=2").ok().json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["continue"]), (2, &json!("b")));
    let rest = hub.client.get("/v1/agents?limit=2&continue=b").ok().json();
    assert_eq!((rest["items"][0]["agent"].as_str(), rest.get("continue")), (Some("c"), None));
    hub.client.get("/v1/agents?limit=0").error(422, "invalid");
    hub.client.get("/v1/agents?field=colour%3Dred").error(422, "invalid");
    hub.client.get("/v1/agents?offlineFor=soon").error(422, "invalid");

    let done = change(&hub, &["a", "b"], json!({"label": {"zone": "north"}}));
    assert_eq!((&done["result"], &done["changed"]), (&json!("agentsChanged"), &json!(2)));
    let fleet = hub.client.get("/v1/fleet?label=zone").ok().json();
    let groups = fleet["groups"].as_array().unwrap();
    assert_eq!((&groups[0]["value"], &groups[0]["total"]), (&json!("north"), &json!(2)));
    assert_eq!((&groups[1]["value"], &groups[1]["states"]["online"]), (&Value::Null, &json!(1)));
    change(&hub, &["a"], json!({"taint": [{"key": "old", "effect": "NoSchedule"}]}));
    change(&hub, &["a"], json!({"cordon": {}}));
    let list = hub.client.get("/v1/agents?field=cordoned%3Dtrue,tainted%3Dtrue").ok().json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let view = hub.client.get("/v1/agents/a").ok().json();
    assert_eq!((&view["cordoned"], &view["taints"][0]["key"]), (&json!(true), &json!("old")));
    assert_eq!(view["operatorLabels"], json!({"zone": "north"}));
    let body = json!({"agents": ["a", "x"], "change": {"uncordon": {}}}).to_string();
    hub.client.post("/v1/agents", body).error(404, "not-found");
    assert_eq!(hub.client.get("/v1/agents/a").ok().json()["cordoned"], true, "nothing was done");
    let body =
        json!({"agents": ["a"], "change": {"taint": [{"key": "a b", "effect": "NoExecute"}]}}).to_string();
    hub.client.post("/v1/agents", body).error(422, "invalid");
    hub.stop();
}

#[test]
fn the_command_line_labels_taints_and_drains() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let _boards = boards(&hub, &["a", "b"]);
    hub.client.push("guard:1", MODULE);
    hub.client.post("/v1/apply", manifest("w", "guard:1", "  replicas: 4\n")).ok();
    let steady = || (hub.client.get("/v1/workloads/default/w").ok().json()["steady"] == true).then_some(());
    wait("a steady workload", steady);

    assert_eq!(
        cli(&hub, &["agents", "label", "a", "b", "zone=north", "rack=1"]),
        ("2 agents labelled\n".into(), Some(0))
    );
    assert_eq!(cli(&hub, &["agents", "label", "a", "rack-"]), ("a labelled\n".into(), Some(0)));
    assert_eq!(
        cli(&hub, &["agents", "label", "a", "rack-"]).0,
        "a: nothing changed\nhub: a has no label rack\n"
    );
    assert_eq!(cli(&hub, &["agents", "taint", "-l", "rack=1", "old=yes:NoSchedule"]).0, "b tainted\n");
    assert_eq!(cli(&hub, &["agents", "untaint", "b", "old"]).0, "b untainted\n");
    let (text, code) = cli(&hub, &["agents", "taint", "b", "old:Never"]);
    assert_eq!((text.contains("is not a taint"), code), (true, Some(2)), "{text}");
    let (text, code) = cli(&hub, &["agents", "cordon", "-l", "zone=south"]);
    assert_eq!((text.as_str(), code), ("hub: no agent has these labels\n", Some(4)));

    let (text, code) = cli(&hub, &["agents", "drain", "a", "--deadline", "1m", "--wait", "--timeout", "30s"]);
    assert_eq!((text.contains("a drained"), code), (true, Some(0)), "{text}");
    let instances = hub.client.get("/v1/instances?agent=a").ok().json();
    assert_eq!(instances["items"].as_array().unwrap().len(), 0, "{instances}");
    wait("all on the other board", steady);
    let (text, _) = cli(&hub, &["get", "agents"]);
    assert!(text.contains("online,drained"), "{text}");
    let (text, _) = cli(&hub, &["describe", "agent", "a"]);
    assert!(text.contains("zone=north (operator)") && text.contains("Cordoned      yes"), "{text}");
    assert_eq!(cli(&hub, &["agents", "uncordon", "a"]).0, "a uncordoned\n");
    let (text, _) = cli(&hub, &["agents", "--by", "zone"]);
    assert!(text.contains("ZONE") && text.contains("north"), "{text}");
    assert_eq!(cli(&hub, &["agents", "-o", "name"]).0, "a\nb\n");
    let (text, code) = cli(&hub, &["get", "workloads", "--by", "zone"]);
    assert_eq!((text.contains("are for agents"), code), (true, Some(2)), "{text}");
    hub.stop();
}
