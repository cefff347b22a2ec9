//! How bytes from the network become a blob: hashed as they come, bounded, synced, then named.

use std::path::PathBuf;

use contract::Digest;
use sha2::Digest as _;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::{ArtifactError, ArtifactStore, Pin, fault};

/// Written to disk in pieces of this size.
const BUFFER_BYTES: usize = 256 << 10;

/// A blob on its way. Dropped unfinished, it leaves nothing.
pub struct Upload {
    store: ArtifactStore,
    path: PathBuf,
    file: BufWriter<File>,
    hasher: sha2::Sha256,
    size_bytes: u64,
    max_bytes: u64,
}

/// Whole and hashed, but not a blob yet: it may still be thrown away.
pub struct Uploaded {
    store: ArtifactStore,
    path: PathBuf,
    pub digest: Digest,
    pub size_bytes: u64,
}

impl Upload {
    /// `expected_bytes`: what the sender announced, if it did; `times`: how often the disk must hold it.
    pub async fn begin(
        store: &ArtifactStore,
        expected_bytes: Option<u64>,
        max_bytes: u64,
        times: u64,
    ) -> Result<Upload, ArtifactError> {
        if expected_bytes.is_some_and(|n| n > max_bytes) {
            return Err(ArtifactError::TooLarge { max: max_bytes });
        }
        store.check_room(expected_bytes.unwrap_or(max_bytes).saturating_mul(times))?;
        let path = store.temporary();
        let file = File::create_new(&path).await.map_err(fault("cannot make", &path))?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Upload { store: store.clone(), path, file, hasher: sha2::Sha256::new(), size_bytes: 0, max_bytes })
    }

    pub async fn write(&mut self, piece: &[u8]) -> Result<(), ArtifactError> {
        self.size_bytes += piece.len() as u64;
        if self.size_bytes > self.max_bytes {
            return Err(ArtifactError::TooLarge { max: self.max_bytes });
        }
        self.hasher.update(piece);
        self.file.write_all(piece).await.map_err(fault("cannot write", &self.path))
    }

    pub async fn finish(mut self) -> Result<Uploaded, ArtifactError> {
        self.file.flush().await.map_err(fault("cannot write", &self.path))?;
        let digest = Digest::from_bytes(std::mem::take(&mut self.hasher).finalize().into());
        // The file now belongs to `Uploaded`, whose drop removes it.
        let path = std::mem::take(&mut self.path);
        Ok(Uploaded { store: self.store.clone(), path, digest, size_bytes: self.size_bytes })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Uploaded {
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Make it a blob. Durable when this returns.
    pub async fn keep(self) -> Result<Pin, ArtifactError> {
        let kept = tokio::task::spawn_blocking(move || self.store.keep(&self.path, self.digest)).await;
        kept.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

impl Drop for Uploaded {
    fn drop(&mut self) {
        // Kept, it has another name by now.
        let _ = std::fs::remove_file(&self.path);
    }
}
