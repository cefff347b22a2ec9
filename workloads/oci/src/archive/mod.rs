//! Images in files: an OCI layout (directory or tar) or what `docker save` writes, old and new.
//!
//! Since Docker 25 `docker save` writes an OCI layout; before, a `manifest.json` that names a
//! configuration and tars of layers. The old form becomes a manifest like any other here: the layers
//! are uncompressed, so their names are in the configuration already.

mod docker;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use contract::Digest;

use crate::image::document::{self, DOCUMENT_BYTES_MAX};
use crate::image::{Descriptor, Document, children, platform};
use crate::store::{Store, StoreError};
use files::Files;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The whole name, where containerd and Docker write only the tag into the annotation above.
const WHOLE_NAME: &str = "io.containerd.image.name";

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("{path}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {why}")]
    Refused { path: PathBuf, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As far as the archive tells; an image may have many names or none.
    pub names: Vec<String>,
    /// An index or a manifest.
    pub digest: Digest,
}

#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    files: Files,
    images: Vec<Named>,
    /// Content that stands in no file, and content under another name than a layout gives it.
    made: BTreeMap<Digest, Vec<u8>>,
    elsewhere: BTreeMap<Digest, String>,
}

/// Bytes, and how many there should be.
pub type Blob<'a> = (Box<dyn Read + 'a>, u64);

impl Archive {
    pub fn open(path: &Path) -> Result<Archive, ArchiveError> {
        Archive::open_within(path, &std::env::temp_dir(), u64::MAX)
    }

    /// For strangers' files: a packed archive takes at most `bytes_max`, in `scratch`.
    pub fn open_within(path: &Path, scratch: &Path, bytes_max: u64) -> Result<Archive, ArchiveError> {
        let files = Files::open(path, scratch, bytes_max)?;
        let (made, elsewhere) = (BTreeMap::new(), BTreeMap::new());
        let mut archive = Archive { path: path.into(), files, images: Vec::new(), made, elsewhere };
        // Docker's new form has both; the layout says more.
        if let (Some(_), Some(index)) = (archive.document("oci-layout")?, archive.document("index.json")?) {
            archive.read_layout(&index)?;
        } else if let Some(list) = archive.document("manifest.json")? {
            docker::read(&mut archive, &list)?;
        } else {
            return Err(archive.refused(
                "no image archive: it has neither 'oci-layout' and 'index.json' (an OCI layout) nor 'manifest.json' \
                 (docker save)",
            ));
        }
        Ok(archive)
    }

    pub fn images(&self) -> &[Named] {
        &self.images
    }

