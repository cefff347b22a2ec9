//! The files of an identity, and what is in them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use contract::identity::{Enrolment, JoinToken};
use contract::time::Millis;
use contract::{AgentId, Digest, codec};
use ed25519_dalek::VerifyingKey;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde::{Deserialize, Serialize};

use crate::run::write_durable;

/// What a hub gave, and who that hub is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// `host:port`, in the order in which they are tried.
    pub hubs: Vec<String>,
    /// The hub's signing key, as `hub.pub` has it.
    pub hub_key: String,
    pub enrolment: Enrolment,
}

impl Identity {
    pub fn hub_key(&self) -> anyhow::Result<VerifyingKey> {
        codec::parse_public_key(&self.hub_key).context("identity.json: hubKey is not a public key")
    }
}

/// A join that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingJoin {
    pub token: String,
    /// The host name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<AgentId>,
    /// Another place than the token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub: Option<String>,
}

impl PendingJoin {
    pub fn token(&self) -> anyhow::Result<JoinToken> {
        let mut token: JoinToken = self.token.parse()?;
        if let Some(hub) = &self.hub {
            token.hubs = vec![hub.clone()];
        }
        Ok(token)
    }
}

#[derive(Debug, Clone)]
pub struct IdentityDir(PathBuf);

/// Held while somebody joins; the kernel lets go of it however he dies.
pub struct JoinLock(#[allow(dead_code, reason = "held, not read")] File);

impl IdentityDir {
    pub fn new(state: &Path) -> IdentityDir {
        IdentityDir(state.join("identity"))
    }

    pub fn make(&self) -> anyhow::Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| format!("cannot make {}", self.0.display()))
    }

    pub fn lock(&self) -> anyhow::Result<JoinLock> {
        self.make()?;
        let path = self.0.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        if crate::instance::lock_patiently(&file).is_err() {
            bail!("{} is in use: another edge-agent joins at this moment", self.0.display());
        }
        Ok(JoinLock(file))
    }

    pub fn identity(&self) -> anyhow::Result<Option<Identity>> {
        self.read("identity.json")
    }

    pub fn pending(&self) -> anyhow::Result<Option<PendingJoin>> {
        self.read("join.json")
    }

    pub fn write_pending(&self, pending: &PendingJoin) -> anyhow::Result<()> {
        self.write("join.json", &serde_json::to_vec(pending)?)
    }

    /// What was given, and with it the end of the join.
    pub fn write_identity(&self, identity: &Identity) -> anyhow::Result<()> {
        self.write("identity.json", &serde_json::to_vec(identity)?)?;
        crate::instance::failpoint::reach("agent-join-stored");
        self.remove("join.json")?;
        self.remove("decommissioned")
    }

    /// The key, made at the first need.
    pub fn key(&self) -> anyhow::Result<KeyPair> {
        let path = self.0.join("key.pem");
        match fs::read_to_string(&path) {
            Ok(text) => KeyPair::from_pem(&text)
                .with_context(|| format!("{} holds no key: join with --new-key", path.display())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
                self.write("key.pem", key.serialize_pem().as_bytes())?;
                Ok(key)
            }
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The key of an identity that is there; never a new one.
    pub fn present_key(&self) -> anyhow::Result<KeyPair> {
        let path = self.0.join("key.pem");
        anyhow::ensure!(path.exists(), "{} is missing: join again with --new-key", path.display());
        self.key()
    }

    /// Sealed contents and the key that opens them: what runs goes on, and no start has them any more.
    pub fn forget_secrets(&self) -> anyhow::Result<()> {
        let secrets = self.0.with_file_name("secrets");
        match fs::remove_dir_all(&secrets) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// The next join is another board's.
    pub fn forget_key(&self) -> anyhow::Result<()> {
        for name in ["identity.json", "key.pem"] {
            self.remove(name)?;
        }
        Ok(())
    }

    pub fn floor_ms(&self) -> Millis {
        fs::read_to_string(self.0.join("floor")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    pub fn write_floor(&self, ms: Millis) -> anyhow::Result<()> {
        self.write("floor", ms.to_string().as_bytes())
    }

    /// Why it was sent away, if it was.
    pub fn decommissioned(&self) -> Option<String> {
        fs::read_to_string(self.0.join("decommissioned")).ok()
    }

    pub fn write_decommissioned(&self, reason: &str) -> anyhow::Result<()> {
        self.write("decommissioned", reason.as_bytes())
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes);
                read.map(Some).with_context(|| format!("{} is damaged: join again", path.display()))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.0.join(name);
        write_durable(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

/// What the hub is sent: the public key, signed with the other half.
pub fn request(key: &KeyPair) -> anyhow::Result<String> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

/// Of the public key, as the hub shows it.
pub fn key_digest(key: &KeyPair) -> Digest {
    Digest::of(&key.subject_public_key_info())
}
