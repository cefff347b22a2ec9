//! Stock images (`tests/images`) for the tests, and a network where their ports are free.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Fleet;

/// The OCI layout whose tags they are, made by the project's own script when it is not there yet.
pub fn stock_images() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/build");
    let made = Command::new(script).output().expect("the script runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).expect("a path").trim().into()
}

/// As `name:1`.
pub fn push_stock(fleet: &Fleet, name: &str) {
    let layout = stock_images().display().to_string();
    let (code, out, err) = fleet.hub.cli(&["push", &layout, "--image", name, "--tag", &format!("{name}:1")]);
    assert_eq!(code, 0, "{out}{err}");
}

/// This thread, and what it starts, gets a network of its own; other threads do not. The images are made
/// before, for that needs the other one.
pub fn own_network() {
    stock_images();
    // SAFETY: nothing but this thread's network changes.
    let gone = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(gone, 0, "{}", std::io::Error::last_os_error());
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("ip: run tests/run, it installs it").success());
}
