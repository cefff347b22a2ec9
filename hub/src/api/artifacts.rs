//! Listing and removing artefacts, and the blobs that go with them.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use contract::message::Compiled;
use contract::{Digest, Name};
use hub_core::Core;
use hub_core::access::rights::{Kind, Place, Verb};
use hub_core::api;
use hub_core::view::{ArtifactView, CompiledView};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::auth::Asker;
use super::error::{ApiError, Code, accepted};
use super::extract::P;

/// Artefacts are the hub's. Whoever has rights in some namespaces only has them over the names that begin
/// with one of those: `plant/press:1`.
pub async fn may_name(app: &App, asker: &Asker, verb: Verb, reference: Option<&str>) -> Result<(), ApiError> {
    if asker.grants.may(verb, Kind::Artifacts, Place::Hub) {
        return Ok(());
    }
    let first = reference.and_then(|name| name.split_once('/')?.0.parse::<Name>().ok());
    if first.is_some_and(|namespace| asker.grants.may(verb, Kind::Artifacts, Place::In(&namespace))) {
        return Ok(());
    }
    let reach = asker.sees(verb, Kind::Artifacts);
    asker.check(app, verb, Kind::Artifacts, Place::Hub).await.map_err(|mut e| {
        e.message += &format!("; or name it <namespace>/<name>:<tag>, with one of the namespaces {reach}");
        e
    })
}

/// Nobody learns from it what others run.
fn seen_by(asker: &Asker) -> impl Fn(ArtifactView) -> ArtifactView + Send + 'static {
    let sees = asker.sees(Verb::Get, Kind::Workloads);
    move |mut view| {
        view.used_by.retain(|key| sees.has(&key.namespace));
        view
    }
}

/// The reference is a digest or `name:tag`.
pub async fn remove(
    State(app): State<App>,
    asker: Asker,
    P(reference): P<String>,
) -> Result<StatusCode, ApiError> {
    may_name(&app, &asker, Verb::Delete, Some(&reference)).await?;
    accepted(app.hub.request(api::Request::RemoveArtifact { reference }).await?)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize, JsonSchema)]
pub struct ArtifactList {
    /// Where `watch` may go on from.
    seq: u64,
    items: Vec<ArtifactView>,
}

pub async fn list(State(app): State<App>, asker: Asker) -> Result<Json<ArtifactList>, ApiError> {
    let (ring, seen) = (app.ring.clone(), seen_by(&asker));
    let list = app.hub.look(move |core, _| {
        let items = core.artifacts().into_iter().map(seen).collect();
        ArtifactList { seq: ring.newest(), items }
    });
    Ok(Json(list.await?))
}

pub async fn get(
    State(app): State<App>,
    asker: Asker,
    P(reference): P<String>,
) -> Result<Json<ArtifactView>, ApiError> {
    let missing = ApiError::not_found(format!("no artefact '{reference}'"));
    let found = app.hub.look(move |core, _| core.artifact(&reference)).await?;
    found.map(seen_by(&asker)).map(Json).ok_or(missing)
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
    let mut names = core.data_contents();
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
