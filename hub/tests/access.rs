//! Who may do what, over real sockets: every route with no, wrong, ended, revoked and narrow tokens; guesses;
//! what streams when its token goes; the audit log; and the command line's logins.

mod common;

use std::process::{Command, Stdio};

use common::process::{self, Hub};
use common::{Client, MODULE, PATIENCE, TestHub, wait};
use hub::api::auth::Scope;
use hub::api::routes::{self, Guard, Route};
use serde_json::{Value, json};

fn with(hub: &Client, token: &str) -> Client {
    let mut client = hub.clone();
    client.token = token.to_string();
    client
}

/// A client with a token of these roles.
fn token(hub: &Client, name: &str, roles: &[&str], namespaces: &[&str]) -> Client {
    let new = json!({"name": name, "roles": roles, "namespaces": namespaces});
    let made = hub.post("/v1/tokens", new.to_string()).ok().json();
    with(hub, made["token"].as_str().unwrap())
}

fn role(hub: &Client, name: &str, rules: Value) {
    hub.send("PUT", &format!("/v1/roles/{name}"), &[], Some(json!({"rules": rules}).to_string().as_bytes()))
        .ok();
}

fn manifest(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: skerry/v1\nkind: Workload\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: x}}}}\n\
         spec: {{image: 'm:1', replicas: 1}}\n"
    )
}

fn data(namespace: &str, kind: &str) -> String {
    format!(
        "apiVersion: skerry/v1\nkind: {kind}\nmetadata: {{name: known, namespace: {namespace}}}\ndata: {{a: b}}\n"
    )
}

/// Each guarded route with something in the place of its parameters.
fn guarded() -> Vec<(Route, &'static str, String)> {
    let asked =
        routes::all().into_iter().filter(|r| !matches!(r.guard, Guard::Open | Guard::Ticket | Guard::Agent));
    let one = |route: Route| {
        let method = route.method.split(' ').next().unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        let path = route.path.replace("{namespace}", "plant").replace("{digest}", &digest);
        let path = path.replace("{name}", "x").replace("{agent}", "x").replace("{reference}", "x:1");
        assert!(!path.contains('{'), "{path}: what stands there?");
        (route, method, path)
    };
    asked.map(one).collect()
}

#[test]
fn no_route_lets_in_whoever_has_no_token_or_no_right() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    role(
        &hub.client,
        "nothing",
        json!([{"verbs": ["reveal"], "kinds": ["audit"], "namespaces": ["nowhere"]}]),
    );
    let nobody = token(&hub.client, "nobody", &["nothing"], &["*"]);
    for (route, method, path) in guarded() {
        let body = (method != "GET").then_some(b"{}".as_slice());
        let anonymous = hub.client.send(method, &path, &[("authorization", "")], body);
        anonymous.error(401, "unauthorized");
        let reply = nobody.send(method, &path, &[], body);
        if route.need.unwrap().scope == Scope::Own {
            reply.ok();
            continue;
        }
        let message = reply.error(403, "forbidden")["message"].as_str().unwrap().to_string();
        let need = route.need.unwrap();
        for part in ["'nobody'", &format!("{} {}", need.verb, need.kind), "'admin' (the hub's own token)"] {
            assert!(message.contains(part), "{method} {path}: {message}");
        }
    }
    // Nothing of it was done, and all of it is known.
    let denied = hub.client.get("/v1/audit?who=nobody&failed=true&limit=1000").ok().json();
    assert!(denied["items"].as_array().unwrap().len() > 20);
    hub.stop();
}

