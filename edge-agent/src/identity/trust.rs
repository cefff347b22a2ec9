//! The identity at work: how to come to the hub, when the certificate is renewed, and what the hub says
//! of a board that it does not let in. Nothing here touches a workload; while the hub or the network is
//! away, everything simply waits (F6).
//!
//! When a certificate is due is judged by the hub's time alone, as the last hello told it and the kernel
//! counted since: the board's own clock may be anything.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use contract::codec;
use contract::identity::{
    ALPN_HTTP, ALPN_MQTT, JoinAnswer, RenewRequest, Standing, StandingNote, renew_at_ms,
};
use contract::message::Hello;
use contract::signature::BoardKey;
use contract::time::{Millis, backoff_ms};
use ed25519_dalek::VerifyingKey;
use rcgen::KeyPair;
use tokio::sync::Notify;
use transport::{Credentials, Endpoint, Floor, Own, Tls, Trusted};

use super::store::{Identity, IdentityDir, key_digest, request};
use crate::run::http::{self, HttpError};

/// Between attempts to renew; there is a third of the certificate's life for it.
const AGAIN_BASE_MS: Millis = 30_000;
const AGAIN_MAX_MS: Millis = 6 * 3_600_000;
/// The floor is written this often at most: it may be a day behind, and the flash is not worn (F3).
const FLOOR_STEP_MS: Millis = 86_400_000;

pub struct Trust {
    dir: IdentityDir,
    key: KeyPair,
    /// The same, for what this board says.
    signer: BoardKey,
    hub_key: VerifyingKey,
    floor: Floor,
    present: RefCell<Present>,
    /// Which of the hub's places is tried.
    place: Cell<usize>,
    /// The hub's time and our boottime when it was told.
    told: Cell<Option<(Millis, Millis)>>,
    written_floor: Cell<Millis>,
    failed: Cell<u32>,
    said: RefCell<Option<String>>,
    decommissioned: RefCell<Option<String>>,
    changed: Notify,
    pub gone: Notify,
}

struct Present {
    identity: Identity,
    mqtt: Tls,
    http: Tls,
}

/// How one session is opened.
pub struct Way {
    pub endpoint: Endpoint,
    pub tls: Tls,
    pub credentials: Credentials,
}

/// What became of a refusal.
pub enum Verdict {
    /// There is a new certificate: come again at once.
    Renewed,
    /// In words.
    Refused(String),
}

/// For `edge-agent status` and `check`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustView {
    pub hubs: Vec<String>,
    /// The first sixteen digits of the key's digest, as `hub agents identities` shows them.
    pub key: String,
    pub certificate_ends_ms: Millis,
    pub floor_ms: Millis,
    /// A certificate of the hub was believed only against this board's clock.
    #[serde(default)]
    pub clock_doubted: bool,
    /// What the hub said last of this board, if that is not 'good'; or why the certificate is not renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// In another process of this board, started by its agent: as the disk has it now, so that the newest
/// certificate is shown.
pub fn come_as_written(state: &Path) -> anyhow::Result<()> {
    let dir = IdentityDir::new(state);
    let identity = dir.identity()?.context("this board has no identity any more")?;
    let floor = floor(dir.floor_ms(), &identity);
    http::come_as(&Present::new(identity, &dir.present_key()?, &floor)?.http);
    Ok(())
}

/// A hub has said both; a clock that says less is wrong.
fn floor(written: Millis, identity: &Identity) -> Floor {
    Floor::new(written.max(identity.enrolment.issued_ms))
}

impl Trust {
    pub fn open(state: &Path, identity: Identity) -> anyhow::Result<Trust> {
        let dir = IdentityDir::new(state);
        let key = dir.present_key()?;
        let written = dir.floor_ms();
        let floor = floor(written, &identity);
        let present = Present::new(identity, &key, &floor)?;
        http::come_as(&present.http);
        Ok(Trust {
            signer: BoardKey::read(&key.serialize_der()).context("identity/key.pem")?,
            hub_key: present.identity.hub_key()?,
            present: RefCell::new(present),
            dir,
            key,
            floor,
            place: Cell::new(0),
            told: Cell::new(None),
            written_floor: Cell::new(written),
            failed: Cell::new(0),
            said: RefCell::new(None),
            decommissioned: RefCell::new(None),
            changed: Notify::new(),
            gone: Notify::new(),
        })
    }

