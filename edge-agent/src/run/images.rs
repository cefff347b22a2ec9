//! Which container images lie on the board, unpacked and ready to be mounted, and which go.
//!
//! ```text
//! <state>/images/blobs, partial   manifests and configurations; layers on their way
//! <state>/images/layers           layers as directories, each unpacked once and shared by images
//! <state>/images/ready/<64 hex>   a manifest whose layers are all unpacked
//! ```
//! A layer's packed bytes go when it is unpacked: flash holds each layer once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::Digest;
use contract::limits::IMAGE_BYTES_MAX;
use contract::platform::Platform;
use oci::archive::{Archive, ArchiveError};
use oci::image::{self, ImageError};
use oci::layer::{LayerError, Layers, Limits};
use oci::store::{Ingest, Store, StoreError};

use super::artifacts::{ArtifactError, RESERVE_BYTES, check_space, free_bytes};
use crate::instance;

#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("{0} is an index; a board is told the manifest for its platform")]
    Index(Digest),
    #[error("layers of image {0} are not on this board")]
    Missing(Digest),
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Space(#[from] ArtifactError),
    #[error("the image unpacks to more than the {0} bytes that are free")]
    Large(u64),
}

impl ImagesError {
    /// Another try brings the same.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            ImagesError::Image(ImageError::Refused { .. })
                | ImagesError::Index(_)
                | ImagesError::Layer(LayerError::Refused { .. })
                | ImagesError::Store(StoreError::Wrong { .. })
        )
    }

    /// What a start needs is not there, or not what it was.
    pub fn is_missing(&self) -> bool {
        let store = match self {
            ImagesError::Store(store) | ImagesError::Image(ImageError::Store(store)) => store,
            other => return matches!(other, ImagesError::Missing(_)),
        };
        matches!(store, StoreError::Missing(_) | StoreError::Wrong { .. })
    }
}

#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    store: Store,
    layers: Layers,
    ready: PathBuf,
    /// What fetches that are under way have brought or will bring, by claim. A sweep holds it, so that nothing
    /// is begun meanwhile of which it does not know.
    wanted: Mutex<BTreeMap<u64, BTreeSet<Digest>>>,
    claims: AtomicU64,
    /// One fetch at a time: images share layers, and the link as well.
    turn: tokio::sync::Mutex<()>,
}

/// What a fetch wants, until it is over.
pub struct Claim {
    images: Images,
    id: u64,
}

impl Images {
    pub fn open(state: &Path) -> Result<Images, ImagesError> {
        let root = state.join("images");
        let ready = root.join("ready");
        let (store, layers) = (Store::open(&root)?, Layers::open(root.join("layers"))?);
        fs::create_dir_all(&ready).map_err(|source| ImagesError::Io { path: ready.clone(), source })?;
        Ok(Images(Arc::new(Inner {
            store,
            layers,
            ready,
            wanted: Mutex::default(),
            claims: AtomicU64::new(0),
            turn: Default::default(),
        })))
    }

    /// What is ready by name. Whether it is sound is asked when it is used.
    pub fn list(&self) -> BTreeSet<Digest> {
        let entries = fs::read_dir(&self.0.ready).into_iter().flatten().flatten();
        let named = entries.filter_map(|e| format!("sha256:{}", e.file_name().to_str()?).parse().ok());
        named.collect()
    }

    /// An image to start. Its two documents are compared with their digests; directories cannot be.
    pub fn ready(&self, manifest: &Digest) -> Result<instance::Image, ImagesError> {
        let inner = &self.0;
        let image = image::Image::load(&inner.store, manifest, &Platform::native())?;
        let rootfs = inner.layers.find(&image).ok_or(ImagesError::Missing(*manifest))?;
        let defaults = image.config.config;
        Ok(instance::Image { manifest: inner.store.path(manifest), defaults, layers: rootfs.layers })
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<u64, BTreeSet<Digest>>> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From a file instead of a hub: the image of an archive that this machine runs.
    pub fn take_in(&self, path: &Path, name: Option<&str>) -> Result<Digest, ImagesError> {
        let archive = Archive::open(path)?;
        let chosen = archive.choose(name)?.digest;
        archive.import(&chosen, &self.0.store, IMAGE_BYTES_MAX)?;
        Ok(image::resolve(&self.0.store, &chosen, &Platform::native())?)
    }

    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    /// To be asked for by whoever has the turn.
    pub fn claim(&self) -> Claim {
        Claim { images: self.clone(), id: self.0.claims.fetch_add(1, Ordering::Relaxed) }
    }

    pub fn has(&self, digest: &Digest, size_bytes: u64) -> bool {
        self.0.store.size(digest) == Some(size_bytes)
    }

    /// So that it is fetched again.
    pub fn forget(&self, digest: &Digest) -> Result<(), ImagesError> {
        Ok(self.0.store.remove(digest)?)
    }

    pub fn check_space(&self, needed: u64) -> Result<(), ImagesError> {
        Ok(check_space(&self.0.ready, needed)?)
    }

    pub fn ingest(&self, digest: &Digest, size_bytes: u64) -> Result<Ingest, ImagesError> {
        Ok(self.0.store.ingest(digest, size_bytes)?)
    }

    /// Compared with its digest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        self.0.store.read(digest, image::document::DOCUMENT_BYTES_MAX)
    }