    /// The image of that name, or the only one.
    pub fn choose(&self, name: Option<&str>) -> Result<&Named, ArchiveError> {
        let fits = |image: &&Named| name.is_none_or(|n| image.names.iter().any(|have| have == n));
        let fitting: Vec<_> = self.images.iter().filter(fits).collect();
        if let [only] = fitting.as_slice() {
            return Ok(only);
        }
        let names: Vec<_> = self.images.iter().flat_map(|i| &i.names).map(String::as_str).collect();
        Err(self.refused(match (self.images.len(), name) {
            (0, _) => "it holds no image".to_string(),
            (_, Some(name)) => format!("no image is named '{name}'; there are: {}", names.join(", ")),
            (n, None) => format!("it holds {n} images; name one of: {}", names.join(", ")),
        }))
    }

    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob<'_>>, ArchiveError> {
        if let Some(bytes) = self.made.get(digest) {
            return Ok(Some((Box::new(bytes.as_slice()), bytes.len() as u64)));
        }
        let own = || format!("blobs/sha256/{}", digest.hex());
        self.files.open_file(&self.elsewhere.get(digest).cloned().unwrap_or_else(own))
    }

    /// Brings an image into the store, all platforms that the archive has of it. `bytes_max` bounds all of
    /// it together.
    pub fn import(&self, digest: &Digest, store: &Store, bytes_max: u64) -> Result<(), ArchiveError> {
        let mut walk = Walk { archive: self, store, left: bytes_max, seen: BTreeSet::new() };
        match walk.bring(digest)? {
            true => walk.lead_on(digest),
            false => Err(self.refused(format!("{} is not in it", blob_name(digest)))),
        }
    }

    fn read_layout(&mut self, index: &[u8]) -> Result<(), ArchiveError> {
        let parsed = document::parse(index).map_err(|why| self.refused(format!("index.json: {why}")))?;
        let Document::Index(manifests) = parsed else {
            return Err(self.refused("index.json: it is a manifest; an index lists 'manifests'"));
        };
        for descriptor in manifests.iter().filter(|d| platform::is_image(d)) {
            self.add(descriptor);
        }
        Ok(())
    }

    /// One entry for each name in the index becomes one image with all its names.
    fn add(&mut self, descriptor: &Descriptor) {
        let noted = |key: &str| descriptor.annotations.as_ref().and_then(|a| a.get(key).cloned());
        let names: Vec<_> = [WHOLE_NAME, REF_NAME].iter().filter_map(|k| noted(k)).collect();
        match self.images.iter_mut().find(|i| i.digest == descriptor.digest) {
            Some(known) => known.names.extend(names),
            None => self.images.push(Named { names, digest: descriptor.digest }),
        }
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some((file, size)) = self.files.open_file(name)? else { return Ok(None) };
        if size > DOCUMENT_BYTES_MAX {
            return Err(self.refused(format!("{name}: {size} bytes are more than {DOCUMENT_BYTES_MAX}")));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let read = file.take(DOCUMENT_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Io { path: self.path.join(name), source })?;
        Ok(Some(bytes))
    }

    fn refused(&self, why: impl Into<String>) -> ArchiveError {
        ArchiveError::Refused { path: self.path.clone(), why: why.into() }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

struct Walk<'a> {
    archive: &'a Archive,
    store: &'a Store,
    left: u64,
    seen: BTreeSet<Digest>,
}

impl Walk<'_> {
    /// Whether the store has it now.
    fn bring(&mut self, digest: &Digest) -> Result<bool, ArchiveError> {
        let Some((bytes, size)) = self.archive.blob(digest)? else {
            return Ok(self.store.size(digest).is_some());
        };
        if self.seen.insert(*digest) {
            let left = self.left.checked_sub(size);
            self.left = left.ok_or_else(|| self.archive.refused("the image is larger than it may be"))?;
        }
        self.store.copy_in(digest, size, bytes)?;
        Ok(true)
    }

    /// Documents are read from the store, so what is read is what was compared with its digest.
    fn lead_on(&mut self, digest: &Digest) -> Result<(), ArchiveError> {
        let refused = |why: String| self.archive.refused(format!("{}: {why}", blob_name(digest)));
        let document = document::parse(&self.store.read(digest, DOCUMENT_BYTES_MAX)?).map_err(refused)?;
        match &document {
            Document::Manifest(_) => {
                for (child, _) in children(&document) {
                    if !self.bring(&child)? {
                        return Err(self.archive.refused(format!("{} is not in it", blob_name(&child))));
                    }
                }
                Ok(())
            }
            Document::Index(offered) => self.lead_on_through(offered),
        }
    }

    /// `docker save` keeps the whole index but only the platform that the machine had.
    fn lead_on_through(&mut self, offered: &[Descriptor]) -> Result<(), ArchiveError> {
        let mut brought = 0;
        for descriptor in offered.iter().filter(|d| platform::is_image(d)) {
            // An index that holds itself cannot be made, but the same one twice can.
            if self.seen.contains(&descriptor.digest) || self.bring(&descriptor.digest)? {
                self.lead_on(&descriptor.digest)?;
                brought += 1;
            }
        }
        match brought {
            0 => Err(self.archive.refused("none of the index's images is in it")),
            _ => Ok(()),
        }
    }
}
