//! `edge-agent try` with container images: layouts, tars, `docker save`; streams and codes pass through, one
//! clear error for what cannot be run, and nothing is left.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::*;

/// The image as a layout, its tar, that packed, and as Docker saves it.
struct Images {
    dir: tempfile::TempDir,
}

fn tool(name: &str, args: &[&str]) {
    let output =
        Command::new(name).args(args).output().unwrap_or_else(|e| panic!("{name}: {e}; run tests/run"));
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Images {
    fn new() -> Images {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let bin = dir.path().join("files/bin");
        std::fs::create_dir_all(&bin).unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
        std::fs::copy(busybox.expect("busybox-static; run tests/run"), bin.join("busybox")).unwrap();
        std::fs::set_permissions(bin.join("busybox"), std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["sh", "echo", "cat", "sleep", "id", "tail", "touch"] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        let image = format!("{}:1", path("layout"));
        tool("umoci", &["init", "--layout", &path("layout")]);
        tool("umoci", &["new", "--image", &image]);
        tool("umoci", &["insert", "--image", &image, &path("files"), "/"]);
        tool(
            "umoci",
            &[
                "config",
                "--image",
                &image,
                "--config.entrypoint",
                "/bin/sh",
                "--config.entrypoint",
                "-c",
                "--config.cmd",
                "echo from the image",
                "--config.env",
                "PATH=/bin",
            ],
        );
        tool("tar", &["-C", &path("layout"), "-cf", &path("layout.tar"), "."]);
        tool("tar", &["-C", &path("layout"), "-czf", &path("layout.tgz"), "."]);
        let (from, to) = (format!("oci:{image}"), format!("docker-archive:{}:box:1", path("save.tar")));
        tool("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]);
        Images { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn attempt(image: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(EXE);
    command.arg("try").arg(image).args(args);
    command
}

fn run(image: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = attempt(image, args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// Of the trial with that pid: cgroups in any hierarchy, records, the unpacked image.
fn remains(pid: u32) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|d| d.path());
    let all =
        hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|d| d.join(format!("skerry-try-{pid}")));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let own = [format!("/run/skerry-try/{pid}").into(), cache.join(format!("skerry-try/trial-{pid}"))];
    all.chain(own).filter(|path| path.exists()).collect()
}

#[test]
fn every_form_runs_and_its_code_and_streams_pass_through() {
    let images = Images::new();
    for form in ["layout", "layout.tar", "layout.tgz", "save.tar"] {
        let (code, out, err) = run(&images.path(form), &[]);
        assert_eq!((code, out.trim(), err.as_str()), (Some(0), "from the image", ""), "{form}");
    }
    let line = "echo $A; echo $(id -u) >&2; exit 9";
    let (code, out, err) = run(&images.path("layout"), &["--env", "A=b", "--user", "7", "--", line]);
    assert_eq!((code, out.trim(), err.trim()), (Some(9), "b", "7"));
    let own = ["--command", "/bin/echo", "--command", "own", "--", "words"];
    assert_eq!(run(&images.path("layout"), &own).1.trim(), "own words");
    let (code, _, err) = run(&images.path("layout"), &["--read-only", "--", "touch /x"]);
    assert!(code == Some(1) && err.contains("Read-only"), "{err}");
    let (code, _, err) = run(&images.path("layout"), &["--memory", "16Mi", "--", "exec tail /dev/zero"]);
    assert_eq!(code, Some(137));
    assert!(err.contains("out of memory (limit 16Mi)"), "{err}");
}

#[test]
fn standard_input_is_the_terminals_and_nothing_is_left() {
    let images = Images::new();
    let mut child = attempt(&images.path("layout"), &["--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(said, "through");
    assert_eq!(remains(child.id()), Vec::<PathBuf>::new());
}

#[test]
fn interrupted_it_ends_and_a_killed_one_takes_its_container_along() {
    let images = Images::new();
    for (signal, code) in [(libc::SIGINT, Some(130)), (libc::SIGKILL, None)] {
        let mut child =
            attempt(&images.path("layout"), &["--grace", "100ms", "--", "echo ready; sleep 1000; echo"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        assert_eq!(child.wait().unwrap().code(), code);
        if signal == libc::SIGKILL {
            // The container ends with it; the records are cleared by the next trial.
            let work = |pid: u32| {
                format!("/sys/fs/cgroup/memory/skerry-try-{pid}/try.layout.0.0-1/work/cgroup.procs")
            };
            let inside = || std::fs::read_to_string(work(child.id())).unwrap_or_default();
            until("its container has ended", || inside().is_empty());
            assert_eq!(run(&images.path("layout"), &["--", "exit 0"]).0, Some(0));
        }
        assert_eq!(remains(child.id()), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_cannot_be_run_is_one_clear_error() {
    let images = Images::new();
    let empty = images.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let garbage = images.path("garbage");
    std::fs::write(&garbage, "#!/bin/sh").unwrap();
    let cut = images.path("cut.tar");
    let whole = std::fs::read(images.path("layout.tar")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let layout = images.path("layout");
    for (image, args, says) in [
        (&empty, &[][..], "neither 'oci-layout'"),
        (&garbage, &[], "nor a container image"),
        (&cut, &[], "cut.tar"),
        (&layout, &["--image", "other:2"], "no image is named 'other:2'"),
        (&layout, &["--connect", "h:1"], "--connect"),
        (&layout, &["--user", "nobody"], "passwd has no 'nobody'"),
        (&layout, &["--command", "/bin/none"], "'/bin/none' is not in the image"),
        (&guest("hello"), &["--user", "7"], "--user: is for container images"),
    ] {
        let (code, out, err) = run(image, args);
        assert_eq!((code, out.as_str()), (Some(125), ""), "{says}: {err}");
        assert!(err.contains(says) && err.lines().count() == 1, "{says}: {err}");
    }
}
