//! The fleet: looking at boards in pages or by numbers, marking them, and forgetting one that is gone for
//! good.

use axum::Json;
use axum::extract::State;
use contract::AgentId;
use contract::quantity::Duration;
use hub_core::api::{Answer, Request};
use hub_core::fleet::AgentChange;
use hub_core::view::{AgentFilter, AgentView, FleetView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::{ApiError, accepted};
use super::extract::{J, P, Q};
use super::workloads::selector;
use crate::audit::Objects;

/// Agents in one answer, at most and when nothing is said.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentsQuery {
    /// Labels: `k=v,k2!=v2,k3,!k4`.
    selector: Option<String>,
    /// Of state, arch, version, cordoned, drain and tainted: `state=offline,arch!=x86_64`.
    field: Option<String>,
    /// Not heard of for at least so long: `1h30m`.
    offline_for: Option<String>,
    /// At most so many, 1 to 1000; 1000 when absent.
    limit: Option<usize>,
    /// Go on after a page: its `continue`.
    #[serde(rename = "continue")]
    after: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct AgentList {
    /// Where `watch` may go on from.
    seq: u64,
    items: Vec<AgentView>,
    /// There is more: ask again with this.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    next: Option<AgentId>,
}

pub async fn list(State(app): State<App>, Q(query): Q<AgentsQuery>) -> Result<Json<AgentList>, ApiError> {
    let wanted = filter(query.selector.as_deref(), query.field.as_deref(), query.offline_for.as_deref())?;
    let limit = query.limit.unwrap_or(PAGE_MAX);
    if limit == 0 || limit > PAGE_MAX {
        return Err(ApiError::invalid(format!("limit: is {limit}; 1 to {PAGE_MAX}")));
    }
    let after: Option<AgentId> = query.after.as_deref().map(token).transpose()?;
    let ring = app.ring.clone();
    let list = app.hub.look(move |core, now| {
        let page = core.agent_page(now, &wanted, after.as_ref(), limit);
        AgentList { seq: ring.newest(), items: page.items, next: page.next }
    });
    Ok(Json(list.await?))
}

fn token(text: &str) -> Result<AgentId, ApiError> {
    text.parse()
        .map_err(|_| ApiError::invalid("continue: is none that this hub gave: leave it out to begin anew"))
}

fn filter(
    labels: Option<&str>,
    fields: Option<&str>,
    offline_for: Option<&str>,
) -> Result<AgentFilter, ApiError> {
    let offline_for: Option<Duration> = offline_for
        .map(str::parse)
        .transpose()
        .map_err(|e: contract::quantity::QuantityError| ApiError::invalid(format!("offlineFor: {e}")))?;
    Ok(AgentFilter {
        selector: selector(labels)?,
        fields: fields.unwrap_or("").parse().map_err(|e| ApiError::invalid(format!("field: {e}")))?,
        offline_for_ms: offline_for.map(|d| d.ms),
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetQuery {
    /// The label to count by; `site` when absent.
    label: Option<String>,
    /// Labels: `k=v,k2!=v2,k3,!k4`.
    selector: Option<String>,
    /// As for the list of agents.
    field: Option<String>,
    offline_for: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct Fleet {
    /// Where `watch` may go on from.
    seq: u64,
    #[serde(flatten)]
    fleet: FleetView,
}

pub async fn fleet(State(app): State<App>, Q(query): Q<FleetQuery>) -> Result<Json<Fleet>, ApiError> {
    let wanted = filter(query.selector.as_deref(), query.field.as_deref(), query.offline_for.as_deref())?;
    let label = query.label.unwrap_or_else(|| "site".to_string());
    contract::label::check_key(&label).map_err(|e| ApiError::invalid(format!("label: {e}")))?;
    let ring = app.ring.clone();
    let fleet =
        app.hub.look(move |core, now| Fleet { seq: ring.newest(), fleet: core.fleet(now, &wanted, &label) });
    Ok(Json(fleet.await?))
}

/// What an operator says of these agents: of all of them, or of none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAgents {
    /// 1 to 1000 names.
    agents: Vec<String>,
    change: AgentChange,
}

pub async fn change(
    State(app): State<App>,
    touched: Objects,
    J(body): J<ChangeAgents>,
) -> Result<Json<Answer>, ApiError> {
    touched.add(body.agents.iter().cloned());
    let agents: Result<Vec<AgentId>, ApiError> = body.agents.iter().map(|id| known(id)).collect();
    let request = Request::ChangeAgents { agents: agents?, change: body.change };
    Ok(Json(accepted(app.hub.request(request).await?)?))
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
