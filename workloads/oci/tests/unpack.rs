//! Whether our directories are the file system that the image means: each case is unpacked by us, mounted
//! as an overlay, and compared entry by entry with what `umoci unpack` makes of the same image.

mod fixtures;
#[path = "fixtures/walk.rs"]
mod walk;

use std::path::{Path, PathBuf};

use fixtures::{Attributes, LayerTar, Packing, layout, run, tool};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use skerry_oci::archive::Archive;
use skerry_oci::image::{Image, Platform};
use skerry_oci::layer::{Devices, Layers, Limits, Rootfs};
use skerry_oci::store::Store;
use tempfile::TempDir;

struct Case {
    tmp: TempDir,
    image: Image,
    store: Store,
    layers: Layers,
}

impl Case {
    fn new(layers: Vec<LayerTar>, packing: Packing) -> Case {
        let tmp = tempfile::tempdir().unwrap();
        let layers: Vec<_> = layers.into_iter().map(LayerTar::finish).collect();
        let made = layout(&tmp.path().join("layout"), &layers, packing);
        let store = Store::open(tmp.path().join("store")).unwrap();
        let archive = Archive::open(&made.path).unwrap();
        archive.import(&archive.choose(Some("latest")).unwrap().digest, &store, 1 << 30).unwrap();
        let image = Image::load(&store, &made.manifest, &Platform::native()).unwrap();
        let layers = Layers::open(tmp.path().join("layers")).unwrap();
        Case { tmp, image, store, layers }
    }

    fn unpack(&self) -> Rootfs {
        let limits = Limits { devices: Devices::Make, ..Limits::DEFAULT };
        self.layers.unpack(&self.store, &self.image, &limits).unwrap()
    }

    fn refusal(&self, limits: Limits) -> String {
        let error = self.layers.unpack(&self.store, &self.image, &limits).unwrap_err().to_string();
        assert_eq!(
            std::fs::read_dir(self.tmp.path().join("layers/work")).unwrap().count(),
            0,
            "left something"
        );
        error
    }

    fn umoci(&self) -> PathBuf {
        let bundle = self.tmp.path().join("bundle");
        let image = format!("{}:latest", self.tmp.path().join("layout").display());
        run(tool("umoci").args(["unpack", "--image", &image]).arg(&bundle));
        bundle.join("rootfs")
    }
}

struct Overlay(PathBuf);

