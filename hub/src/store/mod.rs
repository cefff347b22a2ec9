//! How the core's records lie in the key-value store: one key each, values are JSON.
//!
//! ```text
//! f                        the format, "1"
//! m                        Meta
//! w<ns>/<name>             WorkloadRecord
//! p<ns>/<name>/<agent>     PlacementRecord
//! a<agent>                 AgentRecord
//! r<64 hex>                ArtifactRecord
//! d<kind>/<ns>/<name>      DataRecord: a Config or Secret, without its values
//! t…                       TrustRecord: join tokens, identities, expected boards
//! o…                       AccessRecord: operators' tokens, roles, limits of namespaces
//! e<8 bytes, big endian>   EventRecord; the order of keys is the order of events
//! ```
//! The longest key (a placement of three names of 63) is exactly what the store takes.

mod load;
mod open;
mod writer;

use contract::{AgentId, DataId, Digest, WorkloadKey};
use hub_core::access::AccessKey;
use hub_core::api::Write;
use hub_core::trust::TrustKey;
use kv::VALUE_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use load::{Loaded, load};
pub use open::{Found, OpenError, open};
pub use writer::{StoreWriter, Written};

const FORMAT: &[u8] = b"1";
/// Of one record, decompressed: the present manifest and ten before it, 64 KiB each, twice escaped.
const RECORD_BYTES_MAX: usize = 8 << 20;

/// A key, by what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Format,
    Meta,
    Workload(WorkloadKey),
    Placement(WorkloadKey, AgentId),
    Agent(AgentId),
    Artifact(Digest),
    Data(DataId),
    Trust(TrustKey),
    Access(AccessKey),
    Event(u64),
}

impl Key {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Key::Format => b"f".to_vec(),
            Key::Meta => b"m".to_vec(),
            Key::Workload(key) => format!("w{key}").into_bytes(),
            Key::Placement(key, agent) => format!("p{key}/{agent}").into_bytes(),
            Key::Agent(agent) => format!("a{agent}").into_bytes(),
            Key::Artifact(digest) => format!("r{}", digest.hex()).into_bytes(),
            Key::Data(id) => format!("d{id}").into_bytes(),
            Key::Trust(TrustKey::Token(id)) => format!("tt{}", id.hex()).into_bytes(),
            Key::Trust(TrustKey::Identity(agent)) => format!("ti{agent}").into_bytes(),
            Key::Trust(TrustKey::Expected(agent)) => format!("te{agent}").into_bytes(),
            Key::Access(AccessKey::Token(name)) => format!("ot{name}").into_bytes(),
            Key::Access(AccessKey::Role(name)) => format!("or{name}").into_bytes(),
            Key::Access(AccessKey::Namespace(name)) => format!("on{name}").into_bytes(),
            Key::Event(seq) => [b"e".as_slice(), &seq.to_be_bytes()].concat(),
        }
    }

    pub fn parse(bytes: &[u8]) -> Option<Key> {
        let (kind, rest) = bytes.split_first()?;
        if *kind == b'e' {
            return Some(Key::Event(u64::from_be_bytes(rest.try_into().ok()?)));
        }
        let rest = std::str::from_utf8(rest).ok()?;
        match kind {
            b'f' => rest.is_empty().then_some(Key::Format),
            b'm' => rest.is_empty().then_some(Key::Meta),
            b'w' => Some(Key::Workload(rest.parse().ok()?)),
            b'p' => {
                let (key, agent) = rest.rsplit_once('/')?;
                Some(Key::Placement(key.parse().ok()?, agent.parse().ok()?))
            }
            b'a' => Some(Key::Agent(rest.parse().ok()?)),
            b'r' => Some(Key::Artifact(format!("sha256:{rest}").parse().ok()?)),
            b'd' => Some(Key::Data(rest.parse().ok()?)),
            b't' => Some(Key::Trust(trust_key(rest)?)),
            b'o' => Some(Key::Access(access_key(rest)?)),
            _ => None,
        }
    }
}

fn trust_key(text: &str) -> Option<TrustKey> {
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "t" => Some(TrustKey::Token(format!("sha256:{rest}").parse().ok()?)),
        "i" => Some(TrustKey::Identity(rest.parse().ok()?)),
        "e" => Some(TrustKey::Expected(rest.parse().ok()?)),
        _ => None,
    }
}

fn access_key(text: &str) -> Option<AccessKey> {
    let (kind, rest) = text.split_at_checked(1)?;
    match kind {
        "t" => Some(AccessKey::Token(rest.parse().ok()?)),
        "r" => Some(AccessKey::Role(rest.parse().ok()?)),
        "n" => Some(AccessKey::Namespace(rest.parse().ok()?)),
        _ => None,
    }
}

