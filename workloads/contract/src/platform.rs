//! For which machine an image is made, and which machines run it: in Go's words, as images have it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
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

/// What a board with this binary reports as its `Presence::arch`.
pub fn native_arch() -> &'static str {
    match std::env::consts::ARCH {
        "arm" if !cfg!(target_feature = "v7") => "armv6",
        arch => arch,
    }
}

impl Platform {
    /// What this binary was built for: what runs it runs the same.
    pub fn native() -> Platform {
        Platform::of_board(native_arch())
    }

    /// What a board runs that reports this `arch` (`Presence::arch`, in Rust's words). A plain `arm` is
    /// armv7: agents are built for nothing older.
    pub fn of_board(arch: &str) -> Platform {
        let (architecture, variant) = match arch {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" | "armv7" => ("arm", Some("v7")),
            "armv6" => ("arm", Some("v6")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            same => (same, None),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(String::from) }
    }

    /// How well an image for `offered` runs on this machine; 0 is exact, `None` is not at all. An older
    /// variant of the same architecture runs, a newer one does not.
    pub fn distance(&self, offered: &Platform) -> Option<u32> {
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

    #[test]
    fn wrong_platforms_are_refused() {
        for text in ["", "linux", "linux/", "linux/arm/v7/x", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        assert!(Platform::native().runs(&Platform::native()));
    }

    #[test]
    fn a_board_runs_its_own_variant_and_older_ones() {
        let runs = |arch: &str, image: &str| Platform::of_board(arch).runs(&image.parse().unwrap());
        assert!(runs("x86_64", "linux/amd64") && runs("aarch64", "linux/arm64/v8"));
        assert!(runs("arm", "linux/arm/v7") && runs("arm", "linux/arm/v6") && runs("armv7", "linux/arm"));
        assert!(!runs("armv6", "linux/arm/v7") && !runs("aarch64", "linux/arm/v7"));
        assert!(!runs("x86_64", "windows/amd64") && runs("riscv64", "linux/riscv64"));
        assert_eq!(Platform::of_board("arm").to_string(), "linux/arm/v7");
    }
}
