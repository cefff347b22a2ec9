//! A hub as an operator has it: the process, its directory, its API.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{Process, binary, sample, until};

pub struct Hub {
    pub process: Process,
    pub data: PathBuf,
    pub http: u16,
    /// Where boards connect: the embedded broker in plain, or the encrypted port.
    pub mqtt: u16,
    plain_mqtt: u16,
    args: Vec<String>,
    client: ureq::Agent,
}

impl Hub {
    pub fn start(data: PathBuf, args: &[&str]) -> Hub {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let (http, mqtt) = (free_port(), free_port());
        let process = spawn(&data, http, mqtt, &args, None);
        let client = client(None);
        let mut hub = Hub { process, data, http, mqtt, plain_mqtt: mqtt, args, client };
        hub.ready();
        if hub.is_tls() {
            hub.client = client_of(&hub.data);
        }
        hub
    }

    pub fn is_tls(&self) -> bool {
        self.args.iter().any(|arg| arg == "--tls")
    }

    /// With which a board may join, more about it in JSON.
    #[track_caller]
    pub fn join_token(&self, more: Value) -> String {
        let (status, made) = self.post("/v1/join-tokens", more.to_string().as_bytes());
        assert_eq!(status, 200, "{made:#}");
        made["token"].as_str().expect("a token").to_string()
    }

    /// The hub notes where it listens once it does.
    fn ready(&mut self) {
        let (file, pid) = (self.data.join("hub.json"), self.process.pid());
        let mut note = Value::Null;
        until("the hub is up", || {
            note =
                fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
            note["pid"] == pid
        });
        let port = |name: &str| note[name].as_str().and_then(|url| url.rsplit(':').next()?.parse().ok());
        self.http = port("url").expect("the hub's address");
        self.plain_mqtt = port("mqtt").unwrap_or(self.plain_mqtt);
        self.mqtt = match self.is_tls() {
            true => self.http,
            false => port("mqtt").unwrap_or(self.mqtt),
        };
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Start it again in the same place, if it is not running.
    pub fn revive(&mut self) {
        self.revive_with(None);
    }

    /// With a fail point armed.
    pub fn revive_with(&mut self, failpoint: Option<&str>) {
        if !self.process.is_alive() {
            self.process = spawn(&self.data, self.http, self.plain_mqtt, &self.args, failpoint);
            if failpoint.is_none() {
                self.ready();
            }
        }
    }

    /// Without it from the next start on.
    pub fn drop_arg(&mut self, arg: &str) {
        self.args.retain(|had| had != arg);
    }

    pub fn add_arg(&mut self, arg: &str) {
        self.args.push(arg.to_string());
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", fs::read_to_string(self.data.join("token")).expect("the token file").trim())
    }

    fn url(&self, path: &str) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{path}", self.http)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.find(path).unwrap_or_else(|| panic!("GET {path} has no answer"))
    }

    /// `None` when it is not there (yet).
    pub fn find(&self, path: &str) -> Option<Value> {
        let answer = self.client.get(self.url(path)).header("authorization", self.bearer()).call().ok()?;
        let ok = answer.status().is_success();
        let text = answer.into_body().read_to_string().ok()?;
        ok.then(|| serde_json::from_str(&text).expect("the hub speaks JSON"))
    }

    /// What is there, as it is.
    #[track_caller]
    pub fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = self.client.get(self.url(path)).header("authorization", self.bearer()).call();
        let answer = answer.expect("an answer");
        assert!(answer.status().is_success(), "GET {path}: {}", answer.status());
        answer.into_body().with_config().limit(256 << 20).read_to_vec().expect("a whole answer")
    }

    #[track_caller]
    pub fn delete(&self, path: &str) {
        let answer = self
            .client
            .delete(self.url(path))
            .header("authorization", self.bearer())
            .call()
            .expect("an answer");
        assert!(answer.status().is_success(), "DELETE {path}: {}", answer.status());
    }

    /// Status code and answer.
    pub fn post(&self, path: &str, body: &[u8]) -> (u16, Value) {
        self.try_post(path, body).expect("an answer")
    }

    /// With another bearer token than the operators'.
    pub fn post_as(&self, token: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = self.client.post(self.url(path)).header("authorization", format!("Bearer {token}"));
        let answer = answer.header("content-type", "application/json").send(body).expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.into_body().read_to_string().expect("a text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn try_post(&self, path: &str, body: &[u8]) -> Option<(u16, Value)> {
        let answer = self.client.post(self.url(path)).header("authorization", self.bearer());
        let answer = answer.header(
            "content-type",
            if path.ends_with("apply") { "application/yaml" } else { "application/json" },
        );
        let answer = answer.send(body).ok()?;
        let status = answer.status().as_u16();
        let text = answer.into_body().read_to_string().ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    #[track_caller]
    pub fn apply(&self, manifest: &str) -> Value {
        let (status, answer) = self.post("/v1/apply", manifest.as_bytes());
        assert_eq!(status, 200, "{answer:#}");
        answer
    }

    /// A sample as `<name>:1`.
    #[track_caller]
    pub fn push(&self, name: &str) {
        self.push_bytes(&fs::read(sample(name)).expect("a built sample"), &format!("{name}:1"));
    }

    #[track_caller]
    pub fn push_bytes(&self, bytes: &[u8], tag: &str) {
        let (status, answer) = self.post(&format!("/v1/artifacts?tag={tag}"), bytes);
        assert!(status == 200 || status == 201, "{status} {answer:#}");
    }

    /// The operator's command line against this hub: exit code, output, errors.
    pub fn cli(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.operator(&binary("hub")).args(args).output().expect("the command line runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// A program that finds this hub, as its operator.
    pub fn operator(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("SKERRY_HUB", self.url("")).env("SKERRY_TOKEN_FILE", self.data.join("token"));
        command.env("HOME", &self.data);
        command
    }

    pub fn events(&self) -> Vec<Value> {
        self.get("/v1/events?limit=1000")["items"].as_array().expect("a list").clone()
    }
}

fn client(ca: Option<&str>) -> ureq::Agent {
    let roots: Vec<_> = ca.iter().map(|pem| Certificate::from_pem(pem.as_bytes()).expect("PEM")).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .tls_config(tls.root_certs(RootCerts::new_with_certs(&roots)).build())
        .build()
        .new_agent()
}

fn client_of(data: &Path) -> ureq::Agent {
    client(Some(&fs::read_to_string(data.join("ca.crt")).expect("the CA's certificate")))
}

fn spawn(data: &Path, http: u16, mqtt: u16, args: &[String], failpoint: Option<&str>) -> Process {
    let mut command = Command::new(binary("hub"));
    command.args(["serve", "--listen"]).arg(format!("127.0.0.1:{http}")).arg("--data").arg(data);
    if !args.iter().any(|arg| arg == "--broker") {
        command.arg("--mqtt").arg(format!("127.0.0.1:{mqtt}"));
    }
    command.args(args);
    if let Some(failpoint) = failpoint {
        command.env("SKERRY_FAILPOINT", failpoint);
    }
    Process::spawn(command, &data.with_extension("log"))
}

/// One that nobody listens on, and that the kernel gives to nobody who calls out: whoever was killed finds it free.
pub fn free_port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let nth = |n: u32| (10_000 + first.wrapping_add(n) % 20_000) as u16;
    let mut ports = (0..20_000).map(|_| nth(ASKED.fetch_add(1, Ordering::Relaxed)));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
