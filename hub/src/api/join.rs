//! What boards ask about themselves: to join, to renew, how they stand. Over plain HTTP nobody joins: the
//! token would travel in the open, and the board could not check who answers.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use contract::codec::{self, Kind};
use contract::identity::{JoinAnswer, JoinRequest, RenewRequest, Standing, StandingNote};
use contract::{AgentId, Digest};
use hub_core::api::{Answer, Request};
use hub_core::trust::{JoinAsk, TrustRequest};

use super::App;
use super::error::{ApiError, Code, accepted};
use super::extract::J;
use crate::trust::ca::{CaError, Request as Csr};
use crate::trust::door::GiveError;
use crate::trust::{Peer, Via, wall_ms};

pub async fn join(
    State(app): State<App>,
    via: Option<Extension<Via>>,
    J(asked): J<JoinRequest>,
) -> Result<Json<JoinAnswer>, ApiError> {
    let via = encrypted(via)?;
    let csr = Csr::read(&asked.request).map_err(refused)?;
    let ask = JoinAsk {
        secret: Digest::of(asked.secret.as_bytes()),
        public: csr.public.clone(),
        id: asked.id,
        machine: asked.machine,
        source: via.from.ip().to_string(),
    };
    let answer = app.hub.request(Request::Trust(TrustRequest::Join(Box::new(ask)))).await?;
    match accepted(answer)? {
        Answer::Joined { agent, standing: Standing::Good } => give(&app, &agent, &csr).await,
        Answer::Joined { agent, .. } => Ok(Json(JoinAnswer::Waits { agent })),
        other => Err(ApiError::new(Code::Internal, format!("{other:?}"))),
    }
}

pub async fn renew(
    State(app): State<App>,
    via: Option<Extension<Via>>,
    J(asked): J<RenewRequest>,
) -> Result<Json<JoinAnswer>, ApiError> {
    let peer = peer(encrypted(via)?)?;
    let csr = Csr::read(&asked.request).map_err(refused)?;
    if csr.public.digest() != peer.key {
        return Err(ApiError::invalid(
            "the request is for another key than the certificate's: a new key joins anew",
        ));
    }
    let known = app.door.standing(&app.hub, &peer).await?;
    match known.standing {
        Standing::Good => give(&app, &peer.agent, &csr).await,
        Standing::Expired if app.door.terms.renew_expired => give(&app, &peer.agent, &csr).await,
        Standing::Waits => Ok(Json(JoinAnswer::Waits { agent: peer.agent })),
        _ => {
            Err(ApiError::new(Code::Unauthorized, format!("{} is not let in: {}", peer.agent, known.reason)))
        }
    }
}

pub async fn standing(State(app): State<App>, via: Option<Extension<Via>>) -> Result<Response, ApiError> {
    let peer = peer(encrypted(via)?)?;
    let known = app.door.standing(&app.hub, &peer).await?;
    let note = StandingNote {
        agent: peer.agent,
        key: peer.key,
        standing: known.standing,
        reason: known.reason,
        wall_ms: wall_ms(),
    };
    let sealed = codec::seal(Kind::Standing, &note, Some(&*app.key));
    let sealed = sealed.map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, codec::PLAIN)], sealed).into_response())
}

pub async fn ca(State(app): State<App>) -> Response {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], app.door.ca.pem()).into_response()
}

async fn give(app: &App, agent: &AgentId, csr: &Csr) -> Result<Json<JoinAnswer>, ApiError> {
    let enrolment = app.door.give(&app.hub, agent, csr).await.map_err(|e| match e {
        GiveError::Ask(e) => e.into(),
        GiveError::Ca(e) => refused(e),
        GiveError::Not(_) => ApiError::new(Code::Unauthorized, e.to_string()),
    })?;
    Ok(Json(JoinAnswer::Joined(Box::new(enrolment))))
}

fn encrypted(via: Option<Extension<Via>>) -> Result<Via, ApiError> {
    let plain =
        || ApiError::invalid("boards join over TLS: start the hub with --tls, or with --listen 0.0.0.0:7711");
    via.map(|Extension(via)| via).filter(|via| via.encrypted).ok_or_else(plain)
}

fn peer(via: Via) -> Result<Peer, ApiError> {
    via.peer.ok_or_else(|| ApiError::new(Code::Unauthorized, "no certificate of this hub's CA was shown"))
}

fn refused(e: CaError) -> ApiError {
    match e {
        CaError::Request(_) => ApiError::invalid(e.to_string()),
        _ => ApiError::new(Code::Internal, e.to_string()),
    }
}
