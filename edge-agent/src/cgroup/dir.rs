//! The files of one cgroup directory: what is written to bound, and what is read to explain.

use std::fs;
use std::io;
use std::path::Path;

use contract::run::ResourceLimits;

use super::detect::Hierarchy;
use super::{CgroupError, Controller, Dir, Version, io_error};

/// The kernel's default period; the smallest quota in it is 1 ms.
const CPU_PERIOD_US: u64 = 100_000;

/// Makes the parent and, on v2, hands the controllers down to it: without them in every ancestor's
/// `subtree_control` the limit files do not exist.
pub fn make_parent(hierarchy: &Hierarchy, parent: &str) -> Result<(), CgroupError> {
    let mut path = hierarchy.mount.clone();
    for part in parent.split('/').map(Some).chain([None]) {
        if hierarchy.version == Version::V2 {
            let all: Vec<_> = hierarchy.controllers.iter().map(|c| format!("+{}", c.name())).collect();
            write(&path.join("cgroup.subtree_control"), &all.join(" "))?;
        }
        let Some(part) = part else { break };
        path.push(part);
        make(&path)?;
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(io_error(path)),
    }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    // Not fs::write: O_CREAT in a cgroup directory is refused with a misleading EACCES.
    let open = fs::OpenOptions::new().write(true).open(path);
    open.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes())).map_err(io_error(path))
}

impl Dir {
    pub(super) fn create(&self, limits: &ResourceLimits) -> Result<(), CgroupError> {
        fs::create_dir(&self.path).map_err(io_error(&self.path))?;
        self.controllers.iter().try_for_each(|c| self.limit(*c, limits))
    }

    fn limit(&self, controller: Controller, limits: &ResourceLimits) -> Result<(), CgroupError> {
        let put = |file: &str, value: String| write(&self.path.join(file), &value);
        let quota_us = u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000;
        match (controller, self.version) {
            (Controller::Memory, Version::V1) => {
                put("memory.limit_in_bytes", limits.memory_bytes.to_string())?;
                // Memory and swap together; only there when the kernel counts swap.
                put_if_there(&self.path.join("memory.memsw.limit_in_bytes"), limits.memory_bytes.to_string())
            }
            (Controller::Memory, Version::V2) => {
                put("memory.max", limits.memory_bytes.to_string())?;
                put_if_there(&self.path.join("memory.swap.max"), "0".into())?;
                put_if_there(&self.path.join("memory.oom.group"), "1".into())
            }
            (Controller::Cpu, Version::V1) => {
                put("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                put("cpu.cfs_quota_us", quota_us.to_string())
            }
            (Controller::Cpu, Version::V2) => put("cpu.max", format!("{quota_us} {CPU_PERIOD_US}")),
            (Controller::Pids, _) => put("pids.max", limits.pids.to_string()),
        }
    }

    pub(super) fn is_cpu_only(&self) -> bool {
        self.controllers == [Controller::Cpu]
    }

    /// Only right for a process with one thread.
    pub(super) fn enter(&self) -> Result<(), CgroupError> {
        let file = match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        };
        write(&self.path.join(file), "0")
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect()
    }

    pub(super) fn oom_kills(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(self.path.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")).and_then(|n| n.trim().parse().ok())
    }

    pub(super) fn memory_peak_bytes(&self) -> Option<u64> {
        let file = match self.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        };
        fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// On v1 the freezer is a hierarchy of its own that we do not use.
    pub(super) fn thaw(&self) {
        if self.version == Version::V2 {
            let _ = write(&self.path.join("cgroup.freeze"), "0");
        }
    }

    pub(super) fn remove(&self) -> Result<(), CgroupError> {
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(io_error(&self.path)),
        }
    }
}

fn put_if_there(path: &Path, value: String) -> Result<(), CgroupError> {
    match write(path, &value) {
        Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
