//! How an image archive becomes blobs: unpacked into a content store of its own below `tmp/`, looked at
//! whole, and only then given names here. What is refused leaves nothing.
//!
//! Layers are not unpacked: that they are what the configuration says is compared by each board, which has
//! to unpack them anyway. Nothing of an image is signed beside the documents that hubs send: they name a
//! manifest by its digest, and everything below it is named by digests.

use std::io;
use std::path::{Path, PathBuf};

use contract::limits::IMAGE_BYTES_MAX;
use contract::platform::Platform;
use contract::{Digest, rules};
use hub_core::image::{ImagePlatform, ImageRecord, Piece};
use oci::archive::{Archive, ArchiveError};
use oci::image::{self, Descriptor, Document, Image, ImageError, Manifest, platform};
use oci::store::{Store, StoreError};

use super::{ArtifactError, ArtifactStore, Pin};

/// Indexes of indexes are allowed, without end they are not.
const INDEX_DEPTH_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive's fault: trying again gives the same.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] ArtifactError),
}

/// An image whose every piece is a blob.
#[derive(Debug)]
pub struct Imported {
    /// What was pushed: an index or a manifest.
    pub digest: Digest,
    pub record: ImageRecord,
    /// What the operator should know.
    pub notes: Vec<String>,
    /// Held until the record is durable.
    pub pins: Vec<Pin>,
}

impl ArtifactStore {
    /// Take the image of that name, or the only one, out of an archive. Blocks on the disk.
    pub fn import(&self, archive: &Path, name: Option<&str>) -> Result<Imported, ImportError> {
        let scratch = Scratch(self.temporary());
        std::fs::create_dir(&scratch.0).map_err(super::fault("cannot make", &scratch.0))?;
        let archive = Archive::open_within(archive, &scratch.0, IMAGE_BYTES_MAX).map_err(of_archive)?;
        let digest = archive.choose(name).map_err(of_archive)?.digest;
        let store = Store::open(&scratch.0).map_err(of_store)?;
        archive.import(&digest, &store, IMAGE_BYTES_MAX).map_err(of_archive)?;
        let mut look = Look { store: &store, record: ImageRecord::default(), others: vec![], notes: vec![] };
        look.at(digest, None, 0)?;
        let (record, notes) = look.ended()?;
        let mut pins = Vec::new();
        for piece in record.pieces().keys() {
            pins.push(self.keep(&store.path(piece), *piece)?);
        }
        Ok(Imported { digest, record, notes, pins })
    }
}

/// Gone with whatever is in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Look<'a> {
    store: &'a Store,
    record: ImageRecord,
    /// Platforms that no board has.
    others: Vec<String>,
    notes: Vec<String>,
}

