//! How an image archive becomes blobs: unpacked into a content store of its own below `tmp/`, looked at
//! whole (`look`), and only then given names here. What is refused leaves nothing.

use std::io;
use std::path::{Path, PathBuf};

use contract::Digest;
use contract::limits::IMAGE_BYTES_MAX;
use hub_core::image::ImageRecord;
use oci::archive::{Archive, ArchiveError};
use oci::image::ImageError;
use oci::store::{Store, StoreError};

use super::look::{Look, Origin};
use super::{ArtifactError, ArtifactStore, Pin};

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
        let (record, notes) = Look::new(&store, Origin::Archive).read(digest)?;
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

fn of_archive(e: ArchiveError) -> ImportError {
    match e {
        ArchiveError::Refused { why, .. } => ImportError::Refused(why),
        ArchiveError::Io { path, source } => of_io(path, source),
        ArchiveError::Store(e) => of_store(e),
    }
}

pub(super) fn of_image(e: ImageError) -> ImportError {
    match e {
        ImageError::Store(e) => of_store(e),
        refused @ ImageError::Refused { .. } => ImportError::Refused(refused.to_string()),
    }
}

pub(super) fn of_store(e: StoreError) -> ImportError {
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
