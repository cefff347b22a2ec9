//! Configs and Secrets: looking at them, deleting one, and how a Secret gets to the board that runs with it.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use contract::codec;
use contract::data::{self, Content};
use contract::limits::DATA_BLOB_BYTES_MAX;
use contract::manifest::{Object, data_to_yaml};
use contract::seal::{SealRequest, seal};
use contract::spec::{DataObject, Metadata};
use contract::{AgentId, DataId, DataKind, Digest, WorkloadKey};
use hub_core::access::rights::{Kind, Place as In, Verb};
use hub_core::api::{Answer, ChangeKind, Request};
use hub_core::data::{DataView, NewData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::App;
use super::auth::Asker;
use super::diff::{WorkloadDiff, unified};
use super::error::{ApiError, Code, accepted};
use super::extract::{P, Q, etag, if_match};
use super::workloads::{ListQuery, Place, key};
use crate::artifact::{ArtifactError, Pin, Upload};
use crate::trust::Via;

#[derive(Serialize, JsonSchema)]
pub struct DataList {
    /// Where `watch` may go on from.
    seq: u64,
    items: Vec<DataView>,
}

/// One of each kind of object, as routes have it.
macro_rules! routes_of {
    ($kind:expr, $list:ident, $get:ident, $delete:ident) => {
        pub async fn $list(
            app: State<App>,
            asker: Asker,
            query: Q<ListQuery>,
        ) -> Result<Json<DataList>, ApiError> {
            list($kind, app, asker, query).await
        }

        pub async fn $get(app: State<App>, place: P<Place>) -> Result<Response, ApiError> {
            get($kind, app, place).await
        }

        pub async fn $delete(
            app: State<App>,
            place: P<Place>,
            headers: HeaderMap,
        ) -> Result<Json<Answer>, ApiError> {
            delete($kind, app, place, headers).await
        }
    };
}

routes_of!(DataKind::Config, configs, config, delete_config);
routes_of!(DataKind::Secret, secrets, secret, delete_secret);

async fn list(
    kind: DataKind,
    State(app): State<App>,
    asker: Asker,
    Q(query): Q<ListQuery>,
) -> Result<Json<DataList>, ApiError> {
    let sees = asker.sees(Verb::Get, right(kind));
    let (namespace, selector) = query.read()?;
    let ring = app.ring.clone();
    let list = app.hub.look(move |core, _| {
        let mut items = core.data_list(kind, namespace.as_ref(), &selector);
        items.retain(|view| sees.has(&view.key.namespace));
        DataList { seq: ring.newest(), items }
    });
    Ok(Json(list.await?))
}

fn right(kind: DataKind) -> Kind {
    match kind {
        DataKind::Config => Kind::Configs,
        DataKind::Secret => Kind::Secrets,
    }
}

/// Whether whoever asks may do that to each of these.
pub async fn may(app: &App, asker: &Asker, verb: Verb, objects: &[Object]) -> Result<(), ApiError> {
    for (kind, object) in Object::data(objects) {
        asker.check(app, verb, right(kind), In::In(&object.metadata.namespace)).await?;
    }
    Ok(())
}

fn unknown(id: &DataId) -> ApiError {
    ApiError::not_found(format!("no {} {}", id.kind, id.key))
}

async fn view(app: &App, id: &DataId) -> Result<DataView, ApiError> {
    let wanted = id.clone();
    app.hub.look(move |core, _| core.data(&wanted)).await?.ok_or_else(|| unknown(id))
}

async fn get(kind: DataKind, State(app): State<App>, P(place): P<Place>) -> Result<Response, ApiError> {
    let view = view(&app, &DataId { kind, key: key(place)? }).await?;
    Ok(([(header::ETAG, etag(view.version))], Json(view)).into_response())
}

async fn delete(
    kind: DataKind,
    State(app): State<App>,
    P(place): P<Place>,
    headers: HeaderMap,
) -> Result<Json<Answer>, ApiError> {
    let request =
        Request::DeleteData { id: DataId { kind, key: key(place)? }, if_version: if_match(&headers)? };
    Ok(Json(accepted(app.hub.request(request).await?)?))
}

/// A Config with its values, as its manifest.
pub async fn config_data(State(app): State<App>, P(place): P<Place>) -> Result<Json<DataObject>, ApiError> {
    values(&app, DataId { kind: DataKind::Config, key: key(place)? }).await.map(Json)
}

/// A Secret with its values. A right of its own (`reveal secrets`), and audited: to list Secrets, and to
/// mount them, tells nobody a value.
pub async fn reveal(State(app): State<App>, P(place): P<Place>) -> Result<Response, ApiError> {
    let id = DataId { kind: DataKind::Secret, key: key(place)? };
    let object = values(&app, id).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(object)).into_response())
}

