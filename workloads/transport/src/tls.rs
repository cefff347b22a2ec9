//! Whom does a board, or a hub at somebody else's broker, believe at the other end of a connection? The
//! hub's CA and nobody else, found by its certificate or, at the first contact, by its digest; at a time
//! that no clock decides alone.
//!
//! A board's clock may stand in 1970 or in 2099. What is known is a floor: the highest time that a hub
//! has told. A certificate is judged at the later of clock and floor; one that has ended by then is judged
//! at the floor, since the clock may be wrong and the floor is not. So a certificate that ended before the
//! floor is refused whatever the clock says, and no board is locked out by its clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use contract::Digest;
use contract::identity::HUB_NAME;
use contract::time::Millis;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Whom to believe.
#[derive(Debug, Clone)]
pub enum Trusted {
    /// A hub whose CA certificate has this digest, and comes with its own.
    Pinned(Digest),
    /// A hub of this CA (PEM).
    Hub(String),
    /// A server of this CA (PEM), under the name by which it was called.
    Named(String),
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Own {
    pub certificate: String,
    pub key: String,
}

/// The time that is known to have been. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Floor(Arc<FloorInner>);

#[derive(Debug, Default)]
struct FloorInner {
    ms: AtomicU64,
    /// A certificate was good only at the floor: the clock is ahead, or the hub's certificate has ended.
    doubted: AtomicBool,
}

impl Floor {
    pub fn new(ms: Millis) -> Floor {
        let floor = Floor::default();
        floor.raise(ms);
        floor
    }

    /// Never lowers it.
    pub fn raise(&self, ms: Millis) {
        self.0.ms.fetch_max(ms, Ordering::Relaxed);
    }

    pub fn ms(&self) -> Millis {
        self.0.ms.load(Ordering::Relaxed)
    }

    pub fn clock_is_doubted(&self) -> bool {
        self.0.doubted.load(Ordering::Relaxed)
    }
}

/// How to connect encrypted. Cheap to clone; clones share the sessions that they resume.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{0} is not a certificate in PEM")]
    Certificate(&'static str),
    #[error("the key is not in PEM")]
    Key,
    #[error("{0}")]
    Rustls(#[from] Error),
}

impl Tls {
    pub fn new(trusted: &Trusted, own: Option<&Own>, floor: Floor, alpn: &[u8]) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(trusted, floor, Arc::clone(&provider))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match own {
            None => config.with_no_client_auth(),
            Some(own) => {
                let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes());
                let certificate = certificate.map_err(|_| TlsError::Certificate("our own"))?;
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|_| TlsError::Key)?;
                config.with_client_auth_cert(vec![certificate], key)?
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        // A hub or two; the default's table is for a browser.
        config.resumption = rustls::client::Resumption::in_memory_sessions(4);
        Ok(Tls(Arc::new(config)))
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

#[derive(Debug)]
struct Verifier {
    trusted: Known,
    floor: Floor,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Known {
    Pinned(Digest),
    Hub(Arc<WebPkiServerVerifier>),
    Named(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    fn new(trusted: &Trusted, floor: Floor, provider: Arc<CryptoProvider>) -> Result<Verifier, TlsError> {
        let of_pem = |pem: &str| -> Result<_, TlsError> {
            let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            let roots = roots.map_err(|_| TlsError::Certificate("the CA's"))?;
            webpki(roots, &provider).map_err(|_| TlsError::Certificate("the CA's"))
        };
        let trusted = match trusted {
            Trusted::Pinned(digest) => Known::Pinned(*digest),
            Trusted::Hub(pem) => Known::Hub(of_pem(pem)?),
            Trusted::Named(pem) => Known::Named(of_pem(pem)?),
        };
        Ok(Verifier { trusted, floor, provider })
    }
}

fn webpki(
    roots: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root)?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|e| Error::General(e.to_string()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Wherever it is and however it was reached, a hub carries this name.
        let hub = ServerName::try_from(HUB_NAME).map_err(|_| Error::General("name".into()))?;
        let pinned;
        let (verifier, name) = match &self.trusted {
            Known::Hub(verifier) => (verifier, &hub),
            Known::Named(verifier) => (verifier, called),
            Known::Pinned(digest) => {
                let ca = intermediates.iter().find(|ca| Digest::of(ca) == *digest);
                let ca = ca.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                pinned = webpki(vec![ca.clone().into_owned()], &self.provider)?;
                (&pinned, &hub)
            }
        };
        let floor = UnixTime::since_unix_epoch(Duration::from_millis(self.floor.ms()));
        let judge = |at| verifier.verify_server_cert(end_entity, intermediates, name, ocsp, at);
        match judge(now.max(floor)) {
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) if now > floor => {
                let judged = judge(floor)?;
                self.floor.0.doubted.store(true, Ordering::Relaxed);
                Ok(judged)
            }
            judged => {
                self.floor.0.doubted.store(false, Ordering::Relaxed);
                judged
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
