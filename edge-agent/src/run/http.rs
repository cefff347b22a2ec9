//! The little HTTP that a board needs: GET with a range, PUT, over plain HTTP on this machine.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A server that says nothing for so long is gone; the fetch resumes where it was.
pub const SILENCE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("'{0}' is not an address like http://127.0.0.1:7711")]
    Url(String),
    #[error("cannot reach {host}: {source}")]
    Connect { host: String, source: std::io::Error },
    #[error("{0} did not answer for {SILENCE:?}")]
    Silent(String),
    #[error("{host}: {source}")]
    Broken { host: String, source: hyper::Error },
    #[error("{url} answered {status}: {text}")]
    Status { url: String, status: StatusCode, text: String },
}

/// `http://host:port` and a path, split.
fn split(base: &str) -> Result<String, HttpError> {
    let wrong = || HttpError::Url(contract::limits::clip(base));
    let host = base.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
    let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
    // Plain HTTP leaves this machine only once agents have identities.
    if port.parse::<u16>().is_err() || !super::args::is_loopback(name) {
        return Err(wrong());
    }
    Ok(host.to_string())
}

/// Bytes from `offset` on; `None` when the server starts over or has no more than `offset`.
pub async fn get(base: &str, path: &str, offset: u64) -> Result<Response<Incoming>, HttpError> {
    let mut request = Request::builder().method(Method::GET).uri(path);
    if offset > 0 {
        request = request.header("range", format!("bytes={offset}-"));
    }
    send(base, path, request, Bytes::new()).await
}

pub async fn put(base: &str, path: &str, body: Bytes) -> Result<(), HttpError> {
    let request = Request::builder().method(Method::PUT).uri(path).header("content-type", "text/plain");
    send(base, path, request, body).await.map(drop)
}

async fn send(
    base: &str,
    path: &str,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, HttpError> {
    let host = split(base)?;
    let limit = |host: &str| HttpError::Silent(host.to_string());
    let broken = |source| HttpError::Broken { host: host.clone(), source };
    let stream = tokio::time::timeout(SILENCE, TcpStream::connect(&host)).await.map_err(|_| limit(&host))?;
    let stream = stream.map_err(|source| HttpError::Connect { host: host.clone(), source })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        let _ = connection.await; // its end is seen by whoever reads the response
    });
    let request =
        request.header("host", &host).body(Full::new(body)).map_err(|_| HttpError::Url(path.to_string()))?;
    let response =
        tokio::time::timeout(SILENCE, sender.send_request(request)).await.map_err(|_| limit(&host))?;
    let response = response.map_err(broken)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let text = short_body(response).await;
    Err(HttpError::Status { url: format!("{base}{path}"), status, text })
}

/// The first bytes of an error's body, for the message.
async fn short_body(response: Response<Incoming>) -> String {
    let read = http_body_util::Limited::new(response.into_body(), 4096).collect();
    match tokio::time::timeout(SILENCE, read).await {
        Ok(Ok(body)) => contract::limits::clip(String::from_utf8_lossy(&body.to_bytes()).trim()),
        _ => String::new(),
    }
}
