//! The HTTP API. The routes stand in one table (`routes`), from which both the router and the OpenAPI
//! document are made, so that neither knows a route that the other does not.

pub mod access;
pub mod agents;
pub mod apply;
pub mod artifacts;
pub mod audit;
pub mod auth;
pub mod blobs;
pub mod body;
pub mod data;
pub mod diff;
pub mod error;
pub mod events;
pub mod extract;
pub mod fetches;
pub mod idempotency;
pub mod images;
pub mod join;
pub mod lines;
pub mod logs;
pub mod metrics;
pub mod namespaces;
pub mod openapi;
pub mod push;
pub mod routes;
pub mod server;
pub mod session;
pub mod sse;
pub mod status;
pub mod tickets;
pub mod trust;
pub mod watch;
pub mod workloads;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use contract::limits::MANIFEST_BYTES_MAX;
use ed25519_dalek::SigningKey;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::artifact::ArtifactStore;
use crate::audit::Audit;
use crate::compile::Workers;
use crate::data::DataDir;
use crate::fetch::Fetcher;
use crate::secrets::Vault;
use crate::serve::broker::BrokerKind;
use crate::serve::handle::Handle;
use crate::serve::ring::Ring;
use crate::trust::Door;
use auth::{Keeper, Token};
use body::BodyMax;
use error::{ApiError, Code};
use routes::Guard;

/// From the end of the headers to the beginning of the answer, for everything that does not stream in.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(60);

/// The same for what may fetch images first, which has its own bounds below this.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(2 * 3600);

/// What every handler may reach. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub data: Arc<DataDir>,
    pub hub: Handle,
    pub ring: Ring,
    pub artifacts: ArtifactStore,
    pub workers: Arc<Workers>,
    pub fetcher: Arc<Fetcher>,
    pub tickets: tickets::Tickets,
    pub sessions: session::Sessions,
    pub answers: idempotency::Answers,
    pub pushes: Arc<Semaphore>,
    pub token: Token,
    pub keeper: Arc<Keeper>,
    pub audit: Arc<Audit>,
    /// Of the boards on this machine that come in plain.
    pub agent_token: Token,
    pub vault: Arc<Vault>,
    pub key: Arc<SigningKey>,
    pub identity: Arc<Identity>,
    pub door: Arc<Door>,
    pub meters: metrics::Meters,
    pub stop: CancellationToken,
}

/// Who this hub is, as it says in its status.
#[derive(Debug)]
pub struct Identity {
    pub fingerprint: String,
    pub broker_kind: BrokerKind,
    pub broker_url: String,
}

impl App {
    #[allow(clippy::too_many_arguments, reason = "made once, from what stands side by side there")]
    pub fn new(
        data: Arc<DataDir>,
        hub: Handle,
        ring: Ring,
        artifacts: ArtifactStore,
        workers: Arc<Workers>,
        fetcher: Arc<Fetcher>,
        token: &str,
        agent_token: &str,
        vault: Vault,
        key: SigningKey,
        identity: Identity,
        door: Arc<Door>,
        audit: Audit,
        meters: metrics::Meters,
        stop: CancellationToken,
    ) -> App {
        let (key, identity, vault) = (Arc::new(key), Arc::new(identity), Arc::new(vault));
        let (token, agent_token) = (Token::new(token), Token::new(agent_token));
        let (tickets, sessions, answers, keeper) = Default::default();
        let audit = Arc::new(audit);
        let pushes = Arc::new(Semaphore::new(push::PUSHES_MAX));
        App {
            data,
            hub,
            ring,
            artifacts,
            workers,
            fetcher,
            tickets,
            sessions,
            answers,
            pushes,
            token,
            keeper,
            audit,
            agent_token,
            vault,
            key,
            identity,
            door,
            meters,
            stop,
        }
    }
}

pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in routes::all() {
        let mut handler = route.handler;
        let limit = if route.guard == Guard::Ticket { tickets::RESULT_BYTES_MAX } else { MANIFEST_BYTES_MAX };
        if route.guard == Guard::Change {
            handler = handler.layer(middleware::from_fn_with_state(app.clone(), idempotency::once));
        }
        if route.guard != Guard::Push {
            let max = if route.fetches { FETCH_WAIT_MAX } else { REQUEST_WAIT_MAX };
            let timed = move |request: Request, next: Next| in_time(max, request, next);
            handler = handler.layer(middleware::from_fn(timed));
        }
        handler = handler.layer(Extension(BodyMax(limit)));
        let asked = (app.clone(), route.need);
        handler = match route.guard {
            Guard::Open | Guard::Ticket => handler,
            Guard::Agent => handler.layer(middleware::from_fn_with_state(asked, auth::agent)),
            _ => handler.layer(middleware::from_fn_with_state(asked, auth::check)),
        };
        router = router.route(route.path, handler);
    }
    router.fallback(no_route).method_not_allowed_fallback(no_method).with_state(app)
}

async fn in_time(max: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(max, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("not done within {} s; it may still be done", max.as_secs());
            ApiError::new(Code::Unavailable, message).into_response()
        }
    }
}

async fn no_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("no route '{}'; GET /v1/openapi.json lists all", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    ApiError::invalid(format!("{method} is not offered on '{}'", uri.path()))
        .with_status(StatusCode::METHOD_NOT_ALLOWED)
}
