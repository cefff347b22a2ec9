//! What tests look at in a hub, as its operator and its boards do.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use contract::Digest;
use ed25519_dalek::VerifyingKey;
use serde_json::Value;

use super::agent::{FakeAgent, Logs};
use super::{TestHub, wait};

pub fn blobs(hub: &TestHub) -> BTreeSet<String> {
    let list = std::fs::read_dir(hub.dir.join("artifacts/sha256")).unwrap();
    list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub fn leftovers(hub: &TestHub) -> usize {
    std::fs::read_dir(hub.dir.join("artifacts/tmp")).unwrap().count()
}

/// An operator's command against this hub: what it says, its errors, its exit code.
pub fn cli(hub: &TestHub, args: &[&str]) -> (String, String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_hub"))
        .args(args)
        .env("SKERRY_HUB", &hub.client.url)
        .env("SKERRY_TOKEN_FILE", hub.dir.join("token"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

fn pinned(dir: &Path) -> VerifyingKey {
    let line = std::fs::read_to_string(dir.join("hub.pub")).unwrap();
    let hex = line.trim().strip_prefix("ed25519:").unwrap();
    let digest: Digest = format!("sha256:{hex}").parse().unwrap();
    VerifyingKey::from_bytes(digest.as_bytes()).unwrap()
}

/// A board comes with these features, and is fresh.
pub fn board(hub: &TestHub, name: &str, features: &[&str], arch: &str) -> FakeAgent {
    let key = pinned(&hub.dir);
    let agent = FakeAgent::start_as(&hub.runtime, &hub.broker, name, key, Logs::Hang, features, arch);
    wait("a fresh agent", || {
        let view = hub.client.get(&format!("/v1/agents/{name}")).json();
        let has: BTreeSet<&str> = view["features"].as_array()?.iter().filter_map(Value::as_str).collect();
        (view["state"] == "online" && view["fresh"] == true && has == features.iter().copied().collect())
            .then_some(())
    });
    agent
}
