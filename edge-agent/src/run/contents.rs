//! Contents of Configs and Secrets on the board: how they come, how they lie here, and how they are read for
//! a start.
//!
//! ```text
//! <state>/artifacts/<64 hex>   a Config's bytes, by digest, as any artefact
//! <state>/secrets/<64 hex>     a Secret's, sealed to this board and signed by the hub; never opened on a disk
//! <state>/secrets/key          this board's X25519 key 0600, made at the first need; the private half stays
//! ```
//! What is sealed opens with no network, so work with secrets starts after a power cut as any other does.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use contract::codec::{self, CodecError};
use contract::data::{self, Content};
use contract::limits::DATA_BLOB_BYTES_MAX;
use contract::run::{DataRef, RunSpec};
use contract::seal::{SealError, SealKey, SealRequest, Sealed};
use contract::{AgentId, DataKind, Digest};
use ed25519_dalek::VerifyingKey;

use super::artifacts::{ArtifactError, Artifacts};
use super::fetch::{FetchError, blob_path};
use super::http;
use crate::instance::Loaded;

/// A sealed content is a message of the hub.
const SEALED_BYTES_MAX: usize = contract::limits::MESSAGE_BYTES_MAX;

#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("it is not on this board")]
    Missing,
    #[error("{0}")]
    Artifact(#[from] ArtifactError),
    #[error("the hub's word about it {0}")]
    Signature(#[from] CodecError),
    #[error("it {0}")]
    Sealed(#[from] SealError),
    #[error("it {0}")]
    Content(String),
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
}

impl ContentError {
    /// Another copy may be sound.
    pub fn is_lost(&self) -> bool {
        !matches!(self, ContentError::Io { .. } | ContentError::Artifact(ArtifactError::Io { .. }))
    }
}

#[derive(Clone)]
pub struct Contents {
    dir: PathBuf,
    artifacts: Artifacts,
    agent: AgentId,
    hub_key: VerifyingKey,
    /// The agents' token, for a hub on this machine that is spoken to in plain.
    token: Option<String>,
}

impl Contents {
    pub fn new(
        state: &Path,
        artifacts: Artifacts,
        agent: AgentId,
        hub_key: VerifyingKey,
        token: Option<String>,
    ) -> Contents {
        Contents { dir: state.join("secrets"), artifacts, agent, hub_key, token }
    }

    /// Sealed contents, by name. Whether they open is asked when they are used.
    pub fn list(&self) -> BTreeSet<Digest> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return BTreeSet::new() };
        let digest = |entry: fs::DirEntry| format!("sha256:{}", entry.file_name().to_str()?).parse().ok();
        entries.flatten().filter_map(digest).collect()
    }

    /// Removes every sealed content but these.
    pub fn keep(&self, keep: &BTreeSet<Digest>) {
        for digest in self.list().difference(keep) {
            let _ = fs::remove_file(self.path(digest));
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    fn key(&self) -> Result<SealKey, ContentError> {
        let path = self.dir.join("key");
        let fault = |source| ContentError::Io { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = zeroize::Zeroizing::new(text);
                SealKey::from_hex(text.trim()).map_err(ContentError::Sealed)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(fault)?;
                let key = SealKey::generate()?;
                super::write_durable(&path, key.to_hex().as_bytes()).map_err(fault)?;
                Ok(key)
            }
            Err(e) => Err(fault(e)),
        }
    }

    pub async fn fetch(&self, wanted: &DataRef, base: &str) -> Result<(), FetchError> {
        if self.read(wanted).is_ok() {
            return Ok(());
        }
        match wanted.of.kind {
            DataKind::Config => self.fetch_config(wanted, base).await,
            DataKind::Secret => self.fetch_secret(wanted, base).await,
        }
    }

    async fn fetch_config(&self, wanted: &DataRef, base: &str) -> Result<(), FetchError> {
        let what = "a Config";
        if wanted.size_bytes > DATA_BLOB_BYTES_MAX {
            return Err(FetchError::TooLarge { what, found: wanted.size_bytes, max: DATA_BLOB_BYTES_MAX });
        }
        self.artifacts.check_space(wanted.size_bytes)?;
        let response = http::get(base, &blob_path(&wanted.digest), 0).await?;
        let bytes = http::whole(base, response, DATA_BLOB_BYTES_MAX as usize).await?;
        let found = Digest::of(&bytes);
        if found != wanted.digest {
            return Err(FetchError::Digest { found, wanted: wanted.digest });
        }
        let partial = self.artifacts.partial(&wanted.digest);
        fs::write(&partial, &bytes)?;
        Ok(self.artifacts.adopt(fs::File::open(&partial)?, &wanted.digest).await?)
    }

    /// What comes must open here and be what was asked for before it is kept.
    async fn fetch_secret(&self, wanted: &DataRef, base: &str) -> Result<(), FetchError> {
        let key = self.key()?;
        let ask = SealRequest { key: key.public() };
        let body = Bytes::from(serde_json::to_vec(&ask).expect("a text"));
        let path = format!("/v1/sealed/{}?agent={}", wanted.digest, self.agent);
        let response = http::ask(base, &path, body, self.token.as_deref()).await?;
        let signed = http::whole(base, response, SEALED_BYTES_MAX).await?;
        self.open(&key, &wanted.digest, &signed)?;
        self.artifacts.check_space(signed.len() as u64)?;
        let path = self.path(&wanted.digest);
        let written = tokio::task::spawn_blocking(move || super::write_durable(&path, &signed)).await;
        Ok(written.map_err(io::Error::other)??)
    }

    fn open(&self, key: &SealKey, digest: &Digest, signed: &[u8]) -> Result<Content, ContentError> {
        let sealed: Sealed = codec::open(codec::Kind::Sealed, signed, Some(&self.hub_key))?;
        let plain = key.open(&self.agent, digest, &sealed)?;
        data::decode(&plain).map_err(ContentError::Content)
    }

    fn read(&self, wanted: &DataRef) -> Result<Content, ContentError> {
        let read = |path: PathBuf| match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(ContentError::Missing),
            Err(source) => Err(ContentError::Io { path, source }),
        };
        match wanted.of.kind {
            DataKind::Config => {
                let bytes = read(self.artifacts.verified(&wanted.digest)?)?;
                data::decode(&bytes).map_err(ContentError::Content)
            }
            DataKind::Secret => {
                let signed = read(self.path(&wanted.digest))?;
                self.open(&self.key()?, &wanted.digest, &signed)
            }
        }
    }

    /// All that a run gets. What does not open is removed, so that it is fetched again.
    pub fn load(&self, run: &RunSpec) -> Result<Loaded, ContentError> {
        let mut loaded = Loaded::new();
        for wanted in run.contents() {
            match self.read(wanted) {
                Ok(content) => drop(loaded.insert(wanted.of.clone(), content)),
                Err(why) => {
                    if why.is_lost() && wanted.of.kind == DataKind::Secret {
                        let _ = fs::remove_file(self.path(&wanted.digest));
                    }
                    eprintln!("edge-agent: {}: {}", wanted.of, crate::instance::told(&why));
                    return Err(why);
                }
            }
        }
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::codec::{Kind, seal as sign};
    use contract::seal::seal;
    use ed25519_dalek::SigningKey;

    fn board(dir: &Path, agent: &str, hub: &SigningKey) -> Contents {
        fs::create_dir_all(dir.join("artifacts")).unwrap();
        Contents::new(dir, Artifacts::new(dir), agent.parse().unwrap(), hub.verifying_key(), None)
    }

    #[test]
    fn a_sealed_content_opens_on_its_board_only_and_a_spoiled_one_goes() {
        let hub = SigningKey::from_bytes(&[7; 32]);
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (own, other) = (board(one.path(), "a1", &hub), board(two.path(), "a1", &hub));
        let content: Content = [("k".to_string(), zeroize::Zeroizing::new(b"hunter2".to_vec()))].into();
        let digest = Digest::of(b"any");
        let sealed = seal(&own.agent, digest, &own.key().unwrap().public(), &data::encode(&content)).unwrap();
        let signed = sign(Kind::Sealed, &sealed, Some(&hub)).unwrap();
        let wanted = DataRef { of: "secret/api".parse().unwrap(), digest, size_bytes: 9 };
        fs::write(own.path(&digest), &signed).unwrap();
        assert_eq!(own.read(&wanted).unwrap(), content);
        assert_eq!(own.list(), BTreeSet::from([digest]));

        other.key().unwrap();
        fs::write(other.path(&digest), &signed).unwrap();
        assert!(matches!(other.read(&wanted), Err(ContentError::Sealed(SealError::Closed))));
        // Nobody but the hub may say what is in it.
        let forged = sign(Kind::Sealed, &sealed, Some(&SigningKey::from_bytes(&[8; 32]))).unwrap();
        fs::write(own.path(&digest), &forged).unwrap();
        assert!(matches!(own.read(&wanted), Err(ContentError::Signature(CodecError::OtherKey { .. }))));
        own.keep(&BTreeSet::new());
        assert!(matches!(own.read(&wanted), Err(ContentError::Missing)) && own.dir.join("key").exists());
    }
}
