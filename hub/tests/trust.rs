//! Who gets through the encrypted port, over real sockets: no, wrong, expired, self-signed and revoked
//! certificates; tokens guessed, used up, ended; joins broken by a kill.

mod common;

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use common::process::{Hub, command};
use common::wait;
use contract::codec;
use contract::identity::{ALPN_MQTT, Enrolment, JoinAnswer, JoinRequest, JoinToken, Standing, StandingNote};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

fn start(dir: &Path, more: &[&str]) -> Hub {
    let mut command = command(dir);
    command.arg("--tls").args(more);
    Hub::spawn(dir, command)
}

fn failing(dir: &Path, point: &str) -> Hub {
    let mut command = command(dir);
    command.arg("--tls").env("SKERRY_FAILPOINT", point);
    Hub::spawn(dir, command)
}

/// A board's side of joining.
struct Board {
    key: KeyPair,
    id: String,
    enrolment: Option<Enrolment>,
    ca: String,
    url: String,
}

impl Board {
    fn new(hub: &Hub, dir: &Path, id: &str) -> Board {
        let ca = std::fs::read_to_string(dir.join("ca.crt")).unwrap();
        let key = KeyPair::generate().unwrap();
        Board { key, id: id.into(), enrolment: None, ca, url: hub.client.url.clone() }
    }

    fn request(&self) -> String {
        CertificateParams::default().serialize_request(&self.key).unwrap().pem().unwrap()
    }

    fn agent(&self, own: Option<(&str, &KeyPair)>) -> ureq::Agent {
        let roots = RootCerts::new_with_certs(&[Certificate::from_pem(self.ca.as_bytes()).unwrap()]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider);
        if let Some((certificate, key)) = own {
            let certificate = Certificate::from_pem(certificate.as_bytes()).unwrap().to_owned();
            let key = PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap().to_owned();
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&[certificate], key)));
        }
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .tls_config(tls.build())
            .build()
            .into()
    }

    /// With the certificate it was given.
    fn own(&self) -> ureq::Agent {
        self.agent(self.enrolment.as_ref().map(|e| (e.certificate.as_str(), &self.key)))
    }

    fn join(&mut self, token: &str) -> (u16, String) {
        self.try_join(token).unwrap()
    }

    fn try_join(&mut self, token: &str) -> Result<(u16, String), ureq::Error> {
        let secret = token.parse::<JoinToken>().map_or_else(|_| token.to_string(), |token| token.secret);
        let ask = JoinRequest {
            secret,
            request: self.request(),
            id: self.id.parse().unwrap(),
            machine: [("serial".to_string(), format!("s-{}", self.id))].into(),
        };
        let (status, text) = post(&self.agent(None), &format!("{}/v1/join", self.url), &json!(ask))?;
        if let Ok(JoinAnswer::Joined(enrolment)) = serde_json::from_str(&text) {
            self.enrolment = Some(*enrolment);
        }
        Ok((status, text))
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut response = self.own().get(format!("{}{path}", self.url)).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn standing(&self, dir: &Path) -> StandingNote {
        let key = std::fs::read_to_string(dir.join("hub.pub")).unwrap();
        let (status, text) = self.get("/v1/standing");
        assert_eq!(status, 200, "{text}");
        let key = codec::parse_public_key(&key).unwrap();
        codec::open(codec::Kind::Standing, text.as_bytes(), Some(&key)).unwrap()
    }

    fn renew(&mut self) -> (u16, String) {
        let body = json!({"request": self.request()});
        let (status, text) = post(&self.own(), &format!("{}/v1/renew", self.url), &body).unwrap();
        if let Ok(JoinAnswer::Joined(enrolment)) = serde_json::from_str(&text) {
            self.enrolment = Some(*enrolment);
        }
        (status, text)
    }
}