async fn values(app: &App, id: DataId) -> Result<DataObject, ApiError> {
    let view = view(app, &id).await?;
    let content = content(app, &id, &view.content).await?;
    let WorkloadKey { namespace, name } = id.key.clone();
    let metadata = Metadata { name, namespace, labels: view.labels, annotations: view.annotations };
    Ok(written(id.key, &metadata, content))
}

/// As a manifest: text where it is text.
fn written(key: WorkloadKey, metadata: &Metadata, content: Content) -> DataObject {
    let (mut data, mut binary_data) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in content {
        match std::str::from_utf8(&value) {
            Ok(text) if is_printable(text) => drop(data.insert(name, text.to_string())),
            _ => drop(binary_data.insert(name, BASE64.encode(value.as_slice()))),
        }
    }
    let metadata = Metadata { name: key.name, namespace: key.namespace, ..metadata.clone() };
    DataObject { metadata, data, binary_data }
}

async fn content(app: &App, id: &DataId, digest: &Digest) -> Result<Content, ApiError> {
    let fault = |e: String| ApiError::new(Code::Internal, format!("{} {}: {e}", id.kind, id.key));
    data::decode(&plain(app, id, digest).await?).map_err(fault)
}

/// The bytes of a content, decrypted.
async fn plain(app: &App, id: &DataId, digest: &Digest) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let fault = |e: String| ApiError::new(Code::Internal, format!("{} {}: {e}", id.kind, id.key));
    let bytes = tokio::fs::read(app.artifacts.path(digest)).await.map_err(|e| fault(e.to_string()))?;
    if Digest::of(&bytes) != *digest {
        return Err(fault("what lies in the artefact store has changed".into()));
    }
    match id.kind {
        DataKind::Config => Ok(Zeroizing::new(bytes)),
        DataKind::Secret => app.vault.decrypt(id, &bytes).map_err(|e| fault(e.to_string())),
    }
}

fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// What is given becomes blobs, a Secret's encrypted; they are held until the records are durable.
pub async fn take(app: &App, objects: &[Object]) -> Result<(Vec<NewData>, Vec<Pin>), ApiError> {
    let (mut given, mut pins) = (Vec::new(), Vec::new());
    for (kind, object) in Object::data(objects) {
        let id = object.id(kind);
        let content = read(object);
        let keys = content.iter().map(|(key, value)| (key.clone(), value.len() as u64)).collect();
        let bytes = data::encode(&content);
        let bytes = match kind {
            DataKind::Config => bytes,
            DataKind::Secret => Zeroizing::new(app.vault.encrypt(&id, &bytes)),
        };
        let pin = put(app, &bytes).await?;
        let (metadata, size_bytes) = (object.metadata.clone(), bytes.len() as u64);
        given.push(NewData { kind, metadata, content: pin.digest(), size_bytes, keys });
        pins.push(pin);
    }
    Ok((given, pins))
}

/// Base64 was checked with the manifest.
fn read(object: &DataObject) -> Content {
    let texts =
        object.data.iter().map(|(key, text)| (key.clone(), Zeroizing::new(text.clone().into_bytes())));
    let bytes = object
        .binary_data
        .iter()
        .map(|(key, text)| (key.clone(), Zeroizing::new(BASE64.decode(text).unwrap_or_default())));
    texts.chain(bytes).collect()
}

async fn put(app: &App, bytes: &[u8]) -> Result<Pin, ArtifactError> {
    let digest = Digest::of(bytes);
    let pin = app.artifacts.pin(digest);
    if app.artifacts.contains(&digest) {
        return Ok(pin);
    }
    let mut upload = Upload::begin(&app.artifacts, Some(bytes.len() as u64), DATA_BLOB_BYTES_MAX, 1).await?;
    upload.write(bytes).await?;
    upload.finish().await?.keep().await
}

