//! Layers as directories: each unpacked once, ready to be a lower directory of an overlay.
//!
//! ```text
//! work/<n> ── apply the tar ──▶ digest of the tar right? ── syncfs, rename ──▶ diff/<hex>   stands alone
//!     ▲                                  │ wrong: deleted                 └──▶ chain/<hex>  leans on those below
//!     └── left by a crash: deleted, done again
//! ```
//!
//! A layer is shared by every image that has it when its directory means the same over any other: then
//! it is named by its diff id. One that leaves out directories it puts things into, links to files
//! of lower layers or deletes from them, depends on what is below and is named by the chain.

mod apply;
pub(crate) mod decompress;
mod meta;
mod node;
mod path;
mod tree;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use contract::Digest;
use rustix::fs::{FlockOperation, flock, syncfs};

use crate::image::{Image, Layer};
use crate::store::{Store, StoreError};
use crate::tar::TarError;
pub use apply::Devices;

#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
    /// The disk or the kernel, not the layer.
    #[error("layer {layer}: {what}")]
    Fault { layer: Digest, what: String, source: io::Error },
    /// The layer itself is wrong; another try brings the same.
    #[error("layer {layer}: {why}")]
    Refused { layer: Digest, why: String },
}

impl LayerError {
    /// Refused for want of [`Limits::bytes_max`].
    pub fn is_over_bytes(&self) -> bool {
        matches!(self, LayerError::Refused { why, .. } if why.contains(decompress::OVER_BYTES))
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> LayerError + '_ {
    move |source| LayerError::Io { path: path.to_path_buf(), source }
}

/// Why a layer cannot be applied, before its name is known.
#[derive(Debug)]
pub(crate) enum Stop {
    Fault(String, io::Error),
    Refused(String),
}

impl From<TarError> for Stop {
    fn from(error: TarError) -> Stop {
        match error {
            // What a decompressor finds wrong has no number of the kernel's.
            TarError::Read(e) if e.raw_os_error().is_none() => Stop::Refused(e.to_string()),
            TarError::Read(e) => Stop::Fault("reading it".into(), e),
            TarError::Broken(why) => Stop::Refused(format!("not a usable tar: {why}")),
        }
    }
}

impl Stop {
    fn of(self, layer: Digest) -> LayerError {
        match self {
            Stop::Fault(what, source) => LayerError::Fault { layer, what, source },
            Stop::Refused(why) => LayerError::Refused { layer, why },
        }
    }
}

/// What an image may take. Bombs are small and unpack to anything.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the unpacked tars together, headers included.
    pub bytes_max: u64,
    /// Directories that are only implied count too.
    pub entries_max: u64,
    pub devices: Devices,
}

impl Limits {
    /// The largest usual images (CUDA, ROS desktop) have 300,000 files; a board's own bound comes on top.
    pub const DEFAULT: Limits = Limits { bytes_max: 16 << 30, entries_max: 1 << 20, devices: Devices::Drop };
}

/// An image's directories.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Rootfs {
    /// The lowest first, as in the image. overlayfs wants them the other way round.
    pub layers: Vec<PathBuf>,
    /// What was left out while unpacking, for people; bounded.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Layers {
    root: PathBuf,
}

impl Layers {
    pub fn open(root: impl Into<PathBuf>) -> Result<Layers, LayerError> {
        let layers = Layers { root: root.into() };
        for name in ["diff", "chain", "work"] {
            let dir = layers.root.join(name);
            // Closed to others: images hold setuid programs.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io_at(&dir))?;
        }
        Ok(layers)
    }

    /// The image's directories if all of them are there.
    pub fn find(&self, image: &Image) -> Option<Rootfs> {
        let chain_ids = image.chain_ids();
        let found: Option<Vec<_>> =
            image.layers.iter().zip(&chain_ids).map(|(l, chain)| self.present(l, chain)).collect();
        Some(Rootfs { layers: found?, notes: Vec::new() })
    }

