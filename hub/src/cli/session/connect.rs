//! From a question to a connection that is the session's alone, or to the hub's reason.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::identity::ALPN_HTTP;
use contract::session::PROTOCOL;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::api::session::Ask;
use crate::cli::client::Client;
use crate::cli::exit::{Code, Done, Failure};

pub type Stream = TokioIo<Upgraded>;

const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A hub answers within 60 s or says why not.
const ANSWER_WAIT: Duration = Duration::from_secs(90);
const ERROR_BYTES_MAX: usize = 1 << 20;

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where the hub is.
struct Place {
    /// As it was written.
    host: String,
    name: String,
    port: u16,
    encrypted: bool,
}

impl Place {
    fn of(url: &str) -> Done<Place> {
        let wrong = || Failure::usage(format!("'{url}' is not a hub's address: write https://host:port"));
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let encrypted = uri.scheme_str() == Some("https");
        let authority = uri.authority().ok_or_else(wrong)?;
        let port = authority.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        let name = authority.host().trim_matches(['[', ']']).to_string();
        Ok(Place { host: authority.to_string(), name, port, encrypted })
    }

    async fn open(&self, ca: Option<String>) -> std::io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect((self.name.as_str(), self.port)).await?;
        // A key that is typed is sent at once.
        let _ = stream.set_nodelay(true);
        if !self.encrypted {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(self.name.clone()).map_err(std::io::Error::other)?;
        let config = config(&ca.unwrap_or_default()).map_err(std::io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }
}

/// As the rest of the command line: nobody but the hub's own CA is believed.
fn config(ca: &str) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
    Ok(config)
}

pub async fn connect(client: &Client, ask: &Ask) -> Done<Stream> {
    let unreachable = |why: &dyn std::fmt::Display| client.unreachable_because(why);
    let place = Place::of(&client.context.hub)?;
    let open = tokio::time::timeout(CONNECT_WAIT, place.open(client.context.ca()?));
    let stream = open.await.map_err(|_| unreachable(&"no answer in 5 s"))?.map_err(|e| unreachable(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
    tokio::spawn(async move {
        // Its end is seen by whoever reads the answer.
        let _ = connection.with_upgrades().await;
    });
    let body = serde_json::to_vec(ask).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    let request = Request::post("/v1/sessions")
        .header("host", &place.host)
        .header("authorization", client.bearer()?)
        .header("content-type", "application/json")
        .header("connection", "upgrade")
        .header("upgrade", PROTOCOL)
        .body(Full::new(Bytes::from(body)))
        .map_err(|e| Failure::usage(e.to_string()))?;
    let answered = tokio::time::timeout(ANSWER_WAIT, sender.send_request(request)).await;
    let response = answered
        .map_err(|_| Failure::new(Code::Timeout, "the hub did not answer in time"))?
        .map_err(|e| unreachable(&e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(|e| unreachable(&e))?));
    }
    let status = response.status();
    let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default();
    Err(client.refused(status.as_u16(), &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_address() {
        let of = |url: &str| Place::of(url).map(|p| (p.host, p.name, p.port, p.encrypted)).ok();
        let is = |host: &str, name: &str, port, encrypted| {
            Some((host.to_string(), name.to_string(), port, encrypted))
        };
        assert_eq!(of("http://127.0.0.1:7711/"), is("127.0.0.1:7711", "127.0.0.1", 7711, false));
        assert_eq!(of("https://hub.example"), is("hub.example", "hub.example", 443, true));
        assert_eq!(of("https://[::1]:7711"), is("[::1]:7711", "::1", 7711, true));
        assert_eq!(of("https:// x"), None);
    }
}
