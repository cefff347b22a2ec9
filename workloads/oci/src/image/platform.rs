//! Which image of an index a machine takes.

pub use contract::platform::{Platform, PlatformError};

use super::document::Descriptor;
use super::media;

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
}
