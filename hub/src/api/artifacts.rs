//! Listing and removing artefacts, and the blobs that go with them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use contract::Digest;
use contract::message::Compiled;
use hub_core::Core;
use hub_core::api;
use hub_core::view::{ArtifactView, CompiledView};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::error::{ApiError, Code, accepted};
use super::extract::P;

/// The reference is a digest or `name:tag`.
pub async fn remove(State(app): State<App>, P(reference): P<String>) -> Result<StatusCode, ApiError> {
    accepted(app.hub.request(api::Request::RemoveArtifact { reference }).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize, JsonSchema)]
pub struct ArtifactList {
    /// Where `watch` may go on from.
    seq: u64,
    items: Vec<ArtifactView>,
}

pub async fn list(State(app): State<App>) -> Result<Json<ArtifactList>, ApiError> {
    let ring = app.ring.clone();
    Ok(Json(app.hub.look(move |core, _| ArtifactList { seq: ring.newest(), items: core.artifacts() }).await?))
}

pub async fn get(State(app): State<App>, P(reference): P<String>) -> Result<Json<ArtifactView>, ApiError> {
    let missing = ApiError::not_found(format!("no artefact '{reference}'"));
    let found = app.hub.look(move |core, _| core.artifact(&reference)).await?;
    found.map(Json).ok_or(missing)
}

/// What was compiled from one artefact.
pub fn compiled(artifact: &ArtifactView) -> impl Iterator<Item = Compiled> + '_ {
    artifact.compiled.iter().filter_map(|(engine, compiled)| match compiled {
        CompiledView::Ready { digest, size_bytes } => Some(Compiled {
            source: artifact.digest,
            engine: engine.clone(),
            digest: *digest,
            size_bytes: *size_bytes,
        }),
        _ => None,
    })
}

/// Every blob that a record names.
fn referenced(core: &Core) -> BTreeSet<Digest> {
    let mut names = BTreeSet::new();
    for artifact in core.artifacts() {
        names.insert(artifact.digest);
        names.extend(compiled(&artifact).map(|compiled| compiled.digest));
        names.extend(artifact.image.iter().flat_map(|image| image.pieces().into_keys()));
    }
    names
}

/// Remove what nobody names any more; run whenever a record has gone, and at start.
pub async fn sweep(app: &App) -> Result<(), ApiError> {
    let Some(sweep) = app.artifacts.sweep() else { return Ok(()) };
    let referenced = app.hub.look(|core, _| referenced(core)).await?;
    let swept = tokio::task::spawn_blocking(move || sweep.run(&referenced)).await;
    let swept = swept.map_err(|e| ApiError::new(Code::Internal, e.to_string()))??;
    if swept.blobs > 0 {
        tracing::info!(blobs = swept.blobs, bytes = swept.bytes, "removed blobs that nothing names");
    }
    Ok(())
}
