//! Sessions: `hub exec` and `hub cp`. The command line upgrades its request, the board dials in and upgrades its
//! own, and the two are joined. Nothing is read here: bytes are passed on as they come, a few KiB at a time, and
//! whoever does not take them is waited for by the one who sends.
//!
//! ```text
//! CLI ─POST /v1/sessions─▶ hub-core decides ─command─▶ agent ─▶ its session ─GET /v1/sessions/<ticket>─▶ hub
//!  ◀────── 101 ──────────────────────────────────────────────────────────────────── 101 ────────────────▶
//! ```
//!
//! It ends when either side does, when neither says anything for a minute (both ping), after half a day, and with
//! the hub. Whoever takes nothing, but lives, is waited for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use contract::AgentId;
use contract::message::ReplyBody;
use contract::session::{PROTOCOL, SILENCE_MS};
use contract::time::Millis;
use hub_core::api::{Answer, Request as Asked};
use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::App;
use super::auth::Asker;
use super::error::{ApiError, Code, accepted};
use super::extract::{J, P};
use super::server::patient;
use crate::audit::Objects;
use crate::serve::handle::{Exchange, Said};
use crate::trust::{Peer, Via};

mod ask;
mod relay;

pub use ask::{Ask, What};

/// At the hub; an agent takes `contract::limits::SESSIONS_MAX`.
const SESSIONS_MAX: usize = 128;
/// A session over a working day.
const DEADLINE_MS: Millis = 12 * 3_600_000;
/// From the agent's word that it comes to its connection.
const DIAL_WAIT: Duration = Duration::from_secs(20);

type Waiting = HashMap<String, (AgentId, oneshot::Sender<OnUpgrade>)>;

/// Who waits for which board, by ticket. Clones are the same.
#[derive(Clone)]
pub struct Sessions {
    waiting: Arc<Mutex<Waiting>>,
    places: Arc<Semaphore>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions { waiting: Arc::default(), places: Arc::new(Semaphore::new(SESSIONS_MAX)) }
    }
}

/// Dropped, the address is void.
struct Place {
    sessions: Sessions,
    ticket: String,
    board: oneshot::Receiver<OnUpgrade>,
    _permit: OwnedSemaphorePermit,
}

impl Sessions {
    fn open(&self, agent: AgentId) -> Result<Place, ApiError> {
        let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            ApiError::new(Code::Unavailable, format!("{SESSIONS_MAX} sessions are open at this hub; end one"))
        })?;
        let random = crate::data::random::<32>();
        let random = random.map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
        let ticket = crate::data::hex(&random);
        let (send, board) = oneshot::channel();
        self.lock().insert(ticket.clone(), (agent, send));
        Ok(Place { sessions: self.clone(), ticket, board, _permit: permit })
    }

    /// Of a board that shows who it is, only what is its own.
    fn take(&self, ticket: &str, peer: Option<&Peer>) -> Option<oneshot::Sender<OnUpgrade>> {
        let mut waiting = self.lock();
        let (agent, _) = waiting.get(ticket)?;
        if peer.is_some_and(|peer| peer.agent != *agent) {
            return None;
        }
        waiting.remove(ticket).map(|(_, send)| send)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.ticket);
    }
}

/// The command line's end.
pub async fn open(
    State(app): State<App>,
    asker: Asker,
    objects: Objects,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let client = upgrade(&parts.headers, parts.extensions.remove::<OnUpgrade>())?;
    let J(ask) = {
        use axum::extract::FromRequest as _;
        J::<Ask>::from_request(Request::from_parts(parts, body), &()).await?
    };
    objects.add([ask.told()]);
    let (agent, op) = ask.resolve(&app, &asker).await?;
    let mut place = app.sessions.open(agent.clone())?;
    let ticket = format!("/v1/sessions/{}", place.ticket);
    let command = Asked::Command { agent, op, deadline_ms: DEADLINE_MS, ticket: Some(ticket) };
    let mut exchange = app.hub.open(command)?;
    let board = dialled(&mut exchange, &mut place).await?;
    // The hub's stop, and the end of the token that it was opened with.
    let stop = asker.ended;
    tokio::spawn(async move {
        // Both answers are out by then; whoever does not follow them up is gone.
        if let (Ok(client), Ok(board)) = (client.await, board.await) {
            join_ends(client, board, exchange, stop).await;
        }
        drop(place);
    });
    Ok(switching())
}

/// The board's end. Its address is its secret, and good for once; encrypted, for that board alone.
pub async fn join(
    State(app): State<App>,
    P(ticket): P<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, _) = request.into_parts();
    let board = upgrade(&parts.headers, parts.extensions.remove::<OnUpgrade>())?;
    let peer = parts.extensions.get::<Via>().and_then(|via| via.peer.as_ref());
    match app.sessions.take(&ticket, peer).is_some_and(|waiting| waiting.send(board).is_ok()) {
        true => Ok(switching()),
        false => Err(ApiError::not_found("no such session, or nobody waits for it any more")),
    }
}

fn upgrade(headers: &HeaderMap, on: Option<OnUpgrade>) -> Result<OnUpgrade, ApiError> {
    let named = headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes() == PROTOCOL.as_bytes());
    on.filter(|_| named).ok_or_else(|| {
        let message =
            format!("a session is an HTTP/1.1 Upgrade: send 'Connection: upgrade' and 'Upgrade: {PROTOCOL}'");
        ApiError::invalid(message).with_status(StatusCode::UPGRADE_REQUIRED)
    })
}

fn switching() -> Response {
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Until the board's connection is there; or why it will not come.
async fn dialled(exchange: &mut Exchange, place: &mut Place) -> Result<OnUpgrade, ApiError> {
    let late = tokio::time::sleep(DIAL_WAIT);
    let mut late = std::pin::pin!(late);
    loop {
        let said = tokio::select! {
            biased;
            Ok(board) = &mut place.board => return Ok(board),
            said = exchange.next() => said?,
            () = &mut late => {
                let message = "the board took the session, but did not connect to this hub in time";
                return Err(ApiError::new(Code::Unavailable, message));
            }
        };
        match said {
            Some(Said::Answer(answer)) => {
                accepted(answer)?;
            }
            Some(Said::Reply(ReplyBody::Refused { reason } | ReplyBody::Done { error: Some(reason) })) => {
                return Err(ApiError::invalid(reason));
            }
            Some(Said::Reply(ReplyBody::Accepted | ReplyBody::Progress { .. }) | Said::NoRoom(_)) => {}
            Some(Said::Reply(ReplyBody::Done { error: None })) | None => {
                return Err(ApiError::new(Code::Unavailable, "the board ended the session before it began"));
            }
        }
    }
}

/// The exchange is held until then: dropped before the board has said that it is done, it cancels the session there.
async fn join_ends(client: Upgraded, board: Upgraded, mut exchange: Exchange, stop: CancellationToken) {
    let (Ok(client), Ok(board)) = (patient(client), patient(board)) else { return };
    let passed = relay::relay(client, board, Duration::from_millis(SILENCE_MS));
    let mut passed = std::pin::pin!(passed);
    let mut over = false;
    loop {
        tokio::select! {
            () = &mut passed => return,
            () = stop.cancelled() => return,
            said = exchange.next(), if !over => {
                // A session that lost its agent's word (it went offline) still has its own connection: that decides.
                over = !matches!(said, Ok(Some(Said::Answer(Answer::Accepted) | Said::Reply(ReplyBody::Accepted | ReplyBody::Progress { .. }))));
            }
        }
    }
}