/// What an apply would change. Of a Secret the keys alone, and which of them: never a value.
pub async fn diff(app: &App, objects: &[Object]) -> Result<Vec<WorkloadDiff>, ApiError> {
    let mut items = Vec::new();
    for (kind, object) in Object::data(objects) {
        let id = object.id(kind);
        let present = match view(app, &id).await {
            Ok(_) => Some(values(app, id.clone()).await?),
            Err(e) if e.code == Code::NotFound => None,
            Err(e) => return Err(e),
        };
        // As it would be read back: what is text in base64 is text.
        let given = written(id.key.clone(), &object.metadata, read(object));
        let change = match &present {
            None => ChangeKind::Created,
            Some(present) if *present == given => ChangeKind::Unchanged,
            Some(_) => ChangeKind::Changed,
        };
        let (old, new) = match kind {
            DataKind::Config => (present.as_ref().map(|p| data_to_yaml(kind, p)), data_to_yaml(kind, &given)),
            DataKind::Secret => {
                let known = present.as_ref().map(|present| veiled(present, present));
                (
                    known.map(|p| data_to_yaml(kind, &p)),
                    data_to_yaml(kind, &veiled(&given, present.as_ref().unwrap_or(&given))),
                )
            }
        };
        let name = format!("{kind} {}", id.key);
        let text = unified(present.as_ref().map(|_| name.as_str()), &name, &old.unwrap_or_default(), &new);
        items.push(WorkloadDiff { workload: name, change, text });
    }
    Ok(items)
}

/// Words in place of the values; a value that differs from the present one says so.
fn veiled(object: &DataObject, present: &DataObject) -> DataObject {
    let veil = |values: &BTreeMap<String, String>, present: &BTreeMap<String, String>| {
        let word = |key: &String, value: &String| match present.get(key) {
            Some(old) if old != value => "(another value)",
            _ => "(not shown)",
        };
        values.iter().map(|(key, value)| (key.clone(), word(key, value).to_string())).collect()
    };
    DataObject {
        metadata: object.metadata.clone(),
        data: veil(&object.data, &present.data),
        binary_data: veil(&object.binary_data, &present.binary_data),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SealQuery {
    /// Who asks, in plain; over TLS its certificate says that.
    agent: Option<String>,
}

/// A Secret's content, sealed to the key that the board shows, for a board that is told to run with it.
pub async fn sealed(
    State(app): State<App>,
    P(digest): P<Digest>,
    Q(query): Q<SealQuery>,
    request: HttpRequest,
) -> Result<Response, ApiError> {
    let agent = who(&app, &query, &request)?;
    let body = super::body::whole(request.into_body(), 4096).await?;
    let asked: SealRequest =
        serde_json::from_slice(&body).map_err(|e| ApiError::invalid(format!("body: {e}")))?;
    let wanted = agent.clone();
    let id = app.hub.look(move |core, _| core.secret_for(&wanted, &digest)).await?;
    let missing =
        || ApiError::not_found(format!("agent {agent} runs nothing with a Secret of content {digest}"));
    let id = id.ok_or_else(missing)?;
    let plain = plain(&app, &id, &digest).await?;
    let sealed = seal(&agent, digest, &asked.key, &plain).map_err(|e| ApiError::invalid(e.to_string()))?;
    let signed = codec::seal(codec::Kind::Sealed, &sealed, Some(&*app.key));
    let signed = signed.map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, codec::PLAIN)], signed).into_response())
}

/// By the certificate; in plain, on this machine, by the name it gives and the agents' token.
fn who(app: &App, query: &SealQuery, request: &HttpRequest) -> Result<AgentId, ApiError> {
    let peer = request.extensions().get::<Via>().and_then(|via| via.peer.clone());
    if let Some(peer) = peer {
        return Ok(peer.agent);
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default();
    if !app.agent_token.fits(given) {
        let message = "a Secret is given to a board with a certificate, or in plain with the token in the file \
                       'agent-token' of the hub's data directory: edge-agent run --token-file";
        return Err(ApiError::new(Code::Unauthorized, message));
    }
    let agent = query.agent.as_deref().and_then(|text| text.parse().ok());
    agent.ok_or_else(|| ApiError::invalid("agent: give the agent's id"))
}