    pub fn way(&self) -> Result<Way, String> {
        let present = self.present.borrow();
        let enrolment = &present.identity.enrolment;
        let endpoint = match &enrolment.broker {
            Some(url) => url.parse(),
            None => Endpoint::tls(&self.hub(&present.identity)),
        };
        // The name alone: the certificate is the password.
        let credentials = Credentials { username: enrolment.agent.to_string(), password: String::new() };
        Ok(Way { endpoint: endpoint.map_err(|why| why.to_string())?, tls: present.mqtt.clone(), credentials })
    }

    pub fn signer(&self) -> &BoardKey {
        &self.signer
    }

    /// The present place did not answer: the next time another.
    pub fn elsewhere(&self) {
        self.place.set(self.place.get().wrapping_add(1));
    }

    /// The hub's own port also has its artefacts, wherever it thinks that it is reached.
    pub fn artifacts(&self, told: &str) -> String {
        let present = self.present.borrow();
        match told.starts_with("https://") && present.identity.enrolment.broker.is_none() {
            true => format!("https://{}", self.hub(&present.identity)),
            false => told.to_string(),
        }
    }

    fn hub(&self, identity: &Identity) -> String {
        identity.hubs.get(self.place.get() % identity.hubs.len().max(1)).cloned().unwrap_or_default()
    }

    /// A greeting, verified: what time it is, and that this board is let in.
    pub fn on_hello(&self, hello: &Hello, boot_ms: Millis) {
        self.said.take();
        let Some(wall_ms) = hello.wall_ms else { return };
        self.told.set(Some((wall_ms, boot_ms)));
        self.floor.raise(wall_ms);
        if self.floor.ms() >= self.written_floor.get() + FLOOR_STEP_MS
            && self.dir.write_floor(self.floor.ms()).is_ok()
        {
            self.written_floor.set(self.floor.ms());
        }
        self.changed.notify_one();
    }

    /// The hub's time, if it has told one since this start.
    fn hub_ms(&self, boot_ms: Millis) -> Option<Millis> {
        self.told.get().map(|(wall, then)| wall + boot_ms.saturating_sub(then))
    }

    fn due_in(&self, boot_ms: Millis) -> Option<Duration> {
        let present = self.present.borrow();
        let enrolment = &present.identity.enrolment;
        let due = renew_at_ms(enrolment.issued_ms, enrolment.ends_ms, &enrolment.agent);
        let wait = due.saturating_sub(self.hub_ms(boot_ms)?);
        let again = backoff_ms(AGAIN_BASE_MS, AGAIN_MAX_MS, self.failed.get(), enrolment.agent.as_str());
        Some(Duration::from_millis(wait.max(again)))
    }

    /// Renews when it is time, for as long as the agent lives.
    pub async fn keep(&self) {
        loop {
            let due = self.due_in(crate::run::now().boot_ms);
            tokio::select! {
                () = self.changed.notified() => continue,
                () = wait(due) => {}
            }
            if let Err(why) = self.renew().await {
                self.failed.set(self.failed.get().saturating_add(1));
                self.say(format!("the certificate is not renewed yet: {why}"));
            }
        }
    }

    /// A broker or the hub does not want us. Who says so, and why? The hub's signed word counts.
    pub async fn ask(&self) -> Verdict {
        let note = match self.standing().await {
            Ok(note) => note,
            Err(why) => return Verdict::Refused(format!("not let in, and the hub does not say why: {why}")),
        };
        let why = match note.standing {
            Standing::Good => {
                "not let in, though the hub knows of no reason: ask who runs the broker".to_string()
            }
            Standing::Waits => "waits to be approved: hub agents approve".to_string(),
            Standing::Revoked | Standing::Unknown => {
                if note.standing == Standing::Revoked
                    && let Err(why) = self.dir.forget_secrets()
                {
                    eprintln!("edge-agent: the secrets of a revoked board stay for now: {why:#}");
                }
                format!("the hub lets this board in no more: {}; workloads run on", note.reason)
            }
            Standing::Decommissioned => {
                self.decommissioned.replace(Some(note.reason.clone()));
                self.gone.notify_one();
                format!("decommissioned: {}", note.reason)
            }
            Standing::Expired => match self.renew().await {
                Ok(()) => return Verdict::Renewed,
                Err(why) => format!("{}, and is not renewed: {why}", note.reason),
            },
        };
        self.say(why.clone());
        Verdict::Refused(why)
    }

