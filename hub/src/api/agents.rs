//! The fleet: looking at boards, and forgetting one that is gone for good.

use axum::Json;
use axum::extract::State;
use contract::AgentId;
use hub_core::api::{Answer, Request};
use hub_core::view::AgentView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::{ApiError, accepted};
use super::extract::{P, Q};
use super::workloads::selector;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentsQuery {
    /// Labels: `k=v,k2!=v2,k3,!k4`.
    selector: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct AgentList {
    /// Where `watch` may go on from.
    seq: u64,
    items: Vec<AgentView>,
}

pub async fn list(State(app): State<App>, Q(query): Q<AgentsQuery>) -> Result<Json<AgentList>, ApiError> {
    let (selector, ring) = (selector(query.selector.as_deref())?, app.ring.clone());
    let list =
        app.hub.look(move |core, now| AgentList { seq: ring.newest(), items: core.agents(now, &selector) });
    Ok(Json(list.await?))
}

pub async fn get(State(app): State<App>, P(id): P<String>) -> Result<Json<AgentView>, ApiError> {
    let id = known(&id)?;
    let missing = ApiError::not_found(format!("no agent {id}"));
    app.hub.look(move |core, now| core.agent(now, &id)).await?.map(Json).ok_or(missing)
}

pub async fn remove(State(app): State<App>, P(id): P<String>) -> Result<Json<Answer>, ApiError> {
    let request = Request::RemoveAgent { agent: known(&id)? };
    Ok(Json(accepted(app.hub.request(request).await?)?))
}

fn known(id: &str) -> Result<AgentId, ApiError> {
    id.parse().map_err(|e| ApiError::not_found(format!("no such agent: {e}")))
}
