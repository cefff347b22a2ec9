//! Whether a tree comes out as it went in, and whether no tar, however made, writes anywhere else.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use skerry_oci::copy::{Copied, CopyError, Links, open_dir, pack, unpack};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

fn packed(path: &Path) -> (Vec<u8>, Copied) {
    let mut bytes = Vec::new();
    let copied = pack(path, "tree", &mut bytes, &mut |_, _| {}).unwrap();
    (bytes, copied)
}

fn unpacked(tar: &[u8], into: &Path, name: &str, links: Links) -> Result<Copied, CopyError> {
    unpack(tar, open_dir(into).unwrap(), Some(name), links, u64::MAX, &mut |_, _| {})
}

/// Name, kind and mode, time and content of all below.
fn listing(root: &Path) -> Vec<(String, u32, i64, Vec<u8>)> {
    fn add(path: &Path, name: String, all: &mut Vec<(String, u32, i64, Vec<u8>)>) {
        let data = fs::symlink_metadata(path).unwrap();
        let content = match data.file_type() {
            t if t.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
            t if t.is_file() => fs::read(path).unwrap(),
            _ => Vec::new(),
        };
        all.push((name.clone(), data.mode(), data.mtime(), content));
        if data.is_dir() {
            for entry in fs::read_dir(path).unwrap().flatten() {
                add(&entry.path(), format!("{name}/{}", entry.file_name().display()), all);
            }
        }
    }
    let mut all = Vec::new();
    add(root, String::new(), &mut all);
    all.sort();
    all
}

fn dated(path: &Path, unix: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(unix);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let tmp = TempDir::new().unwrap();
    let (from, to) = (tmp.path().join("from"), tmp.path().join("to"));
    let long = "n".repeat(200);
    fs::create_dir_all(from.join("deep/er").join(&long)).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("deep/er").join(&long).join(&long), vec![7; 1 << 20]).unwrap();
    fs::write(from.join("deep/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(from.join("deep/run"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(from.join("ümlaut \n"), "x").unwrap();
    fs::write(from.join("empty"), "").unwrap();
    symlink("er", from.join("deep/link")).unwrap();
    symlink("../empty", from.join("deep/up")).unwrap();
    dated(&from.join("deep/run"), 1_000_000_000);
    fs::create_dir(from.join("closed")).unwrap();
    fs::write(from.join("closed/in"), "y").unwrap();
    dated(&from.join("closed"), 1_100_000_000);
    fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    dated(&from, 1_200_000_000);
    let (tar, copied) = packed(&from);
    assert_eq!((copied.files, copied.left_out()), (5, 0), "{:?}", copied.notes);
    for (name, links) in [("kept", Links::Keep), ("inside", Links::Inside)] {
        let copied = unpacked(&tar, &to, name, links).unwrap();
        assert_eq!((copied.files, copied.left_out()), (5, 0), "{:?}", copied.notes);
        assert_eq!(listing(&to.join(name)), listing(&from));
    }
    // Over what is there; one file alone; under the tar's own name.
    unpacked(&tar, &to, "kept", Links::Keep).unwrap();
    assert_eq!(listing(&to.join("kept")), listing(&from));
    let (tar, _) = packed(&from.join("deep/run"));
    unpacked(&tar, &to, "one", Links::Inside).unwrap();
    assert_eq!(listing(&to.join("one")), listing(&from.join("deep/run")));
    unpack(&tar[..], open_dir(&to).unwrap(), None, Links::Keep, u64::MAX, &mut |_, _| {}).unwrap();
    assert!(to.join("tree").is_file());
}

#[test]
fn devices_sockets_and_pipes_are_left_out_by_name() {
    let tmp = TempDir::new().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tmp.path().join("socket")).unwrap();
    fs::write(tmp.path().join("file"), "x").unwrap();
    let (_, copied) = packed(tmp.path());
    assert_eq!((copied.files, copied.left_out()), (1, 1));
    assert_eq!(copied.notes, ["left out tree/socket: socket"]);
    assert!(
        pack(Path::new("/dev/null"), "x", Vec::new(), &mut |_, _| {})
            .unwrap_err()
            .to_string()
            .contains("a device")
    );
}

struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Hostile {
        Hostile(Builder::new(Vec::new()))
    }

    /// The name as it is: the crate's own way would refuse it.
    fn put(mut self, kind: EntryType, name: &str, link: &str, data: &[u8]) -> Hostile {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        header.set_size(data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn dir(self, name: &str) -> Hostile {
        self.put(EntryType::Directory, name, "", b"")
    }

    fn file(self, name: &str) -> Hostile {
        self.put(EntryType::Regular, name, "", b"bad")
    }

    fn link(self, name: &str, target: &str) -> Hostile {
        self.put(EntryType::Symlink, name, target, b"")
    }

    fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A directory of ours beside one that no tar may touch.
fn beside() -> (TempDir, std::path::PathBuf, std::path::PathBuf) {
    let tmp = TempDir::new().unwrap();
    let (inside, outside) = (tmp.path().join("inside"), tmp.path().join("outside"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "good").unwrap();
    (tmp, inside, outside)
}

#[test]
fn no_name_leads_out() {
    for (name, why) in [
        ("../outside/file", "leads out"),
        ("t/../../outside/file", "leads out"),
        ("/t", "absolute"),
        ("other", "a second name"),
        ("./", "without a part"),
    ] {
        let (_tmp, inside, outside) = beside();
        let error =
            unpacked(&Hostile::new().dir("t").file(name).tar(), &inside, "x", Links::Inside).unwrap_err();
        assert!(error.to_string().contains(why), "{name}: {error}");
        assert_eq!(listing(&outside).len(), 2);
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"good");
    }
}

#[test]
fn no_link_leads_out() {
    let (_tmp, inside, outside) = beside();
    let out = outside.display().to_string();
    let tar = Hostile::new()
        .dir("t")
        .dir("t/a")
        .link("t/a/up", "..")
        .link("t/a/out", "../..")
        .link("t/abs", &out)
        .link("t/twice", "a/up/../..")
        .link("t/fine", "a/file")
        .put(EntryType::Link, "t/hard", "../outside/file", b"")
        .put(EntryType::Char, "t/device", "", b"")
        .tar();
    let copied = unpacked(&tar, &inside, "x", Links::Inside).unwrap();
    assert_eq!(copied.left_out(), 5, "{:?}", copied.notes);
    let names: Vec<_> = listing(&inside.join("x")).into_iter().map(|l| l.0).collect();
    assert_eq!(names, ["", "/a", "/a/up", "/fine"]);
    assert_eq!(fs::metadata(&outside).unwrap().nlink(), 2);
}

/// Of the tar itself, or there before.
#[test]
fn no_link_is_followed() {
    for links in [Links::Keep, Links::Inside] {
        let (_tmp, inside, outside) = beside();
        let out = outside.display().to_string();
        let tar = Hostile::new().dir("t").link("t/l", &out).file("t/l/file").tar();
        let error = unpacked(&tar, &inside, "x", links).unwrap_err().to_string();
        assert!(error.contains("no directory here") || error.contains("No such file"), "{error}");

        symlink(&outside, inside.join("there")).unwrap();
        let error =
            unpacked(&Hostile::new().dir("t").file("t/file").tar(), &inside, "there", links).unwrap_err();
        assert!(error.to_string().contains("something else"), "{error}");
        fs::create_dir(inside.join("mine")).unwrap();
        symlink(outside.join("file"), inside.join("mine/file")).unwrap();
        unpacked(&Hostile::new().dir("t").file("t/file").tar(), &inside, "mine", links).unwrap();
        assert!(!fs::symlink_metadata(inside.join("mine/file")).unwrap().is_symlink(), "it is replaced");
        assert_eq!(
            fs::metadata(inside.join("mine/file")).unwrap().mode() & 0o7777,
            0o777,
            "and nobody's setuid"
        );
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"good");
    }
}

#[test]
fn what_breaks_off_or_makes_no_sense_is_an_error() {
    let (_tmp, inside, _) = beside();
    let tar = Hostile::new().dir("t").file("t/file").tar();
    for length in [1, 511, 513, 1025, 1027] {
        assert!(unpacked(&tar[..length], &inside, "x", Links::Inside).is_err(), "{length}");
    }
    assert!(unpacked(b"", &inside, "y", Links::Inside).unwrap_err().to_string().contains("nothing came"));
    let tar = Hostile::new().dir("t").dir("t/d").file("t/d").tar();
    assert!(
        unpacked(&tar, &inside, "z", Links::Inside)
            .unwrap_err()
            .to_string()
            .contains("a directory under that name")
    );
    let deep = (0..130)
        .fold(Hostile::new(), |tar, n| if n < 45 { tar.dir(&vec!["d"; n + 1].join("/")) } else { tar });
    assert!(unpacked(&deep.tar(), &inside, "deep", Links::Inside).is_ok());
}

/// Files, what a header claims, and names alone: none of them is a way past the limit.
#[test]
fn it_takes_no_more_of_a_disk_than_it_may() {
    let tmp = TempDir::new().unwrap();
    let from = tmp.path().join("from");
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a"), vec![1; 100_000]).unwrap();
    fs::write(from.join("b"), vec![2; 100_000]).unwrap();
    let (files, _) = packed(&from);
    let mut claims = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(1 << 40);
    header.set_entry_type(EntryType::Regular);
    header.set_path("tree").unwrap();
    header.set_cksum();
    claims.append(&header, &b""[..]).unwrap();
    let mut names = Builder::new(Vec::new());
    for n in 0..100 {
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(0o755);
        header.set_entry_type(EntryType::Directory);
        header.set_path(if n == 0 { "tree/".into() } else { format!("tree/{n}") }).unwrap();
        header.set_cksum();
        names.append(&header, &b""[..]).unwrap();
    }
    let tars = [files.clone(), claims.into_inner().unwrap(), names.into_inner().unwrap()];
    for (n, tar) in tars.iter().enumerate() {
        let name = format!("to-{n}");
        let parent = open_dir(tmp.path()).unwrap();
        let error =
            unpack(&tar[..], parent, Some(&name), Links::Inside, 150_000, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, CopyError::TooMuch { bytes_max: 150_000, .. }), "{n}: {error}");
    }
    let taken: u64 =
        fs::read_dir(tmp.path().join("to-0")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(taken, 100_000, "what fits is there");
    let parent = open_dir(tmp.path()).unwrap();
    unpack(&files[..], parent, Some("all"), Links::Inside, 250_000, &mut |_, _| {}).unwrap();
}
