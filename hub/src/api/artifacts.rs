//! Pushing, listing and removing artefacts. A push is streamed to disk, hashed on the way, looked at
//! by a worker, made durable, and only then told to the core.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Json, extract::Request};
use contract::Digest;
use contract::limits::ARTIFACT_BYTES_MAX;
use contract::message::Compiled;
use hub_core::Core;
use hub_core::api;
use hub_core::record::ArtifactKind;
use hub_core::view::{ArtifactView, CompiledView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::body;
use super::error::{ApiError, Code, accepted};
use super::extract::{P, Q};
use crate::artifact::{ArtifactStore, Upload, Uploaded};

/// At once: each may fill the disk by 64 MiB before it is judged.
pub const PUSHES_MAX: usize = 8;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushQuery {
    /// `name:tag` that shall point to it; moves the tag if there is one already.
    tag: Option<String>,
}

/// What was pushed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    pub digest: String,
    pub kind: PushedKind,
    pub size_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PushedKind {
    WasmModule,
    WasmComponent,
}

impl From<ArtifactKind> for PushedKind {
    fn from(kind: ArtifactKind) -> PushedKind {
        match kind {
            ArtifactKind::WasmModule => PushedKind::WasmModule,
            ArtifactKind::WasmComponent => PushedKind::WasmComponent,
        }
    }
}

pub async fn push(
    State(app): State<App>,
    Q(query): Q<PushQuery>,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, Json<Pushed>), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
    let mut body = request.into_body();
    let busy = || ApiError::new(Code::Unavailable, format!("{PUSHES_MAX} pushes are in progress; try again"));
    let _place = app.pushes.try_acquire().map_err(|_| busy())?;
    let uploaded = match receive(&app.artifacts, announced, &mut body).await {
        Ok(uploaded) => uploaded,
        Err(e) => {
            body::drain(&mut body).await;
            return Err(e);
        }
    };
    let kind = app.workers.inspect(uploaded.path()).await?;
    let (digest, size_bytes) = (uploaded.digest, uploaded.size_bytes);
    // Held until the record is durable, which the answer says.
    let _pin = uploaded.keep().await?;
    let request = api::Request::AddArtifact { digest, size_bytes, kind, tag: query.tag };
    accepted(app.hub.request(request).await?)?;
    let pushed = Pushed { digest: digest.to_string(), kind: kind.into(), size_bytes };
    Ok((StatusCode::CREATED, Json(pushed)))
}

async fn receive(
    store: &ArtifactStore,
    announced: Option<u64>,
    body: &mut axum::body::Body,
) -> Result<Uploaded, ApiError> {
    let mut upload = Upload::begin(store, announced, ARTIFACT_BYTES_MAX).await?;
    while let Some(piece) = body::piece(body).await? {
        upload.write(&piece).await?;
    }
    Ok(upload.finish().await?)
}

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
