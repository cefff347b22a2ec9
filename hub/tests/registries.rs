//! Images of other registries at apply: asked for once, judged before their layers come, fetched once,
//! pinned, shown; and what becomes of an apply whose registry lies, dies or moves a tag. Debian's
//! docker-registry on loopback, filled by skopeo.

mod common;
#[path = "../../workloads/oci/tests/fixtures/tools.rs"]
mod fixtures;
#[path = "../../workloads/oci/tests/fixtures/liar.rs"]
mod liar;
#[path = "../../workloads/oci/tests/fixtures/registry.rs"]
mod registry;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::image::{self, Layout, layer};
use common::look::{blobs, board, cli, leftovers};
use common::{TestHub, manifest, wait};
use contract::Digest;
use hub::fetch::RegistryArgs;
use liar::Liar;
use registry::{Registry, With, breaking};
use serde_json::Value;

/// An index over these platforms, called `latest`; `text` tells it from others.
fn layout(dir: &Path, of: &[&str], text: &str, bulk: usize) -> Digest {
    let mut layout = Layout::default();
    let entries: Vec<String> = of
        .iter()
        .map(|of| {
            let layers =
                [layer("etc/os", "shared"), layer("bin/app", &format!("{of} {text}{}", noise(bulk)))];
            layout.image(of, &layers, r#"{"Cmd":["app"]}"#)
        })
        .collect();
    let index = image::index(&entries);
    layout.named(&image::describe(image::INDEX, &index, ""), "latest");
    let digest = layout.put(index);
    layout.write(dir);
    digest
}

/// Text that could not be packed smaller by much.
fn noise(bytes: usize) -> String {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b' ' + (state >> 33) as u8 % 90)
    };
    (0..bytes).map(|_| next()).collect()
}

fn plain(hosts: &[&str]) -> RegistryArgs {
    RegistryArgs { plain_http: hosts.iter().map(ToString::to_string).collect(), ..RegistryArgs::default() }
}

fn every(name: &str, image: &str) -> String {
    manifest(name, image, "  everyAgent: true\n")
}

fn artifacts(hub: &TestHub) -> Vec<Value> {
    hub.client.get("/v1/artifacts").ok().json()["items"].as_array().unwrap().clone()
}

fn digest_of(hub: &TestHub, name: &str) -> String {
    let view = hub.client.get(&format!("/v1/workloads/default/{name}")).ok().json();
    view["imageDigest"].as_str().unwrap().to_string()
}

/// With all platforms, and not packed anew.
const AS_IT_IS: [&str; 2] = ["--all", "--preserve-digests"];
const LAYERS: &str = "\"GET /v2/plant/web/blobs/";
const OTHER_LAYERS: &str = "\"GET /v2/other/site/blobs/";