/// For each route whose namespaces stand in the query or the body: that a token of one namespace reaches no
/// other by it. A new one is missing here by name.
#[test]
fn a_token_of_one_namespace_sees_and_changes_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let (admin, digest) = (&hub.client, hub.client.push("m:1", MODULE));
    for namespace in ["plant", "secret-lab"] {
        admin.post("/v1/apply", manifest(namespace, "press")).ok();
        admin.post("/v1/apply", data(namespace, "Config")).ok();
        admin.post("/v1/apply", data(namespace, "Secret")).ok();
    }
    let own = token(admin, "own", &["operator"], &["plant"]);
    let mut cases: Vec<&str> = Vec::new();
    let mut case = |name: &'static str| cases.push(name);
    let hides = |path: &str| {
        let text = own.get(path).ok().text();
        assert!(!text.contains("secret-lab"), "{path}: {text}");
        text
    };

    case("GET /v1/workloads");
    assert!(hides("/v1/workloads").contains("plant"));
    assert!(!hides("/v1/workloads?namespace=secret-lab").contains("press"));
    case("GET /v1/instances");
    hides("/v1/instances");
    case("GET /v1/events");
    hides("/v1/events");
    case("GET /v1/configs");
    assert!(hides("/v1/configs").contains("plant"));
    case("GET /v1/secrets");
    assert!(hides("/v1/secrets").contains("plant"));
    case("POST /v1/sessions"); // in tests/sessions.rs, where there is something to enter
    case("GET /v1/namespaces");
    assert!(hides("/v1/namespaces").contains("plant"));
    case("GET /v1/artifacts");
    assert!(hides("/v1/artifacts").contains("plant/press"));
    case("GET /v1/artifacts/{reference}");
    hides(&format!("/v1/artifacts/{digest}"));
    case("GET /v1/logs");
    own.get("/v1/logs?workload=secret-lab/press").error(404, "not-found");
    case("POST /v1/diff");
    own.post("/v1/diff", manifest("secret-lab", "press")).error(403, "forbidden");
    case("POST /v1/apply");
    let both = format!("{}---\n{}", manifest("plant", "other"), manifest("secret-lab", "other"));
    let error = own.post("/v1/apply", both).error(403, "forbidden");
    assert!(error["message"].as_str().unwrap().contains("in the namespace 'secret-lab'"), "{error}");
    own.get("/v1/workloads/plant/other").error(404, "not-found");
    own.post("/v1/apply?prune=app=x", manifest("plant", "press")).ok();
    admin.get("/v1/workloads/secret-lab/press").ok();
    case("POST /v1/artifacts");
    let module = wat::parse_str(MODULE).unwrap();
    own.post("/v1/artifacts?tag=secret-lab/m:1", &module).error(403, "forbidden");
    own.post("/v1/artifacts?tag=m:1", &module).error(403, "forbidden");
    own.post("/v1/artifacts?tag=plant/m:1", &module).ok();
    case("DELETE /v1/artifacts/{reference}");
    own.delete("/v1/artifacts/m:1").error(403, "forbidden");
    own.delete(&format!("/v1/artifacts/{digest}")).error(403, "forbidden");
    case("GET /v1/watch");
    let mut watch = own.events("/v1/watch", None);
    assert_eq!(watch.next().unwrap().event, "ready");
    admin.post("/v1/workloads/secret-lab/press/restart", "").ok();
    admin.post("/v1/workloads/plant/press/restart", "").ok();
    let first = watch.next().unwrap().data;
    assert!(first.to_string().contains("plant/press"), "{first}");

    for path in ["/v1/workloads/secret-lab/press", "/v1/workloads/secret-lab/press/describe"] {
        own.get(path).error(403, "forbidden");
    }
    own.delete("/v1/workloads/secret-lab/press").error(403, "forbidden");
    // The hub as a whole: the fleet is seen, nothing else.
    own.get("/v1/agents").ok();
    own.get("/v1/tokens").error(403, "forbidden");

    let parts = guarded().into_iter().filter(|(route, ..)| route.need.unwrap().scope == Scope::Parts);
    for (route, method, _) in parts {
        let name = format!("{method} {}", route.path);
        assert!(cases.contains(&name.as_str()), "{name}: show here that it keeps to its namespaces");
    }
    drop(watch);
    hub.stop();
}

#[test]
fn a_token_lives_from_its_making_to_its_end_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let ci = token(&hub.client, "ci", &["viewer"], &["*"]);
    let short = json!({"name": "short", "roles": ["viewer"], "ttlMs": 1});
    let short = hub.client.post("/v1/tokens", short.to_string()).ok().json();
    let short = with(&hub.client, short["token"].as_str().unwrap());
    wait("its end", || (short.get("/v1/status").status == 401).then_some(()));
    let error = short.get("/v1/status").error(401, "unauthorized");
    assert!(error["message"].as_str().unwrap().contains("'short' has expired"), "{error}");
    ci.get("/v1/status").ok();
    let seen = wait("its use is noted", || {
        let list = hub.client.get("/v1/tokens").ok().json();
        let ci = list["items"].as_array().unwrap().iter().find(|t| t["name"] == "ci").unwrap().clone();
        ci["usedWallMs"].is_u64().then_some(ci)
    });
    assert_eq!(seen["usedFrom"], "127.0.0.1");
    assert!(!seen.to_string().contains(&ci.token[10..]));
    // No file has it, nor what is not its digest.
    hub.stop();
    let secret = ci.token.rsplit('_').next().unwrap().to_string();
    assert!(!holds(dir.path(), secret.as_bytes()), "the secret is on the disk");

    let hub = TestHub::start(dir.path());
    let ci = with(&hub.client, &ci.token);
    ci.get("/v1/status").ok();
    ci.post("/v1/tokens", json!({"name": "mine", "roles": ["admin"]}).to_string()).error(403, "forbidden");
    let mut stream = ci.events("/v1/watch", None);
    assert_eq!(stream.next().unwrap().event, "ready");
    hub.client.delete("/v1/tokens/ci").ok();
    let (end, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || end.send(stream.count()));
    ended.recv_timeout(PATIENCE).expect("a revoked token watches no more");
    ci.get("/v1/status").error(401, "unauthorized");
    // The same name anew is another token.
    let anew = token(&hub.client, "ci", &["viewer"], &["*"]);
    anew.get("/v1/status").ok();
    ci.get("/v1/status").error(401, "unauthorized");
    hub.stop();
}

