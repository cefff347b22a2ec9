//! A hub at work inside the test, with the in-memory broker, a real store and real compile workers;
//! and a client that speaks plain HTTP to it.
#![allow(dead_code, reason = "each test uses a part")]

pub mod agent;
pub mod image;
pub mod look;
pub mod process;
pub mod session;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::compile::{Limits, Workers};
use hub::data::DataDir;
use hub::fetch::RegistryArgs;
use hub::serve::broker::{Broker, BrokerKind};
use hub::serve::exit::Exit;
use hub::serve::inbound::Ears;
use hub::serve::start::{Parts, Running};
use hub::store::{self, Found};
use hub::trust::door::{Inside, Terms};
use hub::trust::{Ca, Door};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use transport::bus::BusLimits;
use transport::memory;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestHub {
    pub runtime: Runtime,
    pub broker: memory::Broker,
    pub client: Client,
    pub dir: PathBuf,
    running: Option<Running>,
}

fn door(data: &DataDir) -> Door {
    let terms = Terms {
        hubs: Vec::new(),
        life_ms: 86_400_000,
        renew_expired: true,
        broker: None,
        broker_ca: None,
        prefix: "skerry/v1".into(),
    };
    Door::new(Arc::new(Ca::open(data).unwrap()), terms, Inside::default())
}

pub fn limits() -> Limits {
    Limits::default()
}

impl TestHub {
    pub fn start(dir: &Path) -> TestHub {
        TestHub::start_with(dir, limits())
    }

    pub fn start_with(dir: &Path, limits: Limits) -> TestHub {
        TestHub::start_on(dir, limits, |data| store::open(data, false).unwrap())
    }

    /// That may ask these registries.
    pub fn start_asking(dir: &Path, registries: RegistryArgs) -> TestHub {
        TestHub::start_as(dir, limits(), registries, |data| store::open(data, false).unwrap())
    }

    /// On a store that the test holds the other end of.
    pub fn start_on(dir: &Path, limits: Limits, found: impl FnOnce(&DataDir) -> Found) -> TestHub {
        TestHub::start_as(dir, limits, RegistryArgs::default(), found)
    }

    fn start_as(
        dir: &Path,
        limits: Limits,
        registries: RegistryArgs,
        found: impl FnOnce(&DataDir) -> Found,
    ) -> TestHub {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let broker = memory::Broker::new();
        let data = Arc::new(DataDir::open(dir).unwrap());
        let token = data.token().unwrap();
        let running = runtime.block_on(async {
            let parts = Parts {
                found: found(&data),
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                front: None,
                door: Arc::new(door(&data)),
                broker: Broker {
                    bus: broker.bus(BusLimits::default()),
                    url: "memory".to_string(),
                    kind: BrokerKind::Memory,
                    ears: Ears { joined_only: false },
                    embedded: None,
                },
                key: data.signing_key().unwrap(),
                token: token.clone(),
                vault: hub::secrets::Vault::open(&data, None, 0).unwrap(),
                workers: Workers::new(PathBuf::from(env!("CARGO_BIN_EXE_hub")), limits),
                registries: registries.open().unwrap(),
                heartbeat_ms: 600_000,
                report_window_ms: 0,
                data,
            };
            parts.start().await.unwrap()
        });
        let client = Client::new(&running.url, &token);
        TestHub { runtime, broker, client, dir: dir.to_path_buf(), running: Some(running) }
    }

    /// Until it ends by itself.
    pub fn ended(mut self) -> Result<(), Exit> {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.wait())
    }

    /// In order, as TERM does.
    pub fn stop(mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        self.runtime.block_on(running.wait()).unwrap();
    }
}

#[derive(Clone)]
pub struct Client {
    pub url: String,
    pub token: String,
    agent: ureq::Agent,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub bytes: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The answer, or a panic that shows it.
    #[track_caller]
    pub fn ok(self) -> Reply {
        assert!(self.status < 300, "{}: {}", self.status, self.text());
        self
    }

    #[track_caller]
    pub fn error(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].clone();
        assert_eq!(error["code"], code, "{error}");
        error
    }
}

impl Client {
    pub fn new(url: &str, token: &str) -> Client {
        Client::believing(url, token, None)
    }

    /// Over TLS, to a hub of this CA.
    pub fn believing(url: &str, token: &str, ca: Option<&str>) -> Client {
        let roots = ca.map(|pem| Certificate::from_pem(pem.as_bytes()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        let tls = tls.root_certs(RootCerts::new_with_certs(roots.as_slice())).build();
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).proxy(None).tls_config(tls).build();
        Client { url: url.to_string(), token: token.to_string(), agent: config.into() }
    }

    /// With the token, unless the headers say otherwise.
    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match body {
            Some(body) => self.agent.run(request.body(body).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        }
    }

    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Reply, ureq::Error> {
        let (parts, mut body) = self.call(method, path, headers, body)?.into_parts();
        let bytes = body.with_config().limit(512 << 20).read_to_vec()?;
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, bytes })
    }

    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Reply {
        self.try_send(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", path, headers, None)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send("POST", path, &[], Some(body.as_ref()))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, &[], None)
    }

    /// Push a module and return its digest.
    pub fn push(&self, tag: &str, wat: &str) -> String {
        let reply = self.post(&format!("/v1/artifacts?tag={tag}"), wat::parse_str(wat).unwrap()).ok();
        reply.json()["digest"].as_str().unwrap().to_string()
    }

    pub fn events(&self, path: &str, last: Option<u64>) -> Events {
        let last = last.map(|last| last.to_string());
        let headers: Vec<(&str, &str)> = last.iter().map(|last| ("last-event-id", last.as_str())).collect();
        let response = self.call("GET", path, &headers, None).unwrap();
        let status = response.status().as_u16();
        let reader =
            BufReader::new(Box::new(response.into_body().into_reader()) as Box<dyn std::io::Read + Send>);
        if status != 200 {
            let mut text = String::new();
            let mut reader = reader;
            reader.read_to_string(&mut text).unwrap();
            panic!("{status}: {text}");
        }
        Events { reader }
    }
}

/// One server-sent event.
#[derive(Debug)]
pub struct Sse {
    pub event: String,
    pub id: Option<u64>,
    pub data: Value,
}

pub struct Events {
    reader: BufReader<Box<dyn std::io::Read + Send>>,
}

impl Iterator for Events {
    type Item = Sse;

    fn next(&mut self) -> Option<Sse> {
        let (mut event, mut id, mut data) = (String::new(), None, String::new());
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            match line.split_once(": ").or(line.split_once(':')) {
                None if !event.is_empty() => {
                    return Some(Sse { event, id, data: serde_json::from_str(&data).unwrap() });
                }
                Some(("event", name)) => event = name.to_string(),
                Some(("id", n)) => id = n.parse().ok(),
                Some(("data", text)) => data += text,
                _ => {}
            }
        }
    }
}

/// Until it is so, or a panic that says what was waited for.
#[track_caller]
pub fn wait<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_or(look).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Until it is so, or none.
pub fn wait_or<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub const MODULE: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

pub fn manifest(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: skerry/v1\nkind: Workload\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  image: {image}\n{more}"
    )
}
