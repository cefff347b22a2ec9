//! The API over real HTTP against the real loop and store.

mod common;

use common::{Client, MODULE, TestHub, manifest};
use serde_json::Value;

struct Test {
    hub: TestHub,
    _dir: tempfile::TempDir,
}

fn start() -> Test {
    let dir = tempfile::tempdir().unwrap();
    Test { hub: TestHub::start(dir.path()), _dir: dir }
}

fn scaled(name: &str, replicas: u32) -> String {
    manifest(name, "guard:1", &format!("  replicas: {replicas}\n"))
}

fn workload(client: &Client, name: &str) -> Value {
    client.get(&format!("/v1/workloads/default/{name}")).ok().json()
}

#[test]
fn only_the_token_lets_in_and_errors_have_one_shape() {
    let test = start();
    let client = &test.hub.client;
    for wrong in ["Bearer nonsense", "Basic abc", "Bearer"] {
        let reply = client.get_with("/v1/status", &[("authorization", wrong)]);
        reply.error(401, "unauthorized");
    }
    assert_eq!(client.get_with("/healthz", &[("authorization", "none")]).ok().text(), "ok\n");
    client.get_with("/v1/openapi.json", &[("authorization", "none")]).ok();
    client.get("/v1/nothing").error(404, "not-found");
    client.send("PUT", "/v1/apply", &[], Some(b"")).error(405, "invalid");
    let error = client.get("/v1/workloads?nmaespace=a").error(422, "invalid");
    assert!(error["message"].as_str().unwrap().contains("nmaespace"), "{error}");
    client.get("/v1/workloads?selector=a=b=c").error(422, "invalid");
    client.get("/v1/workloads/default/Not_A_Name").error(404, "not-found");
    client.post("/v1/workloads/default/none/restart", "").error(404, "not-found");
    let status = client.get("/v1/status").ok().json();
    assert_eq!(status["fingerprint"].as_str().unwrap().len(), 16);
    assert_eq!((&status["broker"]["up"], &status["broker"]["kind"]), (&true.into(), &"memory".into()));
    test.hub.stop();
}

#[test]
fn an_apply_is_all_or_nothing_and_names_every_line() {
    let test = start();
    let client = &test.hub.client;
    let text =
        "apiVersion: skerry/v1\nkind: Workload\nmetadata: {name: a}\nspec:\n  imag: x\n  replicas: 1\n";
    let error = client.post("/v1/apply", text).error(422, "invalid");
    let lines: Vec<u64> =
        error["details"].as_array().unwrap().iter().map(|d| d["line"].as_u64().unwrap()).collect();
    assert!(lines.contains(&5), "{error}");

    // Well formed, but its artefact is not there: the core says so, and the line is found again.
    client.push("guard:1", MODULE);
    let text = format!("{}---\n{}", scaled("a", 1), manifest("b", "nobody:1", "  replicas: 1\n"));
    let error = client.post("/v1/apply", &text).error(422, "invalid");
    let detail = &error["details"][0];
    assert_eq!(
        (&detail["workload"], &detail["path"]),
        (&"default/b".into(), &"spec.image".into()),
        "{error}"
    );
    let line = text.lines().position(|l| l.contains("nobody")).unwrap() as u64 + 1;
    assert_eq!((detail["line"].as_u64(), detail["document"].as_u64()), (Some(line), Some(2)), "{error}");
    assert_eq!(client.get("/v1/workloads").ok().json()["items"], Value::Array(vec![]));

    let answer = client.post("/v1/apply?dryRun=true", scaled("a", 1)).ok().json();
    assert_eq!(
        (&answer["result"], &answer["changes"][0]["change"]),
        (&"applied".into(), &"created".into()),
        "{answer}"
    );
    client.get("/v1/workloads/default/a").error(404, "not-found");
    let too_large = vec![b'#'; (1 << 20) + 1];
    client.post("/v1/apply", too_large).error(413, "too-large");
    client.post("/v1/apply", b"\xff\xfe").error(422, "invalid");
    test.hub.stop();
}