impl Look<'_> {
    /// `said`: what the index says of it.
    fn at(&mut self, digest: Digest, said: Option<&Platform>, depth: usize) -> Result<(), ImportError> {
        if depth > INDEX_DEPTH_MAX {
            let why = format!("index {digest}: indexes inside indexes, deeper than {INDEX_DEPTH_MAX}");
            return Err(ImportError::Refused(why));
        }
        match image::document(self.store, &digest).map_err(of_image)? {
            Document::Manifest(manifest) => self.platform(digest, &manifest, said),
            Document::Index(offered) => {
                self.record.indexes.insert(digest, self.piece(digest).size_bytes);
                offered.iter().filter(|d| platform::is_image(d)).try_for_each(|d| self.behind(d, depth))
            }
        }
    }

    /// What `docker save` left out is not here.
    fn behind(&mut self, offered: &Descriptor, depth: usize) -> Result<(), ImportError> {
        if self.store.size(&offered.digest).is_none() {
            return Ok(());
        }
        self.at(offered.digest, offered.platform.as_ref(), depth + 1)
    }

    fn platform(
        &mut self,
        digest: Digest,
        manifest: &Manifest,
        said: Option<&Platform>,
    ) -> Result<(), ImportError> {
        let refused = |why: String| ImportError::Refused(format!("manifest {digest}: {why}"));
        let platform = said.map_or(Ok(None), |said| checked(said).map(Some)).map_err(refused)?;
        if let Some(other) = platform.as_ref().filter(|said| said.os != "linux") {
            self.others.push(other.to_string());
            return Ok(());
        }
        let image = Image::read(self.store, &digest).map_err(of_image)?;
        let own = checked(&image.config.platform).map_err(refused)?;
        if own.os != "linux" {
            self.others.push(own.to_string());
            return Ok(());
        }
        // Either may leave the variant out.
        let platform = match platform {
            Some(said) if said.architecture != own.architecture => {
                let why = format!("the index says that it is for {said}, its configuration {own}");
                return Err(refused(why));
            }
            Some(said) if said.variant.is_some() => said,
            _ => own,
        };
        if self.record.platforms.iter().any(|known| known.platform == platform) {
            return Ok(());
        }
        let layers = manifest.layers.iter().enumerate();
        let layers =
            layers.map(|(n, layer)| self.sized(layer).map_err(|why| refused(format!("layers[{n}]: {why}"))));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let config = self.sized(&manifest.config).map_err(|why| refused(format!("config: {why}")))?;
        let stop_signal = self.stop_signal(&platform, &image.config.config.stop_signal);
        let manifest = self.piece(digest);
        self.record.platforms.push(ImagePlatform { platform, manifest, config, layers, stop_signal });
        Ok(())
    }

    fn stop_signal(&mut self, platform: &Platform, given: &str) -> Option<String> {
        if given.is_empty() {
            return None;
        }
        let name = rules::signal_name(given).map(str::to_string);
        if name.is_none() {
            let given = contract::field::shown(given);
            self.notes.push(format!(
                "{platform}: its stop signal '{given}' is not known here: TERM is sent unless stop.signal says more"
            ));
        }
        name
    }

    fn piece(&self, digest: Digest) -> Piece {
        Piece { digest, size_bytes: self.store.size(&digest).unwrap_or_default() }
    }

    /// Boards fetch as much as the manifest says.
    fn sized(&self, said: &Descriptor) -> Result<Piece, String> {
        let piece = self.piece(said.digest);
        if piece.size_bytes == said.size {
            return Ok(piece);
        }
        Err(format!("size is {}, but {} has {} bytes", said.size, said.digest, piece.size_bytes))
    }

    fn ended(mut self) -> Result<(ImageRecord, Vec<String>), ImportError> {
        if self.record.platforms.is_empty() {
            let others = self.others.join(", ");
            return Err(ImportError::Refused(format!(
                "it holds no image for linux, which all boards run; there is {others}"
            )));
        }
        self.record.platforms.sort_by(|a, b| a.platform.cmp(&b.platform));
        Ok((self.record, self.notes))
    }
}

/// Words that people are shown.
fn checked(said: &Platform) -> Result<Platform, String> {
    said.to_string().parse().map_err(|e: contract::platform::PlatformError| format!("platform: {e}"))
}

fn of_archive(e: ArchiveError) -> ImportError {
    match e {
        ArchiveError::Refused { why, .. } => ImportError::Refused(why),
        ArchiveError::Io { path, source } => of_io(path, source),
        ArchiveError::Store(e) => of_store(e),
    }
}

fn of_image(e: ImageError) -> ImportError {
    match e {
        ImageError::Store(e) => of_store(e),
        refused @ ImageError::Refused { .. } => ImportError::Refused(refused.to_string()),
    }
}

fn of_store(e: StoreError) -> ImportError {
    match e {
        StoreError::Io { path, source } => of_io(path, source),
        StoreError::Source { digest, source } => of_io(PathBuf::from(digest.to_string()), source),
        refused => ImportError::Refused(refused.to_string()),
    }
}

/// A packed archive that is broken or too large is seen while it is read.
fn of_io(path: PathBuf, source: io::Error) -> ImportError {
    use io::ErrorKind::*;
    match source.kind() {
        FileTooLarge => ArtifactError::TooLarge { max: IMAGE_BYTES_MAX }.into(),
        InvalidData | InvalidInput | UnexpectedEof | Other => {
            ImportError::Refused(format!("the archive is broken: {source}"))
        }
        _ => super::fault("cannot use", &path)(source).into(),
    }
}

/// What was pushed, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Wasm,
    Archive,
    Neither,
}

/// As many bytes tell a tar from everything else.
pub const HEAD_BYTES: usize = 512;

impl Form {
    pub fn of(head: &[u8]) -> Form {
        let tar = head.get(257..262) == Some(b"ustar");
        match head {
            [0, b'a', b's', b'm', ..] => Form::Wasm,
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Form::Archive,
            _ if tar => Form::Archive,
            _ => Form::Neither,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let mut tar = [0; HEAD_BYTES];
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(Form::of(&tar), Form::Archive);
        assert_eq!(Form::of(b"\0asm\x01\0\0\0"), Form::Wasm);
        assert_eq!(Form::of(&[0x1f, 0x8b, 8]), Form::Archive);
        assert_eq!(Form::of(&[0x28, 0xb5, 0x2f, 0xfd]), Form::Archive);
        for other in [&b""[..], b"PK\x03\x04", b"(module)", &[0; HEAD_BYTES]] {
            assert_eq!(Form::of(other), Form::Neither);
        }
    }
}