/// One change of the store.
type Change = (Vec<u8>, Option<Vec<u8>>);

/// What a write does to which keys. `oldest_event` is the lowest one that may be stored.
fn changes(write: &Write, oldest_event: &mut u64) -> Vec<Change> {
    match write {
        Write::Meta(meta) => vec![put(Key::Meta, Some(meta))],
        Write::Workload { key, record } => vec![put(Key::Workload(key.clone()), record.as_deref())],
        Write::Placement { key, agent, record } => {
            vec![put(Key::Placement(key.clone(), agent.clone()), record.as_ref())]
        }
        Write::Agent { agent, record } => vec![put(Key::Agent(agent.clone()), record.as_deref())],
        Write::Artifact { digest, record } => vec![put(Key::Artifact(*digest), record.as_deref())],
        Write::Data { id, record } => vec![put(Key::Data(id.clone()), record.as_deref())],
        Write::Trust { key, record } => vec![put(Key::Trust(key.clone()), record.as_deref())],
        Write::Access { key, record } => vec![put(Key::Access(key.clone()), record.as_deref())],
        Write::Event(event) => vec![put(Key::Event(event.seq), Some(event))],
        Write::EventsBelow(below) => {
            let from = std::mem::replace(oldest_event, (*oldest_event).max(*below));
            (from..*below).map(|seq| (Key::Event(seq).bytes(), None)).collect()
        }
    }
}

fn put<T: Serialize>(key: Key, value: Option<&T>) -> Change {
    (key.bytes(), value.map(encode))
}

/// What is large is text that repeats itself (ten revisions of one manifest): a tenth, compressed.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let plain = serde_json::to_vec(value).expect("records have only string keys");
    if plain.len() <= VALUE_BYTES_MAX {
        return plain;
    }
    zstd::bulk::compress(&plain, 1).expect("compressing into memory cannot fail")
}

/// JSON begins with '{'; zstd with its magic number.
fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    if !value.starts_with(ZSTD_MAGIC) {
        return serde_json::from_slice(value).map_err(|e| e.to_string());
    }
    let plain = zstd::bulk::decompress(value, RECORD_BYTES_MAX).map_err(|e| e.to_string())?;
    serde_json::from_slice(&plain).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_and_fits() {
        let name = "a".repeat(63);
        let workload: WorkloadKey = format!("{name}/{name}").parse().unwrap();
        let agent: AgentId = name.parse().unwrap();
        for key in [
            Key::Format,
            Key::Meta,
            Key::Workload(workload.clone()),
            Key::Placement(workload, agent.clone()),
            Key::Agent(agent.clone()),
            Key::Trust(TrustKey::Token(Digest::of(b"s"))),
            Key::Trust(TrustKey::Identity(agent.clone())),
            Key::Trust(TrustKey::Expected(agent.clone())),
            Key::Access(AccessKey::Token(agent.0.clone())),
            Key::Access(AccessKey::Role(agent.0.clone())),
            Key::Access(AccessKey::Namespace(agent.0)),
            Key::Artifact(Digest::of(b"x")),
            Key::Data(format!("secret/{name}/{name}").parse().unwrap()),
            Key::Event(u64::MAX),
        ] {
            let bytes = key.bytes();
            assert!(bytes.len() <= kv::KEY_BYTES_MAX, "{key:?}");
            assert_eq!(Key::parse(&bytes), Some(key));
        }
        for wrong in [b"".as_slice(), b"mx", b"wa", b"e123", b"z", b"r00", b"w\xff/a"] {
            assert_eq!(Key::parse(wrong), None);
        }
        assert!(Key::Event(255).bytes() < Key::Event(256).bytes());
    }

    #[test]
    fn a_large_record_is_stored_small_and_read_back() {
        let text = "a line of a manifest\n".repeat(10_000);
        let stored = encode(&text);
        assert!(stored.len() < VALUE_BYTES_MAX && decode::<String>(&stored).unwrap() == text);
        assert_eq!(decode::<String>(&encode(&"short")).unwrap(), "short");
        assert!(decode::<String>(&stored[..stored.len() / 2]).is_err());
    }

    #[test]
    fn events_are_dropped_from_the_oldest_on() {
        let mut oldest = 3;
        assert_eq!(changes(&Write::EventsBelow(5), &mut oldest).len(), 2);
        assert_eq!(oldest, 5);
        assert!(changes(&Write::EventsBelow(4), &mut oldest).is_empty());
        assert_eq!(oldest, 5);
    }
}
