//! Of what does an image consist, and which platforms has it? Read from its documents in a content store,
//! for images from archives, whose layers are there, and from registries, whose layers may still come.
//!
//! Layers are not unpacked: that they are what the configuration says is compared by each board, which has
//! to unpack them anyway. Nothing of an image is signed beside the documents that hubs send: they name a
//! manifest by its digest, and everything below it is named by digests.

use std::collections::BTreeSet;

use contract::limits::IMAGE_BYTES_MAX;
use contract::platform::Platform;
use contract::quantity::Bytes;
use contract::{Digest, rules};
use hub_core::image::{ImagePlatform, ImageRecord, Piece};
use oci::image::{self, Descriptor, Document, Image, Manifest, platform};
use oci::store::Store;

use super::image::{ImportError, of_image};

/// Indexes of indexes are allowed, without end they are not.
const INDEX_DEPTH_MAX: usize = 4;

/// What has to be there already.
pub enum Origin<'a> {
    /// All of what it holds.
    Archive,
    /// The documents of the chosen manifests; layers only of platforms that boards want, and later.
    Registry {
        chosen: &'a [Digest],
        wanted: &'a BTreeSet<Platform>,
        /// How large a piece is that an earlier image brought.
        held: &'a dyn Fn(&Digest) -> Option<u64>,
    },
}

pub struct Look<'a> {
    store: &'a Store,
    origin: Origin<'a>,
    record: ImageRecord,
    /// Platforms that no board has.
    others: Vec<String>,
    notes: Vec<String>,
}

impl<'a> Look<'a> {
    pub fn new(store: &'a Store, origin: Origin<'a>) -> Look<'a> {
        Look { store, origin, record: ImageRecord::default(), others: vec![], notes: vec![] }
    }

    /// The record, and what the operator should know.
    pub fn read(mut self, root: Digest) -> Result<(ImageRecord, Vec<String>), ImportError> {
        self.at(root, None, 0)?;
        self.ended()
    }

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

    /// What `docker save` left out is not here, and of a registry what no board needs.
    fn behind(&mut self, offered: &Descriptor, depth: usize) -> Result<(), ImportError> {
        let here = match self.origin {
            Origin::Archive => self.store.size(&offered.digest).is_some(),
            Origin::Registry { chosen, .. } => chosen.contains(&offered.digest),
        };
        if here {
            return self.at(offered.digest, offered.platform.as_ref(), depth + 1);
        }
        let Some(platform) =
            offered.platform.as_ref().filter(|_| matches!(self.origin, Origin::Registry { .. }))
        else {
            return Ok(());
        };
        match checked(platform) {
            Ok(platform) if platform.os == "linux" => drop(self.record.offered.insert(platform)),
            // Nobody asked for it.
            _ => self.others.push(contract::field::shown(&platform.to_string())),
        }
        Ok(())
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
        if let Origin::Registry { wanted, .. } = self.origin
            && !wanted.iter().any(|board| board.runs(&platform))
        {
            let documents = [manifest, config].map(|piece| (piece.digest, piece.size_bytes));
            self.record.indexes.extend(documents);
            self.record.offered.insert(platform);
            return Ok(());
        }
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
        let present = match self.origin {
            Origin::Archive => Some(self.piece(said.digest).size_bytes),
            // What is not here yet will be taken only if it is as long as this.
            Origin::Registry { held, .. } => self.store.size(&said.digest).or_else(|| held(&said.digest)),
        };
        match present {
            Some(bytes) if bytes != said.size => {
                Err(format!("size is {}, but {} has {bytes} bytes", said.size, said.digest))
            }
            _ => Ok(Piece { digest: said.digest, size_bytes: said.size }),
        }
    }

    fn ended(mut self) -> Result<(ImageRecord, Vec<String>), ImportError> {
        if self.record.platforms.is_empty() && self.record.offered.is_empty() {
            let others = self.others.join(", ");
            return Err(ImportError::Refused(format!(
                "it holds no image for linux, which all boards run; there is {others}"
            )));
        }
        let sizes = self.record.pieces().into_values();
        let bytes = sizes.fold(0u64, u64::saturating_add);
        if bytes > IMAGE_BYTES_MAX {
            let (bytes, max) = (Bytes(bytes), Bytes(IMAGE_BYTES_MAX));
            return Err(ImportError::Refused(format!("it has {bytes}, and at most {max} are taken")));
        }
        self.record.platforms.sort_by(|a, b| a.platform.cmp(&b.platform));
        Ok((self.record, self.notes))
    }
}

/// Words that people are shown.
fn checked(said: &Platform) -> Result<Platform, String> {
    said.to_string().parse().map_err(|e: contract::platform::PlatformError| format!("platform: {e}"))
}
