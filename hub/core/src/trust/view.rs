//! Tokens and identities as operators see them: no secret, no digest of one.

use std::collections::BTreeMap;

use contract::AgentId;
use contract::identity::{Machine, Standing};
use contract::time::Millis;
use serde::{Deserialize, Serialize};

use super::{IdentityRecord, TokenRecord, Trust};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    /// The first ten digits of the secret's digest.
    pub name: String,
    pub made_wall_ms: Millis,
    pub ends_wall_ms: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses_left: Option<u32>,
    pub labels: BTreeMap<String, String>,
    pub approve: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct IdentityView {
    pub agent: AgentId,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub standing: Standing,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The first sixteen digits of its key's digest, as `edge-agent status` shows it.
    pub key: String,
    pub labels: BTreeMap<String, String>,
    pub machine: Machine,
    /// The token it joined with.
    pub token: String,
    pub source: String,
    pub joined_wall_ms: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_wall_ms: Option<Millis>,
}

const NAME_DIGITS: usize = 10;
pub const KEY_DIGITS: usize = 16;

impl Trust {
    pub fn token_views(&self) -> Vec<TokenView> {
        self.tokens.iter().map(|(id, token)| token_view(&id.hex(), token)).collect()
    }

    pub fn identity_views(&self) -> Vec<IdentityView> {
        self.identities.iter().map(|(agent, identity)| identity_view(agent, identity)).collect()
    }
}

fn token_view(hex: &str, token: &TokenRecord) -> TokenView {
    TokenView {
        name: hex[..NAME_DIGITS].to_string(),
        made_wall_ms: token.made_wall_ms,
        ends_wall_ms: token.ends_wall_ms,
        uses_left: token.uses_left,
        labels: token.labels.clone(),
        approve: token.approve,
    }
}

fn identity_view(agent: &AgentId, identity: &IdentityRecord) -> IdentityView {
    IdentityView {
        agent: agent.clone(),
        standing: identity.standing,
        reason: identity.reason.clone(),
        key: identity.key.hex()[..KEY_DIGITS].to_string(),
        labels: identity.labels.clone(),
        machine: identity.machine.clone(),
        token: identity.token.hex()[..NAME_DIGITS].to_string(),
        source: identity.source.clone(),
        joined_wall_ms: identity.joined_wall_ms,
        ends_wall_ms: identity.ends_wall_ms,
    }
}
