//! Whether an image is the same whichever file it comes in: layouts and archives written by skopeo and by
//! us, and those that are broken.

mod fixtures;

use std::fs;
use std::path::{Path, PathBuf};

use fixtures::{LayerTar, Packing, layout, run, tool};
use skerry_oci::Digest;
use skerry_oci::archive::Archive;
use skerry_oci::image::{Image, Platform, resolve};
use skerry_oci::layer::{Layers, Limits};
use skerry_oci::store::Store;

fn layers() -> Vec<Vec<u8>> {
    let first = LayerTar::new().dir("etc").file("etc/hosts", b"localhost").finish();
    vec![first, LayerTar::new().dir("etc").file("etc/passwd", b"root").finish()]
}

/// The same image in every file that skopeo writes.
fn written(tmp: &Path) -> Vec<(&'static str, PathBuf)> {
    let made = layout(&tmp.join("layout"), &layers(), Packing::Gzip);
    let from = format!("oci:{}:latest", made.path.display());
    let copy = |to: String, format: &[&str]| {
        run(tool("skopeo").args(["--insecure-policy", "copy", "-q"]).args(format).arg(&from).arg(to));
    };
    let path = |name: &str| tmp.join(name);
    copy(format!("oci:{}:plant/press:1", path("oci").display()), &[]);
    copy(format!("oci-archive:{}:plant/press:1", path("oci.tar").display()), &[]);
    copy(format!("docker-archive:{}:plant/press:1", path("docker.tar").display()), &[]);
    let packed = path("docker.tar.gz");
    let gzip = tool("gzip").arg("-c").arg(path("docker.tar")).output().unwrap().stdout;
    fs::write(&packed, gzip).unwrap();
    vec![
        ("layout", made.path),
        ("oci", path("oci")),
        ("oci.tar", path("oci.tar")),
        ("docker.tar", path("docker.tar")),
        ("docker.tar.gz", packed),
    ]
}

fn import(path: &Path, name: Option<&str>, store: &Store) -> Image {
    let archive = Archive::open(path).unwrap();
    let digest = archive.choose(name).unwrap().digest;
    archive.import(&digest, store, 1 << 30).unwrap();
    let platform = Platform::native();
    Image::load(store, &resolve(store, &digest, &platform).unwrap(), &platform).unwrap()
}

#[test]
fn every_form_brings_the_same_layers() {
    let tmp = tempfile::tempdir().unwrap();
    let store = Store::open(tmp.path().join("store")).unwrap();
    let mut seen = Vec::new();
    for (form, path) in written(tmp.path()) {
        let image = import(&path, None, &store);
        let unpacked = Layers::open(tmp.path().join("layers"))
            .unwrap()
            .unpack(&store, &image, &Limits::DEFAULT)
            .unwrap();
        assert_eq!(fs::read(unpacked.layers[1].join("etc/passwd")).unwrap(), b"root", "{form}");
        seen.push(unpacked.layers);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "one directory for a layer, however it came");
}

#[test]
fn names_are_those_of_the_archive() {
    let tmp = tempfile::tempdir().unwrap();
    for (form, path) in written(tmp.path()) {
        let archive = Archive::open(&path).unwrap();
        let name = match form {
            "layout" => "latest",
            "docker.tar" | "docker.tar.gz" => "docker.io/plant/press:1",
            _ => "plant/press:1",
        };
        assert_eq!(archive.images()[0].names, [name], "{form}");
        assert!(archive.choose(Some(name)).is_ok());
        let error = archive.choose(Some("other")).unwrap_err().to_string();
        assert!(error.contains("no image is named 'other'") && error.contains(name), "{error}");
    }
}

