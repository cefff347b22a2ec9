//! Where the bytes of artefacts and of compiled code lie: files named by their digest.
//!
//! ```text
//! artifacts/sha256/<64 hex>   whole and verified, read-only, synced before it had this name
//! artifacts/tmp/<n>           on its way; cleared at start
//! artifacts/fetch/            what comes from registries (`fetch`), to go on with after a cut
//! ```
//! A file is removed only by a sweep, when no record names it and nobody holds a [`Pin`] on it.

mod image;
pub mod look;
mod sweep;
mod upload;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::Digest;
use contract::quantity::Bytes as Size;

pub use image::{Form, HEAD_BYTES, ImportError, Imported};
pub use sweep::{Sweep, Swept};
pub use upload::{Upload, Uploaded};

/// What pushes leave free on the disk: the store below must be able to write when artefacts have
/// taken all they may.
const RESERVE_BYTES: u64 = 64 << 20;
/// From a blob's name to its record's commit: one fsync, on a disk that is very busy.
const RECORD_WAIT: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("larger than {}, the most that is taken; without debug information it may fit (wasm-tools strip)", Size(*max))]
    TooLarge { max: u64 },
    #[error("the hub's disk is full ({path}): {} more are needed", Size(*needed))]
    DiskFull { path: PathBuf, needed: u64 },
    #[error("the bytes are {found}, not {wanted}")]
    Mismatch { found: Digest, wanted: Digest },
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn fault(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_path_buf();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ArtifactError::DiskFull { path, needed: 1 }
        }
        _ => ArtifactError::Io { what, path, source },
    }
}

/// Clones are the same store.
#[derive(Debug, Clone)]
pub struct ArtifactStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    next_temporary: AtomicU64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    pins: HashMap<Digest, usize>,
    /// While a sweep looks for what is unreferenced: everything pinned since it began.
    sweeping: Option<HashSet<Digest>>,
}

impl ArtifactStore {
    pub fn open(root: &Path) -> Result<ArtifactStore, ArtifactError> {
        let temporary = root.join("tmp");
        match std::fs::remove_dir_all(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(fault("cannot clear", &temporary)(e));
            }
            _ => {}
        }
        for dir in [root.join("sha256"), temporary] {
            std::fs::create_dir_all(&dir).map_err(fault("cannot make", &dir))?;
        }
        let root = root.to_path_buf();
        Ok(ArtifactStore(Arc::new(Inner { root, next_temporary: AtomicU64::new(0), held: Mutex::default() })))
    }

    /// Where a blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.0.root.join("sha256").join(digest.hex())
    }

    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Where fetches keep what is under way.
    pub fn fetching(&self) -> PathBuf {
        self.0.root.join("fetch")
    }

    /// A new name in `tmp/`; nothing is made.
    pub fn temporary(&self) -> PathBuf {
        let n = self.0.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.0.root.join("tmp").join(n.to_string())
    }

    /// Refuse what would not fit, before the first byte is taken.
    pub fn check_room(&self, size_bytes: u64) -> Result<(), ArtifactError> {
        let free =
            rustix::fs::statvfs(&self.0.root).map_err(|e| fault("cannot ask", &self.0.root)(e.into()))?;
        let available = free.f_bavail.saturating_mul(free.f_frsize);
        let wanted = size_bytes.saturating_add(RESERVE_BYTES);
        match wanted.checked_sub(available) {
            None | Some(0) => Ok(()),
            Some(needed) => Err(ArtifactError::DiskFull { path: self.0.root.clone(), needed }),
        }
    }

    /// Keep a blob from being swept until its record is durable.
    pub fn pin(&self, digest: Digest) -> Pin {
        let mut held = self.held();
        *held.pins.entry(digest).or_default() += 1;
        if let Some(sweeping) = &mut held.sweeping {
            sweeping.insert(digest);
        }
        Pin { store: self.clone(), digest }
    }

    /// Give a finished temporary file its name. It is durable when this returns.
    pub(crate) fn keep(&self, temporary: &Path, digest: Digest) -> Result<Pin, ArtifactError> {
        let pin = self.pin(digest);
        let path = self.path(&digest);
        let file = File::open(temporary).map_err(fault("cannot open", temporary))?;
        let readonly = std::fs::Permissions::from_mode(0o444);
        file.set_permissions(readonly).map_err(fault("cannot protect", temporary))?;
        file.sync_all().map_err(fault("cannot sync", temporary))?;
        std::fs::rename(temporary, &path).map_err(fault("cannot name", &path))?;
        let dir = self.0.root.join("sha256");
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(fault("cannot sync", &dir))?;
        crate::failpoint::pass(crate::failpoint::Point::AfterBlobRename);
        Ok(pin)
    }

    /// Take in a file that a worker wrote in `tmp/`.
    pub fn adopt(&self, temporary: &Path, max_bytes: u64) -> Result<(Pin, u64), ArtifactError> {
        let (digest, size) = digest_of(temporary)?;
        if size > max_bytes {
            return Err(ArtifactError::TooLarge { max: max_bytes });
        }
        Ok((self.keep(temporary, digest)?, size))
    }

    /// Read a blob whole and compare: before it is given to a compiler.
    pub fn verify(&self, digest: &Digest) -> Result<u64, ArtifactError> {
        let (found, size) = digest_of(&self.path(digest))?;
        if found == *digest { Ok(size) } else { Err(ArtifactError::Mismatch { found, wanted: *digest }) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Streamed: a blob may be larger than we want to hold.
fn digest_of(path: &Path) -> Result<(Digest, u64), ArtifactError> {
    use sha2::Digest as _;
    let mut file = File::open(path).map_err(fault("cannot open", path))?;
    let mut hasher = HashWriter(sha2::Sha256::new());
    let size = io::copy(&mut file, &mut hasher).map_err(fault("cannot read", path))?;
    Ok((Digest::from_bytes(hasher.0.finalize().into()), size))
}

struct HashWriter(sha2::Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        sha2::Digest::update(&mut self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// While it lives its blob is not swept.
#[derive(Debug)]
pub struct Pin {
    store: ArtifactStore,
    digest: Digest,
}

impl Pin {
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Hold on for as long as a record takes to be written, on the slowest disk.
    pub fn release_later(self) {
        tokio::spawn(async move {
            tokio::time::sleep(RECORD_WAIT).await;
            drop(self);
        });
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.store.held();
        if let Some(count) = held.pins.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                held.pins.remove(&self.digest);
            }
        }
    }
}
