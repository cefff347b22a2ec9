//! How a Secret travels to one board and lies there: sealed to the board's own key, bound to what it is and
//! whom it is for, and signed by the hub around that ([`crate::codec::Kind::Sealed`]): sealing alone does not
//! say who sealed.

mod hpke;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::digest::{Digest, from_hex, to_hex};
use crate::id::AgentId;

/// What sealing is for: a sealed text of anything else does not open here.
const INFO: &[u8] = b"skerry/v1 secret";

/// One content for one board. It lies on the board's disk as the hub signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    pub agent: AgentId,
    /// Names the content; at the hub it is the digest of what lies there, encrypted.
    pub content: Digest,
    /// The encapsulated key and the sealed content, in base64.
    pub key: String,
    pub text: String,
}

/// What a board shows to be sealed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRequest {
    /// Of the board: an X25519 key, 64 hexadecimal digits.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the board's key is not 64 hexadecimal digits of an X25519 key")]
    Key,
    #[error("is sealed for {0}, or something else")]
    Other(String),
    #[error("does not open with this board's key: it is another board's, or was changed")]
    Closed,
    #[error("no random numbers from the kernel")]
    Random,
}

/// A board's own key; the private half never leaves it.
pub struct SealKey(Zeroizing<[u8; 32]>);

impl SealKey {
    pub fn generate() -> Result<SealKey, SealError> {
        random().map(SealKey)
    }

    pub fn from_hex(text: &str) -> Result<SealKey, SealError> {
        from_hex::<32>(text).map(|key| SealKey(Zeroizing::new(key))).ok_or(SealError::Key)
    }

    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(to_hex(self.0.as_slice()))
    }

    pub fn public(&self) -> String {
        to_hex(PublicKey::from(&StaticSecret::from(*self.0)).as_bytes())
    }

    /// `me` and `content` are what the caller wants, not what stands in `sealed`.
    pub fn open(
        &self,
        me: &AgentId,
        content: &Digest,
        sealed: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if sealed.agent != *me || sealed.content != *content {
            return Err(SealError::Other(format!("{} ({})", sealed.agent, sealed.content.short())));
        }
        let read = |text: &str| BASE64.decode(text).ok();
        let key =
            read(&sealed.key).and_then(|key| <[u8; 32]>::try_from(key).ok()).ok_or(SealError::Closed)?;
        let text = read(&sealed.text).ok_or(SealError::Closed)?;
        let own = StaticSecret::from(*self.0);
        hpke::open(&own, key, INFO, &about(me, content), text).ok_or(SealError::Closed)
    }
}

pub fn seal(agent: &AgentId, content: Digest, key: &str, plain: &[u8]) -> Result<Sealed, SealError> {
    let to = from_hex::<32>(key).ok_or(SealError::Key)?;
    let once = StaticSecret::from(*random()?);
    let (key, text) = hpke::seal(&once, to, INFO, &about(agent, &content), plain).ok_or(SealError::Key)?;
    let (key, text) = (BASE64.encode(key), BASE64.encode(text));
    Ok(Sealed { agent: agent.clone(), content, key, text })
}

fn about(agent: &AgentId, content: &Digest) -> Vec<u8> {
    format!("{agent} {content}").into_bytes()
}

fn random() -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_board_it_is_sealed_to_opens_it_as_what_it_is() {
        let (own, other) = (SealKey::generate().unwrap(), SealKey::generate().unwrap());
        let (me, you): (AgentId, AgentId) = ("a1".parse().unwrap(), "a2".parse().unwrap());
        let (content, another) = (Digest::of(b"c"), Digest::of(b"d"));
        let sealed = seal(&me, content, &own.public(), b"hunter2").unwrap();
        assert_eq!(own.open(&me, &content, &sealed).unwrap().as_slice(), b"hunter2");
        assert_eq!(other.open(&me, &content, &sealed), Err(SealError::Closed));
        assert!(matches!(own.open(&you, &content, &sealed), Err(SealError::Other(_))));
        assert!(matches!(own.open(&me, &another, &sealed), Err(SealError::Other(_))));
        // Relabelled, it does not open either.
        let relabelled = Sealed { content: another, ..sealed.clone() };
        assert_eq!(own.open(&me, &another, &relabelled), Err(SealError::Closed));
        assert_eq!(SealKey::from_hex(&own.to_hex()).unwrap().public(), own.public());
        assert_eq!(seal(&me, content, "00", b""), Err(SealError::Key));
        // A key that gives the same secret to everybody.
        assert_eq!(seal(&me, content, &"00".repeat(32), b""), Err(SealError::Key));
        assert_ne!(seal(&me, content, &own.public(), b"hunter2").unwrap().text, sealed.text);
    }
}
