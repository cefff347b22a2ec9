//! Which blobs may go: those that no record names, and that nobody has pinned since we began to look.
//! The order matters: first note pins, then ask for the records, then remove. A push that finishes in
//! between has pinned its blob after the note, so it stays.

use std::collections::{BTreeSet, HashSet};

use contract::Digest;

use super::{ArtifactError, ArtifactStore, fault};

/// Only one at a time.
pub struct Sweep {
    store: ArtifactStore,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub blobs: usize,
    pub bytes: u64,
}

impl ArtifactStore {
    /// Begin to note pins; `None` while another sweep runs.
    pub fn sweep(&self) -> Option<Sweep> {
        let mut held = self.held();
        if held.sweeping.is_some() {
            return None;
        }
        let pinned: HashSet<Digest> = held.pins.keys().copied().collect();
        held.sweeping = Some(pinned);
        drop(held);
        Some(Sweep { store: self.clone() })
    }
}

impl Sweep {
    /// `referenced` was read after this sweep began. Blocks on the disk.
    pub fn run(self, referenced: &BTreeSet<Digest>) -> Result<Swept, ArtifactError> {
        let dir = self.store.0.root.join("sha256");
        let mut swept = Swept::default();
        for entry in std::fs::read_dir(&dir).map_err(fault("cannot list", &dir))? {
            let entry = entry.map_err(fault("cannot list", &dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What is not named like a blob is not ours to remove.
            let Ok(digest) = format!("sha256:{name}").parse::<Digest>() else { continue };
            if referenced.contains(&digest) {
                continue;
            }
            let size = entry.metadata().map_or(0, |m| m.len());
            if self.remove(&digest)? {
                swept.blobs += 1;
                swept.bytes += size;
            }
        }
        Ok(swept)
    }

    /// Under the lock, so that nobody pins between the look and the removal.
    fn remove(&self, digest: &Digest) -> Result<bool, ArtifactError> {
        let held = self.store.held();
        if held.sweeping.as_ref().is_some_and(|pinned| pinned.contains(digest)) {
            return Ok(false);
        }
        let path = self.store.path(digest);
        std::fs::remove_file(&path).map_err(fault("cannot remove", &path))?;
        Ok(true)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.store.held().sweeping = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Upload;
    use super::*;

    fn put(store: &ArtifactStore, bytes: &[u8]) -> super::super::Pin {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut upload = Upload::begin(store, None, 1 << 20, 1).await.unwrap();
            upload.write(bytes).await.unwrap();
            upload.finish().await.unwrap().keep().await.unwrap()
        })
    }

    #[test]
    fn only_what_nobody_names_or_holds_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path()).unwrap();
        let named = put(&store, b"named").digest();
        let orphan = put(&store, b"orphan").digest();
        let held = put(&store, b"held");
        let sweep = store.sweep().unwrap();
        assert!(store.sweep().is_none());
        // Pushed and its record made after the sweep had read the records.
        let late = put(&store, b"late").digest();
        let swept = sweep.run(&BTreeSet::from([named])).unwrap();
        assert_eq!(swept, Swept { blobs: 1, bytes: 6 });
        assert!(store.contains(&named) && store.contains(&held.digest()) && store.contains(&late));
        assert!(!store.contains(&orphan));
        let (kept, held) = (held.digest(), drop(held));
        let _: () = held;
        store.sweep().unwrap().run(&BTreeSet::from([named, late])).unwrap();
        assert!(!store.contains(&kept));
    }

    #[test]
    fn an_upload_is_bounded_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert!(matches!(
                Upload::begin(&store, Some(9), 8, 1).await,
                Err(ArtifactError::TooLarge { max: 8 })
            ));
            let mut upload = Upload::begin(&store, None, 8, 1).await.unwrap();
            upload.write(b"12345678").await.unwrap();
            assert!(matches!(upload.write(b"9").await, Err(ArtifactError::TooLarge { max: 8 })));
            drop(upload);
            let mut upload = Upload::begin(&store, Some(3), 8, 1).await.unwrap();
            upload.write(b"abc").await.unwrap();
            let done = upload.finish().await.unwrap();
            assert_eq!((done.digest, done.size_bytes), (Digest::of(b"abc"), 3));
            drop(done);
        });
        assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(dir.path().join("sha256")).unwrap().count(), 0);
    }

    #[test]
    fn a_changed_blob_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path()).unwrap();
        let digest = put(&store, b"bytes").digest();
        assert_eq!(store.verify(&digest).unwrap(), 5);
        std::fs::remove_file(store.path(&digest)).unwrap();
        std::fs::write(store.path(&digest), b"bytez").unwrap();
        assert!(matches!(store.verify(&digest), Err(ArtifactError::Mismatch { .. })));
    }
}
