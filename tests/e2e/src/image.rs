//! Container images for the tests: Debian's busybox, put together by `umoci` as an OCI layout.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const APPLETS: [&str; 15] = [
    "sh", "echo", "cat", "sleep", "true", "tail", "touch", "ls", "id", "head", "yes", "hostname", "httpd",
    "mkdir", "rm",
];

/// The layout's directory; its entrypoint is `/bin/sh -c`. `salt` makes another image of it.
pub fn busybox(dir: &Path, salt: &str) -> PathBuf {
    let (layout, files) = (dir.join("layout"), dir.join("files"));
    fs::create_dir_all(files.join("bin")).expect("a directory");
    fs::create_dir_all(files.join("etc")).expect("a directory");
    let program = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let program = program.expect("busybox is missing: run tests/run, or apt-get install busybox-static");
    fs::copy(program, files.join("bin/busybox")).expect("a copy");
    fs::set_permissions(files.join("bin/busybox"), fs::Permissions::from_mode(0o755)).expect("a mode");
    for name in APPLETS {
        symlink("busybox", files.join("bin").join(name)).expect("a link");
    }
    fs::write(files.join("etc/salt"), salt).expect("a file");
    let image = format!("{}:1", layout.display());
    umoci(&["init", "--layout", &layout.display().to_string()]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, &files.display().to_string(), "/"]);
    let config = ["--config.entrypoint", "/bin/sh", "--config.entrypoint", "-c", "--config.env", "PATH=/bin"];
    umoci(&[&["config", "--image", image.as_str()][..], &config].concat());
    layout
}

fn umoci(args: &[&str]) {
    let output = Command::new("umoci").args(args).output().expect("umoci is missing: run tests/run");
    assert!(output.status.success(), "umoci {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
