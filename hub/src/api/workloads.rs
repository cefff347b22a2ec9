//! Workloads and their instances: looking at them, and changing one of them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use contract::{AgentId, Name, WorkloadKey};
use hub_core::access::rights::{Kind, Verb};
use hub_core::api::{Answer, Request};
use hub_core::labels::Query;
use hub_core::view::{Describe, InstanceFilter, InstanceView, WorkloadView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Asker;
use super::error::{ApiError, accepted};
use super::extract::{J, P, Q, etag, if_match};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    namespace: Option<String>,
    /// Labels: `k=v,k2!=v2,k3,!k4`.
    selector: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct WorkloadList {
    /// Of the newest commit.
    version: contract::Version,
    /// Where `watch` may go on from.
    seq: u64,
    items: Vec<WorkloadView>,
}

impl ListQuery {
    pub fn read(&self) -> Result<(Option<Name>, Query), ApiError> {
        let namespace = self.namespace.as_deref().map(|text| name("namespace", text)).transpose()?;
        Ok((namespace, selector(self.selector.as_deref())?))
    }
}

pub async fn list(
    State(app): State<App>,
    asker: Asker,
    Q(query): Q<ListQuery>,
) -> Result<Json<WorkloadList>, ApiError> {
    let (namespace, selector) = query.read()?;
    let ring = app.ring.clone();
    let sees = asker.sees(Verb::Get, Kind::Workloads);
    let list = app.hub.look(move |core, _| {
        let mut list = core.workloads(namespace.as_ref(), &selector);
        list.items.retain(|view| sees.has(&view.key.namespace));
        WorkloadList { version: list.version, seq: ring.newest(), items: list.items }
    });
    Ok(Json(list.await?))
}

/// The two parts of a workload's path.
pub type Place = (String, String);

pub async fn get(State(app): State<App>, P(place): P<Place>) -> Result<Response, ApiError> {
    let key = key(place)?;
    let missing = unknown(&key);
    let view = app.hub.look(move |core, _| core.workload(&key)).await?.ok_or(missing)?;
    Ok(([(header::ETAG, etag(view.version))], Json(view)).into_response())
}

pub async fn describe(State(app): State<App>, P(place): P<Place>) -> Result<Json<Describe>, ApiError> {
    let key = key(place)?;
    let missing = unknown(&key);
    app.hub.look(move |core, now| core.describe(now, &key)).await?.map(Json).ok_or(missing)
}

pub async fn delete(
    State(app): State<App>,
    P(place): P<Place>,
    headers: HeaderMap,
) -> Result<Json<Answer>, ApiError> {
    let request = Request::Delete { keys: vec![key(place)?], if_version: if_match(&headers)? };
    Ok(Json(accepted(app.hub.request(request).await?)?))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    replicas: u32,
}

pub async fn scale(
    State(app): State<App>,
    P(place): P<Place>,
    headers: HeaderMap,
    J(Scale { replicas }): J<Scale>,
) -> Result<Json<Answer>, ApiError> {
    let request = Request::Scale { key: key(place)?, replicas, if_version: if_match(&headers)? };
    Ok(Json(accepted(app.hub.request(request).await?)?))
}

pub async fn restart(State(app): State<App>, P(place): P<Place>) -> Result<Json<Answer>, ApiError> {
    Ok(Json(accepted(app.hub.request(Request::Restart { key: key(place)? }).await?)?))
}

/// Which instances: all parts must hold.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub namespace: Option<String>,
    /// A name within `namespace` (default when absent), or `<namespace>/<name>`.
    pub workload: Option<String>,
    /// Labels of the workload: `k=v,k2!=v2,k3,!k4`.
    pub selector: Option<String>,
    pub agent: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct InstanceList {
    seq: u64,
    items: Vec<InstanceView>,
}

pub async fn instances(
    State(app): State<App>,
    asker: Asker,
    Q(wanted): Q<Wanted>,
) -> Result<Json<InstanceList>, ApiError> {
    let (filter, ring) = (wanted.filter()?, app.ring.clone());
    let sees = asker.sees(Verb::Get, Kind::Workloads);
    let list = app.hub.look(move |core, now| {
        let mut items = core.instances(now, &filter);
        items.retain(|view| sees.has(&view.workload.namespace));
        InstanceList { seq: ring.newest(), items }
    });
    Ok(Json(list.await?))
}

impl Wanted {
    pub fn filter(&self) -> Result<InstanceFilter, ApiError> {
        let namespace = self.namespace.as_deref().map(|text| name("namespace", text)).transpose()?;
        let workload = self.workload.as_deref().map(|text| workload(text, namespace.as_ref())).transpose()?;
        let agent = self.agent.as_deref().map(agent).transpose()?;
        Ok(InstanceFilter { namespace, workload, selector: selector(self.selector.as_deref())?, agent })
    }
}

pub fn workload(text: &str, namespace: Option<&Name>) -> Result<WorkloadKey, ApiError> {
    if text.contains('/') {
        return text.parse().map_err(|e| ApiError::invalid(format!("workload: {e}")));
    }
    let namespace = namespace.cloned().unwrap_or_else(contract::spec::default_namespace);
    Ok(WorkloadKey { namespace, name: name("workload", text)? })
}

pub fn agent(text: &str) -> Result<AgentId, ApiError> {
    text.parse().map_err(|e| ApiError::invalid(format!("agent: {e}")))
}

pub fn selector(text: Option<&str>) -> Result<Query, ApiError> {
    text.unwrap_or("").parse().map_err(|e| ApiError::invalid(format!("selector: {e}")))
}

fn name(what: &str, text: &str) -> Result<Name, ApiError> {
    text.parse().map_err(|e| ApiError::invalid(format!("{what}: {e}")))
}

/// A name that is not legal names nothing.
pub fn key((namespace, name): Place) -> Result<WorkloadKey, ApiError> {
    format!("{namespace}/{name}").parse().map_err(|e| ApiError::not_found(format!("no such name: {e}")))
}

fn unknown(key: &WorkloadKey) -> ApiError {
    ApiError::not_found(format!("no workload {key}"))
}
