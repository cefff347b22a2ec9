//! Which code lies on the board, and whether it is what it should be.
//!
//! ```text
//! <state>/artifacts/<64 hex>            whole; its digest was right when it got this name
//! <state>/artifacts/<64 hex>.partial    on its way; resumed after any interruption
//! ```
//! Loading compiled code is as good as running it, so a file is digested once more before its first
//! use in the life of this agent: what a bad card changed is fetched again instead of being run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use contract::Digest;
use sha2::{Digest as _, Sha256};

/// Left free on the disk by fetches: the agent's own writes must still find room.
pub const RESERVE_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("artefact {0} is not on this board")]
    Missing(Digest),
    #[error("artefact {wanted} on this board has changed (it is {found} now) and was removed")]
    Changed { wanted: Digest, found: Digest },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error(
        "{needed} more bytes do not fit: {free} are free, {RESERVE_BYTES} of them are kept for the agent"
    )]
    NoSpace { needed: u64, free: u64 },
}

/// A file as it was when it was digested; any change shows in one of these.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

#[derive(Clone)]
pub struct Artifacts {
    dir: PathBuf,
    verified: Rc<RefCell<BTreeMap<Digest, Seen>>>,
}

impl Artifacts {
    pub fn new(state: &Path) -> Artifacts {
        Artifacts { dir: state.join("artifacts"), verified: Rc::default() }
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    pub fn partial(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{}.partial", digest.hex()))
    }

    /// What is there by name. Whether it is sound is asked when it is used.
    pub fn list(&self) -> BTreeSet<Digest> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return BTreeSet::new() };
        entries
            .flatten()
            .filter_map(|entry| format!("sha256:{}", entry.file_name().to_str()?).parse().ok())
            .collect()
    }

    /// The path of sound code. Code that has changed is removed, so that it is fetched again.
    pub fn verified(&self, digest: &Digest) -> Result<PathBuf, ArtifactError> {
        let path = self.path(digest);
        let now = seen(&path).map_err(|_| ArtifactError::Missing(*digest))?;
        if self.verified.borrow().get(digest) == Some(&now) {
            return Ok(path);
        }
        let found = digest_of(&path).map_err(|source| ArtifactError::Io { path: path.clone(), source })?;
        if found != *digest {
            let _ = fs::remove_file(&path);
            return Err(ArtifactError::Changed { wanted: *digest, found });
        }
        self.verified.borrow_mut().insert(*digest, now);
        Ok(path)
    }

    /// Gives the whole, digested partial file its name, durably. Read-only: it is mapped while it
    /// runs. The syncs are done on another thread: a slow card must not hold up the loop (F4).
    pub async fn adopt(&self, file: File, digest: &Digest) -> std::io::Result<()> {
        let (partial, path, dir) = (self.partial(digest), self.path(digest), self.dir.clone());
        let named = path.clone();
        let synced = tokio::task::spawn_blocking(move || {
            file.set_permissions(fs::Permissions::from_mode(0o400))?;
            file.sync_all()?;
            fs::rename(partial, named)?;
            File::open(dir)?.sync_all()
        });
        synced.await.map_err(std::io::Error::other)??;
        self.verified.borrow_mut().insert(*digest, seen(&path)?);
        Ok(())
    }

    /// Refuses what would leave too little room for the agent itself (F22).
    pub fn check_space(&self, needed: u64) -> Result<(), ArtifactError> {
        check_space(&self.dir, needed)
    }

    /// Removes everything but `keep`, half-fetched files included.
    pub fn keep(&self, keep: &BTreeSet<Digest>) {
        let wanted: BTreeSet<String> =
            keep.iter().flat_map(|d| [d.hex(), format!("{}.partial", d.hex())]).collect();
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        self.verified.borrow_mut().retain(|digest, _| keep.contains(digest));
    }
}

pub fn check_space(dir: &Path, needed: u64) -> Result<(), ArtifactError> {
    let free = free_bytes(dir)?;
    if free < needed.saturating_add(RESERVE_BYTES) {
        return Err(ArtifactError::NoSpace { needed, free });
    }
    Ok(())
}

pub fn free_bytes(dir: &Path) -> Result<u64, ArtifactError> {
    let disk = rustix::fs::statvfs(dir)
        .map_err(|errno| ArtifactError::Io { path: dir.to_path_buf(), source: errno.into() })?;
    Ok(disk.f_bavail * disk.f_frsize)
}

fn seen(path: &Path) -> std::io::Result<Seen> {
    let meta = fs::metadata(path)?;
    Ok(Seen { inode: meta.ino(), size: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) })
}

fn digest_of(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(hasher.finalize().into())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changed_code_is_removed_and_not_run() {
        let state = tempfile::tempdir().unwrap();
        fs::create_dir(state.path().join("artifacts")).unwrap();
        let store = Artifacts::new(state.path());
        let digest = Digest::of(b"code");
        assert!(matches!(store.verified(&digest), Err(ArtifactError::Missing(_))));
        fs::write(store.partial(&digest), b"code").unwrap();
        store.adopt(File::open(store.partial(&digest)).unwrap(), &digest).await.unwrap();
        assert!(store.verified(&digest).is_ok());
        fs::remove_file(store.path(&digest)).unwrap();
        fs::write(store.path(&digest), b"evil").unwrap();
        assert!(matches!(store.verified(&digest), Err(ArtifactError::Changed { .. })));
        assert!(store.list().is_empty());
    }
}
