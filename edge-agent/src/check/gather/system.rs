//! The kernel and the board, from /proc and /sys; and how the running agent was told to run.

use std::fs;
use std::path::Path;

use crate::check::facts::{Offered, System};
use crate::run::RunArgs;

pub fn system() -> System {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let model = fs::read_to_string("/proc/device-tree/model").ok();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    System {
        has_overlay: has_overlay(&release),
        release,
        arch: std::env::consts::ARCH.to_string(),
        cmdline: fs::read_to_string("/proc/cmdline").unwrap_or_default().trim().to_string(),
        model: model.map(|m| m.trim_end_matches('\0').to_string()),
        is_root: rustix::process::geteuid().is_root(),
        has_seccomp: status.lines().any(|line| line.starts_with("Seccomp_filters:"))
            || Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        namespaces: names("/proc/self/ns"),
        has_loop: Path::new("/dev/loop-control").exists(),
    }
}

pub fn controllers() -> Vec<Offered> {
    let offered = crate::cgroup::offered().into_iter();
    offered.map(|(controller, version, path)| Offered { controller, version, path }).collect()
}

/// In the kernel, loaded, or there to be loaded.
fn has_overlay(release: &str) -> bool {
    let has = |file: String, word: &str| fs::read_to_string(file).is_ok_and(|text| text.contains(word));
    let modules = format!("/lib/modules/{release}");
    has("/proc/filesystems".into(), "\toverlay\n")
        || has(format!("{modules}/modules.builtin"), "/overlay.ko")
        || has(format!("{modules}/modules.dep"), "/overlay.ko")
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// From its command line; nothing when that is not one of ours.
pub fn run_args_of(pid: u32) -> Option<RunArgs> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    crate::cli::run_args(words.map(|word| String::from_utf8_lossy(word).into_owned()))
}
