//! The little HTTP that a board needs: GET with a range, PUT, POST; plain on this machine, encrypted with
//! the board's certificate beyond it.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use transport::Tls;

/// A server that says nothing for so long is gone; the fetch resumes where it was.
pub const SILENCE: Duration = Duration::from_secs(20);
/// Of an answer that is read whole: a certificate, a statement, an error.
const SMALL_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("'{0}' is not an address like https://hub.example:7711, or http:// on this machine")]
    Url(String),
    #[error("'{0}' is encrypted, and this board has no certificate to come with: edge-agent join")]
    NotJoined(String),
    #[error("cannot reach {host}: {source}")]
    Connect { host: String, source: std::io::Error },
    #[error("{0} did not answer for {SILENCE:?}")]
    Silent(String),
    #[error("{host}: {source}")]
    Broken { host: String, source: hyper::Error },
    #[error("{url} answered {status}: {text}")]
    Status { url: String, status: StatusCode, text: String },
}

thread_local! {
    /// As whom this agent comes to its hub; the loop and all its tasks are one thread.
    static OWN: RefCell<Option<Tls>> = const { RefCell::new(None) };
}

/// From now on encrypted requests come with this identity.
pub fn come_as(tls: &Tls) {
    OWN.set(Some(tls.clone()));
}

/// Where a request goes: `host:port`, and how.
struct Place {
    host: String,
    tls: Option<Tls>,
}

fn place(base: &str) -> Result<Place, HttpError> {
    let wrong = || HttpError::Url(contract::limits::clip(base));
    let (host, encrypted) = match base.strip_prefix("https://") {
        Some(host) => (host, true),
        None => (base.strip_prefix("http://").ok_or_else(wrong)?, false),
    };
    let host = host.trim_end_matches('/');
    let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
    // Plain HTTP never leaves this machine.
    if port.parse::<u16>().is_err() || !encrypted && !super::args::is_loopback(name) {
        return Err(wrong());
    }
    let tls = match encrypted {
        true => Some(OWN.with_borrow(Clone::clone).ok_or_else(|| HttpError::NotJoined(base.into()))?),
        false => None,
    };
    Ok(Place { host: host.to_string(), tls })
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn connect(place: &Place) -> Result<Box<dyn Io>, HttpError> {
    let host = &place.host;
    let connect = async {
        let stream = TcpStream::connect(host).await?;
        let Some(tls) = &place.tls else { return Ok(Box::new(stream) as Box<dyn Io>) };
        let name = host.rsplit_once(':').map_or("", |(name, _)| name).trim_matches(['[', ']']);
        let name = match name.parse::<IpAddr>() {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(name.to_string()).map_err(std::io::Error::other)?,
        };
        let connector = tokio_rustls::TlsConnector::from(tls.config());
        Ok(Box::new(connector.connect(name, stream).await?) as Box<dyn Io>)
    };
    let connected =
        tokio::time::timeout(SILENCE, connect).await.map_err(|_| HttpError::Silent(host.clone()))?;
    connected.map_err(|source| HttpError::Connect { host: host.clone(), source })
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

/// JSON to the hub where artefacts are; `token` lets in whoever comes in plain.
pub async fn ask(
    base: &str,
    path: &str,
    body: Bytes,
    token: Option<&str>,
) -> Result<Response<Incoming>, HttpError> {
    let mut request =
        Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    if let Some(token) = token.filter(|_| base.starts_with("http://")) {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    send(base, path, request, body).await
}

/// The whole of an answer that is not large.
pub async fn whole(base: &str, response: Response<Incoming>, max: usize) -> Result<Bytes, HttpError> {
    let read = http_body_util::Limited::new(response.into_body(), max).collect();
    match tokio::time::timeout(SILENCE, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(why)) => Err(HttpError::Connect { host: base.into(), source: std::io::Error::other(why) }),
        Err(_) => Err(HttpError::Silent(base.into())),
    }
}

/// JSON to a hub, and its small answer.
pub async fn post(tls: &Tls, hub: &str, path: &str, body: Bytes) -> Result<Bytes, HttpError> {
    let request =
        Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    small(tls, hub, path, request, body).await
}

pub async fn get_small(tls: &Tls, hub: &str, path: &str) -> Result<Bytes, HttpError> {
    small(tls, hub, path, Request::builder().method(Method::GET).uri(path), Bytes::new()).await
}

async fn small(
    tls: &Tls,
    hub: &str,
    path: &str,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Bytes, HttpError> {
    let place = Place { host: hub.to_string(), tls: Some(tls.clone()) };
    let response = send_to(place, &format!("https://{hub}"), path, request, body).await?;
    let read = http_body_util::Limited::new(response.into_body(), SMALL_BYTES_MAX).collect();
    match tokio::time::timeout(SILENCE, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(why)) => Err(HttpError::Connect { host: hub.into(), source: std::io::Error::other(why) }),
        Err(_) => Err(HttpError::Silent(hub.into())),
    }
}

/// What a hub's error says, without the JSON around it.
pub fn message(text: &str) -> String {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let message = json.as_ref().and_then(|json| json["error"]["message"].as_str());
    contract::limits::clip(message.unwrap_or(text))
}

/// A connection that is no longer HTTP: the server has agreed to `protocol`.
pub async fn upgrade(base: &str, path: &str, protocol: &'static str) -> Result<TokioIo<Upgraded>, HttpError> {
    let request = Request::builder().method(Method::GET).uri(path);
    let request = request.header("connection", "upgrade").header("upgrade", protocol);
    let response = send(base, path, request, Bytes::new()).await?;
    let (status, host) = (response.status(), base.to_string());
    if status != StatusCode::SWITCHING_PROTOCOLS {
        return Err(HttpError::Status {
            url: format!("{base}{path}"),
            status,
            text: "it does not upgrade".into(),
        });
    }
    let upgraded = tokio::time::timeout(SILENCE, hyper::upgrade::on(response)).await;
    let upgraded = upgraded.map_err(|_| HttpError::Silent(host.clone()))?;
    Ok(TokioIo::new(upgraded.map_err(|source| HttpError::Broken { host, source })?))
}

async fn send(
    base: &str,
    path: &str,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, HttpError> {
    send_to(place(base)?, base, path, request, body).await
}

async fn send_to(
    place: Place,
    base: &str,
    path: &str,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<Response<Incoming>, HttpError> {
    let host = place.host.clone();
    let limit = |host: &str| HttpError::Silent(host.to_string());
    let broken = |source| HttpError::Broken { host: host.clone(), source };
    let stream = connect(&place).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await; // its end is seen by whoever reads the response
    });
    let request =
        request.header("host", &host).body(Full::new(body)).map_err(|_| HttpError::Url(path.to_string()))?;
    let response =
        tokio::time::timeout(SILENCE, sender.send_request(request)).await.map_err(|_| limit(&host))?;
    let response = response.map_err(broken)?;
    if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
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