fn post(agent: &ureq::Agent, url: &str, body: &Value) -> Result<(u16, String), ureq::Error> {
    let mut response = agent.post(url).send(body.to_string())?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

fn token(hub: &Hub, body: Value) -> String {
    let made = hub.client.post("/v1/join-tokens", body.to_string()).ok().json();
    made["token"].as_str().unwrap().to_string()
}

/// A blob that is not there: 404 for who may ask, 401 for who may not.
const BLOB: &str = "/v1/blobs/sha256:0000000000000000000000000000000000000000000000000000000000000000";

#[test]
fn f07_a_board_joins_renews_is_revoked_and_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let hub = start(dir.path(), &[]);
    let approve = token(&hub, json!({"approve": true, "labels": {"line": "a"}}));
    let mut board = Board::new(&hub, dir.path(), "b1");
    assert_eq!(board.get(BLOB).0, 401, "nobody without a certificate");
    let (status, text) = board.join(&approve);
    assert_eq!(status, 200, "{text}");
    assert_eq!(board.get(BLOB).0, 404);
    assert_eq!(board.get("/v1/workloads").0, 401, "a board is no operator");
    assert_eq!(board.standing(dir.path()).standing, Standing::Good);
    let first = board.enrolment.clone().unwrap();
    assert_eq!(board.renew().0, 200);
    let second = board.enrolment.clone().unwrap();
    assert!(second.certificate != first.certificate && second.ends_ms >= first.ends_ms);
    // The same key with the same token: the same join.
    assert_eq!(board.join(&approve).0, 200);

    hub.client.post("/v1/identities/revoke", json!({"agents": ["b1"]}).to_string()).ok();
    let (status, text) = board.get(BLOB);
    assert!(status == 401 && text.contains("revoked by an operator"), "{text}");
    let note = board.standing(dir.path());
    assert_eq!((note.standing, note.reason.as_str()), (Standing::Revoked, "revoked by an operator"));
    assert_eq!(board.renew().0, 401);
    let (status, text) = board.join(&approve);
    assert!(status == 422 && text.contains("was revoked"), "{text}");
    hub.kill();
    // And it stays so.
    let hub = start(dir.path(), &[]);
    board.url = hub.client.url.clone();
    assert_eq!(board.standing(dir.path()).standing, Standing::Revoked);
}

#[test]
fn certificates_of_others_get_no_connection() {
    let dir = tempfile::tempdir().unwrap();
    let hub = start(dir.path(), &[]);
    let mut board = Board::new(&hub, dir.path(), "b1");
    board.join(&token(&hub, json!({"approve": true})));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "b1");
    let key = KeyPair::generate().unwrap();
    let self_signed = params.self_signed(&key).unwrap().pem();
    let other = tempfile::tempdir().unwrap();
    let stranger = start(other.path(), &[]);
    let mut foreign = Board::new(&stranger, other.path(), "b1");
    foreign.join(&token(&stranger, json!({"approve": true})));
    let foreign_pem = foreign.enrolment.clone().unwrap().certificate;
    for (certificate, key) in [(self_signed.as_str(), &key), (foreign_pem.as_str(), &foreign.key)] {
        let sent = board.agent(Some((certificate, key))).get(format!("{}{BLOB}", board.url)).call();
        let error = sent.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(!error.is_empty(), "let in with {certificate}");
    }
    // Nor does a board of ours believe another hub, whatever that says its name is.
    board.url = stranger.client.url.clone();
    let sent = board.own().get(format!("{}/healthz", board.url)).call();
    assert!(sent.unwrap_err().to_string().contains("UnknownIssuer"));
}

#[test]
fn an_ended_certificate_renews_unless_that_is_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let life = ["--certificate-life", "10s"];
    let hub = start(dir.path(), &life);
    let mut board = Board::new(&hub, dir.path(), "b1");
    board.join(&token(&hub, json!({"approve": true})));
    let ended =
        wait("its end", || Some(board.standing(dir.path())).filter(|n| n.standing == Standing::Expired));
    assert!(ended.reason.contains("ended"), "{}", ended.reason);
    assert_eq!(board.get(BLOB).0, 401);
    hub.kill();

    let hub = start(dir.path(), &["--certificate-life", "10s", "--no-renew-expired"]);
    board.url = hub.client.url.clone();
    assert_eq!(board.renew().0, 401);
    hub.kill();
    let hub = start(dir.path(), &[]);
    board.url = hub.client.url.clone();
    assert_eq!(board.renew().0, 200);
    assert_eq!(board.get(BLOB).0, 404);
    // Another key is another board: it joins, it does not renew.
    let other = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&other).unwrap().pem().unwrap();
    let (status, text) =
        post(&board.own(), &format!("{}/v1/renew", board.url), &json!({"request": request})).unwrap();
    assert!(status == 422 && text.contains("another key"), "{text}");
    drop(hub);
}

