//! Which content is still needed: everything that a root leads to, and nothing else.
//!
//! The caller names the roots, what it is fetching at the moment included, and begins no fetch while a
//! sweep runs; the store keeps no list of its own that could differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::time::Duration;

use contract::Digest;
use rustix::fs::{FlockOperation, flock};

use super::{Store, StoreError, io_at};
use crate::image::{self, Document, document};

/// What roots lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Closure {
    pub present: BTreeSet<Digest>,
    /// With its size: what a fetch has to bring. Only what is known so far; a manifest that is not here
    /// may lead to more.
    pub missing: BTreeMap<Digest, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    pub blobs: usize,
    pub bytes: u64,
}

impl Store {
    /// Follows indexes and manifests. A root that is neither stands for itself.
    pub fn closure<'a>(&self, roots: impl IntoIterator<Item = &'a Digest>) -> Result<Closure, StoreError> {
        let mut closure = Closure::default();
        let mut open: Vec<(Digest, u64, bool)> = roots.into_iter().map(|d| (*d, 0, true)).collect();
        while let Some((digest, size, may_lead_on)) = open.pop() {
            let Some(found) = self.size(&digest) else {
                closure.missing.insert(digest, size);
                continue;
            };
            if !closure.present.insert(digest) || !may_lead_on || found > document::DOCUMENT_BYTES_MAX {
                continue;
            }
            let Ok(document) = document::parse(&self.read(&digest, document::DOCUMENT_BYTES_MAX)?) else {
                continue;
            };
            // Layers and configurations lead nowhere and are not read.
            let leads_on = matches!(document, Document::Index(_));
            open.extend(image::children(&document).into_iter().map(|(d, size)| (d, size, leads_on)));
        }
        Ok(closure)
    }

    /// Deletes what no root leads to, partial content too unless somebody is writing it.
    pub fn sweep<'a>(&self, roots: impl IntoIterator<Item = &'a Digest>) -> Result<Swept, StoreError> {
        let closure = self.closure(roots)?;
        let mut swept = Swept::default();
        for (digest, bytes) in self.list(&self.blobs())? {
            if !closure.present.contains(&digest) {
                self.remove(&digest)?;
                swept.blobs += 1;
                swept.bytes += bytes;
            }
        }
        for (digest, bytes) in self.list(&self.partials())? {
            let path = self.partials().join(digest.hex());
            let idle =
                File::open(&path).is_ok_and(|f| flock(f, FlockOperation::NonBlockingLockExclusive).is_ok());
            if idle && !closure.missing.contains_key(&digest) {
                fs::remove_file(&path).map_err(io_at(&path))?;
                swept.bytes += bytes;
            }
        }
        Ok(swept)
    }

    /// For a store that only holds what is under way: deletes what nobody has touched for so long, whole or
    /// not, unless somebody is writing it.
    pub fn clear(&self, untouched: Duration) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for dir in [self.blobs(), self.partials()] {
            for (digest, bytes) in self.list(&dir)? {
                let path = dir.join(digest.hex());
                let age =
                    fs::metadata(&path).and_then(|m| m.modified()).map(|at| at.elapsed().unwrap_or_default());
                let idle = || {
                    File::open(&path)
                        .is_ok_and(|f| flock(f, FlockOperation::NonBlockingLockExclusive).is_ok())
                };
                if age.is_ok_and(|age| age >= untouched) && idle() {
                    fs::remove_file(&path).map_err(io_at(&path))?;
                    swept.blobs += 1;
                    swept.bytes += bytes;
                }
            }
        }
        Ok(swept)
    }

    /// Names that no store gave are left alone.
    fn list(&self, dir: &std::path::Path) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_at(dir))? {
            let entry = entry.map_err(io_at(dir))?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy()).parse();
            if let (Ok(digest), Ok(data)) = (digest, entry.metadata()) {
                found.push((digest, data.len()));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::media;

    /// A manifest over `layers`, all in the store.
    fn manifest(store: &Store, layers: &[&str]) -> Digest {
        let describe = |kind: &str, bytes: &str| {
            let digest = store.put(bytes.as_bytes()).unwrap();
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{}}}"#, bytes.len())
        };
        let config = describe(media::OCI_CONFIG, &format!("config of {layers:?}"));
        let layers: Vec<_> = layers.iter().map(|l| describe(media::OCI_LAYER_TAR, l)).collect();
        let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, layers.join(","));
        store.put(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_a_root_leads_to_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(tmp.path()).unwrap();
        let a = manifest(&store, &["base", "a"]);
        let b = manifest(&store, &["base", "b"]);
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{a}","size":1}},
                {{"mediaType":"{}","digest":"{}","size":9}}]}}"#,
            media::OCI_MANIFEST,
            media::OCI_MANIFEST,
            Digest::of(b"elsewhere")
        );
        let index = store.put(text.as_bytes()).unwrap();
        let plain = store.put(b"not a document").unwrap();

        let closure = store.closure([&index]).unwrap();
        assert_eq!(closure.present.len(), 5, "index, manifest, configuration and two layers");
        assert_eq!(closure.missing, BTreeMap::from([(Digest::of(b"elsewhere"), 9)]));

        let swept = store.sweep([&index, &plain]).unwrap();
        assert_eq!(swept.blobs, 3, "b's manifest, configuration and layer");
        assert!(store.size(&b).is_none() && store.size(&Digest::of(b"b")).is_none());
        assert!(store.size(&Digest::of(b"base")).is_some() && store.size(&plain).is_some());
        assert_eq!(store.sweep([&index, &plain]).unwrap(), Swept::default());
        assert!(store.sweep([]).unwrap().blobs > 0);
        assert_eq!(store.list(&store.blobs()).unwrap(), []);
    }

    #[test]
    fn partial_content_goes_unless_it_is_wanted_or_written() {
        let tmp = tempfile::tempdir().unwrap();
        let store = Store::open(tmp.path()).unwrap();
        let (wanted, written, stale) = (Digest::of(b"wanted"), Digest::of(b"written"), Digest::of(b"stale"));
        for digest in [wanted, stale] {
            store.ingest(&digest, 9).unwrap().write(b"x").unwrap();
        }
        let writer = store.ingest(&written, 9).unwrap();
        assert_eq!(store.sweep([&wanted]).unwrap(), Swept { blobs: 0, bytes: 1 });
        let left: BTreeSet<_> = store.list(&store.partials()).unwrap().into_iter().map(|(d, _)| d).collect();
        assert_eq!(left, BTreeSet::from([wanted, written]));
        drop(writer);
    }
}
