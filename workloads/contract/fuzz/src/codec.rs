//! Any bytes as a message: decoding ends without a panic and within the limits; an unsigned message
//! never passes for a signed one; what is decoded encodes to something that decodes to the same.

use ed25519_dalek::SigningKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skerry_contract::codec::{COMPRESSED, Kind, PLAIN, decode, encode, unpack};
use skerry_contract::limits::MESSAGE_BYTES_MAX;
use skerry_contract::message::{Command, Desired, Events, Hello, HubAnnounce, Observed, Presence, Reply};

/// The first byte chooses how the rest is read.
pub fn fuzz_one(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let content_type = if choice & 0x80 == 0 { PLAIN } else { COMPRESSED };
    if let Ok(plain) = unpack(bytes, content_type) {
        assert!(plain.len() <= MESSAGE_BYTES_MAX);
    }
    match choice & 0x7 {
        0 => message::<Desired>(Kind::Desired, bytes, content_type),
        1 => message::<Hello>(Kind::Hello, bytes, content_type),
        2 => message::<HubAnnounce>(Kind::Announce, bytes, content_type),
        3 => message::<Command>(Kind::Command, bytes, content_type),
        4 => message::<Presence>(Kind::Presence, bytes, content_type),
        5 => message::<Observed>(Kind::Observed, bytes, content_type),
        6 => message::<Events>(Kind::Events, bytes, content_type),
        _ => message::<Reply>(Kind::Reply, bytes, content_type),
    }
}

fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    kind: Kind,
    bytes: &[u8],
    content_type: &str,
) {
    let ours = SigningKey::from_bytes(&[7; 32]);
    let pinned = ours.verifying_key();
    // Nobody who fuzzes holds the key.
    assert!(decode::<T>(kind, bytes, content_type, Some(&pinned)).is_err());
    let Ok(message) = decode::<T>(kind, bytes, content_type, None) else { return };
    let Ok(sent) = encode(kind, &message, Some(&ours)) else { return };
    let again: T = decode(kind, &sent.bytes, sent.content_type, Some(&pinned)).expect("what was encoded");
    assert_eq!(again, message);
}