    /// Whose content `unpack` will read.
    pub fn missing<'a>(&self, image: &'a Image) -> Vec<&'a Layer> {
        let layers = image.layers.iter().zip(image.chain_ids());
        layers.filter(|(layer, chain)| self.present(layer, chain).is_none()).map(|(layer, _)| layer).collect()
    }

    fn present(&self, layer: &Layer, chain: &Digest) -> Option<PathBuf> {
        [self.alone(&layer.diff_id), self.leaning(chain)].into_iter().find(|path| path.is_dir())
    }

    fn alone(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("diff").join(diff_id.hex())
    }

    fn leaning(&self, chain: &Digest) -> PathBuf {
        self.root.join("chain").join(chain.hex())
    }

    /// Unpacks what is not there yet. Blocks; one at a time in all processes.
    pub fn unpack(&self, store: &Store, image: &Image, limits: &Limits) -> Result<Rootfs, LayerError> {
        let _lock = self.lock()?;
        self.clear_work()?;
        let mut budget = apply::Budget::new(limits);
        let mut rootfs = Rootfs::default();
        for (layer, chain) in image.layers.iter().zip(image.chain_ids()) {
            let path = match self.present(layer, &chain) {
                Some(path) => path,
                None => self.unpack_one(store, layer, &chain, &rootfs.layers, &mut budget)?,
            };
            rootfs.layers.push(path);
        }
        rootfs.notes = budget.into_notes();
        Ok(rootfs)
    }

    fn unpack_one(
        &self,
        store: &Store,
        layer: &Layer,
        chain: &Digest,
        below: &[PathBuf],
        budget: &mut apply::Budget,
    ) -> Result<PathBuf, LayerError> {
        let work = self.root.join("work").join(layer.diff_id.hex());
        fs::DirBuilder::new().mode(0o755).create(&work).map_err(io_at(&work))?;
        let blob = store.open_blob(&layer.blob)?;
        let done = apply(blob, layer, open_dir(&work)?, &self.open_all(below)?, budget);
        let leans = match done {
            Ok(leans) => leans,
            Err(stop) => {
                self.clear_work()?;
                return Err(stop.of(layer.blob));
            }
        };
        let target = if leans { self.leaning(chain) } else { self.alone(&layer.diff_id) };
        self.keep(&work, &target).map_err(io_at(&target))?;
        Ok(target)
    }

    /// The name says that the directory is whole, so all of it is on the disk first.
    fn keep(&self, work: &Path, target: &Path) -> io::Result<()> {
        syncfs(File::open(work)?)?;
        fs::rename(work, target)?;
        File::open(target.parent().expect("a layer lies in a directory"))?.sync_all()
    }

    /// The uppermost first, as lookups go.
    fn open_all(&self, below: &[PathBuf]) -> Result<Vec<OwnedFd>, LayerError> {
        below.iter().rev().map(|path| open_dir(path)).collect()
    }

    fn lock(&self) -> Result<File, LayerError> {
        let path = self.root.join("lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(io_at(&path))?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| io_at(&path)(e.into()))?;
        Ok(file)
    }

    /// Under the lock, so whatever is there was left by somebody who is gone.
    fn clear_work(&self) -> Result<(), LayerError> {
        let work = self.root.join("work");
        for entry in fs::read_dir(&work).map_err(io_at(&work))? {
            let path = entry.map_err(io_at(&work))?.path();
            fs::remove_dir_all(&path).map_err(io_at(&path))?;
        }
        Ok(())
    }

    /// Deletes the directories that no image of `keep` uses; how many there were. No container may be
    /// running on one of them.
    pub fn sweep<'a>(&self, keep: impl IntoIterator<Item = &'a Image>) -> Result<usize, LayerError> {
        let _lock = self.lock()?;
        self.clear_work()?;
        let mut used = BTreeSet::new();
        for image in keep {
            used.extend(image.layers.iter().map(|l| self.alone(&l.diff_id)));
            used.extend(image.chain_ids().iter().map(|c| self.leaning(c)));
        }
        let mut swept = 0;
        for kind in ["diff", "chain"] {
            let dir = self.root.join(kind);
            for entry in fs::read_dir(&dir).map_err(io_at(&dir))? {
                let path = entry.map_err(io_at(&dir))?.path();
                if !used.contains(&path) {
                    self.discard(&path)?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Loses its name first: a directory that was half deleted when a crash came is not taken for whole.
    fn discard(&self, path: &Path) -> Result<(), LayerError> {
        let name = path.file_name().expect("a layer has a name");
        let gone = self.root.join("work").join(name);
        fs::rename(path, &gone).map_err(io_at(path))?;
        fs::remove_dir_all(&gone).map_err(io_at(&gone))
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, LayerError> {
    rustix::fs::open(path, tree::DIRECTORY, rustix::fs::Mode::empty()).map_err(|e| io_at(path)(e.into()))
}

/// The blob into the directory, compared with its diff id; whether it leans on what is below.
fn apply(
    blob: File,
    layer: &Layer,
    upper: OwnedFd,
    lowers: &[OwnedFd],
    budget: &mut apply::Budget,
) -> Result<bool, Stop> {
    let read = |e: io::Error| Stop::from(TarError::Read(e));
    let stream = decompress::open(blob).map_err(read)?;
    let mut stream = decompress::Hashed::new(stream, budget.bytes_left());
    let leans = apply::apply(&mut stream, upper, lowers, budget)?;
    // The digest is of everything, also of what stands behind the tar's end.
    io::copy(&mut stream, &mut io::sink()).map_err(read)?;
    budget.spend_bytes(stream.bytes());
    let found = stream.digest();
    match found == layer.diff_id {
        true => Ok(leans),
        false => Err(Stop::Refused(format!(
            "it unpacks to {found}; the image's rootfs.diff_ids names {}",
            layer.diff_id
        ))),
    }
}
