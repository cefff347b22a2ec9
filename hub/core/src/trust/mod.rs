//! Which boards are of this fleet? Tokens let boards join, identities say which key speaks for which
//! agent and how it stands, and a list of expected boards gives names and labels before a board is there.
//!
//! ```text
//! (no identity) ── join ──▶ waits ── approve ──▶ good ── revoke ──▶ revoked
//!                    └──── token approves ────────▲ └── decommission ──▶ decommissioned
//! ```
//! A certificate is worth what the record of its key says: there is no list of revoked certificates.

mod guesses;
mod join;
mod manage;
mod token;
pub mod view;

use std::collections::BTreeMap;

use contract::identity::{Machine, PublicKey, Standing};
use contract::time::{Millis, Now};
use contract::{AgentId, Digest};
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Refusal, RequestId};
use crate::core::Core;

pub use guesses::Guesses;
pub use join::{JoinAsk, Known};
pub use manage::Chosen;
pub use token::NewToken;

/// Boards that are expected and have not come.
pub const EXPECTED_MAX: usize = 200_000;
pub const TOKENS_MAX: usize = 1_000;
/// That one token or line may give; as many as a board may claim.
pub const LABELS_MAX: usize = 64;

/// Whoever knows the secret of this digest may join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    pub made_wall_ms: Millis,
    pub ends_wall_ms: Millis,
    /// None: as many as come.
    pub uses_left: Option<u32>,
    pub labels: BTreeMap<String, String>,
    /// Boards that join with it need no approval.
    pub approve: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRecord {
    /// Of the public key (SPKI).
    pub key: Digest,
    /// The key itself: what the board says is checked against it. Missing in records of older hubs, until
    /// the board renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicKey>,
    pub standing: Standing,
    /// Why it stands so, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The hub's, on top of what the board claims.
    pub labels: BTreeMap<String, String>,
    pub machine: Machine,
    /// What it joined with: a second join with both is the first one, finished.
    pub token: Digest,
    /// Where it joined from.
    pub source: String,
    pub joined_wall_ms: Millis,
    /// Of the newest certificate.
    #[serde(default)]
    pub issued_wall_ms: Option<Millis>,
    #[serde(default)]
    pub ends_wall_ms: Option<Millis>,
}

