//! HPKE, base mode, one message (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305.
//!
//! Of the RFC just this, over ring and x25519-dalek, which both sides have; held against the RFC's own
//! vectors below. Why not a crate of it: see `Cargo.toml` of the workspace.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac::{HMAC_SHA256, Key, Tag, sign};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// `KEM`, and the number of the key encapsulation.
const KEM: &[u8] = b"KEM\x00\x20";
/// `HPKE`, and the numbers of all three.
const SUITE: &[u8] = b"HPKE\x00\x20\x00\x01\x00\x03";
const MODE_BASE: &[u8] = &[0];

/// `once`: made for this message alone. The encapsulated key, and what is sealed; none for a bad key.
pub fn seal(
    once: &StaticSecret,
    to: [u8; 32],
    info: &[u8],
    aad: &[u8],
    plain: &[u8],
) -> Option<([u8; 32], Vec<u8>)> {
    let enc = PublicKey::from(once).to_bytes();
    let (key, nonce) = schedule(&shared(once, to, &enc, &to)?, info);
    let mut text = plain.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut text).ok()?;
    Some((enc, text))
}

pub fn open(
    own: &StaticSecret,
    enc: [u8; 32],
    info: &[u8],
    aad: &[u8],
    text: Vec<u8>,
) -> Option<Zeroizing<Vec<u8>>> {
    let public = PublicKey::from(own).to_bytes();
    let (key, nonce) = schedule(&shared(own, enc, &enc, &public)?, info);
    // In place: what is plain is never copied while the buffer shrinks.
    let mut text = Zeroizing::new(text);
    let length = key.open_in_place(nonce, Aad::from(aad), &mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

/// §4.1. None for a key that leads to nothing (§7.1.4).
fn shared(own: &StaticSecret, other: [u8; 32], enc: &[u8; 32], recipient: &[u8; 32]) -> Option<Tag> {
    let dh = own.diffie_hellman(&PublicKey::from(other));
    if !dh.was_contributory() {
        return None;
    }
    let prk = extract(&[], KEM, b"eae_prk", dh.as_bytes());
    Some(expand(&prk, KEM, b"shared_secret", &[enc.as_slice(), recipient].concat(), 32))
}

/// §5.1, for the one message.
fn schedule(shared: &Tag, info: &[u8]) -> (LessSafeKey, Nonce) {
    let (psk, info) = (extract(&[], SUITE, b"psk_id_hash", &[]), extract(&[], SUITE, b"info_hash", info));
    let context = [MODE_BASE, psk.as_ref(), info.as_ref()].concat();
    let secret = extract(shared.as_ref(), SUITE, b"secret", &[]);
    let key = expand(&secret, SUITE, b"key", &context, 32);
    let nonce = expand(&secret, SUITE, b"base_nonce", &context, 12);
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("32 bytes");
    (LessSafeKey::new(key), Nonce::try_assume_unique_for_key(&nonce.as_ref()[..12]).expect("12 bytes"))
}

/// LabeledExtract: HMAC with the salt as its key.
fn extract(salt: &[u8], suite: &[u8], label: &[u8], input: &[u8]) -> Tag {
    let labelled = Zeroizing::new([b"HPKE-v1".as_slice(), suite, label, input].concat());
    sign(&Key::new(HMAC_SHA256, salt), &labelled)
}

/// LabeledExpand, of at most one block: the caller takes the first `length` bytes.
fn expand(prk: &Tag, suite: &[u8], label: &[u8], info: &[u8], length: u16) -> Tag {
    let labelled = [length.to_be_bytes().as_slice(), b"HPKE-v1", suite, label, info, &[1]].concat();
    sign(&Key::new(HMAC_SHA256, prk.as_ref()), &labelled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::from_hex;

    /// RFC 9180, A.2.1, its first message.
    #[test]
    fn the_vector_of_the_rfc() {
        let key = |text: &str| StaticSecret::from(from_hex::<32>(text).unwrap());
        let once = key("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600");
        let own = key("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb");
        let to = from_hex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a").unwrap();
        let enc = from_hex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a").unwrap();
        let text = from_hex::<45>(
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
        );
        let (info, aad) = (b"Ode on a Grecian Urn", b"Count-0");
        let plain = b"Beauty is truth, truth beauty";
        assert_eq!(seal(&once, to, info, aad, plain), Some((enc, text.unwrap().to_vec())));
        assert_eq!(open(&own, enc, info, aad, text.unwrap().to_vec()).unwrap().as_slice(), plain);
        let mut changed = text.unwrap().to_vec();
        changed[0] ^= 1;
        assert_eq!(open(&own, enc, info, aad, changed), None);
        assert_eq!(open(&own, enc, info, b"Count-1", text.unwrap().to_vec()), None);
    }
}
