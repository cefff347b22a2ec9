//! The hub's own certificate: made anew when its names change or a third of its life is left, at the first
//! handshake that comes then. No timer, no restart, no connection touched.
//!
//! A new one never ends before the old one: boards keep the highest time that a hub told them, and a hub
//! whose clock jumped ahead and came back must not seem expired to them.

use std::sync::{Arc, Mutex, PoisonError};

use contract::time::Millis;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::ca::{Ca, CaError};
use super::wall_ms;
use crate::data::DataDir;

const FILE: &str = "server.pem";

pub struct ServerCert {
    ca: Arc<Ca>,
    data: Arc<DataDir>,
    names: Vec<String>,
    life_ms: Millis,
    present: Mutex<Present>,
}

#[derive(Clone)]
struct Present {
    certified: Arc<CertifiedKey>,
    ends_ms: Millis,
}

impl ServerCert {
    pub fn open(
        ca: Arc<Ca>,
        data: Arc<DataDir>,
        names: Vec<String>,
        life_ms: Millis,
    ) -> Result<ServerCert, CaError> {
        let path = data.root().join(FILE);
        let stored = std::fs::read_to_string(path).ok().and_then(|text| read(&ca, &text));
        let ends_ms = stored.as_ref().map_or(0, |(_, present)| present.ends_ms);
        let present = match stored {
            Some((had, present)) if had == names && !due(ends_ms, life_ms) => present,
            _ => make(&ca, &data, &names, life_ms, ends_ms)?,
        };
        Ok(ServerCert { ca, data, names, life_ms, present: Mutex::new(present) })
    }
}

fn due(ends_ms: Millis, life_ms: Millis) -> bool {
    wall_ms().saturating_add(life_ms / 3) >= ends_ms
}

fn make(
    ca: &Ca,
    data: &DataDir,
    names: &[String],
    life_ms: Millis,
    before_ms: Millis,
) -> Result<Present, CaError> {
    let ends_ms = wall_ms().saturating_add(life_ms).max(before_ms) / 1000 * 1000;
    let (certificate, key) = ca.issue_server(names, ends_ms)?;
    let text = format!("names: {}\nends: {ends_ms}\n{certificate}{key}", names.join(" "));
    let (_, present) = read(ca, &text).ok_or_else(|| CaError::Damaged(FILE.into()))?;
    data.replace(FILE, &text, 0o600)?;
    Ok(present)
}

/// The names and what they are for. Only what our CA made: after a new one every file of the old is void.
fn read(ca: &Ca, text: &str) -> Option<(Vec<String>, Present)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let names = field("names: ")?.split(' ').map(str::to_string).collect();
    let ends_ms = field("ends: ")?.parse().ok()?;
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let (_, root) = x509_parser::parse_x509_certificate(ca.der()).ok()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    if leaf.issuer() != root.subject() {
        return None;
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
    // With the CA: a board that joins has only its digest.
    let chain = vec![certificate.clone(), ca.der().clone()];
    Some((names, Present { certified: Arc::new(CertifiedKey::new(chain, key)), ends_ms }))
}

impl ResolvesServerCert for ServerCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if due(present.ends_ms, self.life_ms) {
            match make(&self.ca, &self.data, &self.names, self.life_ms, present.ends_ms) {
                Ok(new) => *present = new,
                Err(e) => tracing::error!("the hub's certificate could not be renewed: {e}"),
            }
        }
        Some(Arc::clone(&present.certified))
    }
}

impl std::fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerCert").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Millis = 86_400_000;

    #[test]
    fn it_is_kept_until_it_is_due_or_named_otherwise_and_never_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(dir.path()).unwrap());
        let ca = Arc::new(Ca::open(&data).unwrap());
        let open = |name: &str, life_ms| {
            let cert =
                ServerCert::open(Arc::clone(&ca), Arc::clone(&data), vec![name.into()], life_ms).unwrap();
            let present = cert.present.lock().unwrap().clone();
            (present.certified.cert[0].clone(), present.ends_ms)
        };
        let (first, ends) = open("a.example", 90 * DAY);
        assert_eq!(open("a.example", 90 * DAY), (first.clone(), ends));
        let (renamed, same_end) = open("b.example", DAY);
        assert!(renamed != first && same_end == ends, "not shortened");
        let (longer, later) = open("b.example", 400 * DAY);
        assert!(longer != renamed && later > ends);
    }
}
