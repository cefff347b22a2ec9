//! Containers for both sides: how an image is kept and unpacked, and how a board runs it.
//!
//! | | |
//! |---|---|
//! | `image` | manifests, configurations, platforms |
//! | `archive` | images in files: OCI layouts and `docker save` |
//! | `store` | content by digest, and what may be deleted |
//! | `layer` | layers as directories for overlayfs |
//! | `pull` | images from registries |
//! | `copy` | files into a container and out of it, safe against either side |
//! | `run` | a container, bounded and cleared away |
//!
//! How people name an image is the contract's (`contract::image`). Feature `image` adds all that is about images, `pull` registries,
//! `run` the container.

#[cfg(feature = "image")]
pub mod archive;
#[cfg(feature = "image")]
pub mod copy;
#[cfg(feature = "image")]
pub mod image;
#[cfg(feature = "image")]
pub mod layer;
#[cfg(feature = "pull")]
pub mod pull;
#[cfg(feature = "run")]
pub mod run;
#[cfg(feature = "image")]
pub mod store;
#[cfg(feature = "image")]
mod tar;

pub use contract::Digest;
pub use contract::image::ImageRef;