/// What Docker 25 and later writes: a layout whose index has one platform here and others not, with the
/// old `manifest.json` beside it.
#[test]
fn an_index_of_which_only_one_platform_is_there() {
    let tmp = tempfile::tempdir().unwrap();
    let made = layout(&tmp.path().join("layout"), &layers(), Packing::Plain);
    let platform = Platform::native();
    let size = fs::metadata(made.path.join("blobs/sha256").join(made.manifest.hex())).unwrap().len();
    let entry = |digest: &Digest, arch: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":{size},"platform":{{"architecture":"{arch}","os":"linux"}}}}"#
        )
    };
    let absent = Digest::of(b"absent");
    let index = |entries: &[String]| format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
    let put = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        fs::write(made.path.join("blobs/sha256").join(digest.hex()), text).unwrap();
        let top = index(&[format!(
            r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":{},"annotations":{{"io.containerd.image.name":"docker.io/plant/press:1","org.opencontainers.image.ref.name":"1"}}}}"#,
            text.len()
        )]);
        fs::write(made.path.join("index.json"), top).unwrap();
        fs::write(made.path.join("manifest.json"), "[]").unwrap();
        digest
    };
    let root = put(&index(&[entry(&absent, "mips"), entry(&made.manifest, &platform.architecture)]));
    let store = Store::open(tmp.path().join("store")).unwrap();
    let image = import(&made.path, Some("docker.io/plant/press:1"), &store);
    assert_eq!(image.digest, made.manifest);
    assert!(store.closure([&root]).unwrap().missing.contains_key(&absent));
    let wanted = "linux/s390x".parse().unwrap();
    let error = resolve(&store, &root, &wanted).unwrap_err().to_string();
    assert!(error.contains("no image for linux/s390x; there are linux/mips"), "{error}");
    let error = Image::load(&store, &image.digest, &wanted).unwrap_err().to_string();
    assert!(error.contains("made for") && error.contains("s390x"), "{error}");

    let root = put(&index(&[entry(&absent, "mips")]));
    let archive = Archive::open(&made.path).unwrap();
    let error = archive.import(&root, &store, 1 << 30).unwrap_err().to_string();
    assert!(error.contains("none of the index's images"), "{error}");
}

#[test]
fn what_is_broken_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let store = || Store::open(tempfile::tempdir_in(tmp.path()).unwrap().keep()).unwrap();
    let refusal = |path: &Path| match Archive::open(path) {
        Ok(archive) => match archive.choose(None) {
            Ok(named) => archive.import(&named.digest, &store(), 16 << 10).unwrap_err().to_string(),
            Err(e) => e.to_string(),
        },
        Err(e) => e.to_string(),
    };
    let dir = |name: &str| {
        let made = layout(&tmp.path().join(name), &layers(), Packing::Plain);
        (made.path.clone(), made)
    };
    let case = |path: &Path, why: &str| {
        let error = refusal(path);
        assert!(error.contains(why), "{why}: {error}");
    };
    case(tmp.path(), "neither 'oci-layout'");
    fs::write(tmp.path().join("text"), "no tar at all, but long enough to be read as one".repeat(40))
        .unwrap();
    case(&tmp.path().join("text"), "checksum");
    case(&tmp.path().join("nowhere"), "nowhere");

    let (path, made) = dir("missing");
    fs::remove_file(path.join("blobs/sha256").join(Digest::of(&layers()[1]).hex())).unwrap();
    case(&path, &Digest::of(&layers()[1]).hex());
    fs::remove_file(path.join("blobs/sha256").join(made.manifest.hex())).unwrap();
    case(&path, &made.manifest.hex());

    let (path, _) = dir("altered");
    fs::write(path.join("blobs/sha256").join(Digest::of(&layers()[0]).hex()), layers()[1].clone()).unwrap();
    case(&path, "the bytes that came are");
    let (path, _) = dir("large");
    let big = layout(&path, &[LayerTar::new().file("x", &[7; 20_000]).finish()], Packing::Plain);
    case(&big.path, "larger than it may be");
    fs::write(path.join("index.json"), r#"{"schemaVersion":2,"manifests":[{"digest":"x"}]}"#).unwrap();
    case(&path, "index.json: manifests[0]");

    let saved = tmp.path().join("saved");
    fs::create_dir(&saved).unwrap();
    fs::write(saved.join("manifest.json"), r#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#)
        .unwrap();
    case(&saved, "'../../etc/passwd' is not in it");
    fs::write(saved.join("manifest.json"), r#"[{"Config":"c.json","Layers":["l.tar"]}]"#).unwrap();
    fs::write(saved.join("c.json"), r#"{"os":"linux","architecture":"arm","rootfs":{"diff_ids":[]}}"#)
        .unwrap();
    case(&saved, "[0]: Layers: 1, but rootfs.diff_ids of c.json names 0");
    fs::write(saved.join("manifest.json"), "[]").unwrap();
    case(&saved, "holds no image");
}
