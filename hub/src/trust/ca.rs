//! The hub's own authority: made once, beside the signing key, and never again (F8). Key and certificate
//! lie in one file that is hard-linked into place: no crash and no second hub leaves one without the
//! other.
//!
//! Not-before is 1970 in every certificate: a board without a clock is right to believe them, and nobody
//! is kept out by a date that the hub itself chose (F9).

use std::time::Duration;

use contract::identity::{HUB_NAME, PublicKey};
use contract::time::Millis;
use contract::{AgentId, Digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::data::{self, DataDir, DataError};

const FILE: &str = "ca.pem";
/// The certificate alone, for whoever has to check one.
pub const PUBLIC_FILE: &str = "ca.crt";
/// A request of a P-256 key is 500 bytes, of an RSA key of 4,096 bits 1,700.
const REQUEST_BYTES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error(
        "{0}/{FILE} does not hold the CA's key and certificate: restore it from a copy. A new one would lock the fleet out"
    )]
    Damaged(String),
    #[error("the board's request is not a PKCS #10 in PEM, signed by its key: {0}")]
    Request(String),
}

pub struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A board's request, whose signature was checked.
pub struct Request {
    params: CertificateSigningRequestParams,
    pub public: PublicKey,
}

impl Request {
    pub fn read(pem: &str) -> Result<Request, CaError> {
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(CaError::Request(format!(
                "it has {} bytes, at most {REQUEST_BYTES_MAX} are read",
                pem.len()
            )));
        }
        let params =
            CertificateSigningRequestParams::from_pem(pem).map_err(|e| CaError::Request(e.to_string()))?;
        let public = PublicKey::from_der(params.public_key.subject_public_key_info());
        if public.p256().is_none() {
            return Err(CaError::Request("its key is none on P-256, with which boards speak".into()));
        }
        Ok(Request { params, public })
    }
}

impl Ca {
    /// The one that lies there, or a new one if there is none.
    pub fn open(data: &DataDir) -> Result<Ca, CaError> {
        let text = data.secret_file(FILE, &make()?)?;
        let damaged = || CaError::Damaged(data.root().display().to_string());
        let der = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged())?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged())?;
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(|_| damaged())?;
        let ca = Ca { issuer: Issuer::from_ca_cert_der(&der, key).map_err(|_| damaged())?, der };
        data.replace(PUBLIC_FILE, &ca.pem(), 0o644)?;
        Ok(ca)
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// What tokens pin and people compare: SHA-256 of the certificate.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// A certificate for a board, in PEM. Of the request only the key counts.
    pub fn issue_agent(
        &self,
        agent: &AgentId,
        request: &Request,
        ends_ms: Millis,
    ) -> Result<String, CaError> {
        let mut params = leaf(agent.as_str(), ends_ms)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.params.public_key, &self.issuer)?.pem())
    }

    /// A key and a certificate with which the hub itself comes to a broker that asks for one, in PEM.
    pub fn issue_client(&self, name: &str, ends_ms: Millis) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf(name, ends_ms)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// A key and a certificate for whoever is to be the hub under these names, in PEM.
    pub fn issue_server(&self, names: &[String], ends_ms: Millis) -> Result<(String, String), CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf(HUB_NAME, ends_ms)?;
        params.subject_alt_names = CertificateParams::new(names.to_vec())?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }
}

fn make() -> Result<String, CaError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // Two hubs' CAs are told apart by name too.
    let name = format!("Skerry hub CA {}", &Digest::of(&key.subject_public_key_info()).hex()[..16]);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn leaf(name: &str, ends_ms: Millis) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(ends_ms / 1000);
    params.serial_number = Some(SerialNumber::from_slice(&data::random::<16>()?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f08_the_ca_is_made_once_however_many_try() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let fingerprints: Vec<Digest> = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Ca::open(&data).unwrap().fingerprint())).collect();
            tries.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(fingerprints.iter().all(|f| *f == fingerprints[0]), "{fingerprints:?}");
        let public = std::fs::read(dir.path().join(PUBLIC_FILE)).unwrap();
        let der = CertificateDer::from_pem_slice(&public).unwrap();
        assert_eq!(Digest::of(&der), fingerprints[0]);
        assert!(!String::from_utf8(public).unwrap().contains("PRIVATE"));
    }

    #[test]
    fn a_damaged_ca_is_named_and_never_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        Ca::open(&data).unwrap();
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        let error = Ca::open(&data).err().unwrap().to_string();
        assert!(error.contains("ca.pem") && error.contains("restore it"), "{error}");
    }

    #[test]
    fn only_the_key_of_a_request_counts() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(&DataDir::open(dir.path()).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wants = CertificateParams::new(vec!["evil.example".into()]).unwrap();
        wants.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wants.distinguished_name.push(DnType::CommonName, "$hub");
        let request = Request::read(&wants.serialize_request(&key).unwrap().pem().unwrap()).unwrap();
        let pem = ca.issue_agent(&"b1".parse().unwrap(), &request, 1_800_000_000_000).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let peer = crate::trust::Peer::read(&der).unwrap();
        assert_eq!(
            (peer.agent.as_str(), peer.key, peer.ends_ms),
            ("b1", request.public.digest(), 1_800_000_000_000)
        );
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!parsed.is_ca() && parsed.subject_alternative_name().unwrap().is_none());
        assert!(
            Request::read("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----")
                .is_err()
        );
    }
}
