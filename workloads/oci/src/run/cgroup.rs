//! The container's cgroups: clearing what an earlier container left, and what the kernel counted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{RunError, fault, refused};

/// 1, 2, 4 … 512 ms, a second in all: only a process in uninterruptible sleep takes longer to die.
const RETRIES: u32 = 10;

/// A path in every hierarchy that there is; v1 and v2 may be mixed.
#[derive(Debug, Clone)]
pub struct Cgroups {
    dirs: Vec<PathBuf>,
    /// Of v1 the two that programs in a container ask for their limits, by name; none on v2.
    pub v1: Vec<(&'static str, PathBuf)>,
    /// Whether the kernel asks which devices a container may open.
    pub device_filter: bool,
    /// Those that bound or count.
    pub hierarchies: Vec<Hierarchy>,
}

/// On v1 each controller may have its own; a controller is in one only.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    pub root: PathBuf,
    /// The container's own.
    pub dir: PathBuf,
    pub controllers: Vec<&'static str>,
    pub v2: bool,
}

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }
}

/// `cpuacct` is what shows how much it used, `freezer` what holds it; v2 has both everywhere.
const V1: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "devices", "freezer"];
const V2: [&str; 3] = ["cpu", "memory", "pids"];

impl Cgroups {
    pub fn at(path: &str) -> Result<Cgroups, RunError> {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        if !path.starts_with('/') || parts.iter().any(|p| p.is_empty() || *p == "." || *p == "..") {
            return Err(refused(
                "cgroupsPath",
                format!("'{path}' must be absolute and plain, such as /skerry/press"),
            ));
        }
        let table = fs::read_to_string("/proc/self/mountinfo").map_err(fault("/proc/self/mountinfo"))?;
        let (mut dirs, mut v1, mut device_filter, mut hierarchies) =
            (Vec::new(), Vec::new(), false, Vec::new());
        for line in table.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let (Some(point), true) = (mount.split(' ').nth(4), kind.starts_with("cgroup")) else { continue };
            let dir = Path::new(point).join(parts.join("/"));
            let has = |name: &str| kind.starts_with("cgroup ") && kind.split([',', ' ']).any(|o| o == name);
            v1.extend(["cpu", "memory"].into_iter().filter(|n| has(n)).map(|n| (n, dir.clone())));
            device_filter |= has("devices");
            let (v2, root) = (kind.starts_with("cgroup2 "), PathBuf::from(point));
            let controllers = if v2 { offered(&root) } else { V1.into_iter().filter(|n| has(n)).collect() };
            hierarchies.push(Hierarchy { root, dir: dir.clone(), controllers, v2 });
            dirs.push(dir);
        }
        // What bounds nothing is not entered: beside v1 the unified one often has no controller.
        hierarchies.retain(|h: &Hierarchy| !h.controllers.is_empty());
        Ok(Cgroups { dirs, v1, device_filter, hierarchies })
    }

    /// A container is in some hierarchies only.
    pub fn existing(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(PathBuf::as_path).filter(|d| d.exists())
    }

    /// In the container's own, not below.
    pub fn processes(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.existing().flat_map(processes).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How many processes the kernel killed for want of memory. Must be read before the cgroup goes.
    pub fn oom_kills(&self) -> u64 {
        let v1 = self
            .v1
            .iter()
            .filter(|(name, _)| *name == "memory")
            .map(|(_, dir)| dir.join("memory.oom_control"));
        let v2 = self.dirs.iter().filter(|_| self.v1.is_empty()).map(|dir| dir.join("memory.events"));
        let counts = v1.chain(v2).filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        });
        counts.max().unwrap_or(0)
    }

    /// Kills what is in it and removes it: libcontainer would wait for ever in a frozen one.
    pub fn clear(&self) -> Result<(), RunError> {
        // Most have nothing in them, or are not there.
        let left = self
            .dirs
            .iter()
            .filter(|dir| fs::remove_dir(dir).is_err_and(|e| e.kind() != io::ErrorKind::NotFound));
        let mut dirs = Vec::new();
        left.for_each(|dir| collect(dir, &mut dirs));
        // In all of them first: a process that is frozen in one hierarchy dies in none.
        dirs.iter().for_each(|dir| thaw(dir));
        for dir in &dirs {
            remove(dir).map_err(fault(format!("cgroup {}", dir.display())))?;
        }
        Ok(())
    }
}

/// At the root there are all that v1 has not taken.
fn offered(root: &Path) -> Vec<&'static str> {
    let there = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    V2.into_iter().filter(|name| there.split_whitespace().any(|t| t == *name)).collect()
}

/// The innermost first.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), found);
        }
    }
    found.push(dir.into());
}

pub fn thaw(dir: &Path) {
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    let _ = fs::write(dir.join("cgroup.freeze"), "0");
}

/// With the processes in it.
pub fn remove(dir: &Path) -> io::Result<()> {
    for retry in 0..RETRIES {
        kill_all(dir);
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1 << retry))
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => return Ok(()),
        }
    }
    fs::remove_dir(dir)
}

fn kill_all(dir: &Path) {
    let _ = fs::write(dir.join("cgroup.kill"), "1");
    for pid in processes(dir).into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn processes(dir: &Path) -> Vec<u32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}
