//! Container images on their way through the hub: pushed in every form, kept by digest, admitted, and
//! handed to boards; and what is wrong with one named.

mod common;

use std::io::Write as _;

use common::image::{self, Layout, images, layer};
use common::look::{blobs, board, cli, leftovers};
use common::{Client, TestHub, manifest, wait};
use contract::Digest;
use contract::spec::Runtime;
use serde_json::Value;

#[track_caller]
fn push(client: &Client, tag: &str, body: &[u8]) -> Value {
    client.post(&format!("/v1/artifacts?tag={tag}"), body).ok().json()
}

fn platforms(pushed: &Value) -> Vec<&str> {
    pushed["platforms"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect()
}

#[test]
fn every_form_of_an_image_is_kept_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let client = &hub.client;
    // Two platforms, and what no board runs: another system, and a build record.
    let (mut layout, _) = images(&["linux/amd64", "linux/arm/v7"]);
    let windows = layout.image("windows/amd64", &[layer("x", "win")], "{}");
    let record = layout.image("unknown/unknown", &[layer("x", "how it was built")], "{}");
    let linux = layout.image("linux/amd64", &[layer("etc/os", "shared"), layer("bin/app", "one")], "{}");
    let armv7 = layout.image("linux/arm/v7", &[layer("etc/os", "shared")], r#"{"StopSignal":"SIGRTMIN+3"}"#);
    let index = image::index(&[windows, record, linux, armv7]);
    let mut whole = Layout { files: layout.files.clone(), ..Layout::default() };
    whole.named(&image::describe(image::INDEX, &index, ""), "web");
    let root = whole.put(index);
    let pushed = push(client, "web:1", &whole.tar());
    assert_eq!(
        (pushed["digest"].as_str(), pushed["kind"].as_str()),
        (Some(&*root.to_string()), Some("ociImage"))
    );
    assert_eq!(platforms(&pushed), ["linux/amd64", "linux/arm/v7"]);
    assert!(pushed["notes"][0].as_str().unwrap().contains("'SIGRTMIN+3' is not known"), "{pushed}");

    // What the record names is there, and nothing else: an index, two manifests, two configurations, two layers.
    let view = client.get("/v1/artifacts/web:1").ok().json();
    let mut sizes = 0;
    for name in blobs(&hub) {
        let blob = client.get_with(&format!("/v1/blobs/sha256:{name}"), &[("authorization", "none")]).ok();
        assert_eq!(Digest::of(&blob.bytes).hex(), name);
        sizes += blob.bytes.len() as u64;
    }
    assert_eq!((blobs(&hub).len(), leftovers(&hub)), (7, 0));
    assert_eq!(view["sizeBytes"], sizes, "{view}");
    let layers = view["image"]["platforms"][0]["layers"].as_array().unwrap();
    let path = format!("/v1/blobs/{}", layers[1]["digest"].as_str().unwrap());
    let part = client.get_with(&path, &[("range", "bytes=512-514")]);
    assert_eq!((part.status, part.text().as_str()), (206, "one"));

    // The same as a packed tar, as a directory, and from docker save.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole.tar()).unwrap();
    assert_eq!(push(client, "gz:1", &gzip.finish().unwrap())["digest"], root.to_string());
    let path = dir.path().join("a_layout");
    whole.write(&path);
    let (said, error, code) = cli(&hub, &["push", path.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains(&format!("a-layout:latest is {root}")) && said.contains("linux/arm/v7"), "{said}");
    let saved = push(client, "saved:1", &image::docker_save("linux/arm64"));
    assert_eq!(platforms(&saved), ["linux/arm64"]);
    hub.stop();

    // All of it is still known after a restart, and shown.
    let hub = TestHub::start(dir.path());
    let (list, ..) = cli(&hub, &["artifacts"]);
    assert!(list.contains("oci image") && list.contains("linux/amd64, linux/arm/v7"), "{list}");
    let (shown, ..) = cli(&hub, &["describe", "artifact", "web:1"]);
    assert!(shown.contains("linux/arm/v7, ") && shown.contains("layer 1"), "{shown}");
    hub.stop();
}

#[test]
fn pieces_go_with_the_last_image_that_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let client = &hub.client;
    let (first, root) = images(&["linux/amd64", "linux/arm64"]);
    push(client, "one:1", &first.tar());
    let all = blobs(&hub);
    let (second, _) = images(&["linux/amd64"]);
    push(client, "two:1", &second.tar());
    client.post("/v1/apply", manifest("a", "one:1", "  everyAgent: true\n")).ok();
    client.delete(&format!("/v1/artifacts/{root}")).error(422, "invalid");
    client.delete("/v1/workloads/default/a").ok();
    client.delete(&format!("/v1/artifacts/{root}")).ok();
    // The index, and the other platform's manifest, configuration and layer.
    wait("the sweep", || (all.difference(&blobs(&hub)).count() == 4).then_some(()));
    client.delete("/v1/artifacts/two:1").ok();
    wait("the sweep", || blobs(&hub).is_empty().then_some(()));
    hub.stop();
}

#[test]
fn what_is_wrong_with_an_image_is_named_and_nothing_of_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let client = &hub.client;
    let without = |layout: &Layout, bytes: &[u8]| {
        let name = format!("blobs/sha256/{}", Digest::of(bytes).hex());
        let files = layout.files.iter().filter(|(have, _)| *have != name).cloned().collect();
        Layout { files, ..layout.clone() }.tar()
    };
    let one = |of: &str| {
        let mut layout = Layout::default();
        let entry = layout.image(of, &[layer("a", "a")], "{}");
        layout.named(&entry, "web");
        layout
    };
    let fine = one("linux/amd64");
    let missing = Digest::of(&layer("a", "a"));
    let mut altered = fine.clone();
    altered.files.iter_mut().filter(|(name, _)| name.ends_with(&missing.hex())).for_each(|(_, b)| b[0] ^= 1);
    let mut two = fine.clone();
    let other = two.image("linux/arm64", &[layer("b", "b")], "{}");
    two.named(&other, "other");
    let mut lying = Layout::default();
    let arm = lying.image("linux/arm64", &[layer("a", "a")], "{}").replace("arm64", "amd64");
    let index = image::index(&[arm]);
    lying.named(&image::describe(image::INDEX, &index, ""), "web");
    lying.put(index);
    let mut chart = Layout::default();
    let config = chart.put(b"{}".to_vec());
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    );
    chart.named(&image::describe(image::MANIFEST, text.as_bytes(), ""), "chart");
    chart.put(text.into_bytes());
    let mut short = Layout::default();
    let layered = short.image("linux/amd64", &[layer("a", "a")], "{}");
    let bytes = short.files.pop().unwrap().1;
    let bytes = String::from_utf8(bytes).unwrap().replace(r#""size":2048"#, r#""size":2047"#).into_bytes();
    drop(layered);
    short.named(&image::describe(image::MANIFEST, &bytes, ""), "web");
    short.put(bytes);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&fine.tar()).unwrap();
    let mut cut = gzip.finish().unwrap();
    cut.truncate(cut.len() / 2);
    let cases: [(Vec<u8>, &str); 9] = [
        (without(&fine, &layer("a", "a")), "is not in it"),
        (altered.tar(), "the bytes that came are"),
        (two.tar(), "it holds 2 images; name one of: web, other"),
        (one("windows/amd64").tar(), "no image for linux, which all boards run; there is windows/amd64"),
        (lying.tar(), "the index says that it is for linux/amd64, its configuration linux/arm64"),
        (chart.tar(), "config.mediaType: 'application/vnd.cncf.helm.config.v1+json' is not"),
        (short.tar(), "layers[0]: size is 2047"),
        (cut, "broken"),
        (image::tar(&[("a".into(), b"a".to_vec())]), "it has neither 'oci-layout'"),
    ];
    for (body, wanted) in cases {
        let error = client.post("/v1/artifacts?tag=web:1", &body).error(422, "invalid");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{wanted}: {message}");
        assert!(!message.contains("artifacts/tmp"), "{message}");
        assert_eq!((blobs(&hub).len(), leftovers(&hub)), (0, 0), "{wanted}");
    }
    assert_eq!(
        client.post("/v1/artifacts?tag=two:1&image=other", two.tar()).ok().json()["platforms"][0],
        "linux/arm64"
    );
    client.post("/v1/artifacts?tag=web:1&image=none", two.tar()).error(422, "invalid");
    // Before anything of it is taken.
    let error = client.post("/v1/artifacts?tag=r.local/web:1", fine.tar()).error(422, "invalid");
    assert_eq!(error["details"][0]["path"], "tag");
    let error = client.post("/v1/artifacts?tag=web:1", b"hello").error(422, "invalid");
    assert!(error["message"].as_str().unwrap().contains("A container image comes as a tar"), "{error}");
    let (_, error, code) = cli(&hub, &["push", dir.path().to_str().unwrap(), "--tag", "web:1"]);
    assert!(error.contains("no OCI layout") && code == Some(2), "{error}");
    hub.stop();
}

