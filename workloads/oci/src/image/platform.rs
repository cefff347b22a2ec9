//! For which machine an image is made, and which image of an index a machine takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::document::Descriptor;
use super::media;

/// In Go's words, as images have it: `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no platform: os/architecture or os/architecture/variant, such as linux/arm64 or linux/arm/v7"
)]
pub struct PlatformError(String);

impl Platform {
    /// What this binary was built for: what runs it runs the same.
    pub fn native() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" if cfg!(target_feature = "v7") => ("arm", Some("v7")),
            "arm" => ("arm", Some("v6")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            same => (same, None),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(String::from) }
    }

    /// How well an image for `offered` runs on this machine; 0 is exact, `None` is not at all. An older
    /// variant of the same architecture runs, a newer one does not.
    fn distance(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        level(self).checked_sub(level(offered))
    }

    /// Whether an image made for `offered` runs here.
    pub fn runs(&self, offered: &Platform) -> bool {
        self.distance(offered).is_some()
    }
}

/// An unnamed variant is the one that everybody means: v7 for arm, v8 for arm64, v1 for amd64.
fn level(platform: &Platform) -> u32 {
    let named =
        platform.variant.as_deref().and_then(|v| v.strip_prefix('v')?.split('.').next()?.parse().ok());
    named.unwrap_or(match platform.architecture.as_str() {
        "arm" => 7,
        "arm64" => 8,
        _ => 1,
    })
}

/// The image of an index that fits best, or what there is instead.
pub fn choose<'a>(offered: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, String> {
    let images = || offered.iter().filter(|d| is_image(d));
    let fitting = images().filter_map(|d| Some((wanted.distance(d.platform.as_ref()?)?, d)));
    if let Some((_, best)) = fitting.min_by_key(|(distance, _)| *distance) {
        return Ok(best);
    }
    // Whoever names no platform means the only image there is; its configuration is compared later.
    let mut unnamed = images().filter(|d| d.platform.is_none());
    if let (Some(only), None) = (unnamed.next(), unnamed.next()) {
        return Ok(only);
    }
    let names: Vec<_> = images().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
    Err(match names.as_slice() {
        [] => format!("it lists no image at all, so none for {wanted}"),
        _ => format!("no image for {wanted}; there are {}", names.join(", ")),
    })
}

/// Indexes also list signatures and build records, whose platform is `unknown/unknown`.
pub fn is_image(descriptor: &Descriptor) -> bool {
    let known = descriptor.platform.as_ref().is_none_or(|p| p.os != "unknown");
    known && (media::is_manifest(&descriptor.media_type) || media::is_index(&descriptor.media_type))
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_string())),
            _ => return Err(PlatformError(text.into())),
        };
        let word =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
        if !parts.iter().all(|p| word(p)) {
            return Err(PlatformError(text.into()));
        }
        Ok(Platform { os: os.to_string(), architecture: architecture.to_string(), variant })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Digest;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let one = |text: &&str| Descriptor {
            media_type: media::OCI_MANIFEST.into(),
            digest: Digest::of(text.as_bytes()),
            size: 1,
            platform: (!text.is_empty()).then(|| text.parse().unwrap()),
            annotations: None,
        };
        platforms.iter().map(one).collect()
    }

    fn chosen(offered: &[&str], wanted: &str) -> Result<String, String> {
        let offered = index(offered);
        let best = choose(&offered, &wanted.parse().unwrap())?;
        Ok(best.platform.as_ref().map(Platform::to_string).unwrap_or_default())
    }

    #[test]
    fn the_nearest_variant_that_runs_is_taken() {
        let arms = [
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm/v6",
            "linux/arm64/v8",
            "linux/amd64",
            "unknown/unknown",
        ];
        for (wanted, got) in [
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/amd64", "linux/amd64"),
        ] {
            assert_eq!(chosen(&arms, wanted).unwrap(), got);
        }
        assert_eq!(chosen(&["linux/arm/v6", "linux/arm/v5"], "linux/arm/v7").unwrap(), "linux/arm/v6");
        assert_eq!(chosen(&["linux/amd64/v3", "linux/amd64"], "linux/amd64").unwrap(), "linux/amd64");
    }

    #[test]
    fn none_that_runs_is_refused_with_what_there_is() {
        let refused =
            chosen(&["linux/amd64", "windows/amd64", "unknown/unknown"], "linux/arm64").unwrap_err();
        assert!(refused.contains("linux/arm64; there are linux/amd64, windows/amd64"), "{refused}");
        assert!(chosen(&["linux/arm/v7"], "linux/arm/v6").is_err());
        assert!(chosen(&["unknown/unknown"], "linux/arm/v6").unwrap_err().contains("no image at all"));
        assert_eq!(chosen(&["", "unknown/unknown"], "linux/arm64").unwrap(), "");
        assert!(chosen(&["", ""], "linux/arm64").is_err());
    }

    #[test]
    fn wrong_platforms_are_refused() {
        for text in ["", "linux", "linux/", "linux/arm/v7/x", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        assert!(Platform::native().runs(&Platform::native()));
    }
}
