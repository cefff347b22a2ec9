//! How much a namespace may take, and what may not run in it.

use axum::Json;
use axum::extract::State;
use contract::Name;
use hub_core::access::rights::{Kind, Verb};
use hub_core::access::view::NamespaceView;
use hub_core::access::{AccessRequest, Namespace};
use hub_core::api::{Answer, Request};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Asker;
use super::error::{ApiError, accepted};
use super::extract::{J, P};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceList {
    pub items: Vec<NamespaceView>,
}

pub async fn list(State(app): State<App>, asker: Asker) -> Result<Json<NamespaceList>, ApiError> {
    let sees = asker.sees(Verb::Get, Kind::Namespaces);
    let mut items = app.hub.look(|core, _| core.namespaces()).await?;
    items.retain(|view| sees.has(&view.name));
    Ok(Json(NamespaceList { items }))
}

pub async fn put(
    State(app): State<App>,
    P(name): P<String>,
    J(namespace): J<Namespace>,
) -> Result<Json<Answer>, ApiError> {
    let name = name.parse().map_err(|e| ApiError::invalid(format!("namespace: {e}")))?;
    ask(&app, AccessRequest::PutNamespace { name, namespace }).await
}

pub async fn remove(State(app): State<App>, P(name): P<String>) -> Result<Json<Answer>, ApiError> {
    let name: Name = name.parse().map_err(|e| ApiError::not_found(format!("no such namespace: {e}")))?;
    ask(&app, AccessRequest::DropNamespace { name }).await
}

async fn ask(app: &App, request: AccessRequest) -> Result<Json<Answer>, ApiError> {
    Ok(Json(accepted(app.hub.request(Request::Access(request)).await?)?))
}
