//! Where an agent puts a result that is too large for a message: an address that only the hub and that
//! agent know, good for one PUT while the request that asked still waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::App;
use super::error::ApiError;
use super::extract::{Body, P};

/// Of one result: more than all rotated logs of an instance.
pub const RESULT_BYTES_MAX: usize = 4 << 20;

pub const PREFIX: &str = "/v1/tickets/";

/// Clones are the same counter.
#[derive(Clone, Default)]
pub struct Tickets(Arc<Mutex<HashMap<String, oneshot::Sender<Bytes>>>>);

/// Dropped, the address is void.
pub struct Ticket {
    tickets: Tickets,
    id: String,
    pub result: oneshot::Receiver<Bytes>,
}

impl Tickets {
    /// As many as there are requests that wait: bounded by the connections.
    pub fn issue(&self) -> Result<Ticket, ApiError> {
        let random = crate::data::random::<32>();
        let random = random.map_err(|e| ApiError::new(super::error::Code::Internal, e.to_string()))?;
        let id = crate::data::hex(&random);
        let (send, result) = oneshot::channel();
        self.lock().insert(id.clone(), send);
        Ok(Ticket { tickets: self.clone(), id, result })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// As an agent gets it: below the hello's `artifacts`.
    pub fn path(&self) -> String {
        format!("{PREFIX}{}", self.id)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.tickets.lock().remove(&self.id);
    }
}

pub async fn put(
    State(app): State<App>,
    P(id): P<String>,
    Body(bytes): Body,
) -> Result<StatusCode, ApiError> {
    let waiting = app.tickets.lock().remove(&id);
    let sent = waiting.is_some_and(|waiting| waiting.send(bytes).is_ok());
    if sent { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("no such ticket, or it was used")) }
}