#[test]
fn tokens_end_are_used_up_and_cannot_be_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = start(dir.path(), &[]);
    let (once, short) = (token(&hub, json!({"uses": 1})), token(&hub, json!({"ttlMs": 1})));
    let mut first = Board::new(&hub, dir.path(), "b1");
    let (status, text) = first.join(&once);
    assert!(status == 200 && text.contains("waits"), "{text}");
    let mut second = Board::new(&hub, dir.path(), "b2");
    assert!(second.join(&once).1.contains("used up"));
    assert!(second.join(&short).1.contains("expired"));
    hub.client.post("/v1/identities/approve", json!({"agents": ["b1"]}).to_string()).ok();
    assert_eq!(first.join(&once).0, 200);
    assert!(first.enrolment.is_some());
    for n in 0..10 {
        let (status, text) = second.join(&format!("guess {n}"));
        assert!(status == 422 && text.contains("not one of this hub's"), "{text}");
    }
    let good = token(&hub, json!({}));
    assert!(second.join(&good).1.contains("too many wrong tokens"));
    let stored = hub.client.get("/v1/join-tokens").ok().text();
    assert!(!stored.contains(&good.parse::<JoinToken>().unwrap().secret), "{stored}");
}

#[test]
fn a_hub_killed_in_a_join_finishes_it_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let hub = start(dir.path(), &[]);
    let token = token(&hub, json!({"approve": true, "uses": 1}));
    let mut board = Board::new(&hub, dir.path(), "b1");
    hub.kill();
    // From the third commit on: the first is the start's own. Each has its arrows.
    for point in [
        "before-persist:2",
        "after-persist:2",
        "before-answer",
        "before-persist:3",
        "after-persist:3",
        "before-answer:2",
    ] {
        let mut hub = failing(dir.path(), point);
        board.url = hub.client.url.clone();
        if board.try_join(&token).is_ok() {
            // A join that was complete has one commit less.
            continue;
        }
        hub.died();
    }
    let hub = start(dir.path(), &[]);
    board.url = hub.client.url.clone();
    let (status, text) = board.join(&token);
    assert_eq!(status, 200, "{text}");
    let all = hub.client.get("/v1/identities").ok().json();
    assert_eq!(all["items"].as_array().unwrap().len(), 1, "{all}");
    assert_eq!(hub.client.get("/v1/join-tokens").ok().json()["items"][0]["usesLeft"], 0);
}

/// Of the same machine in plain, and encrypted: what is not TLS 1.3 with HTTP or MQTT gets nothing.
#[test]
fn plain_and_old_clients_get_nothing_at_the_encrypted_port() {
    use std::io::{Read as _, Write as _};
    let dir = tempfile::tempdir().unwrap();
    let hub = start(dir.path(), &[]);
    let place = hub.client.url.trim_start_matches("https://").to_string();
    let mut plain = TcpStream::connect(&place).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");
    // MQTT without a certificate is closed before a byte of MQTT.
    let ca = std::fs::read_to_string(dir.path().join("ca.crt")).unwrap();
    let tls = transport::Tls::new(&transport::Trusted::Hub(ca), None, transport::Floor::default(), ALPN_MQTT)
        .unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut session = rustls::ClientConnection::new(tls.config(), name).unwrap();
    let mut tcp = TcpStream::connect(&place).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut tcp);
    let _ = stream.write_all(b"\x10\x10\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03abc");
    let mut answer = [0; 8];
    assert!(!matches!(stream.read(&mut answer), Ok(n) if n > 0), "{answer:?}");
    // Operators come in as ever, with their token.
    assert_eq!(hub.client.get("/v1/status").ok().status, 200);
}

#[test]
fn f08_one_ca_for_ever_and_it_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let hub = start(dir.path(), &[]);
    let ca = |hub: &Hub| hub.client.get("/v1/ca").ok().text();
    let first = ca(&hub);
    let hub_command = |args: &[&str], hub: &Hub| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hub"));
        command.args(args).args(["--hub", &hub.client.url, "--token-file"]).arg(dir.path().join("token"));
        command.output().unwrap()
    };
    let shown = hub_command(&["ca", "show"], &hub);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let fingerprint = shown.lines().next().unwrap().to_string();
    assert!(fingerprint.starts_with("sha256:") && shown.contains(first.trim()), "{shown}");
    assert_eq!(hub_command(&["ca", "verify", &fingerprint], &hub).status.code(), Some(0));
    let wrong = fingerprint.replace(['0', '1', '2', '3', '4'], "5");
    assert_eq!(hub_command(&["ca", "verify", &wrong], &hub).status.code(), Some(1));
    let made = hub_command(&["join-token", "create", "--approve", "--labels", "line=a"], &hub);
    let token: JoinToken = String::from_utf8(made.stdout).unwrap().parse().unwrap();
    assert_eq!(token.ca.to_string(), fingerprint);
    hub.kill();
    let hub = start(dir.path(), &[]);
    assert_eq!(ca(&hub), first);
}
