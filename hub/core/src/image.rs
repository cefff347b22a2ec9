//! What does a container image consist of, which part of it does a board run, and which is not here yet?

use std::collections::{BTreeMap, BTreeSet};

use contract::Digest;
use contract::platform::Platform;
use serde::{Deserialize, Serialize};

/// Every piece of it is named, so that none is swept while this stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImageRecord {
    /// By platform, one each.
    pub platforms: Vec<ImagePlatform>,
    /// What leads to platforms, by digest, and how large each is: indexes, and the documents of an image
    /// whose layers are not here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub indexes: BTreeMap<Digest, u64>,
    /// What its registry has besides and no board has needed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub offered: BTreeSet<Platform>,
    /// As whom registries have it, as manifests named it, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// Names of one image that are remembered; the oldest goes.
const SOURCES_MAX: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ImagePlatform {
    pub platform: Platform,
    pub manifest: Piece,
    pub config: Piece,
    /// The lowest first.
    pub layers: Vec<Piece>,
    /// The image's own, in the words of `stop.signal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Piece {
    pub digest: Digest,
    pub size_bytes: u64,
}

impl ImagePlatform {
    fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        [self.manifest, self.config].into_iter().chain(self.layers.iter().copied())
    }

    /// What a board fetches.
    pub fn size_bytes(&self) -> u64 {
        let pieces: BTreeMap<Digest, u64> = self.pieces().map(|p| (p.digest, p.size_bytes)).collect();
        pieces.values().sum()
    }
}

impl ImageRecord {
    /// Each piece once: platforms share layers.
    pub fn pieces(&self) -> BTreeMap<Digest, u64> {
        let pieces = self.platforms.iter().flat_map(ImagePlatform::pieces).map(|p| (p.digest, p.size_bytes));
        self.indexes.iter().map(|(digest, size)| (*digest, *size)).chain(pieces).collect()
    }

    /// The part that fits a board of this architecture best; Err names what it would run.
    pub fn for_board(&self, arch: &str) -> Result<&ImagePlatform, Platform> {
        let wanted = Platform::of_board(arch);
        let fitting = self.platforms.iter().filter_map(|p| Some((wanted.distance(&p.platform)?, p)));
        fitting.min_by_key(|(distance, _)| *distance).map(|(_, best)| best).ok_or(wanted)
    }

    /// What the registry has for a board of this architecture, if nothing that is here runs there.
    pub fn lacks(&self, arch: &str) -> Option<&Platform> {
        let wanted = self.for_board(arch).err()?;
        let fitting = self.offered.iter().filter_map(|offered| Some((wanted.distance(offered)?, offered)));
        fitting.min_by_key(|(distance, _)| *distance).map(|(_, best)| best)
    }

    /// Whether every board that runs `other` runs this as well.
    pub fn covers(&self, other: &ImageRecord) -> bool {
        other.all().all(|theirs| self.all().any(|own| theirs.runs(own)))
    }

    /// Here or at the registry.
    fn all(&self) -> impl Iterator<Item = &Platform> {
        self.platforms.iter().map(|p| &p.platform).chain(&self.offered)
    }

    /// The same image may come twice, each time with other platforms: archives keep the whole index, and
    /// of the images behind it only those that were there.
    pub fn add(&mut self, other: &ImageRecord) {
        for platform in &other.platforms {
            self.platforms.retain(|old| old.platform != platform.platform);
            self.platforms.push(platform.clone());
        }
        self.platforms.sort_by(|a, b| a.platform.cmp(&b.platform));
        self.indexes.extend(&other.indexes);
        self.offered.extend(other.offered.iter().cloned());
        // An unnamed variant is the usual one.
        let here =
            |offered: &Platform| self.platforms.iter().any(|p| p.platform.distance(offered) == Some(0));
        self.offered.retain(|offered| !here(offered));
        for source in &other.sources {
            self.sources.retain(|old| old != source);
            self.sources.push(source.clone());
        }
        let oldest = self.sources.len().saturating_sub(SOURCES_MAX);
        self.sources.drain(..oldest);
    }

    /// All of its platforms, here or not.
    pub fn names(&self) -> String {
        self.all().map(Platform::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Why a board has nothing to run of an image.
pub fn nothing_for(arch: &str, image: &ImageRecord) -> String {
    format!("the image has nothing for {}; it has {}", Platform::of_board(arch), image.names())
}