#[test]
fn ten_manifests_of_one_image_fetch_it_once_and_it_stays_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::start(&With::default());
    let one = layout(&dir.path().join("one"), &["linux/amd64", "linux/arm64", "linux/s390x"], "one", 0);
    registry.push(&dir.path().join("one"), "plant/web:1", &AS_IT_IS);
    let hub = TestHub::start_asking(&dir.path().join("hub"), plain(&[&registry.host]));
    let (client, name) = (&hub.client, format!("{}/plant/web:1", registry.host));
    let _amd = board(&hub, "amd", &["oci", "wasm"], "x86_64");
    let ten: Vec<String> = (0..10).map(|n| every(&format!("w{n}"), &name)).collect();
    let applied = client.post("/v1/apply", ten.join("---\n")).ok().json();
    assert_eq!(applied["changes"][9]["resolved"], format!("{name} → {one}"), "{applied}");
    // A configuration and two layers of the one platform that a board has, and the index and manifest.
    assert_eq!((registry.asked(LAYERS), blobs(&hub).len(), leftovers(&hub)), (3, 5, 0));
    let (list, ..) = cli(&hub, &["images"]);
    for part in [&*name, "linux/amd64, (linux/arm64), (linux/s390x)", "default/w0,default/w1", &one.short()] {
        assert!(list.contains(part), "{part}: {list}");
    }
    let (shown, ..) = cli(&hub, &["describe", "image", &name]);
    assert!(
        shown.contains(&one.to_string()) && shown.contains(&name) && shown.contains("layer 1"),
        "{shown}"
    );

    // The tag moves over there. What is applied stays; what is new gets the new one; --resolve asks.
    let two = layout(&dir.path().join("two"), &["linux/amd64"], "two", 0);
    registry.push(&dir.path().join("two"), "plant/web:1", &AS_IT_IS);
    let asked = registry.asked("http.response.status");
    let again = client.post("/v1/apply", &ten[0]).ok().json();
    assert_eq!(again["changes"][0]["change"], "unchanged");
    assert!(again["changes"][0]["resolved"].as_str().unwrap().contains("as before; --resolve"), "{again}");
    let file = dir.path().join("w0.yaml");
    std::fs::write(&file, &ten[0]).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(cli(&hub, &["diff", "-f", file]).2, Some(0));
    assert_eq!(registry.asked("http.response.status"), asked, "nobody asked");
    let (diff, error, code) = cli(&hub, &["diff", "-f", file, "--resolve"]);
    assert!(code == Some(1) && diff.contains(&format!("+# {name} is {two}")), "{diff}{error}");
    let (said, ..) = cli(&hub, &["apply", "-f", file, "--resolve", "--dry-run"]);
    assert!(said.contains("w0 changed") && said.contains(&two.to_string()), "{said}");
    assert_eq!((artifacts(&hub).len(), blobs(&hub).len()), (1, 5), "looking fetches nothing");
    client.post("/v1/apply", every("new", &name)).ok();
    assert_eq!((digest_of(&hub, "w0"), digest_of(&hub, "new")), (one.to_string(), two.to_string()));
    let (said, error, code) = cli(&hub, &["apply", "-f", file, "--resolve", "--wait", "accepted"]);
    assert!(code == Some(0) && digest_of(&hub, "w0") == two.to_string(), "{said}{error}");

    // With the registry gone, all that is pinned is applied and changed as before.
    registry.kill();
    client
        .post(
            "/v1/apply",
            ten.join("---\n").replace("everyAgent: true", "everyAgent: true\n  env: {A: \"1\"}"),
        )
        .ok();
    assert_eq!(digest_of(&hub, "w3"), one.to_string());
    let error = client.post("/v1/apply", every("more", &name)).error(503, "unavailable");
    let detail = &error["details"][0];
    assert_eq!(
        (&detail["path"], &detail["line"], &detail["workload"]),
        (&"spec.image".into(), &5.into(), &"default/more".into())
    );
    let reason = detail["reason"].as_str().unwrap();
    assert!(
        reason.starts_with(&format!("{name}: {}: ", registry.host)) && reason.contains("refused"),
        "{reason}"
    );

    // A board of another platform waits by name, and no other does.
    let arm = board(&hub, "arm", &["oci", "wasm"], "aarch64");
    let message =
        || client.get("/v1/workloads/default/w1").ok().json()["message"].as_str().unwrap().to_string();
    let wanted = format!(
        "agent arm: waiting for linux/arm64 of its image; the last try to fetch it failed: {}",
        registry.host
    );
    wait("the reason", || message().contains(&wanted).then_some(()));
    registry.again();
    let key = "default/w1".parse().unwrap();
    let told = wait("the document", || arm.seen.lock().unwrap().desired.clone()?.assignments.remove(&key));
    assert_eq!(told.run.artifact.source, one);
    let manifest = client.get_with(&format!("/v1/blobs/{}", told.run.artifact.digest), &[]).ok().json();
    for piece in manifest["layers"].as_array().unwrap() {
        let blob = client.get_with(&format!("/v1/blobs/{}", piece["digest"].as_str().unwrap()), &[]).ok();
        assert_eq!(piece["size"], blob.bytes.len() as u64);
    }
    // Gone when it is removed, as what was pushed.
    let users = (0..10).map(|n| format!("w{n}")).chain(["new".to_string()]);
    users.for_each(|name| drop(client.delete(&format!("/v1/workloads/default/{name}")).ok()));
    let both = artifacts(&hub);
    let layers = |a: &Value| a["image"]["platforms"][0]["layers"].as_array().unwrap().clone();
    let of_amd = both.iter().flat_map(layers).map(|l| l["digest"].as_str().unwrap()[7..].to_string());
    let of_amd: BTreeSet<String> = of_amd.collect();
    for artifact in &both {
        client.delete(&format!("/v1/artifacts/{}", artifact["digest"].as_str().unwrap())).ok();
    }
    // What came late, with the layer that both share, is held for a minute: until its record must have been written.
    wait("the sweep", || (of_amd.intersection(&blobs(&hub)).count() <= 1).then_some(()));
    drop(arm);
    hub.stop();
}

