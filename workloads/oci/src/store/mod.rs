//! Content by digest: `<root>/blobs/sha256/<hex>`, the layout that OCI tools read as well.
//!
//! ```text
//! partial/<hex> ── bytes, perhaps over many tries ──▶ digest right? ── fsync, rename, fsync ──▶ blobs/sha256/<hex>
//!       ▲                                                │ wrong: deleted
//!       └── cut off by a crash or the network ───────────┘
//! ```
//!
//! What has its name is whole; what a crash cut off stays partial and is continued or swept.

mod ingest;
mod sweep;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use contract::Digest;

pub use ingest::Ingest;
pub use sweep::{Closure, Swept};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{0} is not in the store")]
    Missing(Digest),
    /// The bytes are not what their name says: of the sender's making, or of a dying disk.
    #[error("content {wanted}: {why}")]
    Wrong { wanted: Digest, why: String },
    #[error("{0} is being fetched by another process")]
    Busy(Digest),
    /// Where the bytes came from failed, not the store.
    #[error("reading the content of {digest}")]
    Source { digest: Digest, source: io::Error },
}

pub(crate) fn io_at(path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.to_path_buf(), source }
}

#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    pub fn open(root: impl Into<PathBuf>) -> Result<Store, StoreError> {
        let store = Store { root: root.into() };
        for dir in [store.blobs(), store.partials()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io_at(&dir))?;
        }
        Ok(store)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// How large it is, if it is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|m| m.len())
    }

    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => StoreError::Missing(*digest),
            _ => io_at(&path)(e),
        })
    }

    /// A document, whole and compared with its digest.
    pub fn read(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let (file, path) = (self.open_blob(digest)?, self.path(digest));
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(io_at(&path))?;
        if bytes.len() as u64 > bytes_max {
            return Err(StoreError::Wrong { wanted: *digest, why: format!("longer than {bytes_max} bytes") });
        }
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StoreError::Wrong { wanted: *digest, why: format!("the disk holds {found}") });
        }
        Ok(bytes)
    }

    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        self.copy_in(&digest, bytes.len() as u64, bytes)?;
        Ok(digest)
    }

    /// Does nothing when it is there already.
    pub fn copy_in(&self, digest: &Digest, size_bytes: u64, mut from: impl Read) -> Result<(), StoreError> {
        if self.size(digest) == Some(size_bytes) {
            return Ok(());
        }
        let mut ingest = self.ingest(digest, size_bytes)?;
        ingest.restart()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return ingest.finish(),
                Ok(n) => ingest.write(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::Source { digest: *digest, source }),
            }
        }
    }

    /// Begins to fetch, or goes on where an earlier try was cut off: see [`Ingest::offset`].
    pub fn ingest(&self, digest: &Digest, size_bytes: u64) -> Result<Ingest, StoreError> {
        Ingest::open(self.partials().join(digest.hex()), self.path(digest), *digest, size_bytes)
    }

    /// Not for content that anything still needs; [`Store::sweep`] finds out what does.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_at(&path)(e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(tmp.path().join("content")).unwrap();
        (tmp, store)
    }

    #[test]
    fn content_is_whole_or_not_there() {
        let (_tmp, store) = store();
        let digest = store.put(b"hello").unwrap();
        assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
        assert_eq!(store.put(b"hello").unwrap(), digest);
        assert!(matches!(store.read(&digest, 4), Err(StoreError::Wrong { .. })));
        let absent = Digest::of(b"absent");
        assert!(matches!(store.read(&absent, 4), Err(StoreError::Missing(d)) if d == absent));
        assert!(fs::read_dir(store.partials()).unwrap().next().is_none());
    }

    #[test]
    fn wrong_bytes_get_no_name_and_leave_nothing() {
        let (_tmp, store) = store();
        let wanted = Digest::of(b"right");
        for (bytes, size, why) in
            [(&b"wrong"[..], 5, "sha256:"), (b"right!", 5, "longer than"), (b"righ", 5, "ends after 4 of 5")]
        {
            let error = store.copy_in(&wanted, size, bytes).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(store.size(&wanted), None);
        }
        store.copy_in(&wanted, 5, &b"right"[..]).unwrap();
        assert!(fs::read_dir(store.partials()).unwrap().next().is_none());
    }

    #[test]
    fn what_was_cut_off_is_continued() {
        let (_tmp, store) = store();
        let wanted = Digest::of(b"0123456789");
        let mut first = store.ingest(&wanted, 10).unwrap();
        first.write(b"01234").unwrap();
        assert!(matches!(store.ingest(&wanted, 10), Err(StoreError::Busy(_))));
        drop(first);
        let mut second = store.ingest(&wanted, 10).unwrap();
        assert_eq!(second.offset(), 5);
        second.write(b"56789").unwrap();
        second.finish().unwrap();
        assert_eq!(store.read(&wanted, 10).unwrap(), b"0123456789");
    }

    #[test]
    fn rot_on_the_disk_is_seen() {
        let (_tmp, store) = store();
        let digest = store.put(b"hello").unwrap();
        fs::write(store.path(&digest), b"hellO").unwrap();
        assert!(matches!(store.read(&digest, 5), Err(StoreError::Wrong { .. })));
        store.remove(&digest).unwrap();
        store.remove(&digest).unwrap();
        store.put(b"hello").unwrap();
    }
}
