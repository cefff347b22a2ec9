//! How a message becomes bytes: a JSON envelope `{v, kind, key?, sig?, body}`, zstd where it
//! helps (told by the content type), size limits on both sides of the compression, and a signature over the
//! body's exact bytes, so that what was signed can be stored and verified verbatim.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::digest::Digest;
use crate::limits;
use crate::signature::{Sign, Verify};

/// MQTT content types, and the same words over HTTP.
pub const PLAIN: &str = "application/json";
pub const COMPRESSED: &str = "application/json+zstd";

/// What a body is; signed with it, so that one kind can never be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Desired,
    Hello,
    Announce,
    Command,
    Presence,
    Observed,
    Events,
    Reply,
    /// A statement about compiled code: (source, engine, digest, size).
    Compiled,
    /// How a board stands with its hub.
    Standing,
    /// A Secret's content, sealed to one board.
    Sealed,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Desired => "desired",
            Kind::Hello => "hello",
            Kind::Announce => "announce",
            Kind::Command => "command",
            Kind::Presence => "presence",
            Kind::Observed => "observed",
            Kind::Events => "events",
            Kind::Reply => "reply",
            Kind::Compiled => "compiled",
            Kind::Standing => "standing",
            Kind::Sealed => "sealed",
        }
    }
}

/// Every reason is one that an operator is shown.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{0} bytes on the wire; at most {max} are taken", max = limits::WIRE_BYTES_MAX)]
    TooLargeOnWire(usize),
    #[error("more than {max} bytes once decompressed", max = limits::MESSAGE_BYTES_MAX)]
    TooLarge,
    #[error("content type '{0}' is unknown; use {PLAIN} or {COMPRESSED}")]
    ContentType(String),
    #[error("is not valid zstd: {0}")]
    Zstd(std::io::Error),
    #[error("is not a valid message: {0}")]
    Json(serde_json::Error),
    #[error("has envelope version {0}; this program knows 1")]
    EnvelopeVersion(u32),
    #[error("is a {found:?} message where a {wanted:?} one was expected")]
    Kind { found: Kind, wanted: Kind },
    #[error("is not signed")]
    Unsigned,
    #[error("is signed by key {found}; the pinned key is {pinned}")]
    OtherKey { found: String, pinned: String },
    #[error("has a signature that does not fit its content")]
    BadSignature,
    #[error("cannot be signed: the system gives no randomness")]
    Unsignable,
}

#[derive(Serialize)]
struct EnvelopeOut<'a> {
    v: u32,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct EnvelopeIn<'a> {
    v: u32,
    kind: Kind,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    sig: Option<String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// A message ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub content_type: &'static str,
}

/// The short name of a public key: the first 16 hex digits of its SHA-256.
pub fn fingerprint(key: &VerifyingKey) -> String {
    Digest::of(key.as_bytes()).hex()[..16].to_string()
}

/// A public key as its file holds it: `ed25519:` and 64 hex digits.
pub fn public_key_line(key: &VerifyingKey) -> String {
    format!("ed25519:{}\n", crate::digest::to_hex(key.as_bytes()))
}

/// The inverse of [`public_key_line`]; spaces around it do not matter.
pub fn parse_public_key(line: &str) -> Option<VerifyingKey> {
    let bytes = crate::digest::from_hex::<32>(line.trim().strip_prefix("ed25519:")?)?;
    VerifyingKey::from_bytes(&bytes).ok()
}

fn signed_bytes(kind: Kind, body: &str) -> Vec<u8> {
    [b"skerry/v1\0", kind.word().as_bytes(), b"\0", body.as_bytes()].concat()
}

/// Frame, sign when a key is given, compress when it is worth it. Refuses what a reader would refuse.
pub fn encode<T: Serialize>(kind: Kind, message: &T, key: Option<&dyn Sign>) -> Result<Encoded, CodecError> {
    let plain = seal(kind, message, key)?;
    if plain.len() <= limits::COMPRESS_ABOVE_BYTES {
        return Ok(Encoded { bytes: plain, content_type: PLAIN });
    }
    let bytes = zstd::bulk::compress(&plain, 3).map_err(CodecError::Zstd)?;
    if bytes.len() >= plain.len() && plain.len() <= limits::WIRE_BYTES_MAX {
        return Ok(Encoded { bytes: plain, content_type: PLAIN });
    }
    if bytes.len() > limits::WIRE_BYTES_MAX {
        return Err(CodecError::TooLargeOnWire(bytes.len()));
    }
    Ok(Encoded { bytes, content_type: COMPRESSED })
}

/// The envelope without compression: what is stored and what files hold.
pub fn seal<T: Serialize>(kind: Kind, message: &T, key: Option<&dyn Sign>) -> Result<Vec<u8>, CodecError> {
    let body = serde_json::value::to_raw_value(message).map_err(CodecError::Json)?;
    let sig = key.map(|key| key.sign(&signed_bytes(kind, body.get())).ok_or(CodecError::Unsignable));
    let sig = sig.transpose()?.map(|sig| BASE64.encode(sig));
    let key = key.and_then(Sign::name);
    let plain =
        serde_json::to_vec(&EnvelopeOut { v: 1, kind, key, sig, body: &body }).map_err(CodecError::Json)?;
    if plain.len() > limits::MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge);
    }
    Ok(plain)
}