impl Overlay {
    fn new(tmp: &Path, rootfs: &Rootfs) -> Overlay {
        let (at, empty) = (tmp.join("merged"), tmp.join("empty"));
        [&at, &empty].into_iter().for_each(|d| std::fs::create_dir_all(d).unwrap());
        let lowers = rootfs.layers.iter().rev().chain([&empty]).map(|p| p.display().to_string());
        let options = format!("lowerdir={}", lowers.collect::<Vec<_>>().join(":"));
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", &at, "overlay", MountFlags::RDONLY, options.as_c_str()).unwrap();
        Overlay(at)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// Compares, and gives what differs besides the times of directories that no layer has an entry for.
fn compare(case: &Case, implied: &[&str]) -> Rootfs {
    let rootfs = case.unpack();
    let merged = Overlay::new(case.tmp.path(), &rootfs);
    let (mut ours, mut theirs) = (walk::walk(&merged.0), walk::walk(&case.umoci()));
    for seen in [&mut ours, &mut theirs] {
        // umoci leaves the present time on what it had to make up; ours is the same on every board.
        for path in implied.iter().chain(&[""]) {
            seen.get_mut(Path::new(path)).unwrap_or_else(|| panic!("no {path}")).mtime = (0, 0);
        }
    }
    let said = walk::differences(&ours, &theirs);
    assert!(said.is_empty(), "{}", said.join("\n"));
    assert!(theirs.len() > 1, "an empty image proves nothing");
    rootfs
}

fn same(layers: Vec<LayerTar>, implied: &[&str]) -> Rootfs {
    let case = Case::new(layers, Packing::Gzip);
    compare(&case, implied)
}

fn base() -> LayerTar {
    LayerTar::new()
        .dir("etc")
        .file("etc/hosts", b"localhost")
        .file("etc/passwd", b"root")
        .dir("var")
        .dir_with("var/data", Attributes::mode(0o1777).owner(7, 8))
        .file("var/data/one", b"1")
        .file("var/data/two", b"2")
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/libc.so", b"elf")
        .symlink("lib", "usr/lib")
}

#[test]
fn whiteouts() {
    let upper =
        LayerTar::new().dir("etc").whiteout("etc/hosts").dir("var").whiteout("var/data").whiteout("lib");
    let rootfs = same(vec![base(), upper], &[]);
    assert!(rootfs.layers[0].parent().unwrap().ends_with("diff"), "it stands alone");
    assert!(rootfs.layers[1].parent().unwrap().ends_with("chain"), "what it deletes is below");
}

#[test]
fn a_whiteout_beside_what_comes_again() {
    let upper = LayerTar::new()
        .dir("etc")
        .whiteout("etc/hosts")
        .file("etc/hosts", b"new")
        .file("etc/passwd", b"newer")
        .whiteout("etc/passwd")
        .dir("var")
        .whiteout("var/data")
        .dir("var/data")
        .file("var/data/three", b"3");
    same(vec![base(), upper], &[]);
}

#[test]
fn a_whiteout_of_nothing_is_not_seen() {
    let upper = LayerTar::new().dir("new").file("new/x", b"").whiteout("new/ghost").whiteout("etc/ghost");
    same(vec![base(), upper], &["etc"]);
}

#[test]
fn opaque_directories() {
    let upper = LayerTar::new().dir("var").dir("var/data").opaque("var/data").file("var/data/three", b"3");
    let top = LayerTar::new()
        .dir("etc")
        .file("etc/new", b"n")
        .opaque("etc")
        .dir("var")
        .dir("var/data")
        .file("var/data/four", b"4");
    same(vec![base(), upper, top], &[]);
}

#[test]
fn hard_links_within_a_layer() {
    let layer = base()
        .hard_link("etc/hosts2", "etc/hosts")
        .hard_link("hosts3", "/etc/hosts2")
        .hard_link("l2", "lib/libc.so");
    same(vec![layer], &[]);
}

#[test]
fn hard_links_across_layers() {
    let upper =
        LayerTar::new().dir("etc").hard_link("etc/hosts2", "etc/hosts").hard_link("data", "var/data/one");
    let rootfs = same(vec![base(), upper], &["var", "var/data"]);
    assert!(rootfs.layers[1].parent().unwrap().ends_with("chain"));
}

#[test]
fn symlinks_that_try_to_leave() {
    let layer = LayerTar::new()
        .dir("a")
        .symlink("a/up", "../../../../../..")
        .file("a/up/one", b"in the root")
        .symlink("a/proc", "/proc/self/root")
        .symlink("a/tmp", "/tmp")
        .file("a/tmp/two", b"in the layer's own tmp")
        .file("../../three", b"in the root");
    same(vec![layer], &["tmp"]);
    assert!(!Path::new("/tmp/two").exists() && !Path::new("/one").exists() && !Path::new("/three").exists());
}

#[test]
fn absolute_links_into_lower_layers() {
    let lower = LayerTar::new()
        .dir("real")
        .dir("real/deep")
        .file("real/deep/x", b"x")
        .symlink("abs", "/real")
        .symlink("rel", "abs/deep");
    let upper = LayerTar::new().file("abs/y", b"y").file("rel/z", b"z").hard_link("rel/x2", "abs/deep/x");
    same(vec![base(), lower, upper], &["real", "real/deep"]);
}

#[test]
fn directories_and_files_take_each_others_place() {
    let upper = LayerTar::new()
        .file("var", b"a file now")
        .dir("etc")
        .dir("etc/hosts")
        .file("etc/hosts/inside", b"i")
        .dir("lib")
        .file("lib/own", b"no link any more")
        .symlink("usr", "/etc");
    let top = LayerTar::new().dir("var").file("var/x", b"a directory again").file("usr/through", b"t");
    same(vec![base(), upper, top], &["etc"]);
}

#[test]
fn device_nodes() {
    let layer = LayerTar::new()
        .dir("dev")
        .node(b'3', "dev/null", (1, 3))
        .node(b'4', "dev/loop0", (7, 0))
        .node(b'6', "dev/fifo", (0, 0));
    let case = Case::new(vec![layer], Packing::Plain);
    compare(&case, &[]);
}

#[test]
fn device_nodes_are_left_out_by_default_and_said() {
    let layer = LayerTar::new().dir("dev").node(b'3', "dev/null", (1, 3)).file("x", b"");
    let case = Case::new(vec![layer], Packing::Gzip);
    let rootfs = case.layers.unpack(&case.store, &case.image, &Limits::DEFAULT).unwrap();
    assert!(!rootfs.layers[0].join("dev/null").exists());
    assert!(rootfs.notes[0].contains("/dev/null: device node left out"), "{:?}", rootfs.notes);
}

#[test]
fn a_forged_whiteout_is_left_out() {
    let upper = LayerTar::new().dir("etc").node(b'3', "etc/hosts", (0, 0));
    let case = Case::new(vec![base(), upper], Packing::Gzip);
    let rootfs = case.unpack();
    assert!(rootfs.notes[0].contains("0:0"), "{:?}", rootfs.notes);
    assert!(Overlay::new(case.tmp.path(), &rootfs).0.join("etc/hosts").exists());
}

#[test]
fn setuid_setgid_sticky_and_owners() {
    let layer = base()
        .file_with("usr/su", b"su", Attributes::mode(0o4755))
        .file_with("usr/wall", b"wall", Attributes::mode(0o2755).owner(0, 5))
        .dir_with("tmp", Attributes::mode(0o1777))
        .file_with("secret", b"s", Attributes::mode(0o400).owner(1000, 2_000_000))
        .file_with("far", b"", Attributes::mode(0o000).pax("uid", b"3000000000").pax("gid", b"4000000000"));
    same(vec![layer], &[]);
}

#[test]
fn extended_attributes() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = base()
        .file_with(
            "usr/ping",
            b"ping",
            Attributes::mode(0o755).owner(0, 3).xattr("security.capability", &capability),
        )
        .file_with(
            "noted",
            b"n",
            Attributes::mode(0o644).xattr("user.note", b"a\0b\xff").xattr("trusted.x", b"t"),
        )
        .dir_with("dir", Attributes::mode(0o755).xattr("user.dir", b"d"));
    let upper = LayerTar::new().file("dir/x", b"").hard_link("ping2", "usr/ping");
    same(vec![layer, upper], &["dir", "usr"]);
}

#[test]
fn attributes_of_overlayfs_are_never_the_layers() {
    let forged = Attributes::mode(0o755)
        .xattr("trusted.overlay.opaque", b"y")
        .xattr("trusted.overlay.redirect", b"/etc");
    let case = Case::new(vec![base(), LayerTar::new().dir_with("var", forged)], Packing::Gzip);
    let rootfs = case.unpack();
    assert_eq!(rootfs.notes.len(), 2, "{:?}", rootfs.notes);
    assert!(Overlay::new(case.tmp.path(), &rootfs).0.join("var/data/one").exists());
}

/// One piece at the front, one far behind, in each of the formats that GNU tar writes.
#[test]
fn sparse_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(dir.path().join("holes")).unwrap();
    use std::os::unix::fs::FileExt;
    for n in 0..40 {
        file.write_at(format!("piece {n}").as_bytes(), n * (1 << 20)).unwrap();
    }
    file.set_len(100 << 20).unwrap();
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    for format in formats {
        let mut tar = tool("tar");
        tar.arg("-C").arg(dir.path()).args(["--sparse", "-cf", "-"]).args(format).arg("holes");
        let output = tar.output().unwrap().stdout;
        assert!(output.len() < 1 << 20, "tar wrote the holes");
        let case = Case::new(vec![LayerTar::new().raw(&output[..output.len() - 1024])], Packing::Gzip);
        // umoci 0.4 refuses GNU's own format, so that one is compared with the file alone.
        let rootfs = if format[0] == "--format=gnu" { case.unpack() } else { compare(&case, &[]) };
        let (got, want) = (rootfs.layers[0].join("holes"), dir.path().join("holes"));
        assert_eq!(std::fs::read(got).unwrap(), std::fs::read(want).unwrap(), "{format:?}");
        let data = std::fs::metadata(rootfs.layers[0].join("holes")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!(data.len(), 100 << 20);
        assert!(data.blocks() * 512 < 1 << 20, "{format:?}: the holes were filled: {} blocks", data.blocks());
    }
}

#[test]
fn long_names() {
    let (name, dir) = ("n".repeat(255), "d".repeat(120));
    let deep = format!("{dir}/{dir}/{name}");
    let layer = LayerTar::new()
        .dir(&dir)
        .dir(&format!("{dir}/{dir}"))
        .file(&deep, b"pax")
        .symlink("link", &deep)
        .hard_link("hard", &deep)
        .file("späße\u{1F600}", b"utf-8");
    same(vec![layer], &[]);

    // GNU's own way: the long name as an entry of its own.
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in
        [(dir.clone(), tar::EntryType::Directory), (format!("{dir}/{name}"), tar::EntryType::Regular)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o755);
        header.set_mtime(9);
        builder.append_data(&mut header, name, std::io::empty()).unwrap();
    }
    let gnu = builder.into_inner().unwrap();
    same(vec![LayerTar::new().raw(&gnu[..gnu.len() - 1024])], &[]);
}

