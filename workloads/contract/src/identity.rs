//! How a board becomes one of the fleet: what a join token says, what the board asks for, and what the
//! hub answers. The board's key is its identity; a certificate only says for whom it speaks, and until
//! when.

use std::collections::BTreeMap;
#[cfg(feature = "codec")]
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::AgentId;
use crate::time::Millis;

/// The name that every hub's certificate carries beside its addresses. Agents ask for this one, so that
/// a hub may move, or be reached through any gateway, without a board having to know.
pub const HUB_NAME: &str = "hub.skerry.internal";
/// What the hub's port speaks besides HTTP, by ALPN.
pub const ALPN_MQTT: &[u8] = b"mqtt";
pub const ALPN_HTTP: &[u8] = b"http/1.1";
/// Addresses in one token.
pub const HUBS_MAX: usize = 8;
#[cfg(feature = "codec")]
const TOKEN_WORD: &str = "skerry-join.";
#[cfg(feature = "codec")]
const TOKEN_BYTES_MAX: usize = 4096;

/// A public key as a certificate has it (SPKI, DER). Its digest is its name.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

/// What stands before the point of every P-256 key: the algorithm and the curve (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const POINT_BYTES: usize = 65;

impl PublicKey {
    pub fn from_der(der: Vec<u8>) -> PublicKey {
        PublicKey(der)
    }

    /// Of a point, uncompressed.
    pub fn of_p256(point: &[u8]) -> Option<PublicKey> {
        (point.len() == POINT_BYTES).then(|| PublicKey([&P256, point].concat()))
    }

    /// The point, if it is a P-256 key: the only kind with which boards speak.
    pub fn p256(&self) -> Option<&[u8]> {
        self.0.strip_prefix(&P256).filter(|point| point.len() == POINT_BYTES)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {:?}", self.digest())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&crate::digest::to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<PublicKey, D::Error> {
        let text = String::deserialize(d)?;
        let wrong = || serde::de::Error::custom("a public key is an even number of hexadecimal digits");
        let pairs = text.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            crate::digest::from_hex::<1>(pair).map(|byte| byte[0])
        });
        pairs.collect::<Option<Vec<u8>>>().map(PublicKey).ok_or_else(wrong)
    }
}

/// Lets a board join, and tells it whom to believe. Whoever holds it may join until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Where the hub is, `host:port`, in the order in which they are tried.
    #[serde(rename = "h")]
    pub hubs: Vec<String>,
    /// The digest of the hub's CA certificate (DER).
    #[serde(rename = "c")]
    pub ca: Digest,
    /// The hub's signing key, as `hub.pub` has it.
    #[serde(rename = "k")]
    pub key: String,
    #[serde(rename = "s")]
    pub secret: String,
    /// The hub's clock when it was made: no board that reads this is earlier. Unix milliseconds.
    #[serde(rename = "t")]
    pub made_ms: Millis,
}

#[cfg(feature = "codec")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join token: 'hub join-token create' prints one, a single word that begins with {TOKEN_WORD}"
)]
pub struct TokenError;

#[cfg(feature = "codec")]
impl JoinToken {
    pub fn print(&self) -> String {
        use base64::Engine as _;
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{TOKEN_WORD}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json))
    }
}

#[cfg(feature = "codec")]
impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<JoinToken, TokenError> {
        use base64::Engine as _;
        let coded = text.trim().strip_prefix(TOKEN_WORD).filter(|coded| coded.len() <= TOKEN_BYTES_MAX);
        let json = coded.and_then(|c| base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(c).ok());
        let token: JoinToken = json.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(TokenError)?;
        let whole = !token.hubs.is_empty()
            && token.hubs.len() <= HUBS_MAX
            && crate::codec::parse_public_key(&token.key).is_some();
        if whole { Ok(token) } else { Err(TokenError) }
    }
}

/// What a board is known by before it has a name: `serial`, `mac`, `machine-id`, each as the board's
/// kernel tells it. Nothing here is proof of anything.
pub type Machine = BTreeMap<String, String>;

