//! What a test must not leave: processes, mounts, cgroups.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::signal;

/// The roots of all hierarchies, v1 and v2.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.join("cgroup.procs").exists());
    let own = root.join("cgroup.procs").exists().then(|| root.to_path_buf());
    below.chain(own).collect()
}

/// Every cgroup below `parent`, in any hierarchy.
pub fn cgroups(parent: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        let mut open = vec![hierarchy.join(parent.trim_start_matches('/'))];
        while let Some(dir) = open.pop() {
            let below =
                fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir());
            for dir in below {
                found.push(dir.clone());
                open.push(dir);
            }
        }
    }
    found
}

fn mounts(below: &Path) -> Vec<String> {
    let prefix = format!("{}/", below.display());
    let table = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| path.starts_with(&prefix))
        .map(str::to_string)
        .collect()
}

/// Processes whose command line names our directory.
fn processes(below: &Path) -> Vec<(u32, String)> {
    let wanted = below.display().to_string();
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries
        .filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id());
    let named = pids.filter_map(|pid| {
        let line =
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).ok()?).replace('\0', " ");
        line.contains(&wanted).then_some((pid, line))
    });
    named.collect()
}

/// Files of ours that a loop device has.
fn loops(below: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backing = devices.filter_map(|d| fs::read_to_string(d.path().join("loop/backing_file")).ok());
    backing.filter(|file| Path::new(file).starts_with(below)).collect()
}

#[track_caller]
pub fn assert_nothing(dir: &Path, cgroup: &str) {
    crate::eventually(crate::wait::LONGEST, || processes(dir).is_empty());
    let running = processes(dir);
    assert!(running.is_empty(), "processes are left: {running:?}");
    let mounted = mounts(dir);
    assert!(mounted.is_empty(), "mounts are left: {mounted:?}");
    // The kernel lets go of one a moment after the unmount.
    crate::eventually(crate::wait::LONGEST, || loops(dir).is_empty());
    assert!(loops(dir).is_empty(), "loop devices are left: {:?}", loops(dir));
    let is_leaf = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().contains('.'));
    let groups: Vec<_> = cgroups(cgroup).into_iter().filter(is_leaf).collect();
    assert!(groups.is_empty(), "cgroups of instances are left: {groups:?}");
}

/// By force, after a failed test as after a passed one.
pub fn clear(dir: &Path, cgroup: &str) {
    for group in cgroups(cgroup) {
        for pid in fs::read_to_string(group.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .filter_map(|l| l.parse().ok())
        {
            signal(pid, libc::SIGKILL);
        }
    }
    for (pid, _) in processes(dir) {
        signal(pid, libc::SIGKILL);
    }
    crate::eventually(std::time::Duration::from_secs(3), || processes(dir).is_empty());
    for mount in mounts(dir).iter().rev() {
        let _ = std::process::Command::new("umount").arg("-l").arg(mount).status();
    }
    let mut groups = cgroups(cgroup);
    groups.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for hierarchy in hierarchies() {
        groups.push(hierarchy.join(cgroup.trim_start_matches('/')));
    }
    for group in groups {
        let _ = fs::remove_dir(group);
    }
}