    pub fn document(&self, digest: &Digest) -> Result<image::Document, ImagesError> {
        Ok(image::document(&self.0.store, digest)?)
    }

    /// With both its documents here: what is still to be fetched.
    pub fn missing(&self, manifest: &Digest) -> Result<Vec<image::Layer>, ImagesError> {
        let image = image::Image::load(&self.0.store, manifest, &Platform::native())?;
        let missing = self.0.layers.missing(&image);
        Ok(missing.into_iter().cloned().collect())
    }

    /// With everything here: unpacks, and says durably that it is ready. Blocks on the disk.
    pub fn unpack(&self, manifest: &Digest) -> Result<Vec<String>, ImagesError> {
        let inner = &self.0;
        let image = image::Image::load(&inner.store, manifest, &Platform::native())?;
        let packed: Vec<Digest> = inner.layers.missing(&image).iter().map(|layer| layer.blob).collect();
        let room = free_bytes(&inner.ready)?.saturating_sub(RESERVE_BYTES);
        let limits = Limits { bytes_max: Limits::DEFAULT.bytes_max.min(room), ..Limits::DEFAULT };
        let unpacked = inner.layers.unpack(&inner.store, &image, &limits);
        let rootfs = unpacked.map_err(|e| match room < Limits::DEFAULT.bytes_max && e.is_over_bytes() {
            true => ImagesError::Large(room),
            false => e.into(),
        })?;
        self.mark(manifest)?;
        packed.iter().try_for_each(|blob| inner.store.remove(blob))?;
        Ok(rootfs.notes)
    }

    fn mark(&self, manifest: &Digest) -> Result<(), ImagesError> {
        let path = self.0.ready.join(manifest.hex());
        let synced = File::create(&path)
            .and_then(|f| f.sync_all())
            .and_then(|()| File::open(&self.0.ready)?.sync_all());
        synced.map_err(|source| ImagesError::Io { path, source })
    }

    /// Removes what neither these nor the fetches under way lead to. Blocks on the disk.
    pub fn keep(&self, keep: &BTreeSet<Digest>) -> Result<(), ImagesError> {
        let inner = &self.0;
        let claims = self.wanted();
        let wanted: BTreeSet<Digest> = claims.values().flatten().copied().collect();
        let gone: Vec<Digest> = self.list().into_iter().filter(|digest| !keep.contains(digest)).collect();
        // Loses its mark first: what is half removed is not ready.
        for digest in &gone {
            let path = inner.ready.join(digest.hex());
            fs::remove_file(&path).map_err(|source| ImagesError::Io { path, source })?;
        }
        let roots: BTreeSet<Digest> = keep.union(&wanted).copied().collect();
        let mut images = Vec::new();
        for manifest in roots.iter().filter(|digest| inner.store.size(digest).is_some()) {
            match image::Image::read(&inner.store, manifest) {
                Ok(image) => images.push(image),
                // A layer or a configuration on its way, or a manifest whose configuration is.
                Err(e) if wanted.contains(manifest) => drop(e),
                // Nobody can say what it leads to; it is fetched again before it is started.
                Err(e) => return Err(e.into()),
            }
        }
        inner.layers.sweep(&images)?;
        inner.store.sweep(&roots)?;
        Ok(())
    }
}

impl Claim {
    /// Blocks while a sweep runs.
    pub fn add(&mut self, digests: impl IntoIterator<Item = Digest>) {
        self.images.wanted().entry(self.id).or_default().extend(digests);
    }
}

impl Drop for Claim {
    /// Not in the loop: a sweep takes as long as the disk takes.
    fn drop(&mut self) {
        let (images, id) = (self.images.clone(), self.id);
        let release = move || drop(images.wanted().remove(&id));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(release)),
            Err(_) => release(),
        }
    }
}