#[test]
fn versions_guard_against_others_and_keys_against_repeats() {
    let test = start();
    let client = &test.hub.client;
    client.push("guard:1", MODULE);
    client.post("/v1/apply?ifVersions=default/a=0", scaled("a", 1)).ok();
    client.post("/v1/apply?ifVersions=default/a=0", scaled("a", 2)).error(409, "conflict");
    let reply = client.get("/v1/workloads/default/a").ok();
    let etag = reply.header("etag").to_string();
    assert_eq!(etag, format!("\"{}\"", reply.json()["version"]));

    let scale = |headers: &[(&str, &str)], n: u32| {
        let body = format!("{{\"replicas\":{n}}}");
        client.send("POST", "/v1/workloads/default/a/scale", headers, Some(body.as_bytes()))
    };
    scale(&[("if-match", &etag)], 3).ok();
    assert_eq!(workload(client, "a")["replicas"], 3);
    scale(&[("if-match", &etag)], 4).error(409, "conflict");

    // The same key: done once, answered twice, also when the second has become impossible.
    let once = scale(&[("idempotency-key", "k1")], 5).ok();
    client.post("/v1/apply", scaled("a", 7)).ok();
    let twice = scale(&[("idempotency-key", "k1")], 5).ok();
    assert_eq!((twice.text(), twice.header("idempotency-replayed")), (once.text(), "true"));
    assert_eq!(workload(client, "a")["replicas"], 7);
    scale(&[("idempotency-key", "k1")], 6).error(422, "invalid");

    let version = client.get("/v1/status").ok().json()["version"].as_u64().unwrap();
    client.post("/v1/workloads/default/a/restart", "").ok();
    assert!(client.get("/v1/status").ok().json()["version"].as_u64().unwrap() > version);
    client.send("DELETE", "/v1/workloads/default/a", &[("if-match", &etag)], None).error(409, "conflict");
    client.delete("/v1/workloads/default/a").ok();
    client.delete("/v1/workloads/default/a").error(404, "not-found");
    test.hub.stop();
}

#[test]
fn prune_deletes_by_label_and_diff_shows_it_before() {
    let test = start();
    let client = &test.hub.client;
    client.push("guard:1", MODULE);
    client.post("/v1/apply", format!("{}---\n{}", scaled("a", 1), scaled("b", 1))).ok();
    let diff = client.post("/v1/diff", scaled("a", 2)).ok().json();
    assert_eq!(
        (&diff["items"][0]["change"], &diff["items"][0]["workload"]),
        (&"scaled".into(), &"default/a".into())
    );
    assert!(diff["items"][0]["text"].as_str().unwrap().contains("+  replicas: 2"), "{diff}");
    client.post("/v1/apply?prune=", scaled("a", 1)).error(422, "invalid");
    let answer = client.post("/v1/apply?prune=app=b", scaled("a", 1)).ok().json();
    assert!(answer["changes"].as_array().unwrap().iter().any(|c| c["change"] == "deleted"), "{answer}");
    let names: Vec<Value> =
        client.get("/v1/workloads?selector=app").ok().json()["items"].as_array().unwrap().clone();
    assert_eq!(names.len(), 1);
    let describe = client.get("/v1/workloads/default/a/describe").ok().json();
    assert_eq!(describe["effective"]["memory"], "64Mi");
    assert_eq!(client.get("/v1/instances").ok().json()["items"], Value::Array(vec![]));
    client.get("/v1/events?limit=5").ok();
    client.get("/v1/schema").ok();
    test.hub.stop();
}