/// `POST /v1/join`, over TLS whose other end the token pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    pub secret: String,
    /// PKCS #10, PEM. Only its key counts; the hub writes everything else.
    pub request: String,
    /// The name it asks for; a list of expected boards at the hub goes before it.
    pub id: AgentId,
    #[serde(default)]
    pub machine: Machine,
}

/// `POST /v1/renew`, over TLS with the present certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    pub request: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "result")]
pub enum JoinAnswer {
    /// It has to be approved first: `hub agents approve`. Ask again.
    Waits {
        agent: AgentId,
    },
    Joined(Box<Enrolment>),
}

/// All that a board needs besides its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    pub agent: AgentId,
    /// PEM, as the CA's.
    pub certificate: String,
    pub ca: String,
    /// By the hub's clock. Unix milliseconds.
    pub issued_ms: Millis,
    pub ends_ms: Millis,
    /// Another broker than the hub's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<String>,
    /// What that broker's certificate is checked against, when it is not the hub's CA. PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_ca: Option<String>,
    pub prefix: String,
}

/// How a board stands with its hub, signed by it: `GET /v1/standing`. A board that is not let in asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StandingNote {
    pub agent: AgentId,
    /// Of the board's key: a note for another is none.
    pub key: Digest,
    pub standing: Standing,
    /// In words, for `edge-agent status`.
    pub reason: String,
    /// The hub's clock. Unix milliseconds.
    pub wall_ms: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    Good,
    /// It waits to be approved.
    Waits,
    /// The certificate has ended; the key may still be right.
    Expired,
    Revoked,
    /// The board is to forget its workloads, their data and its identity.
    Decommissioned,
    /// The hub knows no such board, or another key for it.
    Unknown,
}

/// When a certificate is due, by the hub's clock: at two thirds of its life, and up to a tenth of that
/// life earlier, each board at its own moment.
pub fn renew_at_ms(issued_ms: Millis, ends_ms: Millis, agent: &AgentId) -> Millis {
    let life = ends_ms.saturating_sub(issued_ms);
    let early = crate::time::jitter_hash(agent.as_str(), 0) % (life / 10 + 1);
    issued_ms + life / 3 * 2 - early
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_well_before_the_end_and_spread() {
        let at = |name: &str| renew_at_ms(1_000, 901_000, &name.parse().unwrap());
        let all: std::collections::BTreeSet<_> = (0..50).map(|n| at(&format!("b{n}"))).collect();
        assert!(all.iter().all(|at| (511_000..=601_000).contains(at)), "{all:?}");
        assert!(all.len() > 40);
        assert_eq!(renew_at_ms(5, 5, &"a".parse().unwrap()), 5);
    }

    #[test]
    fn a_public_key_survives_as_text() {
        let key = PublicKey::of_p256(&[4; POINT_BYTES]).unwrap();
        assert_eq!(key.p256(), Some(&[4; POINT_BYTES][..]));
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&text).unwrap(), key);
        for wrong in ["\"0\"", "\"xy\"", "7"] {
            assert!(serde_json::from_str::<PublicKey>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(PublicKey::from_der(vec![0; 91]).p256(), None);
        assert_eq!(PublicKey::of_p256(&[4; 33]), None);
    }

    #[cfg(feature = "codec")]
    #[test]
    fn a_token_survives_and_garbage_is_none() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let token = JoinToken {
            hubs: vec!["hub.example:7711".into()],
            ca: Digest::of(b"ca"),
            key: crate::codec::public_key_line(&key.verifying_key()),
            secret: "abc".into(),
            made_ms: 7,
        };
        let text = token.print();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        for wrong in ["", "skerry-join.", "skerry-join.AAAA", &text[1..], &text[..text.len() - 3]] {
            assert_eq!(wrong.parse::<JoinToken>(), Err(TokenError), "{wrong}");
        }
        assert!(JoinToken { hubs: vec![], ..token }.print().parse::<JoinToken>().is_err());
    }
}