#[test]
fn times() {
    let layer = LayerTar::new()
        .dir_with("d", Attributes::mode(0o755).mtime(1))
        .file_with("d/nanos", b"", Attributes::mode(0o644).pax("mtime", b"1700000000.123456789"))
        .file_with("d/future", b"", Attributes::mode(0o644).pax("mtime", b"4102444800"))
        .file_with("d/before", b"", Attributes::mode(0o644).pax("mtime", b"-5.5"))
        .symlink("d/link", "nanos");
    let upper = LayerTar::new().dir_with("d/e", Attributes::mode(0o755).mtime(5)).file("d/e/x", b"");
    same(vec![layer, upper], &[]);
}

#[test]
fn a_hundred_thousand_entries() {
    let mut layer = LayerTar::new();
    for d in 0..100 {
        layer = layer.dir(&format!("d{d}"));
        for f in 0..1000 {
            layer = layer.file(&format!("d{d}/f{f}"), if f % 10 == 0 { b"x" } else { b"" });
        }
    }
    let case = Case::new(vec![layer], Packing::Zstd);
    let start = std::time::Instant::now();
    case.unpack();
    println!("100,100 entries unpacked in {} ms", start.elapsed().as_millis());
    let ours = walk::walk(&case.layers.find(&case.image).unwrap().layers[0]);
    assert_eq!(ours.len(), 100_101);
    // umoci 0.4 knows no zstd.
    let plain = Case::new(vec![LayerTar::new().raw(&unzstd(&case))], Packing::Plain);
    let start = std::time::Instant::now();
    let mut theirs = walk::walk(&plain.umoci());
    println!("umoci: {} ms with the walk", start.elapsed().as_millis());
    theirs.get_mut(Path::new("")).unwrap().mtime = ours[Path::new("")].mtime;
    assert!(walk::differences(&ours, &theirs).is_empty());
}