fn holds(dir: &std::path::Path, secret: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().flatten().any(|entry| match entry.file_type().unwrap().is_dir() {
        true => holds(&entry.path(), secret),
        false => std::fs::read(entry.path()).unwrap_or_default().windows(secret.len()).any(|w| w == secret),
    })
}

#[test]
fn nobody_gives_more_than_he_has() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    role(
        &hub.client,
        "giver",
        json!([
            {"verbs": ["*"], "kinds": ["tokens", "roles"], "namespaces": ["*"]},
            {"verbs": ["get"], "kinds": ["workloads"], "namespaces": ["*"]},
        ]),
    );
    let giver = token(&hub.client, "giver", &["giver"], &["*"]);
    let ask =
        |name: &str, role: &str| giver.post("/v1/tokens", json!({"name": name, "roles": [role]}).to_string());
    let error = ask("more", "admin").error(422, "invalid");
    assert!(error["message"].as_str().unwrap().contains("nobody gives more than he has"), "{error}");
    ask("equal", "giver").ok();
    let rules = json!({"rules": [{"verbs": ["*"], "kinds": ["*"], "namespaces": ["*"]}]}).to_string();
    giver.send("PUT", "/v1/roles/giver", &[], Some(rules.as_bytes())).error(422, "invalid");
    giver.send("PUT", "/v1/roles/viewer", &[], Some(rules.as_bytes())).error(422, "invalid");
    token(&hub.client, "boss", &["admin"], &["*"]);
    giver.delete("/v1/tokens/boss").error(422, "invalid");
    // A role that somebody has stays; without him it goes.
    hub.client.delete("/v1/roles/giver").error(422, "invalid");
    for name in ["giver", "equal"] {
        hub.client.delete(&format!("/v1/tokens/{name}")).ok();
    }
    hub.client.delete("/v1/roles/giver").ok();
    hub.stop();
}

#[test]
fn who_guesses_waits_and_who_was_in_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::start(dir.path());
    let ci = token(&hub.client, "ci", &["viewer"], &["*"]);
    ci.get("/v1/status").ok();
    let late = token(&hub.client, "late", &["viewer"], &["*"]);
    let stale = with(&hub.client, "skerry_ci_stale");
    for _ in 0..30 {
        stale.get("/v1/status").error(401, "unauthorized");
    }
    let refused = (0..20).map(|n| with(&hub.client, &format!("guess-{n}")).get("/v1/status").status);
    let refused: Vec<u16> = refused.collect();
    assert_eq!(refused.iter().filter(|status| **status == 401).count(), 9, "{refused:?}");
    assert!(refused.ends_with(&[429; 11]));
    ci.get("/v1/status").ok();
    hub.client.get("/v1/status").ok();
    // One that nobody showed here before cannot be told from a guess.
    late.get("/v1/status").error(429, "unauthorized");
    hub.stop();
}

