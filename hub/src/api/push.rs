//! Pushing an artefact: streamed to disk, hashed on the way, told from its first bytes, looked at, made
//! durable, and only then told to the core. A module is looked at by a worker; of an image archive each
//! piece becomes a blob.

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use contract::limits::{ARTIFACT_BYTES_MAX, IMAGE_BYTES_MAX};
use hub_core::access::rights::Verb;
use hub_core::api::{self, NewArtifact};
use hub_core::record::ArtifactKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::artifacts::may_name;
use super::auth::Asker;
use super::body;
use super::error::{ApiError, Code, Detail, accepted};
use super::extract::Q;
use crate::artifact::{Form, HEAD_BYTES, Imported, Pin, Upload, Uploaded};
use crate::audit::Objects;

/// At once: each may fill the disk by its size before it is judged.
pub const PUSHES_MAX: usize = 8;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushQuery {
    /// `name:tag` that shall point to it; moves the tag if there is one already.
    tag: Option<String>,
    /// Which image of an archive that holds several, by the name it has there.
    image: Option<String>,
}

/// What was pushed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pushed {
    pub digest: String,
    pub kind: ArtifactKind,
    pub size_bytes: u64,
    /// Of a container image, such as `linux/arm64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// What its pusher should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

pub async fn push(
    State(app): State<App>,
    asker: Asker,
    touched: Objects,
    Q(query): Q<PushQuery>,
    headers: HeaderMap,
    request: Request,
) -> Result<(StatusCode, Json<Pushed>), ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
    let mut body = request.into_body();
    touched.add(query.tag.clone());
    if let Err(e) = may_name(&app, &asker, Verb::Apply, query.tag.as_deref()).await {
        body::drain(&mut body).await;
        return Err(e);
    }
    let busy = || ApiError::new(Code::Unavailable, format!("{PUSHES_MAX} pushes are in progress; try again"));
    let _place = app.pushes.try_acquire().map_err(|_| busy())?;
    let (form, uploaded) = match receive(&app, &query, announced, &mut body).await {
        Ok(received) => received,
        Err(e) => {
            body::drain(&mut body).await;
            return Err(e);
        }
    };
    let taken = match form {
        Form::Archive => image(&app, uploaded, query.image).await?,
        Form::Wasm => module(&app, uploaded, &query).await?,
        Form::Neither => module(&app, uploaded, &query).await.map_err(no_archive)?,
    };
    let (new, pushed) = (NewArtifact { tag: query.tag, ..taken.new }, taken.pushed);
    accepted(app.hub.request(api::Request::AddArtifact(new)).await?)?;
    // Held until the record is durable, which the answer says.
    drop(taken.pins);
    Ok((StatusCode::CREATED, Json(pushed)))
}

/// Blobs that are there, and what they are.
struct Taken {
    new: NewArtifact,
    pushed: Pushed,
    pins: Vec<Pin>,
}

async fn receive(
    app: &App,
    query: &PushQuery,
    announced: Option<u64>,
    body: &mut Body,
) -> Result<(Form, Uploaded), ApiError> {
    // Nobody should send a gigabyte to be told that its name is wrong.
    if let Some(Err(reason)) = query.tag.as_deref().map(hub_core::check_tag) {
        return Err(wrong("tag", reason));
    }
    let head = head(body).await?;
    let form = Form::of(&head);
    // An archive and what it holds are on the disk side by side for a while.
    let (max, times) = if form == Form::Archive { (IMAGE_BYTES_MAX, 2) } else { (ARTIFACT_BYTES_MAX, 1) };
    let mut upload = Upload::begin(&app.artifacts, announced, max, times).await?;
    upload.write(&head).await?;
    while let Some(piece) = body::piece(body).await? {
        upload.write(&piece).await?;
    }
    Ok((form, upload.finish().await?))
}

/// So much that what it is can be told; less if there is no more.
async fn head(body: &mut Body) -> Result<Bytes, ApiError> {
    let mut head = BytesMut::new();
    while head.len() < HEAD_BYTES {
        let Some(piece) = body::piece(body).await? else { break };
        head.extend_from_slice(&piece);
    }
    Ok(head.freeze())
}

async fn module(app: &App, uploaded: Uploaded, query: &PushQuery) -> Result<Taken, ApiError> {
    if query.image.is_some() {
        return Err(wrong("image", "names an image of an archive, and this is no archive: leave it out"));
    }
    let kind = app.workers.inspect(uploaded.path()).await?;
    let (digest, size_bytes) = (uploaded.digest, uploaded.size_bytes);
    let pin = uploaded.keep().await?;
    let new = NewArtifact { digest, size_bytes, kind, tag: None, image: None };
    let (platforms, notes) = Default::default();
    let pushed = Pushed { digest: digest.to_string(), kind, size_bytes, platforms, notes };
    Ok(Taken { new, pushed, pins: vec![pin] })
}

async fn image(app: &App, uploaded: Uploaded, name: Option<String>) -> Result<Taken, ApiError> {
    let store = app.artifacts.clone();
    let imported = tokio::task::spawn_blocking(move || store.import(uploaded.path(), name.as_deref())).await;
    let imported = imported.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let Imported { digest, record, notes, pins } = imported?;
    let (kind, size_bytes) = (ArtifactKind::OciImage, record.pieces().values().sum());
    let platforms = record.platforms.iter().map(|p| p.platform.to_string()).collect();
    let pushed = Pushed { digest: digest.to_string(), kind, size_bytes, platforms, notes };
    let new = NewArtifact { digest, size_bytes, kind, tag: None, image: Some(Box::new(record)) };
    Ok(Taken { new, pushed, pins })
}

/// What is neither is told of both.
fn no_archive(mut e: ApiError) -> ApiError {
    if e.code == Code::Invalid && e.details.is_empty() {
        e.message += ". A container image comes as a tar: an OCI layout, or what docker save writes";
    }
    e
}

fn wrong(field: &str, reason: impl Into<String>) -> ApiError {
    let reason = reason.into();
    let detail = Detail { path: field.into(), reason: reason.clone(), ..Detail::default() };
    ApiError::invalid(reason).with_details(vec![detail])
}
