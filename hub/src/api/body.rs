//! Reading request bodies within limits. What is too much is read on and thrown away for a while: a
//! client that still sends would otherwise find its connection reset instead of our answer.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{ApiError, Code};

/// A client that sends nothing for so long has gone.
const PIECE_WAIT_MAX: Duration = Duration::from_secs(60);
/// A megabyte of manifests, at 150 kbit/s.
const WHOLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Thrown away at most, and for at most so long: one push that is a little too large, on a slow link.
const DRAIN_BYTES_MAX: usize = 128 << 20;
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(20);

/// The most that a route takes in one piece.
#[derive(Debug, Clone, Copy)]
pub struct BodyMax(pub usize);

/// The next piece; `None` at the end.
pub async fn piece(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = timeout(PIECE_WAIT_MAX, body.frame()).await.map_err(|_| stalled())?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|e| ApiError::invalid(format!("body: {e}")))?;
        if let Ok(piece) = frame.into_data() {
            return Ok(Some(piece));
        }
    }
}

/// The whole body, of a route that takes it in one piece.
pub async fn whole(body: Body, max: usize) -> Result<Bytes, ApiError> {
    timeout(WHOLE_WAIT_MAX, read(body, max)).await.map_err(|_| stalled())?
}

async fn read(mut body: Body, max: usize) -> Result<Bytes, ApiError> {
    let mut all = BytesMut::new();
    while let Some(piece) = piece(&mut body).await? {
        if all.len() + piece.len() > max {
            drain(&mut body).await;
            return Err(ApiError::new(Code::TooLarge, format!("body: at most {max} bytes are taken")));
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// Before a refusal is answered.
pub async fn drain(body: &mut Body) {
    let (end, mut drained) = (Instant::now() + DRAIN_WAIT_MAX, 0);
    while let Ok(Ok(Some(piece))) = timeout_at(end, piece(body)).await {
        drained += piece.len();
        if drained > DRAIN_BYTES_MAX {
            return;
        }
    }
}

fn stalled() -> ApiError {
    ApiError::invalid(format!("body: it did not come within {} s", PIECE_WAIT_MAX.as_secs()))
        .with_status(axum::http::StatusCode::REQUEST_TIMEOUT)
}
