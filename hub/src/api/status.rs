//! The hub itself: who it is, how it is, and taking a fleet over again after a restore.

use axum::Json;
use axum::extract::State;
use contract::Lineage;
use hub_core::api::{Answer, Request};
use hub_core::view::StatusView;
use schemars::JsonSchema;
use serde::Deserialize;

use super::App;
use super::error::{ApiError, Code, accepted};
use super::extract::Body;
use crate::serve::broker::BrokerKind;

/// Alive: the loop answers.
pub async fn healthz(State(app): State<App>) -> Result<&'static str, ApiError> {
    app.hub.look(|_, _| ()).await?;
    Ok("ok\n")
}

pub async fn status(State(app): State<App>) -> Result<Json<StatusView>, ApiError> {
    let mut status = app.hub.look(|core, _| core.status()).await?;
    let kind = match app.identity.broker_kind {
        BrokerKind::Embedded => "embedded",
        BrokerKind::External => "external",
        BrokerKind::Memory => "memory",
    };
    status.broker.kind = kind.to_string();
    status.broker.url = app.identity.broker_url.clone();
    status.fingerprint = app.identity.fingerprint.clone();
    status.hub_version = env!("CARGO_PKG_VERSION").to_string();
    Ok(Json(status))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The lineage of the store that was lost; absent after a restore of an old copy.
    lineage: Option<Lineage>,
}

pub async fn accept_restore(State(app): State<App>, Body(body): Body) -> Result<Json<Answer>, ApiError> {
    let Accept { lineage } =
        serde_json::from_slice(&body).map_err(|e| ApiError::invalid(format!("body: {e}")))?;
    let answer = accepted(app.hub.request(Request::AcceptRestore { lineage }).await?)?;
    let lineage = app.hub.look(|core, _| core.status().lineage).await?;
    app.data.note_lineage(lineage).map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    Ok(Json(answer))
}