/// A board that is known before it comes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExpectedRecord {
    /// All of these must be as the board tells: `serial`, `mac`, `machine-id`.
    pub machine: Machine,
    pub labels: BTreeMap<String, String>,
    pub approve: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrustKey {
    /// By the digest of its secret.
    Token(Digest),
    Identity(AgentId),
    Expected(AgentId),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum TrustRecord {
    Token(TokenRecord),
    Identity(Box<IdentityRecord>),
    Expected(ExpectedRecord),
}

pub type TrustFacts = BTreeMap<TrustKey, TrustRecord>;

/// What operators and boards ask about identities.
#[derive(Debug, Clone, PartialEq)]
pub enum TrustRequest {
    MakeToken(NewToken),
    /// By the first digits of its name.
    RevokeToken(String),
    Join(Box<JoinAsk>),
    /// A certificate was made; it is handed out once this is durable.
    Issued {
        agent: AgentId,
        public: PublicKey,
        issued_ms: Millis,
        ends_ms: Millis,
    },
    Approve(Chosen),
    Revoke(Vec<AgentId>),
    Decommission(Vec<AgentId>),
    Replace {
        old: AgentId,
        new: AgentId,
    },
    Import(Vec<(AgentId, ExpectedRecord)>),
}

#[derive(Debug, Clone, Default)]
pub struct Trust {
    pub tokens: BTreeMap<Digest, TokenRecord>,
    pub identities: BTreeMap<AgentId, IdentityRecord>,
    /// The same, by key.
    pub(crate) keys: BTreeMap<Digest, AgentId>,
    pub expected: BTreeMap<AgentId, ExpectedRecord>,
    pub(crate) guesses: Guesses,
}

impl Trust {
    pub fn load(facts: TrustFacts) -> Trust {
        let mut trust = Trust::default();
        for (key, record) in facts {
            match (key, record) {
                (TrustKey::Token(id), TrustRecord::Token(record)) => drop(trust.tokens.insert(id, record)),
                (TrustKey::Identity(id), TrustRecord::Identity(record)) => trust.put_identity(id, *record),
                (TrustKey::Expected(id), TrustRecord::Expected(record)) => {
                    drop(trust.expected.insert(id, record));
                }
                // A record under another kind's key: the store names what it cannot read, this is none.
                _ => {}
            }
        }
        trust
    }

    pub fn record(&self, key: &TrustKey) -> Option<TrustRecord> {
        match key {
            TrustKey::Token(id) => self.tokens.get(id).cloned().map(TrustRecord::Token),
            TrustKey::Identity(id) => {
                self.identities.get(id).cloned().map(|i| TrustRecord::Identity(Box::new(i)))
            }
            TrustKey::Expected(id) => self.expected.get(id).cloned().map(TrustRecord::Expected),
        }
    }

    pub(crate) fn put_identity(&mut self, id: AgentId, record: IdentityRecord) {
        self.drop_identity(&id);
        self.keys.insert(record.key, id.clone());
        self.identities.insert(id, record);
    }

    pub(crate) fn drop_identity(&mut self, id: &AgentId) {
        if let Some(old) = self.identities.remove(id) {
            self.keys.remove(&old.key);
        }
    }

    /// Why nothing is taken from an agent that has joined; None for one that may speak.
    pub fn barred(&self, agent: &AgentId) -> Option<&'static str> {
        match self.identities.get(agent)?.standing {
            Standing::Good => None,
            Standing::Waits => Some("it waits to be approved"),
            Standing::Decommissioned => Some("it was decommissioned"),
            _ => Some("its identity was revoked"),
        }
    }

    /// What the hub says goes over what a board claims.
    pub fn impose(&self, agent: &AgentId, labels: &mut BTreeMap<String, String>) {
        if let Some(identity) = self.identities.get(agent) {
            labels.extend(identity.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
    }
}

impl Core {
    pub(crate) fn on_trust(&mut self, now: Now, id: RequestId, request: TrustRequest) {
        let done = match request {
            TrustRequest::MakeToken(new) => self.make_token(now, new),
            TrustRequest::RevokeToken(name) => self.revoke_token(&name),
            TrustRequest::Join(ask) => self.join(now, &ask),
            TrustRequest::Issued { agent, public, issued_ms, ends_ms } => {
                self.issued(&agent, public, issued_ms, ends_ms)
            }
            TrustRequest::Approve(chosen) => self.approve(&chosen),
            TrustRequest::Revoke(agents) => self.end(&agents, Standing::Revoked, "revoked by an operator"),
            TrustRequest::Decommission(agents) => {
                self.end(&agents, Standing::Decommissioned, "decommissioned by an operator")
            }
            TrustRequest::Replace { old, new } => self.replace(&old, &new),
            TrustRequest::Import(expected) => self.import(expected),
        };
        self.out.answer(id, done.unwrap_or_else(|refused| refused));
    }

    pub fn trust(&self) -> &Trust {
        &self.world.trust
    }

    fn touch(&mut self, key: TrustKey) {
        self.commit();
        if let TrustKey::Identity(agent) | TrustKey::Expected(agent) = &key {
            self.changes.agent(agent);
        }
        self.out.trust(key);
    }

    fn agents_done(&self, agents: Vec<AgentId>) -> Answer {
        Answer::Agents { version: self.world.meta.version, agents }
    }
}

fn refused(field: &str, reason: impl Into<String>) -> Answer {
    Answer::Refused { errors: vec![refusal(field, reason)] }
}

fn refusal(field: &str, reason: impl Into<String>) -> Refusal {
    Refusal { workload: None, field: field.into(), reason: reason.into() }
}

fn wall(now: Now) -> Millis {
    now.wall_ms.unwrap_or(0)
}