fn unzstd(case: &Case) -> Vec<u8> {
    let tar = zstd::decode_all(case.store.open_blob(&case.image.layers[0].blob).unwrap()).unwrap();
    tar[..tar.len() - 1024].to_vec()
}

#[test]
fn many_layers_and_what_is_shared() {
    let layers = |last: &str| {
        let mut layers = vec![base()];
        layers.extend((0..40).map(|n| LayerTar::new().dir("etc").file(&format!("etc/{n}"), b"n")));
        layers.push(LayerTar::new().dir("etc").file(last, b"l"));
        layers
    };
    let case = Case::new(layers("a"), Packing::Gzip);
    let first = compare(&case, &[]);
    assert_eq!(first.layers.len(), 42);
    let other = Case::new(layers("b"), Packing::Gzip);
    let second = case.layers.unpack(&other.store, &other.image, &Limits::DEFAULT).unwrap();
    assert_eq!(first.layers[..41], second.layers[..41]);
    assert_ne!(first.layers[41], second.layers[41]);
    assert_eq!(case.layers.find(&case.image).unwrap().layers, first.layers);

    assert_eq!(case.layers.sweep([&case.image, &other.image]).unwrap(), 0);
    assert_eq!(case.layers.sweep([&other.image]).unwrap(), 1);
    assert_eq!(case.layers.find(&case.image), None);
    assert!(case.layers.find(&other.image).is_some());
    assert_eq!(case.layers.sweep([]).unwrap(), 42);
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 64 << 20];
    let case = Case::new(vec![LayerTar::new().file("zeros", &zeros)], Packing::Gzip);
    let refused = case.refusal(Limits { bytes_max: 1 << 20, ..Limits::DEFAULT });
    assert!(refused.contains("more bytes than this image may take"), "{refused}");

    let many = (0..50).fold(LayerTar::new(), |tar, n| tar.file(&format!("f{n}"), b""));
    let refused = Case::new(vec![many], Packing::Gzip).refusal(Limits { entries_max: 49, ..Limits::DEFAULT });
    assert!(refused.contains("more than 49 entries"), "{refused}");
    // Directories that are only implied are entries too.
    let deep = Case::new(
        vec![LayerTar::new().file(&"d/".repeat(90), b"").file(&("e/".repeat(40) + "x"), b"")],
        Packing::Gzip,
    );
    let refused = deep.refusal(Limits { entries_max: 49, ..Limits::DEFAULT });
    assert!(refused.contains("more than 49 entries"), "{refused}");

    let long =
        LayerTar::new().file_with("x", b"", Attributes::mode(0o644).pax("comment", &vec![b'x'; 2 << 20]));
    assert!(Case::new(vec![long], Packing::Gzip).refusal(Limits::DEFAULT).contains("pax records of"));
    let sparse = LayerTar::new().file_with(
        "x",
        b"",
        Attributes::mode(0o644)
            .pax("GNU.sparse.major", b"1")
            .pax("GNU.sparse.minor", b"0")
            .pax("GNU.sparse.realsize", b"9"),
    );
    assert!(Case::new(vec![sparse], Packing::Gzip).refusal(Limits::DEFAULT).contains("sparse map"));
}

