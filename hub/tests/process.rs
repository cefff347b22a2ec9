//! `hub serve` as a process: started, refused, stopped, and killed at every arrow.

mod common;

use std::path::Path;
use std::process::Stdio;

use common::process::{Hub, command};
use common::{Client, MODULE, manifest};
use kv::{Batch, Kv as _, Options, SledKv};

fn scaled(name: &str, replicas: u32) -> String {
    manifest(name, "guard:1", &format!("  replicas: {replicas}\n"))
}

fn replicas(client: &Client, name: &str) -> Option<u64> {
    let reply = client.get(&format!("/v1/workloads/default/{name}"));
    (reply.status == 200).then(|| reply.json()["replicas"].as_u64().unwrap())
}

/// What a hub says that does not start, and its exit code.
fn refused(dir: &Path, args: &[&str]) -> (String, Option<i32>) {
    let mut command = command(dir);
    let mut child = command.args(args).stderr(Stdio::piped()).spawn().unwrap();
    let ended = common::wait_or(|| child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ended.is_some(), "it runs");
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[test]
fn a_hub_starts_stops_and_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let lineage = hub.client.get("/v1/status").ok().json()["lineage"].clone();
    hub.client.push("guard:1", MODULE);
    hub.client.post("/v1/apply", scaled("a", 3)).ok();
    let (said, code) = refused(dir.path(), &[]);
    assert!(said.contains("another hub runs") && code == Some(78), "{said}");
    assert_eq!(hub.terminate().code(), Some(0));
    assert!(!dir.path().join("hub.json").exists());

    let hub = Hub::start(dir.path());
    let status = hub.client.get("/v1/status").ok().json();
    assert_eq!((&status["lineage"], &status["term"]), (&lineage, &2.into()));
    assert_eq!(replicas(&hub.client, "a"), Some(3));
    assert_eq!(hub.client.get("/v1/artifacts/guard:1").ok().json()["usedBy"][0], "default/a");
    hub.kill();
}

/// Its log goes to a pipe that nobody reads any more: it goes on, and can be ended.
#[test]
fn a_hub_that_nobody_listens_to_works_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(dir.path());
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    drop(reader);
    let hub = Hub::spawn(dir.path(), command);
    hub.client.push("guard:1", MODULE);
    hub.client.post("/v1/apply", scaled("a", 1)).ok();
    assert_eq!(hub.terminate().code(), Some(0));
}

#[test]
fn a_hub_that_should_not_run_says_why_and_what_would_be_right() {
    let dir = tempfile::tempdir().unwrap();
    for (args, why) in [
        (["--mqtt", "10.1.2.3:1883"], "by --listen, which speaks MQTT too"),
        (["--advertise", "hub.example"], "add --tls"),
        (["--broker", "mqtt://10.1.2.3"], "mqtts://"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hub"))
            .args(["serve", "--data"])
            .arg(dir.path())
            .args(args)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(why), "{said}");
        assert_eq!(output.status.code(), Some(78));
    }
    let mut odd = command(dir.path());
    let output = odd.env("SKERRY_FAILPOINT", "before-lunch").stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("no point 'before-lunch'"));
}

#[test]
fn a_lost_store_is_not_a_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let lineage = hub.client.get("/v1/status").ok().json()["lineage"].as_str().unwrap().to_string();
    let fingerprint = hub.client.get("/v1/status").ok().json()["fingerprint"].clone();
    hub.kill();
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    let (said, code) = refused(dir.path(), &[]);
    assert!(said.contains(&format!("hub restore accept --lineage {lineage}")), "{said}");
    assert_eq!(code, Some(78));

    let mut again = command(dir.path());
    again.arg("--new-lineage-if-lost");
    let hub = Hub::spawn(dir.path(), again);
    let status = hub.client.get("/v1/status").ok().json();
    assert_ne!(status["lineage"], lineage.as_str());
    assert_eq!(status["fingerprint"], fingerprint, "the key is kept: agents go on to believe it");
    let body = format!("{{\"lineage\":\"{lineage}\"}}");
    // There is no fleet here that has this lineage: nothing to take over.
    let error = hub.client.post("/v1/restore/accept", body).error(422, "invalid");
    assert!(error["message"].as_str().unwrap().contains(&lineage), "{error}");
    hub.kill();
    // It has a lineage again: the next start is an ordinary one.
    Hub::start(dir.path()).kill();
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_nothing_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    Hub::start(dir.path()).kill();
    let store = dir.path().join("store");
    let mut kv = SledKv::open(&store, &Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(b"wplant/press".to_vec(), b"{\"manifest\":".to_vec());
    kv.commit(batch).unwrap();
    drop(kv);
    let (said, code) = refused(dir.path(), &[]);
    assert!(said.contains("\"wplant/press\"") && said.contains("--new-lineage-if-lost"), "{said}");
    assert_eq!(code, Some(78));
    let mut again = command(dir.path());
    again.arg("--new-lineage-if-lost");
    Hub::spawn(dir.path(), again).kill();
    let aside =
        std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let aside =
        aside.into_iter().find(|name| name.starts_with("store.unreadable-")).expect("the old store is kept");
    let kv = SledKv::open(&dir.path().join(aside), &Options::default()).unwrap();
    assert!(kv.get(b"wplant/press").unwrap().is_some());
}

/// Whatever was answered is there after a kill at any arrow, and nothing goes backwards.
#[test]
fn a_kill_at_any_arrow_loses_nothing_that_was_answered() {
    let points = [
        "before-persist",
        "during-commit",
        "after-persist",
        "before-answer",
        "after-answer",
        "after-blob-rename",
    ];
    for (point, nth) in points.iter().flat_map(|point| [(point, 2), (point, 4), (point, 5)]) {
        let dir = tempfile::tempdir().unwrap();
        let mut hub = Hub::with_failpoint(dir.path(), &format!("{point}:{nth}"));
        let (mut answered, mut tried) = (0, 0);
        let module = |n: u32| {
            let wat = format!(
                r#"(module (memory (export "memory") 1) (data (i32.const 0) "{n}") (func (export "_start")))"#
            );
            wat::parse_str(wat).unwrap()
        };
        let mut pushed = Vec::new();
        for n in 1..=6 {
            let push = format!("/v1/artifacts?tag=guard:{n}");
            match hub.client.try_send("POST", &push, &[], Some(&module(n))) {
                Ok(reply) => pushed.push(reply.ok().json()["digest"].as_str().unwrap().to_string()),
                Err(_) => break,
            }
            tried = n;
            let text = manifest("a", "guard:1", &format!("  replicas: {n}\n"));
            match hub.client.try_send("POST", "/v1/apply", &[], Some(text.as_bytes())) {
                Ok(reply) => drop(reply.ok()),
                Err(_) => break,
            }
            answered = n;
        }
        assert!(answered < 6, "{point}:{nth} was never passed");
        hub.died();
        let hub = Hub::start(dir.path());
        let found = replicas(&hub.client, "a").unwrap_or(0);
        let range = u64::from(answered)..=u64::from(tried);
        assert!(range.contains(&found), "{point}:{nth}: {found} is not within {range:?}");
        for (n, digest) in pushed.iter().enumerate() {
            let view = hub.client.get(&format!("/v1/artifacts/guard:{}", n + 1)).ok().json();
            assert_eq!(view["digest"], digest.as_str(), "{point}:{nth}");
            hub.client.get(&format!("/v1/blobs/{digest}")).ok();
        }
        if !pushed.is_empty() {
            hub.client.post("/v1/apply", scaled("b", 1)).ok();
        }
        assert_eq!(hub.terminate().code(), Some(0));
    }
}
