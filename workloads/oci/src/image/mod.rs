//! An image: which of an index runs here, its configuration and its layers, all read from the store.

pub mod document;
pub mod media;
pub mod platform;

use std::collections::BTreeMap;

use contract::Digest;

use crate::store::{Store, StoreError};
pub use document::{Defaults, Descriptor, Document, ImageConfig, Manifest};
pub use platform::Platform;

/// Indexes of indexes are allowed, without end they are not.
const INDEX_DEPTH_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content itself is wrong; another try brings the same.
    #[error("{what} {digest}: {why}")]
    Refused { what: &'static str, digest: Digest, why: String },
}

fn refused(what: &'static str, digest: Digest) -> impl FnOnce(String) -> ImageError {
    move |why| ImageError::Refused { what, digest, why }
}

/// An image for one platform, ready to be unpacked and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of the manifest.
    pub digest: Digest,
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// As it is stored, mostly compressed.
    pub blob: Digest,
    pub size_bytes: u64,
    /// Of the tar in it.
    pub diff_id: Digest,
}

/// The manifest for `wanted` behind `root`, which may be a manifest itself.
pub fn resolve(store: &Store, root: &Digest, wanted: &Platform) -> Result<Digest, ImageError> {
    let mut digest = *root;
    for _ in 0..INDEX_DEPTH_MAX {
        match document(store, &digest)? {
            Document::Manifest(_) => return Ok(digest),
            Document::Index(offered) => {
                digest = platform::choose(&offered, wanted).map_err(refused("index", digest))?.digest;
            }
        }
    }
    Err(refused("index", *root)(format!("indexes inside indexes, deeper than {INDEX_DEPTH_MAX}")))
}

pub fn document(store: &Store, digest: &Digest) -> Result<Document, ImageError> {
    let bytes = store.read(digest, document::DOCUMENT_BYTES_MAX)?;
    document::parse(&bytes).map_err(refused("manifest", *digest))
}

impl Image {
    /// As [`Image::read`], for a machine that must be able to run it.
    pub fn load(store: &Store, manifest: &Digest, wanted: &Platform) -> Result<Image, ImageError> {
        let image = Image::read(store, manifest)?;
        if !wanted.runs(&image.config.platform) {
            let why = format!("the image is made for {}, this is {wanted}", image.config.platform);
            return Err(refused("manifest", *manifest)(why));
        }
        Ok(image)
    }

    /// Everything but the layers' contents is read and checked here.
    pub fn read(store: &Store, manifest: &Digest) -> Result<Image, ImageError> {
        let refuse = |why: String| refused("manifest", *manifest)(why);
        let Document::Manifest(found) = document(store, manifest)? else {
            return Err(refuse("it is an index; choose the manifest for a platform first".into()));
        };
        found.check_image().map_err(refuse)?;
        let config = load_config(store, &found.config.digest)?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != found.layers.len() {
            return Err(refuse(format!(
                "layers: {} of them, but rootfs.diff_ids of the configuration names {}",
                found.layers.len(),
                diff_ids.len()
            )));
        }
        let layers = found.layers.iter().zip(diff_ids);
        let layers =
            layers.map(|(l, diff_id)| Layer { blob: l.digest, size_bytes: l.size, diff_id: *diff_id });
        Ok(Image { digest: *manifest, layers: layers.collect(), config })
    }

    /// Names every stack of layers from the lowest up to each (the image specification's chain id).
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut below: Option<Digest> = None;
        let mut next = |layer: &Layer| {
            let id = below.map_or(layer.diff_id, |b| Digest::of(format!("{b} {}", layer.diff_id).as_bytes()));
            below = Some(id);
            id
        };
        self.layers.iter().map(&mut next).collect()
    }
}

fn load_config(store: &Store, digest: &Digest) -> Result<ImageConfig, ImageError> {
    let bytes = store.read(digest, document::DOCUMENT_BYTES_MAX)?;
    document::parse_config(&bytes).map_err(refused("image configuration", *digest))
}

/// What a document points to, and how large each is said to be.
pub fn children(document: &Document) -> BTreeMap<Digest, u64> {
    let list: Vec<&Descriptor> = match document {
        Document::Index(manifests) => manifests.iter().collect(),
        Document::Manifest(m) => std::iter::once(&m.config).chain(&m.layers).collect(),
    };
    list.into_iter().map(|d| (d.digest, d.size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let layer =
            |text: &str| Layer { blob: Digest::of(b""), size_bytes: 0, diff_id: Digest::of(text.as_bytes()) };
        let config = document::parse_config(br#"{"architecture":"arm","os":"linux","rootfs":{}}"#).unwrap();
        let image =
            Image { digest: Digest::of(b""), config, layers: vec![layer("a"), layer("b"), layer("c")] };
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
        let ab = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(image.chain_ids(), [a, ab, Digest::of(format!("{ab} {c}").as_bytes())]);
    }
}