#[test]
fn broken_layers_are_refused_with_their_digest() {
    let good = base().finish();
    let mut wrong = good.clone();
    wrong[0] ^= 1;
    for (tar, why) in [
        (wrong, "checksum"),
        (LayerTar::new().file("a", b"x").file("a/b", b"").finish(), "/a is no directory"),
        (LayerTar::new().hard_link("a", "nowhere").finish(), "not there"),
        (LayerTar::new().dir("d").hard_link("a", "d").finish(), "a directory"),
        (LayerTar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"").finish(), "links without end"),
        (
            LayerTar::new()
                .file("./", b"")
                .entry(b'2', "/", "x", Attributes::mode(0o777), b"", (0, 0))
                .finish(),
            "the root",
        ),
        (LayerTar::new().file(".wh...", b"").finish(), "names nothing"),
        (LayerTar::new().entry(b'V', "x", "", Attributes::mode(0), b"", (0, 0)).finish(), "type 'V'"),
    ] {
        let case = Case::new(vec![LayerTar::new().raw(&tar[..tar.len() - 1024])], Packing::Gzip);
        let refused = case.refusal(Limits::DEFAULT);
        assert!(
            refused.contains(why) && refused.contains(&case.image.layers[0].blob.to_string()),
            "{why}: {refused}"
        );
    }
}

#[test]
fn a_layer_that_is_not_what_its_configuration_says_is_refused() {
    let mut case = Case::new(vec![base()], Packing::Gzip);
    case.image.layers[0].diff_id = skerry_oci::Digest::of(b"other");
    assert!(case.refusal(Limits::DEFAULT).contains("rootfs.diff_ids names"));
    assert!(case.layers.find(&case.image).is_none());
}

/// Killed at any moment, the next try finds nothing half done.
#[test]
fn a_kill_leaves_nothing_that_is_taken_for_whole() {
    let mut layer = base();
    for f in 0..20_000 {
        layer = layer.file(&format!("var/f{f}"), b"x");
    }
    let case = Case::new(vec![layer, LayerTar::new().dir("etc").whiteout("etc/hosts")], Packing::Gzip);
    let digest = case.image.digest.to_string();
    let (store, layers) = (case.tmp.path().join("store"), case.tmp.path().join("layers"));
    let mut cut_off = 0;
    for round in 0..12 {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_oci-image"));
        let child =
            child.arg("unpack").args([&store, &layers]).arg(&digest).stdout(std::process::Stdio::null());
        let mut child = child.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5 + round * 15));
        child.kill().unwrap();
        child.wait().unwrap();
        cut_off += usize::from(std::fs::read_dir(layers.join("work")).unwrap().count() > 0);
        if let Some(rootfs) = case.layers.find(&case.image) {
            assert_eq!(walk::walk(&rootfs.layers[0]).len(), 20_012);
        }
    }
    assert!(cut_off > 0, "no kill came in time to cut anything off");
    let rootfs = case.unpack();
    assert_eq!(walk::walk(&rootfs.layers[0]).len(), 20_012);
    assert_eq!(std::fs::read_dir(layers.join("work")).unwrap().count(), 0);
}
