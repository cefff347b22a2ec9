//! `docker save` before Docker 25: a list of configurations and layers, made into manifests.

use std::collections::BTreeMap;
use std::io::{self, Read};

use contract::Digest;
use serde::{Deserialize, Serialize};

use super::{Archive, ArchiveError, Named};
use crate::image::{Descriptor, document, media};
use crate::layer::decompress::{Hashed, is_packed};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

pub fn read(archive: &mut Archive, list: &[u8]) -> Result<(), ArchiveError> {
    let wrong = |archive: &Archive, why: String| archive.refused(format!("manifest.json: {why}"));
    let saved: Vec<Saved> = document::read(list).map_err(|why| wrong(archive, why))?;
    for (n, image) in saved.into_iter().enumerate() {
        let names = image.repo_tags.clone().unwrap_or_default();
        let digest = manifest(archive, &image).map_err(|e| match e {
            ArchiveError::Refused { why, .. } => wrong(archive, format!("[{n}]: {why}")),
            other => other,
        })?;
        archive.images.push(Named { names, digest });
    }
    Ok(())
}

fn manifest(archive: &mut Archive, image: &Saved) -> Result<Digest, ArchiveError> {
    let missing = |name: &str| archive.refused(format!("'{name}' is not in it"));
    let bytes = archive.document(&image.config)?.ok_or_else(|| missing(&image.config))?;
    let config =
        document::parse_config(&bytes).map_err(|why| archive.refused(format!("{}: {why}", image.config)))?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != image.layers.len() {
        let (have, want) = (image.layers.len(), diff_ids.len());
        return Err(
            archive.refused(format!("Layers: {have}, but rootfs.diff_ids of {} names {want}", image.config))
        );
    }
    let mut layers = Vec::new();
    let mut places = BTreeMap::new();
    for (name, diff_id) in image.layers.iter().zip(diff_ids) {
        let layer = describe_layer(archive, name, diff_id)?;
        places.insert(layer.digest, name.clone());
        layers.push(layer);
    }
    let config = describe(media::OCI_CONFIG, Digest::of(&bytes), bytes.len() as u64);
    archive.elsewhere.append(&mut places);
    archive.made.insert(config.digest, bytes);
    let made = Made { schema_version: 2, media_type: media::OCI_MANIFEST, config, layers };
    let bytes = serde_json::to_vec(&made).expect("a manifest has string keys only");
    let digest = Digest::of(&bytes);
    archive.made.insert(digest, bytes);
    Ok(digest)
}

/// Plain tars are named in the configuration, and are compared with it when they are copied.
fn describe_layer(archive: &Archive, name: &str, diff_id: &Digest) -> Result<Descriptor, ArchiveError> {
    let missing = || archive.refused(format!("'{name}' is not in it"));
    let open = || archive.files.open_file(name)?.ok_or_else(missing);
    let io = |source| ArchiveError::Io { path: archive.path.join(name), source };
    let (mut file, size) = open()?;
    let mut start = [0; 4];
    let n = file.read(&mut start).map_err(io)?;
    if !is_packed(&start[..n]) {
        return Ok(describe(media::OCI_LAYER_TAR, *diff_id, size));
    }
    let mut hashed = Hashed::new(open()?.0, u64::MAX);
    io::copy(&mut hashed, &mut io::sink()).map_err(io)?;
    let kind = if start[0] == 0x1f { media::OCI_LAYER_GZIP } else { media::OCI_LAYER_ZSTD };
    Ok(describe(kind, hashed.digest(), size))
}

fn describe(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: None }
}
