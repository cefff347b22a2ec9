//! What lies in the hub's data directory, and who may read it.
//!
//! ```text
//! hub.key 0600   Ed25519 seed, made once          hub.pub        its public half, for agents to pin
//! token 0600     lets operators in                agent-token 0600  lets agents into the broker
//! secrets.key 0600  what Secrets are encrypted with in artifacts/ (`secrets`)
//! ca.pem 0600    the CA's key and certificate    ca.crt         the certificate, for whoever checks one
//! server.pem     the hub's own certificate and key, made anew from the CA as needed
//! audit/         who did what, 0700
//! store/         the key-value store              artifacts/     blobs by digest
//! lineage        the store's lineage: without it nobody could tell a lost store from a first start
//! lock           held while a hub runs            hub.json       where the running hub listens
//! ```
//! Keys and tokens are made exclusively (written aside, then hard-linked): of two hubs that start at
//! once one wins and the other reads what the first made, and a crash never leaves half a key.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use contract::Lineage;
use ed25519_dalek::SigningKey;

#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{what} {path}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("another hub runs on {0}; stop it, or give this one its own --data")]
    Locked(PathBuf),
    #[error("{path} is not {right}; restore it from a copy (it was made by the first start)")]
    Damaged { path: PathBuf, right: &'static str },
    #[error("{path} may be read by others (mode {mode:o}); chmod 600 it, and change it if others were here")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("no random numbers from the kernel: {0}")]
    Random(String),
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    move |source| DataError::Io { what, path: path.to_path_buf(), source }
}

/// The directory of one hub, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    #[allow(dead_code, reason = "held, never read")]
    lock: File,
}

