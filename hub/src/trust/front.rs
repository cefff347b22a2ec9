//! The encrypted port: TLS 1.3 or nothing, within bounds on how long a handshake takes and how many go
//! on at once; then HTTP or MQTT, as the client asked by ALPN. One port is all that a firewall must know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::identity::{ALPN_HTTP, ALPN_MQTT};
use rustls::ServerConfig;
use rustls::server::{ResolvesServerCert, ServerSessionMemoryCache};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::ca::Ca;
use super::peer::{AnyTime, Peer, Via};
use super::places::{Place, Places};

/// From the first byte to the end of the handshake: three round trips at 2 s each, and a slow board.
const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(15);
/// Handshakes in progress; one costs 20 KiB and under a millisecond.
const HANDSHAKES_MAX: usize = 1024;
/// Of these from one address.
const HANDSHAKES_PER_ADDRESS: usize = 256;
/// Sessions that resume: a returning fleet saves a signature and 2 KiB each. ~1 KiB of memory each.
const RESUMED_MAX: usize = 50_000;

#[derive(Clone)]
pub struct Front {
    acceptor: TlsAcceptor,
    places: Places,
}

pub enum Entered {
    Http(Box<TlsStream<TcpStream>>, Via),
    /// Only with a certificate of ours.
    Mqtt(Box<TlsStream<TcpStream>>, Peer),
}

impl Front {
    pub fn new(ca: &Ca, certificate: Arc<dyn ResolvesServerCert>) -> Result<Front, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(AnyTime::new(ca.der(), provider)?))
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![ALPN_MQTT.to_vec(), ALPN_HTTP.to_vec()];
        // By number, not in the ticket: that would carry the board's certificate both ways.
        config.session_storage = ServerSessionMemoryCache::new(RESUMED_MAX);
        config.send_tls13_tickets = 1;
        let places = Places::new(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS);
        Ok(Front { acceptor: TlsAcceptor::from(Arc::new(config)), places })
    }

    /// None for whoever is too slow, one of too many, speaks something else, or shows what is not ours.
    /// The place is to be kept until there is one inside.
    pub async fn enter(&self, stream: TcpStream, from: SocketAddr) -> Option<(Entered, Place)> {
        let place = self.places.try_take(from.ip())?;
        let _ = stream.set_nodelay(true);
        let accepted = tokio::time::timeout(HANDSHAKE_WAIT_MAX, self.acceptor.accept(stream)).await;
        let stream = Box::new(accepted.ok()?.ok()?);
        let (_, session) = stream.get_ref();
        let mqtt = session.alpn_protocol() == Some(ALPN_MQTT);
        let peer = session.peer_certificates().and_then(|chain| Peer::read(chain.first()?));
        let entered = match peer {
            Some(peer) if mqtt => Entered::Mqtt(stream, peer),
            None if mqtt => return None,
            peer => Entered::Http(stream, Via { from, encrypted: true, peer }),
        };
        Some((entered, place))
    }
}
