//! Who is at the other end of an encrypted connection? A certificate must be of our CA, for a client; when
//! it ended is left to whoever asks, so that a board that was off for too long can be told so, and can
//! renew (F7), instead of finding a closed door.

use std::net::SocketAddr;
use std::sync::Arc;

use contract::time::Millis;
use contract::{AgentId, Digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

/// The holder of a certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub agent: AgentId,
    /// Of its public key.
    pub key: Digest,
    pub ends_ms: Millis,
}

/// How a request came.
#[derive(Debug, Clone)]
pub struct Via {
    pub from: SocketAddr,
    pub encrypted: bool,
    pub peer: Option<Peer>,
}

impl Peer {
    pub fn read(der: &[u8]) -> Option<Peer> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let agent = certificate.subject().iter_common_name().next()?.as_str().ok()?.parse().ok()?;
        let ends = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
        Some(Peer { agent, key: Digest::of(certificate.public_key().raw), ends_ms: ends * 1000 })
    }
}

#[derive(Debug)]
pub struct AnyTime(Arc<dyn ClientCertVerifier>);

impl AnyTime {
    pub fn new(
        ca: &CertificateDer<'static>,
        provider: Arc<CryptoProvider>,
    ) -> Result<AnyTime, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        Ok(AnyTime(built))
    }
}

impl ClientCertVerifier for AnyTime {
    fn client_auth_mandatory(&self) -> bool {
        false // operators come with a token, and boards that join with another
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // boards have one certificate; the names would be bytes on every link
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let ends = Peer::read(end_entity).ok_or(rustls::CertificateError::BadEncoding)?.ends_ms / 1000;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_secs().min(ends)));
        self.0.verify_client_cert(end_entity, intermediates, at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