#[test]
fn what_changes_something_is_written_down_before_it_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    hub.client.push("m:1", MODULE);
    let ci = token(&hub.client, "ci", &["operator"], &["plant"]);
    ci.post("/v1/apply", manifest("plant", "press")).ok();
    ci.get("/v1/workloads").ok();
    ci.delete("/v1/workloads/lab/press").error(403, "forbidden");
    hub.kill();

    let hub = Hub::start(dir.path());
    let list = hub.client.get("/v1/audit?who=ci").ok().json();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{list}");
    let (applied, denied) = (&items[0], &items[1]);
    assert_eq!((&applied["what"], &applied["status"]), (&json!("POST /v1/apply"), &json!(200)));
    assert_eq!(applied["objects"], json!(["plant/press"]));
    assert!(applied["from"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!((&denied["status"], &denied["namespace"]), (&json!(403), &json!("lab")));
    let failed = hub.client.get("/v1/audit?failed=true&namespace=lab").ok().json();
    assert_eq!(failed["items"].as_array().unwrap().len(), 1);
    assert!(!list.to_string().contains(&ci.token));
    hub.terminate();
}

#[test]
fn a_hub_that_dies_over_a_change_has_written_that_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = Hub::with_failpoint(dir.path(), "after-persist:4");
    for n in 0..20 {
        let new = json!({"name": format!("t{n}"), "roles": ["viewer"]}).to_string();
        if hub.client.try_send("POST", "/v1/tokens", &[], Some(new.as_bytes())).is_err() {
            break;
        }
    }
    hub.died();
    drop(hub);
    let hub = Hub::start(dir.path());
    let list = hub.client.get("/v1/audit?limit=1000").ok().json();
    let last = list["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["what"], last.get("status")), (&json!("POST /v1/tokens"), None), "{list}");
    hub.terminate();
}

/// The command line against a hub behind TLS, with its settings in a directory of its own.
struct Cli<'a> {
    home: &'a std::path::Path,
}

impl Cli<'_> {
    fn run(&self, args: &[&str], envs: &[(&str, &str)], input: &str) -> (Option<i32>, String, String) {
        use std::io::Write as _;
        let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
        command.args(args).env_clear().env("HOME", self.home).envs(envs.iter().copied());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that fails before it reads closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    }
}

#[test]
fn a_login_pins_the_ca_keeps_the_token_and_gives_way_to_flags() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = process::command(dir.path());
    command.arg("--tls");
    let hub = Hub::spawn(dir.path(), command);
    let (cli, url) = (Cli { home: home.path() }, hub.client.url.clone());
    let ci = token(&hub.client, "ci", &["viewer"], &["*"]);

    let (code, _, why) = cli.run(&["login", &url], &[], &ci.token);
    assert_eq!(code, Some(2), "{why}");
    let pin = why.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().to_string();
    let wrong = format!("sha256:{}", "0".repeat(64));
    let (code, _, why) = cli.run(&["login", &url, "--ca-pin", &wrong], &[], &ci.token);
    assert!(code == Some(6) && why.contains("not that hub"), "{why}");
    let (code, _, why) = cli.run(&["login", &url, "--ca-pin", &pin], &[], "skerry_ci_wrong");
    assert!(code == Some(6) && why.contains("not one of this hub's"), "{why}");
    let (code, out, why) = cli.run(&["login", &url, "--ca-pin", &pin, "--name", "plant"], &[], &ci.token);
    assert!(code == Some(0) && out.contains("as ci (context plant)"), "{out}{why}");

    let kept = home.path().join(".config/skerry/contexts.json");
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (code, out, why) = cli.run(&["whoami"], &[], "");
    assert!(code == Some(0) && out.starts_with("ci at"), "{out}{why}");
    let (_, out, _) = cli.run(&["context", "list"], &[], "");
    assert!(out.contains("* plant") && !out.contains(&ci.token), "{out}");
    // A flag goes before the environment, that before the context.
    let (_, out, _) = cli.run(&["whoami"], &[("SKERRY_TOKEN", &hub.client.token)], "");
    assert!(out.starts_with("admin at"), "{out}");
    let file = home.path().join("token");
    std::fs::write(&file, &ci.token).unwrap();
    let args = ["whoami", "--token-file", file.to_str().unwrap()];
    let (_, out, _) = cli.run(&args, &[("SKERRY_TOKEN", &hub.client.token)], "");
    assert!(out.starts_with("ci at"), "{out}");
    // To another address the context's token does not go.
    let (code, _, why) = cli.run(&["whoami", "--hub", "http://127.0.0.1:1"], &[], "");
    assert!(code == Some(6) && why.contains("token"), "{why}");
    let (code, _, why) = cli.run(&["token", "list"], &[], "");
    assert!(code == Some(6) && why.contains("may not 'get tokens'"), "{why}");

    std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, why) = cli.run(&["whoami"], &[], "");
    assert!(code == Some(2) && why.contains("chmod 600"), "{why}");
    hub.terminate();
}
