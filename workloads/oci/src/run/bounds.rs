//! What a container may use: its cgroups made, bounded before there is a process in them, and entered.
//!
//! Own, and not libcontainer's: on v1 that reads the mount table twice for each of twelve controllers, and it
//! enters through `cgroup.procs`, for which the kernel stops every thread of the board (6–16 ms). It also hands
//! down every controller there is, from the root on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::cgroup::{Cgroups, Hierarchy};
use super::settings::Limits;
use super::{RunError, fault, refused};

const CPU_PERIOD_USECS: u64 = 100_000;
/// A process and one that joins it.
const PIDS_MIN: u32 = 2;
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// Making any node, opening those that every container has: null, zero, full, random, urandom, tty, console,
/// ptmx and terminals. Docker's list.
const DEVICES: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// `devices` as the kernel has them, such as `c 188:0 rw`.
pub fn make(cgroups: &Cgroups, limits: &Limits, devices: &[String]) -> Result<(), RunError> {
    if let Some(missing) = NEEDED.iter().find(|name| !cgroups.hierarchies.iter().any(|h| h.has(name))) {
        let why = format!("the kernel has no cgroup controller '{missing}'; 'edge-agent check' says more");
        return Err(refused("limits", why));
    }
    for hierarchy in &cgroups.hierarchies {
        let named = || format!("cgroup {}", hierarchy.dir.display());
        create(hierarchy).map_err(fault(named()))?;
        bound(hierarchy, limits, devices).map_err(|(file, e)| fault(format!("{}/{file}", named()))(e))?;
    }
    Ok(())
}

fn create(hierarchy: &Hierarchy) -> io::Result<()> {
    if hierarchy.v2 {
        hand_down(hierarchy)?;
    }
    fs::create_dir_all(&hierarchy.dir)
}

/// From the root to the container's parent, and only what is not handed down yet: under systemd the upper
/// ones are its own.
fn hand_down(hierarchy: &Hierarchy) -> io::Result<()> {
    let mut dir = hierarchy.root.clone();
    let below = hierarchy.dir.strip_prefix(&hierarchy.root).unwrap_or(Path::new(""));
    for part in below {
        let file = dir.join("cgroup.subtree_control");
        let there = fs::read_to_string(&file)?;
        let missing =
            hierarchy.controllers.iter().filter(|name| !there.split_whitespace().any(|t| t == **name));
        let wanted: Vec<_> = missing.map(|name| format!("+{name}")).collect();
        if !wanted.is_empty() {
            put(&file, &wanted.join(" "))?;
        }
        dir.push(part);
        fs::create_dir(&dir).or_else(|e| if dir.is_dir() { Ok(()) } else { Err(e) })?;
    }
    Ok(())
}

type Written = Result<(), (&'static str, io::Error)>;

fn bound(hierarchy: &Hierarchy, limits: &Limits, devices: &[String]) -> Written {
    let set = |file: &'static str, value: u64| {
        put(&hierarchy.dir.join(file), &value.to_string()).map_err(|e| (file, e))
    };
    // Kernels without swap, or told not to count it, lack the file.
    let if_there = |file: &'static str, value: u64| match set(file, value) {
        Err((_, e)) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_USECS / 1000;
    let shares = (u64::from(limits.cpu_millis) * 1024 / 1000).max(2);
    for controller in &hierarchy.controllers {
        match (*controller, hierarchy.v2) {
            ("memory", false) => {
                set("memory.limit_in_bytes", limits.memory_bytes)?;
                if_there("memory.memsw.limit_in_bytes", limits.memory_bytes)?;
            }
            ("memory", true) => {
                set("memory.max", limits.memory_bytes)?;
                if_there("memory.swap.max", 0)?;
            }
            ("cpu", false) => {
                set("cpu.shares", shares)?;
                set("cpu.cfs_period_us", CPU_PERIOD_USECS)?;
                set("cpu.cfs_quota_us", quota)?;
            }
            ("cpu", true) => {
                // As systemd and runc turn the one into the other.
                set("cpu.weight", 1 + ((shares - 2) * 9999) / 262_142)?;
                let both = format!("{quota} {CPU_PERIOD_USECS}");
                put(&hierarchy.dir.join("cpu.max"), &both).map_err(|e| ("cpu.max", e))?;
            }
            ("pids", _) => set("pids.max", limits.pids.max(PIDS_MIN).into())?,
            ("devices", _) => only(&hierarchy.dir, devices)?,
            _ => {}
        }
    }
    Ok(())
}

/// One rule for each write.
fn only(dir: &Path, devices: &[String]) -> Written {
    put(&dir.join("devices.deny"), "a").map_err(|e| ("devices.deny", e))?;
    let allow = || {
        let mut file = open(&dir.join("devices.allow"))?;
        let all = devices.iter().map(String::as_str).chain(DEVICES);
        all.into_iter().try_for_each(|rule| file.write_all(rule.as_bytes()))
    };
    allow().map_err(|e| ("devices.allow", e))
}

/// This process, which has one thread; `born_in`: the kernel has put it into the v2 one already. `tasks` moves
/// a thread and needs no lock of all.
pub fn enter(cgroups: &Cgroups, born_in: bool) -> Result<(), RunError> {
    for hierarchy in cgroups.hierarchies.iter().filter(|h| !(h.v2 && born_in)) {
        let file = hierarchy.dir.join(if hierarchy.v2 { "cgroup.procs" } else { "tasks" });
        put(&file, "0").map_err(fault(file.display().to_string()))?;
    }
    Ok(())
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    open(file)?.write_all(text.as_bytes())
}

/// Never created: what is not there is another kernel's.
fn open(file: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(file)
}
