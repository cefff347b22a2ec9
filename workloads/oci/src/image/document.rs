//! Indexes, manifests and configurations as they are written, read within bounds.
//!
//! Own types and not `oci-spec`'s: those take digests of any algorithm, say nothing of where in a
//! document a mistake is, and bring regex and two dozen crates to the hub for eleven fields.

use std::collections::BTreeMap;

use contract::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::media;
use super::platform::Platform;

/// What registries take for a manifest; configurations are never larger.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// Docker's own bound; overlayfs would take 500.
pub const LAYERS_MAX: usize = 127;
/// Far above any index that is known (a few dozen platforms, each with its attestation).
pub const INDEX_ENTRIES_MAX: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub config: Descriptor,
    /// The lowest first.
    pub layers: Vec<Descriptor>,
}

/// What an image says of itself. Fields that nothing here uses are left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    #[serde(flatten)]
    pub platform: Platform,
    #[serde(default, deserialize_with = "or_null")]
    pub config: Defaults,
    pub rootfs: RootFs,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RootFs {
    /// Of the unpacked layers, the lowest first.
    #[serde(default, deserialize_with = "or_null")]
    pub diff_ids: Vec<Digest>,
}

/// What runs when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Defaults {
    #[serde(deserialize_with = "or_null")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_null")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub working_dir: String,
    #[serde(deserialize_with = "or_null")]
    pub stop_signal: String,
    #[serde(deserialize_with = "or_null")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_null")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
}

/// Go writes `null` for what is empty.
fn or_null<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Both kinds at once, so that what claims to be both is seen (CVE-2021-41190).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Either {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// An index or a manifest; `Err` says which field is wrong and what would be right.
pub fn parse(bytes: &[u8]) -> Result<Document, String> {
    let either: Either = read(bytes)?;
    if either.schema_version != 2 {
        return Err(format!(
            "schemaVersion: {} is not supported; push the image again with a Docker newer than 2017, which writes 2",
            either.schema_version
        ));
    }
    let media_type = either.media_type.as_deref().unwrap_or_default();
    match (either.manifests, either.config, either.layers) {
        (Some(manifests), None, None) if media_type.is_empty() || media::is_index(media_type) => {
            index(manifests)
        }
        (None, Some(config), Some(layers)) if media_type.is_empty() || media::is_manifest(media_type) => {
            manifest(config, layers)
        }
        (Some(_), None, None) | (None, Some(_), Some(_)) => Err(format!(
            "mediaType: '{media_type}' does not fit its fields; {} or {}",
            media::OCI_INDEX,
            media::OCI_MANIFEST
        )),
        _ => Err("it is neither an index ('manifests') nor a manifest ('config' and 'layers')".into()),
    }
}

fn index(manifests: Vec<Descriptor>) -> Result<Document, String> {
    match manifests.len() {
        0..=INDEX_ENTRIES_MAX => Ok(Document::Index(manifests)),
        n => Err(format!("manifests: {n} entries are more than {INDEX_ENTRIES_MAX}")),
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Document, String> {
    if layers.len() > LAYERS_MAX {
        return Err(format!("layers: {} are more than {LAYERS_MAX}", layers.len()));
    }
    Ok(Document::Manifest(Manifest { config, layers }))
}

impl Manifest {
    /// Charts, modules and signatures are manifests too; only images can be run.
    pub fn check_image(&self) -> Result<(), String> {
        if !media::is_config(&self.config.media_type) {
            return Err(format!(
                "config.mediaType: '{}' is not a container image's; {} or {}",
                self.config.media_type,
                media::OCI_CONFIG,
                media::DOCKER_CONFIG
            ));
        }
        match self.layers.iter().position(|l| !media::is_layer(&l.media_type)) {
            None => Ok(()),
            Some(n) => Err(format!(
                "layers[{n}].mediaType: '{}' is not a layer that can be unpacked; {} or its +gzip and +zstd",
                self.layers[n].media_type,
                media::OCI_LAYER_TAR
            )),
        }
    }
}

pub fn parse_config(bytes: &[u8]) -> Result<ImageConfig, String> {
    read(bytes)
}

/// With the path to the field that is wrong.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value =
        serde_path_to_error::deserialize(&mut json).map_err(|e| match e.path().to_string().as_str() {
            "." => e.inner().to_string(),
            path => format!("{path}: {}", e.inner()),
        })?;
    json.end().map_err(|e| e.to_string())?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":7}}"#, Digest::of(b"x"))
    }

    #[test]
    fn a_mistake_is_named_with_its_path() {
        let good = descriptor(media::OCI_LAYER_GZIP);
        let config = descriptor(media::OCI_CONFIG);
        let bad = good.replace("sha256:", "sha512:");
        for (text, why) in [
            (
                format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{good},{bad}]}}"#),
                "layers[1].digest: ",
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{good}],"manifests":[]}}"#),
                "neither",
            ),
            (format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#), "schemaVersion: 1"),
            (
                format!(r#"{{"schemaVersion":2,"mediaType":"x/y","config":{config},"layers":[]}}"#),
                "mediaType: 'x/y'",
            ),
            (
                format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[]}}"#, Digest::of(b"")),
                "config",
            ),
            (r#"{"schemaVersion":2,"manifests":[]} x"#.to_string(), "trailing"),
            ("[]".to_string(), "invalid"),
            (String::new(), "EOF"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many =
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, vec![good; 128].join(","));
        assert!(parse(many.as_bytes()).unwrap_err().contains("more than 127"));
    }

    #[test]
    fn only_images_are_images() {
        let of = |config: &str, layer: &str| {
            let text = format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                descriptor(config),
                descriptor(layer)
            );
            match parse(text.as_bytes()).unwrap() {
                Document::Manifest(m) => m.check_image(),
                Document::Index(_) => unreachable!("it has layers"),
            }
        };
        of(media::OCI_CONFIG, media::OCI_LAYER_ZSTD).unwrap();
        of(media::DOCKER_CONFIG, media::DOCKER_LAYER_GZIP).unwrap();
        assert!(
            of("application/vnd.cncf.helm.config.v1+json", media::OCI_LAYER_GZIP)
                .unwrap_err()
                .contains("config.mediaType")
        );
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert!(of(media::OCI_CONFIG, foreign).unwrap_err().contains("layers[0].mediaType"));
    }

    #[test]
    fn what_go_leaves_null_is_empty() {
        let text = r#"{"architecture":"arm","variant":"v7","os":"linux","created":null,"history":null,
            "config":{"User":"","Env":null,"Cmd":["sh"],"Entrypoint":null,"Volumes":null,"Labels":null,"OnBuild":null},
            "rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = parse_config(text.as_bytes()).unwrap();
        assert_eq!(config.platform.to_string(), "linux/arm/v7");
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(parse_config(br#"{"architecture":"arm","os":"linux","config":null,"rootfs":{}}"#).is_ok());
        assert!(parse_config(br#"{"os":"linux","rootfs":{}}"#).unwrap_err().contains("architecture"));
    }
}
