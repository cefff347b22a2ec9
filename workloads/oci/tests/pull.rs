//! Whether an image comes whole from a real registry: Debian's docker-registry on loopback.

mod fixtures;
#[path = "fixtures/registry.rs"]
mod registry;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use fixtures::{LayerTar, Layout, Packing, layout};
use registry::{Registry, With, breaking};
use skerry_oci::image::{Image, Platform};
use skerry_oci::layer::{Layers, Limits};
use skerry_oci::pull::{Options, PullError, Registries};
use skerry_oci::store::Store;
use skerry_oci::{Digest, ImageRef};
use tempfile::TempDir;

/// Nothing that could be packed smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

fn made(dir: &Path) -> Layout {
    let layers =
        [LayerTar::new().file("big", &noise(3 << 20)).finish(), LayerTar::new().file("x", b"x").finish()];
    layout(dir, &layers, Packing::Gzip)
}

fn world(with: &With) -> (TempDir, Layout, Registry, Store) {
    let tmp = tempfile::tempdir().unwrap();
    let layout = made(&tmp.path().join("layout"));
    let (registry, store) = (Registry::start(with), Store::open(tmp.path().join("store")).unwrap());
    (tmp, layout, registry, store)
}

fn plain(host: &str) -> Options {
    Options { plain_http: vec![host.into()], ..Options::default() }
}

/// All that a hub asks for, one after the other.
fn fetch(options: Options, image: &str, store: &Store) -> Result<Digest, PullError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let image: ImageRef = image.parse().unwrap();
    let registries = Registries::new(options).unwrap();
    runtime.block_on(async {
        let there = registries.open(&image)?;
        let root = there.resolve().await?;
        for manifest in there.documents(&root, store, &[Platform::native()]).await? {
            for layer in Image::read(store, &manifest).unwrap().layers {
                there.blob(&layer.blob, layer.size_bytes, store, &|_| {}).await?;
            }
        }
        Ok(root)
    })
}

fn unpacks(tmp: &TempDir, store: &Store, digest: &Digest) {
    let image = Image::load(store, digest, &Platform::native()).unwrap();
    let layers = Layers::open(tmp.path().join("layers")).unwrap();
    let rootfs = layers.unpack(store, &image, &Limits::DEFAULT).unwrap();
    assert_eq!(fs::metadata(rootfs.layers[0].join("big")).unwrap().len(), 3 << 20);
}

#[test]
fn by_tag_and_by_digest() {
    let (tmp, layout, registry, store) = world(&With::default());
    registry.push(&layout.path, "plant/press:1", &[]);
    let digest = fetch(plain(&registry.host), &format!("{}/plant/press:1", registry.host), &store).unwrap();
    assert_eq!(digest, layout.manifest);
    unpacks(&tmp, &store, &digest);
    let pinned = format!("{}/plant/press@{digest}", registry.host);
    let asked = registry.asked("http.response.status");
    assert_eq!(fetch(plain(&registry.host), &pinned, &store).unwrap(), digest);
    assert_eq!(registry.asked("http.response.status"), asked, "all of it is there already");

    let error =
        fetch(plain(&registry.host), &format!("{}/plant/press:2", registry.host), &store).unwrap_err();
    assert!(
        matches!(&error, PullError::Refused { .. }) && error.to_string().contains("plant/press:2"),
        "{error}"
    );
    let error = fetch(plain(&registry.host), "press:1", &store).unwrap_err().to_string();
    assert!(error.contains("write docker.io/library/press:1"), "{error}");
}

#[test]
fn without_tls_only_when_told() {
    let (_tmp, layout, registry, store) = world(&With::default());
    registry.push(&layout.path, "a:1", &[]);
    let error = fetch(Options::default(), &format!("{}/a:1", registry.host), &store).unwrap_err();
    assert!(matches!(error, PullError::Fault { .. }), "{error}");
    assert_eq!(store.closure([&layout.manifest]).unwrap().present.len(), 0);
}

#[test]
fn with_tls_whom_we_trust() {
    let (tmp, layout, registry, store) = world(&With { tls: true, password: false });
    registry.push(&layout.path, "a:1", &[]);
    let name = format!("{}/a:1", registry.host);
    let error = fetch(Options::default(), &name, &store).unwrap_err();
    assert!(matches!(error, PullError::Fault { .. }) && error.to_string().contains("certificate"), "{error}");
    let roots = vec![fs::read(registry.tmp.path().join("ca.pem")).unwrap()];
    let digest = fetch(Options { roots, ..Options::default() }, &name, &store).unwrap();
    unpacks(&tmp, &store, &digest);
}

#[test]
fn with_the_login_of_docker() {
    let (tmp, layout, registry, store) = world(&With { password: true, tls: false });
    registry.push(&layout.path, "a:1", &["--dest-creds", "press:secret"]);
    let name = format!("{}/a:1", registry.host);
    let config = |auth: &str| {
        let path = tmp.path().join("config.json");
        fs::write(&path, format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host)).unwrap();
        Options { docker_config: Some(path), ..plain(&registry.host) }
    };
    for options in [plain(&registry.host), config("cHJlc3M6d3Jvbmc=")] {
        let error = fetch(options, &name, &store).unwrap_err();
        assert!(matches!(error, PullError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains("wrong"), "a password in an error: {error}");
    }
    let digest = fetch(config("cHJlc3M6c2VjcmV0"), &name, &store).unwrap();
    unpacks(&tmp, &store, &digest);
}

/// Three megabytes over connections that break after half a megabyte each.
#[test]
fn what_is_cut_off_goes_on_where_it_ended() {
    let (tmp, layout, registry, store) = world(&With::default());
    registry.push(&layout.path, "a:1", &[]);
    let line = breaking(&registry.host, 500_000);
    let digest = fetch(plain(&line.host), &format!("{}/a:1", line.host), &store).unwrap();
    unpacks(&tmp, &store, &digest);
    let (bytes, connections) = (line.bytes.load(Ordering::Relaxed), line.connections.load(Ordering::Relaxed));
    assert!(connections >= 6, "{connections} connections");
    assert!(bytes < (3 << 20) + 600_000, "{bytes} bytes for three megabytes");
}

/// A line that never brings anything is given up, and what came before is kept for the next try.
#[test]
fn a_dead_line_is_given_up_and_what_came_is_kept() {
    let (tmp, layout, registry, store) = world(&With::default());
    registry.push(&layout.path, "a:1", &[]);
    let image = made(&tmp.path().join("again"));
    let manifest: serde_json::Value = serde_json::from_slice(
        &fs::read(image.path.join("blobs/sha256").join(image.manifest.hex())).unwrap(),
    )
    .unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let blob = fs::read(image.path.join("blobs/sha256").join(layer.hex())).unwrap();
    store.ingest(&layer, blob.len() as u64).unwrap().write(&blob[..2 << 20]).unwrap();
    let line = breaking(&registry.host, 0);
    let error =
        fetch(plain(&line.host), &format!("{}/a@{}", line.host, layout.manifest), &store).unwrap_err();
    assert!(matches!(error, PullError::Fault { .. }), "{error}");
    let line = breaking(&registry.host, u64::MAX);
    fetch(plain(&line.host), &format!("{}/a@{}", line.host, layout.manifest), &store).unwrap();
    assert!(line.bytes.load(Ordering::Relaxed) < 1_500_000, "only the rest is asked for");
}
