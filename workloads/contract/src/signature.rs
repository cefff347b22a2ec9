//! Whose word is a message? The hub signs with Ed25519, a board with the P-256 key of its certificate. Both
//! signatures have 64 bytes, and which of them is meant follows from who is expected to speak: what a
//! message says about its own key is never believed.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};

use crate::codec::fingerprint;
use crate::identity::PublicKey;

pub const SIGNATURE_BYTES: usize = 64;

/// Who signs.
pub trait Sign {
    /// None when the machine has no randomness to give.
    fn sign(&self, bytes: &[u8]) -> Option<[u8; SIGNATURE_BYTES]>;
    /// Which key this is, where readers may have pinned one of several. A board's is known by its topic.
    fn name(&self) -> Option<String>;
}

/// Whose word counts.
pub trait Verify {
    fn fits(&self, bytes: &[u8], signature: &[u8]) -> bool;
    fn name(&self) -> Option<String>;
}

impl Sign for SigningKey {
    fn sign(&self, bytes: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        Some(ed25519_dalek::Signer::sign(self, bytes).to_bytes())
    }

    fn name(&self) -> Option<String> {
        Some(fingerprint(&self.verifying_key()))
    }
}

impl Verify for VerifyingKey {
    fn fits(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.verify_strict(bytes, &signature).is_ok())
    }

    fn name(&self) -> Option<String> {
        Some(fingerprint(self))
    }
}

/// The key that a board made for itself.
pub struct BoardKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a P-256 key in PKCS #8")]
pub struct BoardKeyError;

impl BoardKey {
    /// PKCS #8, DER.
    pub fn read(der: &[u8]) -> Result<BoardKey, BoardKeyError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
        Ok(BoardKey { pair: pair.map_err(|_| BoardKeyError)?, random })
    }
}

impl Sign for BoardKey {
    fn sign(&self, bytes: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        self.pair.sign(&self.random, bytes).ok()?.as_ref().try_into().ok()
    }

    fn name(&self) -> Option<String> {
        None
    }
}

impl Verify for PublicKey {
    fn fits(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let Some(point) = self.p256() else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(bytes, signature).is_ok()
    }

    fn name(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
pub mod tests {
    use ring::signature::KeyPair as _;

    use super::*;

    /// A board's key and its public half.
    pub fn board_key() -> (BoardKey, PublicKey) {
        let made =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = BoardKey::read(made.as_ref()).unwrap();
        let public = PublicKey::of_p256(key.pair.public_key().as_ref()).unwrap();
        (key, public)
    }

    #[test]
    fn a_boards_signature_fits_its_key_and_its_bytes_alone() {
        let ((key, public), (_, other)) = (board_key(), board_key());
        let signature = key.sign(b"word").unwrap();
        assert!(public.fits(b"word", &signature));
        assert!(!public.fits(b"work", &signature) && !other.fits(b"word", &signature));
        assert!(!public.fits(b"word", &signature[1..]) && !public.fits(b"word", &[0; SIGNATURE_BYTES]));
        assert!(!PublicKey::from_der(b"not one".to_vec()).fits(b"word", &signature));
        assert!(BoardKey::read(b"").is_err());
        // The hub's kind of key does not speak for a board.
        let hub = SigningKey::from_bytes(&[1; 32]);
        assert!(!public.fits(b"word", &Sign::sign(&hub, b"word").unwrap()));
    }
}
