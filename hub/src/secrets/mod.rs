//! How Secrets lie at the hub: encrypted with a key of its own, so that a copy of the store or of the
//! artefacts says nothing without it.
//!
//! ```text
//! secrets.key 0600   key:<64 hex>, made at the first start; or, where a passphrase is given at that start,
//!                    pbkdf2:<salt>:<the key, encrypted with what the passphrase and the salt make>
//! ```
//! Each content has a key of its own, made of the hub's and of a keyed digest of the content, which stands
//! before it. So the same Secret with the same content comes out the same, which is what lets a digest of it
//! name a revision, and an apply that changes nothing change nothing; no key is used for two contents; and who
//! sees the store learns of a content when it is the same again, and how long it is. Name and kind are bound in.

mod args;

use contract::DataId;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{hmac, pbkdf2};
use zeroize::Zeroizing;

pub use args::SecretsArgs;

use crate::data::{DataDir, DataError, random};

const FILE: &str = "secrets.key";
const KEY_BYTES: usize = 32;
const WRAPPED: &[u8] = b"skerry/v1 secrets.key";
/// Of SHA-256, before each content.
const NAME_BYTES: usize = 32;
/// OWASP's number of 2023; 0.2 s on a small server, once a start.
const ROUNDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(600_000).expect("not 0");

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(
        "{FILE} is gone, and the store holds {0} Secrets that nobody can read without it: put a copy of it back"
    )]
    Lost(usize),
    #[error("{FILE} {0}; restore it from a copy (it was made by the first start)")]
    Damaged(&'static str),
    #[error(
        "{FILE} is encrypted: give its passphrase by --secrets-passphrase-file or SKERRY_SECRETS_PASSPHRASE"
    )]
    NoPassphrase,
    #[error("{FILE} does not open with this passphrase")]
    WrongPassphrase,
    #[error("{FILE} was made without a passphrase: start without one")]
    NotEncrypted,
    #[error("the content of {0} does not open with {FILE}: it is of another hub, or was changed")]
    Closed(DataId),
}

/// The key, for as long as the hub runs.
pub struct Vault(Zeroizing<[u8; KEY_BYTES]>);

impl Vault {
    /// Read the key, or make it. `holds`: how many Secrets the store has.
    pub fn open(
        data: &DataDir,
        passphrase: Option<&Zeroizing<String>>,
        holds: usize,
    ) -> Result<Vault, VaultError> {
        if holds > 0 && !data.root().join(FILE).exists() {
            return Err(VaultError::Lost(holds));
        }
        let key = Zeroizing::new(random::<KEY_BYTES>()?);
        let made = Zeroizing::new(match passphrase {
            None => format!("key:{}", *hex(key.as_slice())),
            Some(passphrase) => wrap(&key, passphrase)?,
        });
        let text = Zeroizing::new(data.secret_file(FILE, &made)?);
        let key = match (text.split_once(':'), passphrase) {
            (Some(("key", hex)), None) => unhex(hex).ok_or(VaultError::Damaged("holds no key"))?,
            (Some(("key", _)), Some(_)) => return Err(VaultError::NotEncrypted),
            (Some(("pbkdf2", rest)), Some(passphrase)) => unwrap(rest, passphrase)?,
            (Some(("pbkdf2", _)), None) => return Err(VaultError::NoPassphrase),
            _ => return Err(VaultError::Damaged("begins neither with key: nor with pbkdf2:")),
        };
        let key: [u8; KEY_BYTES] =
            key.as_slice().try_into().map_err(|_| VaultError::Damaged("holds no key of 32 bytes"))?;
        Ok(Vault(Zeroizing::new(key)))
    }

    pub fn encrypt(&self, id: &DataId, plain: &[u8]) -> Vec<u8> {
        let id = id.to_string();
        let name = mac(self.0.as_slice(), b"name", &[id.as_bytes(), b" ", plain]);
        let mut text = [name.as_ref(), plain].concat();
        let tag = self.key_of(name.as_ref()).seal_in_place_separate_tag(
            once(),
            Aad::from(id.as_bytes()),
            &mut text[NAME_BYTES..],
        );
        text.extend_from_slice(tag.expect("short enough").as_ref());
        text
    }