impl DataDir {
    /// Make what is missing and take the lock.
    pub fn open(root: &Path) -> Result<DataDir, DataError> {
        let make = |path: &Path| {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(path).map_err(io_error("cannot make", path))
        };
        make(root)?;
        // An absolute path: workers and messages must not depend on where the hub was started.
        let root = root.canonicalize().map_err(io_error("cannot find", root))?;
        let lock = lock(&root)?;
        make(&root.join("artifacts"))?;
        Ok(DataDir { root, lock })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub fn token_path(&self) -> PathBuf {
        self.root.join("token")
    }

    pub fn agent_token_path(&self) -> PathBuf {
        self.root.join("agent-token")
    }

    /// The signing key, made at the first start, and its public half written beside it.
    pub fn signing_key(&self) -> Result<SigningKey, DataError> {
        let seed = random::<32>()?;
        let text = self.secret_file("hub.key", &hex(&seed))?;
        let wrong = || DataError::Damaged { path: self.root.join("hub.key"), right: "64 hexadecimal digits" };
        let key = SigningKey::from_bytes(&unhex(&text).ok_or_else(wrong)?);
        self.replace("hub.pub", &public_key_line(&key), 0o644)?;
        Ok(key)
    }

    /// The operators' bearer token.
    pub fn token(&self) -> Result<String, DataError> {
        self.made_token("token")
    }

    /// The password of all agents in this version.
    pub fn agent_token(&self) -> Result<String, DataError> {
        self.made_token("agent-token")
    }

    fn made_token(&self, name: &str) -> Result<String, DataError> {
        let text = self.secret_file(name, &hex(&random::<32>()?))?;
        let printable = text.len() >= 16 && text.bytes().all(|b| b.is_ascii_graphic());
        let right = "one line of at least 16 printable characters";
        if printable { Ok(text) } else { Err(DataError::Damaged { path: self.root.join(name), right }) }
    }

    /// The lineage that the store had when it was last known to be there.
    pub fn known_lineage(&self) -> Result<Option<Lineage>, DataError> {
        let path = self.root.join("lineage");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let right = "32 hexadecimal digits";
                text.trim().parse().map(Some).map_err(|_| DataError::Damaged { path, right })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("cannot read", &path)(e)),
        }
    }

    /// Written once the store holds it durably, never before.
    pub fn note_lineage(&self, lineage: Lineage) -> Result<(), DataError> {
        if self.known_lineage()? == Some(lineage) {
            return Ok(());
        }
        self.replace("lineage", &format!("{lineage}\n"), 0o644)
    }

    /// Where the running hub listens, for the CLI and for scripts.
    pub fn note_running(&self, json: &str) -> Result<(), DataError> {
        self.replace("hub.json", json, 0o644)
    }

    pub fn clear_running(&self) {
        let _ = std::fs::remove_file(self.root.join("hub.json"));
    }

    /// Read the file, or make it with this content if there is none.
    pub fn secret_file(&self, name: &str, content: &str) -> Result<String, DataError> {
        let path = self.root.join(name);
        if !path.exists() {
            let aside = self.write_aside(name, &format!("{content}\n"), 0o600)?;
            match std::fs::hard_link(&aside, &path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io_error("cannot make", &path)(e));
                }
                _ => std::fs::remove_file(&aside).map_err(io_error("cannot remove", &aside))?,
            }
            self.sync()?;
        }
        let mode = std::fs::metadata(&path).map_err(io_error("cannot read", &path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(DataError::Exposed { path, mode: mode & 0o777 });
        }
        let text = std::fs::read_to_string(&path).map_err(io_error("cannot read", &path))?;
        Ok(text.trim().to_string())
    }

    pub fn replace(&self, name: &str, content: &str, mode: u32) -> Result<(), DataError> {
        let path = self.root.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|present| present == content) {
            return Ok(());
        }
        let aside = self.write_aside(name, content, mode)?;
        std::fs::rename(&aside, &path).map_err(io_error("cannot write", &path))?;
        self.sync()
    }

    fn write_aside(&self, name: &str, content: &str, mode: u32) -> Result<PathBuf, DataError> {
        let aside =
            self.root.join(format!(".{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
        let write = || -> io::Result<()> {
            let mut options = File::options();
            let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&aside)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        write().map_err(io_error("cannot write", &aside))?;
        Ok(aside)
    }

    fn sync(&self) -> Result<(), DataError> {
        File::open(&self.root).and_then(|dir| dir.sync_all()).map_err(io_error("cannot sync", &self.root))
    }
}

fn lock(root: &Path) -> Result<File, DataError> {
    let path = root.join("lock");
    let mut options = File::options();
    let file = options.create(true).write(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(io_error("cannot open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataError::Locked(root.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(io_error("cannot lock", &path)(source)),
    }
}

/// `hub.pub`: `ed25519:` and 64 hexadecimal digits.
pub fn public_key_line(key: &SigningKey) -> String {
    format!("ed25519:{}\n", hex(key.verifying_key().as_bytes()))
}

pub fn random<const N: usize>() -> Result<[u8; N], DataError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| DataError::Random(e.to_string()))?;
    Ok(bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digest: contract::Digest = format!("sha256:{text}").parse().ok()?;
    Some(*digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DataDir::open(&dir.path().join("d")).unwrap();
        let (key, token) = {
            let data = open();
            (data.signing_key().unwrap(), data.token().unwrap())
        };
        let data = open();
        assert_eq!(data.signing_key().unwrap().to_bytes(), key.to_bytes());
        assert_eq!(data.token().unwrap(), token);
        assert_ne!(data.agent_token().unwrap(), token);
        for name in ["hub.key", "token", "agent-token"] {
            let mode = data.root().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let public = std::fs::read_to_string(data.root().join("hub.pub")).unwrap();
        assert_eq!(public, public_key_line(&key));
        let left: Vec<_> = std::fs::read_dir(data.root()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|n| !n.to_string_lossy().starts_with('.')), "{left:?}");
    }

    #[test]
    fn two_hubs_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataError::Locked(_))));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_or_exposed_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.signing_key().unwrap();
        let path = data.root().join("hub.key");
        std::fs::write(&path, "short").unwrap();
        assert!(matches!(data.signing_key(), Err(DataError::Damaged { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(data.signing_key(), Err(DataError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_lineage_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(data.known_lineage().unwrap(), None);
        data.note_lineage(Lineage([7; 16])).unwrap();
        assert_eq!(data.known_lineage().unwrap(), Some(Lineage([7; 16])));
    }
}
