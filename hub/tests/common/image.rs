//! Container images made piece by piece, as a directory or as a tar.

use std::path::Path;

use contract::Digest;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// The files of an OCI layout.
#[derive(Clone, Default)]
pub struct Layout {
    pub files: Vec<(String, Vec<u8>)>,
    pub top: Vec<String>,
}

pub fn describe(kind: &str, bytes: &[u8], more: &str) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}{more}}}"#, Digest::of(bytes), bytes.len())
}

pub fn platform(text: &str) -> String {
    let parts: Vec<&str> = text.split('/').collect();
    let variant = parts.get(2).map_or(String::new(), |v| format!(r#","variant":"{v}""#));
    format!(r#""os":"{}","architecture":"{}"{variant}"#, parts[0], parts[1])
}

pub fn index(entries: &[String]) -> Vec<u8> {
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

/// A tar with one file.
pub fn layer(name: &str, text: &str) -> Vec<u8> {
    tar(&[(name.to_string(), text.as_bytes().to_vec())])
}

pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

impl Layout {
    pub fn put(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        let name = format!("blobs/sha256/{}", digest.hex());
        if !self.files.iter().any(|(have, _)| *have == name) {
            self.files.push((name, bytes));
        }
        digest
    }

    /// A manifest for one platform; returns its descriptor for an index.
    pub fn image(&mut self, of: &str, layers: &[Vec<u8>], defaults: &str) -> String {
        let ids: Vec<String> = layers.iter().map(|l| format!("\"{}\"", Digest::of(l))).collect();
        let config = format!(
            r#"{{{},"config":{defaults},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            platform(of),
            ids.join(",")
        );
        let list: Vec<String> = layers.iter().map(|l| describe(LAYER, l, "")).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
            describe(CONFIG, config.as_bytes(), ""),
            list.join(",")
        );
        self.put(config.into_bytes());
        for layer in layers {
            self.put(layer.clone());
        }
        let entry = describe(MANIFEST, manifest.as_bytes(), &format!(r#","platform":{{{}}}"#, platform(of)));
        self.put(manifest.into_bytes());
        entry
    }

    /// Names what is pushed.
    pub fn named(&mut self, entry: &str, name: &str) {
        let open = entry.strip_suffix('}').unwrap();
        let key = "org.opencontainers.image.ref.name";
        self.top.push(format!(r#"{open},"annotations":{{"{key}":"{name}"}}}}"#));
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        let first = [
            ("oci-layout".to_string(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_string(), index(&self.top)),
        ];
        first.into_iter().chain(self.files.clone()).collect()
    }

    pub fn tar(&self) -> Vec<u8> {
        tar(&self.all())
    }

    pub fn write(&self, dir: &Path) {
        std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        self.all().iter().for_each(|(name, bytes)| std::fs::write(dir.join(name), bytes).unwrap());
    }
}

/// One image of each of these platforms behind an index, over a layer that all share. Returns the
/// index's digest.
pub fn images(of: &[&str]) -> (Layout, Digest) {
    let mut layout = Layout::default();
    let entries: Vec<String> = of
        .iter()
        .map(|of| {
            let layers = [layer("etc/os", "shared"), layer("bin/app", of)];
            layout.image(of, &layers, r#"{"StopSignal":"SIGQUIT","Cmd":["app"]}"#)
        })
        .collect();
    let index = index(&entries);
    layout.named(&describe(INDEX, &index, ""), "web");
    let digest = layout.put(index);
    (layout, digest)
}

/// What `docker save` wrote before Docker 25.
pub fn docker_save(of: &str) -> Vec<u8> {
    let layer = layer("bin/app", of);
    let config = format!(
        r#"{{{},"config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        platform(of),
        Digest::of(&layer)
    );
    let list = r#"[{"Config":"c.json","RepoTags":["web:1"],"Layers":["l/layer.tar"]}]"#;
    tar(&[
        ("c.json".to_string(), config.into_bytes()),
        ("l/layer.tar".to_string(), layer),
        ("manifest.json".to_string(), list.as_bytes().to_vec()),
    ])
}
