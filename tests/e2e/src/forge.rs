//! What a liar with the real codec can make: documents that are nearly right, and a bomb.

use contract::codec::{self, COMPRESSED, Kind, PLAIN};
use contract::message::Desired;
use contract::signature::{BoardKey, Sign};
use ed25519_dalek::SigningKey;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

/// A key of nobody's hub.
pub fn stranger() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// What came over the wire, with the content type that its sender gave it.
pub fn content_type(wire: &[u8]) -> &'static str {
    if wire.starts_with(b"{") { PLAIN } else { COMPRESSED }
}

pub fn document(wire: &[u8]) -> Desired {
    let plain = codec::unpack(wire, content_type(wire)).expect("a captured message");
    codec::open(Kind::Desired, &plain, None).expect("a captured document")
}

/// Signed by this key, or by nobody.
pub fn sealed(document: &Desired, key: Option<&SigningKey>) -> Vec<u8> {
    codec::seal(Kind::Desired, document, key.map(|key| key as _)).expect("a document")
}

/// The key of a board that was stolen: what it signs is signed well, and is not another board's word.
pub fn stolen_key(state: &std::path::Path) -> BoardKey {
    let key = PrivatePkcs8KeyDer::from_pem_file(state.join("identity/key.pem")).expect("a board's key");
    BoardKey::read(key.secret_pkcs8_der()).expect("a P-256 key")
}

/// The same words under another signature, or none.
pub fn resealed(wire: &[u8], key: Option<&dyn Sign>) -> Vec<u8> {
    let plain = codec::unpack(wire, content_type(wire)).expect("a captured message");
    let envelope: serde_json::Value = serde_json::from_slice(&plain).expect("JSON");
    let kind: Kind = serde_json::from_value(envelope["kind"].clone()).expect("a kind");
    codec::seal(kind, &envelope["body"], key).expect("a message")
}

/// A gibibyte of zeros in 32 KiB of zstd: 8,192 blocks that each repeat one byte 128 KiB long.
pub fn bomb() -> Vec<u8> {
    const BLOCKS: usize = 8192;
    const BLOCK_BYTES: u32 = 128 << 10;
    // Magic; no content size, no checksum; a window of 128 KiB (exponent 7).
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    for n in 1..=BLOCKS {
        let last = u32::from(n == BLOCKS);
        let header = last | 1 << 1 | BLOCK_BYTES << 3;
        bytes.extend(&header.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}
