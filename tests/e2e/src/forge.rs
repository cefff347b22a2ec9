//! What a liar with the real codec can make: documents that are nearly right, and a bomb.

use contract::codec::{self, COMPRESSED, Kind, PLAIN};
use contract::message::Desired;
use ed25519_dalek::SigningKey;

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
    codec::seal(Kind::Desired, document, key).expect("a document")
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