#[test]
fn an_image_under_two_names_is_one_and_a_refused_apply_fetches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(&With::default());
    let one = layout(&dir.path().join("one"), &["linux/amd64"], "one", 0);
    for name in ["plant/web:1", "other/site:2"] {
        registry.push(&dir.path().join("one"), name, &AS_IT_IS);
    }
    let hub = TestHub::start_asking(&dir.path().join("hub"), plain(&[&registry.host]));
    let _amd = board(&hub, "amd", &["oci", "wasm"], "x86_64");
    let (web, site) = (format!("{}/plant/web:1", registry.host), format!("{}/other/site:2", registry.host));
    let both = [every("a", &web), every("b", &site)].join("---\n");
    let wrong = [&both, "---\n", &every("c", "none:1")].concat();
    let error = hub.client.post("/v1/apply", wrong).error(422, "invalid");
    assert!(
        error["details"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("if Docker Hub is meant, write docker.io/library/none:1")
    );
    // Every image that cannot be had, at once.
    let no_such = |name: &str| every(name, &format!("{}/plant/{name}:9", registry.host));
    let error =
        hub.client.post("/v1/apply", [no_such("x"), no_such("y")].join("---\n")).error(422, "invalid");
    assert_eq!(error["details"].as_array().unwrap().len(), 2, "{error}");
    assert!(error["details"][1]["reason"].as_str().unwrap().contains("there is no such image at"), "{error}");
    assert_eq!((artifacts(&hub).len(), blobs(&hub).len()), (0, 0));
    assert_eq!(registry.asked(LAYERS) + registry.asked(OTHER_LAYERS), 1, "the configuration, of both");

    hub.client.post("/v1/apply", &both).ok();
    let list = artifacts(&hub);
    assert_eq!((list.len(), &list[0]["image"]["sources"]), (1, &serde_json::json!([site, web])));
    assert_eq!((blobs(&hub).len(), registry.asked(LAYERS) + registry.asked(OTHER_LAYERS)), (5, 3));
    // By digest, under a third name that nobody has to ask for.
    let pinned = every("c", &format!("nowhere.invalid/web@{one}"));
    hub.client.post("/v1/apply", pinned).ok();
    assert_eq!(digest_of(&hub, "c"), one.to_string());
    hub.stop();
}

#[test]
fn with_tls_of_our_own_and_a_password_that_is_told_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(&With { tls: true, password: true });
    layout(&dir.path().join("one"), &["linux/amd64"], "one", 0);
    registry.push(
        &dir.path().join("one"),
        "plant/web:1",
        &[&AS_IT_IS[..], &["--dest-creds", "press:secret"]].concat(),
    );
    let name = format!("{}/plant/web:1", registry.host);
    let config = |auth: &str| {
        let path = dir.path().join("config.json");
        std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host)).unwrap();
        path
    };
    let args = RegistryArgs {
        docker_config: Some(config("cHJlc3M6d3Jvbmc=")),
        registry_ca: vec![registry.tmp.path().join("ca.pem")],
        ..RegistryArgs::default()
    };
    let hub = TestHub::start_asking(&dir.path().join("hub"), args);
    let _amd = board(&hub, "amd", &["oci", "wasm"], "x86_64");
    let error = hub.client.post("/v1/apply", every("a", &name)).error(422, "invalid").to_string();
    assert!(error.contains("refuses access with this login") && error.contains(&name), "{error}");
    assert!(!error.contains("wrong") && !error.contains("cHJlc3M6d3Jvbmc"), "{error}");
    // The file is read again for each image: nobody has to restart the hub.
    config("cHJlc3M6c2VjcmV0");
    hub.client.post("/v1/apply", every("a", &name)).ok();
    hub.stop();
    // Without the authority it is a stranger.
    let hub = TestHub::start(&dir.path().join("hub-2"));
    let error = hub.client.post("/v1/apply", every("a", &name)).error(503, "unavailable").to_string();
    assert!(error.contains("certificate"), "{error}");
    hub.stop();
}