    pub fn decommissioned(&self) -> Option<String> {
        self.decommissioned.borrow().clone()
    }

    async fn standing(&self) -> Result<StandingNote, String> {
        let (tls, hub, agent) = {
            let present = self.present.borrow();
            (present.http.clone(), self.hub(&present.identity), present.identity.enrolment.agent.clone())
        };
        let answer = http::get_small(&tls, &hub, "/v1/standing").await.map_err(|why| why.to_string())?;
        let note: StandingNote = codec::open(codec::Kind::Standing, &answer, Some(&self.hub_key))
            .map_err(|why| format!("its word about this board {why}"))?;
        let ours = note.agent == agent && note.key == key_digest(&self.key);
        if ours { Ok(note) } else { Err("its word is about another board".into()) }
    }

    async fn renew(&self) -> Result<(), String> {
        let text = |why: anyhow::Error| format!("{why:#}");
        let (tls, hub, mut identity) = {
            let present = self.present.borrow();
            (present.http.clone(), self.hub(&present.identity), present.identity.clone())
        };
        let ask = RenewRequest { request: request(&self.key).map_err(text)? };
        let body = serde_json::to_vec(&ask).map_err(|why| why.to_string())?;
        let answer =
            http::post(&tls, &hub, "/v1/renew", Bytes::from(body)).await.map_err(|why| match why {
                HttpError::Status { text, .. } => http::message(&text),
                why => why.to_string(),
            })?;
        match serde_json::from_slice(&answer).map_err(|why| why.to_string())? {
            JoinAnswer::Joined(enrolment) if enrolment.agent == identity.enrolment.agent => {
                // The CA is the one that the token pinned; nobody changes it by the way.
                let ca = std::mem::take(&mut identity.enrolment.ca);
                identity.enrolment = *enrolment;
                identity.enrolment.ca = ca;
            }
            _ => return Err("the hub's answer holds no certificate for this board".into()),
        }
        let present = Present::new(identity, &self.key, &self.floor).map_err(text)?;
        self.dir.write_identity(&present.identity).map_err(text)?;
        eprintln!("edge-agent: the certificate was renewed");
        http::come_as(&present.http);
        // The hub's newest word on what time it is: with an older one, of a clock that was ahead and came
        // back, the new certificate would be due at once.
        self.told.set(Some((present.identity.enrolment.issued_ms, crate::run::now().boot_ms)));
        self.present.replace(present);
        self.failed.set(0);
        self.said.take();
        Ok(())
    }

    fn say(&self, trouble: String) {
        if self.said.replace(Some(trouble.clone())).as_ref() != Some(&trouble) {
            eprintln!("edge-agent: {trouble}");
        }
    }

    pub fn view(&self) -> TrustView {
        let present = self.present.borrow();
        TrustView {
            hubs: present.identity.hubs.clone(),
            key: key_digest(&self.key).hex()[..16].to_string(),
            certificate_ends_ms: present.identity.enrolment.ends_ms,
            floor_ms: self.floor.ms(),
            clock_doubted: self.floor.clock_is_doubted(),
            trouble: self.said.borrow().clone(),
        }
    }
}

impl Present {
    fn new(identity: Identity, key: &KeyPair, floor: &Floor) -> anyhow::Result<Present> {
        let enrolment = &identity.enrolment;
        let own = Own { certificate: enrolment.certificate.clone(), key: key.serialize_pem() };
        let hub = Trusted::Hub(enrolment.ca.clone());
        let broker = match (&enrolment.broker, &enrolment.broker_ca) {
            (None, _) => hub.clone(),
            (Some(_), ca) => Trusted::Named(ca.clone().unwrap_or_else(|| enrolment.ca.clone())),
        };
        let mqtt = Tls::new(&broker, Some(&own), floor.clone(), ALPN_MQTT)?;
        let http = Tls::new(&hub, Some(&own), floor.clone(), ALPN_HTTP)?;
        Ok(Present { identity, mqtt, http })
    }
}

async fn wait(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}
