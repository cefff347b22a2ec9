//! Operators' tokens and roles, as operators ask for them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use contract::time::Millis;
use contract::{Digest, Name};
use hub_core::access::rights::{Many, Role, Rule};
use hub_core::access::view::{RoleView, TokenView};
use hub_core::access::{self, AccessRequest};
use hub_core::api::{Answer, Request};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::{Asker, PREFIX};
use super::error::{ApiError, Code, accepted};
use super::extract::{J, P};
use crate::data::{hex, random};
use crate::trust::wall_ms;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    pub name: Name,
    pub roles: BTreeSet<Name>,
    /// `*` for all.
    #[serde(default = "everywhere")]
    #[schemars(with = "Vec<String>")]
    pub namespaces: Many<Name>,
    /// It does not end when left out.
    #[serde(default)]
    pub ttl_ms: Option<Millis>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MadeToken {
    pub token: String,
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_wall_ms: Option<Millis>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub roles: BTreeSet<Name>,
    /// `*` for all.
    #[serde(default = "everywhere")]
    #[schemars(with = "Vec<String>")]
    pub namespaces: Many<Name>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    pub items: Vec<TokenView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RoleList {
    pub items: Vec<RoleView>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WhoAmI {
    pub name: String,
    pub rules: Vec<Rule>,
    /// Whatever the rules say.
    #[schemars(with = "Vec<String>")]
    pub namespaces: Many<Name>,
}

fn everywhere() -> Many<Name> {
    Many::All
}

pub async fn whoami(asker: Asker) -> Json<WhoAmI> {
    let name = asker.name().to_string();
    Json(WhoAmI { name, rules: asker.grants.rules, namespaces: asker.grants.within })
}

pub async fn make_token(
    State(app): State<App>,
    asker: Asker,
    J(new): J<NewToken>,
) -> Result<Json<MadeToken>, ApiError> {
    let random = random::<24>().map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    let NewToken { name, roles, namespaces, ttl_ms } = new;
    let token = format!("{PREFIX}{name}_{}", hex(&random));
    let secret = Digest::of(token.as_bytes());
    let ends_wall_ms = ttl_ms.map(|ttl| wall_ms().saturating_add(ttl));
    let new = access::NewToken { name: name.clone(), secret, roles, namespaces, ttl_ms };
    drop(ask(&app, AccessRequest::MakeToken { by: asker.by, new }).await?);
    Ok(Json(MadeToken { token, name, ends_wall_ms }))
}

pub async fn tokens(State(app): State<App>) -> Result<Json<TokenList>, ApiError> {
    Ok(Json(app.hub.look(|core, _| TokenList { items: core.access().token_views() }).await?))
}

pub async fn grant(
    State(app): State<App>,
    asker: Asker,
    P(name): P<String>,
    J(Grant { roles, namespaces }): J<Grant>,
) -> Result<Json<Answer>, ApiError> {
    let name = known("token", &name)?;
    let change = AccessRequest::ChangeToken { by: asker.by, name: name.clone(), roles, namespaces };
    let answer = ask(&app, change).await?;
    // What streams by the old rights ends; its client comes again.
    app.keeper.cut(&name);
    Ok(answer)
}

pub async fn revoke_token(
    State(app): State<App>,
    asker: Asker,
    P(name): P<String>,
) -> Result<Json<Answer>, ApiError> {
    let name = known("token", &name)?;
    let answer = ask(&app, AccessRequest::RevokeToken { by: asker.by, name: name.clone() }).await?;
    app.keeper.cut(&name);
    Ok(answer)
}

pub async fn roles(State(app): State<App>) -> Result<Json<RoleList>, ApiError> {
    Ok(Json(app.hub.look(|core, _| RoleList { items: core.access().role_views() }).await?))
}

pub async fn put_role(
    State(app): State<App>,
    asker: Asker,
    P(name): P<String>,
    J(role): J<Role>,
) -> Result<Json<Answer>, ApiError> {
    let name = name.parse().map_err(|e| ApiError::invalid(format!("role: {e}")))?;
    ask(&app, AccessRequest::PutRole { by: asker.by, name, role }).await
}

pub async fn drop_role(State(app): State<App>, P(name): P<String>) -> Result<Json<Answer>, ApiError> {
    ask(&app, AccessRequest::DropRole { name: known("role", &name)? }).await
}

fn known(what: &str, name: &str) -> Result<Name, ApiError> {
    name.parse().map_err(|e| ApiError::not_found(format!("no such {what}: {e}")))
}

async fn ask(app: &App, request: AccessRequest) -> Result<Json<Answer>, ApiError> {
    Ok(Json(accepted(app.hub.request(Request::Access(request)).await?)?))
}