#[test]
fn an_apply_that_is_cut_off_leaves_nothing_to_see_and_the_next_one_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(&With::default());
    layout(&dir.path().join("one"), &["linux/amd64"], "one", 6 << 20);
    registry.push(&dir.path().join("one"), "plant/web:1", &AS_IT_IS);
    let line = breaking(&registry.host, 2 << 20);
    let hub = TestHub::start_asking(&dir.path().join("hub"), plain(&[&line.host]));
    let amd = board(&hub, "amd", &["oci", "wasm"], "x86_64");
    let text = every("a", &format!("{}/plant/web:1", line.host));
    let (passed, dead) = (line.bytes.clone(), line.dead.clone());
    let killer = std::thread::spawn(move || {
        while passed.load(Ordering::Relaxed) < 3 << 20 {
            std::thread::yield_now();
        }
        dead.store(true, Ordering::Relaxed);
    });
    let error = hub.client.post("/v1/apply", &text).error(503, "unavailable").to_string();
    killer.join().unwrap();
    assert!(error.contains("/plant/web:1: sha256:") && error.contains("at byte "), "{error}");
    hub.client.get("/v1/workloads/default/a").error(404, "not-found");
    let named: Vec<Value> = artifacts(&hub);
    assert_eq!((named.len(), blobs(&hub).len(), leftovers(&hub)), (0, 0, 0));
    drop(amd);
    hub.stop();

    // A hub that was started anew goes on from where the other one was cut off.
    line.dead.store(false, Ordering::Relaxed);
    let before = line.bytes.load(Ordering::Relaxed);
    let hub = TestHub::start_asking(&dir.path().join("hub"), plain(&[&line.host]));
    hub.client.post("/v1/apply", &text).ok();
    let (again, whole) =
        (line.bytes.load(Ordering::Relaxed) - before, artifacts(&hub)[0]["sizeBytes"].as_u64().unwrap());
    assert!(again < whole - (2 << 20), "{again} of {whole} bytes");
    assert_eq!(blobs(&hub).len(), 5);
    hub.stop();
}

/// A registry of one image whose layer takes its time, or is another one.
fn slow(layout: &Path, wrong: Arc<AtomicBool>) -> Liar {
    let files = layout.join("blobs/sha256");
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let root = index["manifests"][0]["digest"].as_str().unwrap().to_string();
    Liar::start(move |asked, _| {
        let name = asked.path.rsplit('/').next().unwrap();
        if asked.head.starts_with("HEAD") {
            return liar::answer("200 OK", &format!("docker-content-digest: {root}\r\n"), b"");
        }
        let mut bytes = std::fs::read(files.join(name.trim_start_matches("sha256:"))).unwrap();
        if bytes.starts_with(b"bin/app") {
            std::thread::sleep(Duration::from_millis(1500));
            bytes[513] ^= u8::from(wrong.load(Ordering::Relaxed));
        }
        liar::answer("200 OK", "", &bytes)
    })
}

#[test]
fn an_apply_shows_how_far_it_is_and_a_liar_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    layout(&dir.path().join("one"), &["linux/amd64", "linux/arm64"], "one", 0);
    let wrong = Arc::new(AtomicBool::new(true));
    let liar = slow(&dir.path().join("one"), wrong.clone());
    let hub = TestHub::start_asking(&dir.path().join("hub"), plain(&[&liar.host]));
    let _amd = board(&hub, "amd", &["oci", "wasm"], "x86_64");
    let name = format!("{}/plant/web:1", liar.host);
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, every("a", &name)).unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap(), "--wait", "accepted"];
    let (_, error, code) = cli(&hub, &apply);
    assert!(code == Some(3) && error.contains("sends something else for sha256:"), "{error}");
    assert!(error.contains(&format!("a.yaml:5:10: default/a: spec.image: {name}: ")), "{error}");
    assert!(artifacts(&hub).is_empty() && blobs(&hub).is_empty());
    wrong.store(false, Ordering::Relaxed);
    // Two at once, and the piece comes once.
    let asked = liar.asked("/blobs/").len();
    let other = every("b", &name);
    let (said, error, code) = std::thread::scope(|scope| {
        let second = scope.spawn(|| hub.client.post("/v1/apply", &other).ok());
        let first = cli(&hub, &apply);
        second.join().unwrap();
        first
    });
    assert!(code == Some(0) && said.contains("workload default/a created"), "{said}{error}");
    assert!(error.contains(&format!("fetching {name} (linux/amd64): ")), "{error}");
    let more: Vec<String> =
        liar.asked("/blobs/").split_off(asked).into_iter().map(|asked| asked.path).collect();
    let different: BTreeSet<&String> = more.iter().collect();
    assert!(!more.is_empty() && different.len() == more.len(), "each layer once: {more:?}");
    hub.stop();
}
