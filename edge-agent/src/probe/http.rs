//! What does a GET answer? 200 to 399 is well. A redirect to the same host is followed, as Kubernetes
//! does; one that leads elsewhere is an answer, and nobody else is asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;

use super::tcp;

const REDIRECTS_MAX: usize = 10;
/// The head of an answer; hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Of a body: a server that cannot finish a short one is not well, a long one is nobody's business.
const BODY_BYTES_MAX: usize = 10 << 10;
/// Of a body, for the message.
const SHOWN_BYTES_MAX: usize = 200;

/// A page of a server.
struct Page {
    port: u16,
    path: String,
}

/// Bounded by the caller's time-out.
pub async fn get(
    host: IpAddr,
    port: u16,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> Result<(), String> {
    let mut page = Page { port, path: path.to_string() };
    for _ in 0..=REDIRECTS_MAX {
        let (response, body) = ask(host, &page, headers).await?;
        let status = response.status();
        if !status.is_redirection() && !status.is_success() {
            return Err(told(status, &body));
        }
        match status.is_redirection().then(|| elsewhere(host, &page, headers, &response)).flatten() {
            Some(next) => page = next,
            None => return Ok(()),
        }
    }
    Err(format!("more than {REDIRECTS_MAX} redirects"))
}

async fn ask(
    host: IpAddr,
    page: &Page,
    headers: &BTreeMap<String, String>,
) -> Result<(Response<()>, Vec<u8>), String> {
    let stream = tcp::open(host, page.port).await?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = request(host, page, headers)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = read(body).await?;
        Ok((Response::from_parts(head, ()), body))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection ends before the answer is taken in: what there is of it is in the channel.
        _ = connection => exchange.await,
    }
}

fn request(
    host: IpAddr,
    page: &Page,
    headers: &BTreeMap<String, String>,
) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(&page.path);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let given = |name: &str| headers.keys().any(|key| key.eq_ignore_ascii_case(name));
    let agent = concat!("skerry-probe/", env!("CARGO_PKG_VERSION"));
    let authority = SocketAddr::new(host, page.port).to_string();
    let ours = [(HOST, authority.as_str()), (USER_AGENT, agent), (ACCEPT, "*/*"), (CONNECTION, "close")];
    for (name, value) in ours.into_iter().filter(|(name, _)| !given(name.as_str())) {
        request = request.header(name, value);
    }
    request.body(Empty::new()).map_err(|why| format!("cannot be asked: {why}"))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES_MAX {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame.map_err(broken)?.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - bytes.len())]);
        }
    }
    Ok(bytes)
}

/// Where a redirect leads, if that is the same host over plain HTTP.
fn elsewhere(
    host: IpAddr,
    page: &Page,
    headers: &BTreeMap<String, String>,
    response: &Response<()>,
) -> Option<Page> {
    let to = response.headers().get(LOCATION)?.to_str().ok()?;
    let to = to.split('#').next().unwrap_or(to);
    if !to.contains("://") && !to.starts_with("//") {
        return Some(Page { port: page.port, path: beside(&page.path, to) });
    }
    let uri: Uri = format!("{}{to}", if to.starts_with("//") { "http:" } else { "" }).parse().ok()?;
    let authority = uri.authority()?;
    let asked_for = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, host)| host);
    let same = |name: &str| {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse() == Ok(host)
            || asked_for
                .is_some_and(|asked| asked.split(':').next().is_some_and(|h| h.eq_ignore_ascii_case(name)))
    };
    if uri.scheme_str() != Some("http") || !same(authority.host()) {
        return None;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Some(Page { port: authority.port_u16().unwrap_or(80), path: path.to_string() })
}

/// A path as a page names another one of its server.
fn beside(page: &str, to: &str) -> String {
    let path = page.split('?').next().unwrap_or(page);
    match to.bytes().next() {
        Some(b'/') => to.to_string(),
        Some(b'?') | None => format!("{path}{to}"),
        Some(_) => format!("{}/{to}", path.rsplit_once('/').map_or("", |(dir, _)| dir)),
    }
}

fn told(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    let line: Vec<&str> = text.split_whitespace().collect();
    match line.is_empty() {
        true => status.to_string(),
        false => format!("{status}: {}", line.join(" ")),
    }
}

fn broken(why: hyper::Error) -> String {
    let source = std::error::Error::source(&why).map_or(String::new(), |source| format!(": {source}"));
    format!("{why}{source}")
}