#[test]
fn a_board_gets_the_image_for_its_platform_and_one_that_runs_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let client = &hub.client;
    let (layout, root) = images(&["linux/amd64", "linux/arm/v6", "linux/arm64"]);
    push(client, "web:1", &layout.tar());
    let agent = board(&hub, "press-1", &["wasm"], "arm");
    let text = manifest("a", "web:1", "  runtime: oci\n  everyAgent: true\n  ports: [{port: 8080}]\n");
    let applied = client.post("/v1/apply", &text).ok().json();
    let warning = "default/a: does not run on agents without the feature 'oci': press-1";
    assert_eq!(applied["warnings"][0], warning, "{applied}");
    let (shown, ..) = cli(&hub, &["describe", "workload", "a"]);
    assert!(shown.contains("press-1  lacks the feature 'oci'"), "{shown}");
    assert!(shown.contains("Ports         8080"), "{shown}");
    drop(agent);

    let agent = board(&hub, "press-1", &["oci", "wasm"], "arm");
    let key = "default/a".parse().unwrap();
    let assignment =
        wait("the document", || agent.seen.lock().unwrap().desired.clone()?.assignments.remove(&key));
    let run = assignment.run;
    assert_eq!((run.runtime, run.artifact.source, run.artifact.engine), (Runtime::Oci, root, None));
    assert_eq!((run.stop_signal.as_str(), run.container.unwrap().ports), ("QUIT", vec![8080]));
    // From the manifest that it was told, a board finds all the rest.
    let blob = |digest: &str| client.get_with(&format!("/v1/blobs/{digest}"), &[("authorization", "none")]);
    let told = blob(&run.artifact.digest.to_string()).ok();
    assert_eq!(told.bytes.len() as u64, run.artifact.size_bytes);
    let told = told.json();
    let config = blob(told["config"]["digest"].as_str().unwrap()).ok().json();
    assert_eq!((config["architecture"].as_str(), config["variant"].as_str()), (Some("arm"), Some("v6")));
    for layer in told["layers"].as_array().unwrap() {
        let bytes = blob(layer["digest"].as_str().unwrap()).ok().bytes;
        assert_eq!(layer["size"], bytes.len() as u64);
    }
    wait("a steady workload", || {
        (client.get("/v1/workloads/default/a").ok().json()["steady"] == true).then_some(())
    });

    // Mistakes are told with their lines.
    let text = manifest("b", "web:1", "  runtime: wasm\n  everyAgent: true\n");
    let error = client.post("/v1/apply", &text).error(422, "invalid");
    assert_eq!(
        (&error["details"][0]["path"], &error["details"][0]["line"]),
        (&"spec.runtime".into(), &6.into())
    );
    let text = manifest("b", "web:1", "  everyAgent: true\n  ports: [{port: 8080}]\n");
    let error = client.post("/v1/apply", &text).error(422, "invalid");
    let reason = error["details"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("wants port 8080, which default/a has"), "{reason}");
    drop(agent);
    hub.stop();
}
