//! How a board joins: one question to the hub that the token pins, asked again until it is answered for
//! good. A file on the boot partition begins it as the command does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use contract::identity::{ALPN_HTTP, JoinAnswer, JoinRequest, JoinToken};
use contract::time::backoff_ms;
use contract::{AgentId, Digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use transport::{Floor, Tls, Trusted};

use super::machine;
use super::store::{Identity, IdentityDir, PendingJoin, request};
use crate::run::http::{self, HttpError};

/// Where a board finds a join that was put onto its card before it first ran.
pub const JOIN_FILES: [&str; 2] = ["/boot/firmware/skerry-join.json", "/boot/skerry-join.json"];
const AGAIN_BASE_MS: u64 = 2_000;
/// A board that waits to be approved, or whose token has ended, asks this often at last.
const AGAIN_MAX_MS: u64 = 15 * 60_000;

pub enum Joined {
    Yes(Box<Identity>),
    /// An operator has to approve it first.
    Waits(AgentId),
}

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("no hub answers: {0}")]
    Unreachable(String),
    #[error("the hub refuses: {0}")]
    Refused(String),
    #[error("{0:#}")]
    Here(anyhow::Error),
}

/// One attempt, at each of the token's places.
pub async fn join(dir: &IdentityDir, pending: &PendingJoin) -> Result<Joined, JoinError> {
    let token = pending.token().map_err(JoinError::Here)?;
    let key = dir.key().map_err(JoinError::Here)?;
    crate::instance::failpoint::reach("agent-join-key");
    let id = crate::run::agent_id(&pending.id).map_err(|why| JoinError::Here(anyhow::Error::msg(why)))?;
    let request = request(&key).map_err(JoinError::Here)?;
    let ask = JoinRequest { secret: token.secret.clone(), request, id, machine: machine::facts() };
    let body = serde_json::to_vec(&ask).map_err(|why| JoinError::Here(why.into()))?;
    // No board that reads a token is earlier than it.
    let floor = Floor::new(dir.floor_ms().max(token.made_ms));
    let tls = Tls::new(&Trusted::Pinned(token.ca), None, floor, ALPN_HTTP);
    let tls = tls.map_err(|why| JoinError::Here(why.into()))?;
    let mut unreachable = Vec::new();
    for hub in &token.hubs {
        match http::post(&tls, hub, "/v1/join", Bytes::from(body.clone())).await {
            Ok(answer) => return taken(dir, &token, &answer),
            Err(HttpError::Status { text, status, .. }) if status.is_client_error() => {
                return Err(JoinError::Refused(http::message(&text)));
            }
            Err(why) => unreachable.push(why.to_string()),
        }
    }
    Err(JoinError::Unreachable(unreachable.join("; ")))
}

fn taken(dir: &IdentityDir, token: &JoinToken, answer: &[u8]) -> Result<Joined, JoinError> {
    crate::instance::failpoint::reach("agent-join-answered");
    let answer: JoinAnswer = serde_json::from_slice(answer).map_err(|why| JoinError::Here(why.into()))?;
    let enrolment = match answer {
        JoinAnswer::Waits { agent } => return Ok(Joined::Waits(agent)),
        JoinAnswer::Joined(enrolment) => *enrolment,
    };
    let ca = CertificateDer::from_pem_slice(enrolment.ca.as_bytes());
    if ca.ok().map(|der| Digest::of(&der)) != Some(token.ca) {
        return Err(JoinError::Here(anyhow::anyhow!("the hub's answer names another CA than the token")));
    }
    let identity = Identity { hubs: token.hubs.clone(), hub_key: token.key.clone(), enrolment };
    dir.write_identity(&identity).map_err(JoinError::Here)?;
    Ok(Joined::Yes(Box::new(identity)))
}

/// Until it is done: there is no other way to a hub, and nothing that runs here waits for it.
pub async fn join_patiently(dir: &IdentityDir, pending: &PendingJoin) -> anyhow::Result<Identity> {
    let mut attempt = 0;
    loop {
        let why = match join(dir, pending).await {
            Ok(Joined::Yes(identity)) => return Ok(*identity),
            Ok(Joined::Waits(agent)) => format!("waits to be approved: hub agents approve {agent}"),
            Err(JoinError::Here(why)) => return Err(why),
            Err(why) => why.to_string(),
        };
        attempt += 1;
        let pause = backoff_ms(AGAIN_BASE_MS, AGAIN_MAX_MS, attempt, &pending.token);
        eprintln!("edge-agent: not joined yet, again in {} s: {why}", pause / 1000);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// A join from a file that is gone, or empty, once it has been taken over.
pub fn take_file(dir: &IdentityDir, given: Option<&Path>) -> anyhow::Result<Option<PendingJoin>> {
    let places = match given {
        Some(file) => vec![file.to_path_buf()],
        None => JOIN_FILES.iter().map(PathBuf::from).collect(),
    };
    let found = places.iter().find_map(|path| Some((path, fs::read_to_string(path).ok()?)));
    let Some((path, text)) = found.filter(|(_, text)| !text.trim().is_empty()) else { return Ok(None) };
    let pending = read_file(&text).with_context(|| path.display().to_string())?;
    dir.make()?;
    dir.write_pending(&pending)?;
    crate::instance::failpoint::reach("agent-join-taken");
    // A token on a card that anybody can read is worth less than the trouble of finding it there.
    if fs::remove_file(path).is_err() && fs::write(path, "").is_err() {
        eprintln!("edge-agent: {} cannot be removed: it still holds the token", path.display());
    }
    Ok(Some(pending))
}

/// The bare token, or JSON with it.
fn read_file(text: &str) -> anyhow::Result<PendingJoin> {
    let pending = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).context("is not {\"token\": \"…\", \"id\": \"…\"}")?,
        false => PendingJoin { token: text.trim().to_string(), id: None, hub: None },
    };
    pending.token()?;
    Ok(pending)
}
