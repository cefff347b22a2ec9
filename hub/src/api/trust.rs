//! What operators do about identities: tokens, approval, sending away, expecting.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use contract::identity::{JoinToken, Machine};
use contract::time::Millis;
use contract::{AgentId, Digest};
use hub_core::api::{Answer, Request};
use hub_core::trust::view::{IdentityView, TokenView};
use hub_core::trust::{self, Chosen, ExpectedRecord, TrustRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::{ApiError, Code, accepted};
use super::extract::{J, P};
use crate::audit::Objects;
use crate::data::{hex, random};
use crate::trust::wall_ms;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// One day when left out.
    #[serde(default)]
    pub ttl_ms: Option<Millis>,
    /// As many as come, when left out.
    #[serde(default)]
    pub uses: Option<u32>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Boards that join with it need no approval.
    #[serde(default)]
    pub approve: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MadeToken {
    pub token: String,
    pub name: String,
    pub ends_wall_ms: Millis,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    pub items: Vec<TokenView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct IdentityList {
    pub items: Vec<IdentityView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub agents: Vec<AgentId>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    #[serde(default)]
    pub agents: Vec<AgentId>,
    /// Of those that wait: `k=v,k2!=v2,k3,!k4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replace {
    pub old: AgentId,
    pub new: AgentId,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub agent: AgentId,
    /// All of these must be as the board tells: `serial`, `mac`, `machine-id`.
    pub machine: Machine,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub approve: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    pub items: Vec<Expected>,
}

const TTL_DEFAULT_MS: Millis = 86_400_000;

pub async fn make_token(State(app): State<App>, J(new): J<NewToken>) -> Result<Json<MadeToken>, ApiError> {
    let hubs = app.door.terms.hubs.clone();
    if hubs.is_empty() {
        return Err(ApiError::invalid(
            "boards cannot reach this hub: start it with '--listen 0.0.0.0:7711 --advertise <its name or address>', or with --tls for boards on this machine",
        ));
    }
    let random = random::<24>().map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    let (secret, ttl_ms) = (hex(&random), new.ttl_ms.unwrap_or(TTL_DEFAULT_MS));
    let id = Digest::of(secret.as_bytes());
    let NewToken { uses, labels, approve, .. } = new;
    let request = TrustRequest::MakeToken(trust::NewToken { secret: id, ttl_ms, uses, labels, approve });
    ask(&app, request).await?;
    let made_ms = wall_ms();
    let key = crate::data::public_key_line(&app.key).trim().to_string();
    let token = JoinToken { hubs, ca: app.door.ca.fingerprint(), key, secret, made_ms };
    Ok(Json(MadeToken {
        token: token.print(),
        name: id.hex()[..10].to_string(),
        ends_wall_ms: made_ms + ttl_ms,
    }))
}

pub async fn tokens(State(app): State<App>) -> Result<Json<TokenList>, ApiError> {
    Ok(Json(app.hub.look(|core, _| TokenList { items: core.trust().token_views() }).await?))
}

pub async fn revoke_token(State(app): State<App>, P(name): P<String>) -> Result<Json<Answer>, ApiError> {
    Ok(Json(ask(&app, TrustRequest::RevokeToken(name)).await?))
}

pub async fn identities(State(app): State<App>) -> Result<Json<IdentityList>, ApiError> {
    Ok(Json(app.hub.look(|core, _| IdentityList { items: core.trust().identity_views() }).await?))
}

pub async fn approve(
    State(app): State<App>,
    touched: Objects,
    J(choose): J<Choose>,
) -> Result<Json<Answer>, ApiError> {
    touched.add(choose.agents.iter().map(ToString::to_string).chain(choose.selector.clone()));
    let chosen = match (choose.selector, choose.agents) {
        (Some(query), agents) if agents.is_empty() => {
            Chosen::Labelled(query.parse().map_err(|e| ApiError::invalid(format!("selector: {e}")))?)
        }
        (None, agents) if !agents.is_empty() => Chosen::Named(agents),
        _ => return Err(ApiError::invalid("name boards, or give a selector: one of both")),
    };
    Ok(Json(ask(&app, TrustRequest::Approve(chosen)).await?))
}

pub async fn revoke(
    State(app): State<App>,
    touched: Objects,
    J(named): J<Named>,
) -> Result<Json<Answer>, ApiError> {
    touched.add(named.agents.iter().map(ToString::to_string));
    send_away(&app, TrustRequest::Revoke(named.agents.clone()), &named.agents).await
}

pub async fn decommission(
    State(app): State<App>,
    touched: Objects,
    J(named): J<Named>,
) -> Result<Json<Answer>, ApiError> {
    touched.add(named.agents.iter().map(ToString::to_string));
    send_away(&app, TrustRequest::Decommission(named.agents.clone()), &named.agents).await
}

pub async fn replace(
    State(app): State<App>,
    touched: Objects,
    J(Replace { old, new }): J<Replace>,
) -> Result<Json<Answer>, ApiError> {
    touched.add([old.to_string(), new.to_string()]);
    send_away(&app, TrustRequest::Replace { old: old.clone(), new }, &[old]).await
}

pub async fn import(State(app): State<App>, J(import): J<Import>) -> Result<Json<Answer>, ApiError> {
    let record =
        |e: Expected| (e.agent, ExpectedRecord { machine: e.machine, labels: e.labels, approve: e.approve });
    let expected = import.items.into_iter().map(record).collect();
    Ok(Json(ask(&app, TrustRequest::Import(expected)).await?))
}

/// Once it is durable that they may not come in, they are out.
async fn send_away(app: &App, request: TrustRequest, agents: &[AgentId]) -> Result<Json<Answer>, ApiError> {
    let answer = ask(app, request).await?;
    app.door.inside().cut(agents);
    Ok(Json(answer))
}

async fn ask(app: &App, request: TrustRequest) -> Result<Answer, ApiError> {
    accepted(app.hub.request(Request::Trust(request)).await?)
}