#[test]
fn artefacts_are_pushed_inspected_and_removed_with_their_bytes() {
    let test = start();
    let client = &test.hub.client;
    let digest = client.push("guard:1", MODULE);
    let blob =
        |digest: &str| test.hub.dir.join("artifacts/sha256").join(digest.trim_start_matches("sha256:"));
    assert!(blob(&digest).exists());
    assert_eq!(client.get("/v1/artifacts/guard:1").ok().json()["digest"], digest.as_str());

    for (bytes, word) in [
        (b"hello".to_vec(), "not WebAssembly"),
        (wat::parse_str("(module)").unwrap(), "_start"),
        (wat::parse_str(r#"(module (import "env" "f" (func)) (func (export "_start")))"#).unwrap(), "env.f"),
        (MODULE.as_bytes().to_vec(), "text format"),
    ] {
        let error = client.post("/v1/artifacts", &bytes).error(422, "invalid");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    client.post("/v1/artifacts", vec![0; (64 << 20) + 1]).error(413, "too-large");
    client.post("/v1/artifacts?tag=Not%20A%20Tag", wat::parse_str(MODULE).unwrap()).error(422, "invalid");
    let left = std::fs::read_dir(test.hub.dir.join("artifacts/tmp")).unwrap().count();
    assert_eq!(left, 0, "a refused push leaves nothing on its way");

    client.post("/v1/apply", scaled("a", 1)).ok();
    client.delete(&format!("/v1/artifacts/{digest}")).error(422, "invalid");
    client.delete("/v1/workloads/default/a").ok();
    client.delete(&format!("/v1/artifacts/{digest}")).ok();
    common::wait("the blob to be swept", || (!blob(&digest).exists()).then_some(()));
    client.get(&format!("/v1/blobs/{digest}")).error(404, "not-found");
    test.hub.stop();
}

#[test]
fn blobs_come_whole_or_from_where_a_link_broke() {
    let test = start();
    let client = &test.hub.client;
    let data = "x".repeat(200_000);
    let wat = format!(
        r#"(module (memory (export "memory") 4) (data (i32.const 0) "{data}") (func (export "_start")))"#
    );
    let bytes = wat::parse_str(&wat).unwrap();
    let digest = client.push("big:1", &wat);
    let path = format!("/v1/blobs/{digest}");
    let get = |headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().copied().chain([("authorization", "none")]).collect();
        client.get_with(&path, &headers)
    };
    let whole = get(&[]).ok();
    assert_eq!((whole.status, whole.bytes == bytes), (200, true));
    let etag = whole.header("etag").to_string();
    assert_eq!(etag, format!("\"{digest}\""));

    let rest = get(&[("range", "bytes=100000-"), ("if-range", &etag)]);
    assert_eq!((rest.status, rest.bytes == bytes[100_000..]), (206, true));
    assert_eq!(rest.header("content-range"), format!("bytes 100000-{}/{}", bytes.len() - 1, bytes.len()));
    let other = get(&[("range", "bytes=5-"), ("if-range", "\"other\"")]);
    assert_eq!((other.status, other.bytes.len()), (200, bytes.len()));
    let outside = get(&[("range", &format!("bytes={}-", bytes.len()))]);
    assert_eq!(outside.header("content-range"), format!("bytes */{}", bytes.len()));
    outside.error(416, "invalid");
    assert_eq!(get(&[("if-none-match", &etag)]).status, 304);
    let head = client.send("HEAD", &path, &[], None).ok();
    assert_eq!((head.header("content-length"), head.bytes.len()), (bytes.len().to_string().as_str(), 0));
    client.get("/v1/blobs/sha256:zz").error(404, "not-found");
    client.get("/v1/blobs/..%2f..%2ftoken").error(404, "not-found");
    client.get(&format!("{path}/statement")).error(404, "not-found");
    test.hub.stop();
}

#[test]
fn the_description_knows_every_route() {
    let test = start();
    let client = &test.hub.client;
    let document = client.get("/v1/openapi.json").ok().json();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace('{', "%7B").replace('}', "%7D");
        for method in operations.as_object().unwrap().keys() {
            let reply = client.send(&method.to_uppercase(), &path, &[("authorization", "none")], None);
            assert_ne!(reply.status, 405, "{method} {path}");
            assert!(!reply.text().contains("no route"), "{method} {path}");
        }
    }
    test.hub.stop();
}

#[test]
fn metrics_are_what_prometheus_reads_and_count_what_is_there() {
    let test = start();
    let client = &test.hub.client;
    client.get_with("/metrics", &[("authorization", "none")]).error(401, "unauthorized");
    let value = |name: &str| {
        let text = client.get("/metrics").ok().text();
        let line = text.lines().find(|line| line.starts_with(&format!("skerry_{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(value("broker_up"), Some(1));
    assert_eq!(value("agents{state=\"online\"}"), Some(0));
    assert_eq!(value("workloads{namespace=\"default\"}"), None);
    client.push("guard:1", MODULE);
    client.post("/v1/apply", scaled("a", 2)).ok();
    assert_eq!(value("workloads{namespace=\"default\"}"), Some(1));
    assert_eq!(value("workloads_steady{namespace=\"default\"}"), Some(0));
    assert_eq!(value("instances{namespace=\"default\"}"), Some(2));
    let text = client.get("/metrics").ok().text();
    assert!(text.contains("# TYPE skerry_messages_rejected_total counter\n"), "{text}");
    test.hub.stop();
}
