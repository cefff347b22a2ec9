//! Server-sent events: one task feeds one client through a short queue, and ends when either the
//! client or the hub does.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that a client has not taken yet; past it the feeder waits, and what it reads from is bounded
/// by itself.
const QUEUE_MAX: usize = 32;
/// A comment line, so that both ends notice a dead link.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The feeder's end.
pub struct Feed(mpsc::Sender<Event>);

/// The client is gone, or the hub stops.
#[derive(Debug)]
pub struct Closed;

impl Feed {
    pub async fn send(&self, event: Event) -> Result<(), Closed> {
        self.0.send(event).await.map_err(|_| Closed)
    }

    pub async fn json(&self, name: &str, data: &impl Serialize) -> Result<(), Closed> {
        self.send(event(name, data)).await
    }

    /// Ends when the client has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

pub fn event(name: &str, data: &impl Serialize) -> Event {
    let text = serde_json::to_string(data).expect("views have only string keys");
    Event::default().event(name).data(text)
}

/// Answer with what `feeder` sends.
pub fn respond<F>(stop: CancellationToken, feeder: impl FnOnce(Feed) -> F) -> Response
where
    F: Future<Output = Result<(), Closed>> + Send + 'static,
{
    let (send, receive) = mpsc::channel(QUEUE_MAX);
    let gone = send.clone();
    let feeding = feeder(Feed(send));
    tokio::spawn(async move {
        tokio::select! {
            _ = feeding => {}
            () = gone.closed() => {}
            () = stop.cancelled() => {}
        }
    });
    let stream = futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|event| (Ok::<_, Infallible>(event), receive))
    });
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // For proxies that would collect events.
    let off = axum::http::HeaderValue::from_static("no");
    response.headers_mut().insert("x-accel-buffering", off);
    response
}