/// Undo the compression, within limits. The result is what [`open`] takes and what is stored.
pub fn unpack(bytes: &[u8], content_type: &str) -> Result<Vec<u8>, CodecError> {
    if bytes.len() > limits::WIRE_BYTES_MAX {
        return Err(CodecError::TooLargeOnWire(bytes.len()));
    }
    match content_type {
        // Devices and people with a plain MQTT client set none.
        PLAIN | "" => Ok(bytes.to_vec()),
        COMPRESSED => decompress(bytes),
        other => Err(CodecError::ContentType(limits::clip(other))),
    }
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    use std::io::Read as _;
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(CodecError::Zstd)?;
    let read = decoder.take(limits::MESSAGE_BYTES_MAX as u64 + 1).read_to_end(&mut plain);
    read.map_err(CodecError::Zstd)?;
    if plain.len() > limits::MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLarge);
    }
    Ok(plain)
}

/// Read an unpacked envelope. With a `pinned` key the signature is demanded and checked *before*
/// the body is parsed.
pub fn open<T: DeserializeOwned>(
    kind: Kind,
    plain: &[u8],
    pinned: Option<&dyn Verify>,
) -> Result<T, CodecError> {
    let envelope: EnvelopeIn<'_> = serde_json::from_slice(plain).map_err(CodecError::Json)?;
    if envelope.v != 1 {
        return Err(CodecError::EnvelopeVersion(envelope.v));
    }
    if envelope.kind != kind {
        return Err(CodecError::Kind { found: envelope.kind, wanted: kind });
    }
    if let Some(pinned) = pinned {
        check_signature(&envelope, pinned)?;
    }
    serde_json::from_str(envelope.body.get()).map_err(CodecError::Json)
}

fn check_signature(envelope: &EnvelopeIn<'_>, pinned: &dyn Verify) -> Result<(), CodecError> {
    let sig = envelope.sig.as_deref().ok_or(CodecError::Unsigned)?;
    if let (Some(wanted), Some(found)) = (pinned.name(), envelope.key.as_deref())
        && found != wanted
    {
        return Err(CodecError::OtherKey { found: limits::clip(found), pinned: wanted });
    }
    let sig = BASE64.decode(sig).map_err(|_| CodecError::BadSignature)?;
    match pinned.fits(&signed_bytes(envelope.kind, envelope.body.get()), &sig) {
        true => Ok(()),
        false => Err(CodecError::BadSignature),
    }
}

/// [`unpack`] and [`open`] in one.
pub fn decode<T: DeserializeOwned>(
    kind: Kind,
    bytes: &[u8],
    content_type: &str,
    pinned: Option<&dyn Verify>,
) -> Result<T, CodecError> {
    open(kind, &unpack(bytes, content_type)?, pinned)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn a_signed_message_survives_and_a_forged_one_does_not() {
        let text = "x".repeat(5000);
        let sent = encode(Kind::Hello, &text, Some(&key(1))).unwrap();
        assert_eq!(sent.content_type, COMPRESSED);
        let read = |kind, k: &SigningKey| {
            decode::<String>(kind, &sent.bytes, sent.content_type, Some(&k.verifying_key()))
        };
        assert_eq!(read(Kind::Hello, &key(1)).unwrap(), text);
        assert!(matches!(read(Kind::Hello, &key(2)), Err(CodecError::OtherKey { .. })));
        assert!(matches!(read(Kind::Desired, &key(1)), Err(CodecError::Kind { .. })));

        let plain = unpack(&sent.bytes, sent.content_type).unwrap();
        let forged = String::from_utf8(plain).unwrap().replace("xx\"", "xy\"");
        let opened = open::<String>(Kind::Hello, forged.as_bytes(), Some(&key(1).verifying_key()));
        assert!(matches!(opened, Err(CodecError::BadSignature)));
        let unsigned = seal(Kind::Hello, &"hi", None).unwrap();
        let opened = open::<String>(Kind::Hello, &unsigned, Some(&key(1).verifying_key()));
        assert!(matches!(opened, Err(CodecError::Unsigned)));
    }

    #[test]
    fn a_board_signs_what_only_its_key_opens() {
        let ((key, public), (_, other)) =
            (crate::signature::tests::board_key(), crate::signature::tests::board_key());
        let sealed = seal(Kind::Observed, &"hi", Some(&key)).unwrap();
        assert_eq!(open::<String>(Kind::Observed, &sealed, Some(&public)).unwrap(), "hi");
        let wrong = |kind, by: &dyn Verify| open::<String>(kind, &sealed, Some(by));
        assert!(matches!(wrong(Kind::Observed, &other), Err(CodecError::BadSignature)));
        assert!(matches!(wrong(Kind::Reply, &public), Err(CodecError::Kind { .. })));
        // What it costs: a word, quotes, and 64 bytes in base64.
        let plain = seal(Kind::Observed, &"hi", None).unwrap();
        assert_eq!(sealed.len() - plain.len(), 97);
    }

    #[test]
    fn a_public_key_survives_its_file() {
        let public = key(7).verifying_key();
        assert_eq!(parse_public_key(&public_key_line(&public)), Some(public));
        assert_eq!(parse_public_key("ed25519:00"), None);
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = zstd::bulk::compress(&vec![b' '; 64 << 20], 3).unwrap();
        assert!(bomb.len() < limits::WIRE_BYTES_MAX);
        assert!(matches!(unpack(&bomb, COMPRESSED), Err(CodecError::TooLarge)));
        assert!(matches!(unpack(b"{}", "text/html"), Err(CodecError::ContentType(_))));
    }
}