    pub fn decrypt(&self, id: &DataId, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let closed = || VaultError::Closed(id.clone());
        let (name, text) = text.split_at_checked(NAME_BYTES).ok_or_else(closed)?;
        let mut text = Zeroizing::new(text.to_vec());
        let about = id.to_string();
        let opened = self.key_of(name).open_in_place(once(), Aad::from(about.as_bytes()), &mut text);
        let length = opened.map_err(|_| closed())?.len();
        text.truncate(length);
        Ok(text)
    }

    /// Of one content, which its name stands for.
    fn key_of(&self, name: &[u8]) -> LessSafeKey {
        cipher(mac(self.0.as_slice(), b"content", &[name]).as_ref())
    }
}

fn mac(key: &[u8], what: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(what);
    context.update(b"\0");
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

fn cipher(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes"))
}

/// For a key that encrypts one thing.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The salt is new each time, and with it the key.
fn wrap(key: &[u8; KEY_BYTES], passphrase: &str) -> Result<String, VaultError> {
    let salt = random::<16>()?;
    let mut text = key.to_vec();
    let sealed = stretch(passphrase, &salt).seal_in_place_append_tag(once(), Aad::from(WRAPPED), &mut text);
    sealed.expect("short enough");
    Ok(format!("pbkdf2:{}:{}", *hex(&salt), *hex(&text)))
}

fn unwrap(rest: &str, passphrase: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let parts = rest.split_once(':').and_then(|(salt, text)| Some((unhex(salt)?, unhex(text)?)));
    let (salt, mut text) = parts.ok_or(VaultError::Damaged("is not pbkdf2:<salt>:<key>"))?;
    let opened = stretch(passphrase, &salt).open_in_place(once(), Aad::from(WRAPPED), &mut text);
    let length = opened.map_err(|_| VaultError::WrongPassphrase)?.len();
    text.truncate(length);
    Ok(text)
}

fn stretch(passphrase: &str, salt: &[u8]) -> LessSafeKey {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, passphrase.as_bytes(), key.as_mut_slice());
    cipher(key.as_slice())
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).expect("four bits"));
        }
    }
    text
}

fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?));
    Some(Zeroizing::new(pairs.collect::<Option<Vec<u8>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DataId {
        text.parse().unwrap()
    }

    #[test]
    fn a_content_comes_out_the_same_and_opens_only_as_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let vault = Vault::open(&data, None, 0).unwrap();
        let (a, b) = (id("secret/ns/a"), id("secret/ns/b"));
        let text = vault.encrypt(&a, b"hunter2");
        assert_eq!(vault.encrypt(&a, b"hunter2"), text);
        assert_ne!(vault.encrypt(&b, b"hunter2"), text);
        assert!(!text.windows(7).any(|w| w == b"hunter2"));
        let again = Vault::open(&data, None, 1).unwrap();
        assert_eq!(again.decrypt(&a, &text).unwrap().as_slice(), b"hunter2");
        assert!(matches!(again.decrypt(&b, &text), Err(VaultError::Closed(_))));
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(matches!(Vault::open(&data, None, 2), Err(VaultError::Lost(2))));
        let other = Vault::open(&data, None, 0).unwrap();
        assert!(matches!(other.decrypt(&a, &text), Err(VaultError::Closed(_))));
    }

    #[test]
    fn a_passphrase_is_needed_where_one_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let (right, wrong) = (Zeroizing::new("right horse".to_string()), Zeroizing::new("wrong".to_string()));
        let text = Vault::open(&data, Some(&right), 0).unwrap().encrypt(&id("secret/ns/a"), b"x");
        let again = Vault::open(&data, Some(&right), 1).unwrap();
        assert_eq!(again.decrypt(&id("secret/ns/a"), &text).unwrap().as_slice(), b"x");
        assert!(matches!(Vault::open(&data, Some(&wrong), 1), Err(VaultError::WrongPassphrase)));
        assert!(matches!(Vault::open(&data, None, 1), Err(VaultError::NoPassphrase)));
    }
}
