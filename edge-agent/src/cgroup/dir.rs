//! One cgroup directory: bounded, entered and read through cgroups-rs.

use std::fs::{self, File};
use std::io;

use cgroups_rs::cpu::CpuController;
use cgroups_rs::error::Error;
use cgroups_rs::freezer::FreezerController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{CgroupPid, Controller as _, MaxValue, flat_keyed_to_hashmap};
use contract::run::ResourceLimits;

use super::{CgroupError, Controller, Dir, Version, io_error};

/// The kernel's default period; the smallest quota in it is 1 ms.
const CPU_PERIOD_US: u64 = 100_000;
/// "Whoever writes this."
const SELF: CgroupPid = CgroupPid { pid: 0 };

impl Dir {
    pub(super) fn child(&self, name: &str) -> Dir {
        Dir { path: self.path.join(name), ..self.clone() }
    }

    /// Makes a directory below which cgroups can be limited: on v2 the limit files do not exist without the
    /// controllers in every ancestor's `subtree_control`.
    pub(super) fn parent(self, path: &str) -> Result<Dir, CgroupError> {
        self.hand_down()?;
        path.split('/').try_fold(self, |above, name| {
            let dir = above.child(name);
            match fs::create_dir(&dir.path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(&dir.path)(e)),
                _ => dir.hand_down()?,
            }
            Ok(dir)
        })
    }

    /// Only what is not handed down yet: above a delegated unit it is systemd's to write, and done.
    fn hand_down(&self) -> Result<(), CgroupError> {
        if !self.is_v2() {
            return Ok(());
        }
        let file = self.path.join("cgroup.subtree_control");
        let done = fs::read_to_string(&file).map_err(io_error(&file))?;
        let is_done = |c: &&Controller| done.split_whitespace().any(|name| name == c.name());
        let rest = self.controllers.iter().filter(|c| !is_done(c));
        let rest: Vec<_> = rest.map(|c| format!("+{}", c.name())).collect();
        if rest.is_empty() { Ok(()) } else { fs::write(&file, rest.join(" ")).map_err(io_error(&file)) }
    }

    /// Refuses one that is there already: its counts would be another run's.
    pub(super) fn create(&self, limits: &ResourceLimits) -> Result<(), CgroupError> {
        fs::create_dir(&self.path).map_err(io_error(&self.path))?;
        let limited = self.controllers.iter().try_for_each(|c| self.limit(*c, limits));
        limited.map_err(|e| CgroupError::Io { path: self.path.clone(), source: plain(&e) })
    }

    /// Without limits, and one below it.
    pub(super) fn create_split(&self, below: &str) -> Result<(), CgroupError> {
        fs::create_dir(&self.path).map_err(io_error(&self.path))?;
        self.hand_down()?;
        let child = self.child(below);
        fs::create_dir(&child.path).map_err(io_error(&child.path))
    }

    fn limit(&self, controller: Controller, limits: &ResourceLimits) -> Result<(), Error> {
        let (path, on_v2) = (self.path.clone(), self.is_v2());
        match controller {
            Controller::Memory => self.limit_memory(limits.memory_bytes as i64),
            Controller::Cpu => {
                let quota_us = u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000;
                CpuController::new(path, on_v2)
                    .set_cfs_quota_and_period(Some(quota_us as i64), Some(CPU_PERIOD_US))
            }
            Controller::Pids => {
                PidController::new(path, on_v2).set_pid_max(MaxValue::Value(limits.pids.into()))
            }
        }
    }

    /// What is about swap is there only when the kernel counts swap. v1 counts memory and swap together.
    fn limit_memory(&self, bytes: i64) -> Result<(), Error> {
        self.files().set_limit(bytes)?;
        let (swap, swap_bytes) = match self.version {
            Version::V1 => ("memory.memsw.limit_in_bytes", bytes),
            Version::V2 => ("memory.swap.max", 0),
        };
        if self.is_v2() {
            // The guest's process and whatever it has become end together. Since kernel 4.19.
            let _ = fs::write(self.path.join("memory.oom.group"), "1");
        }
        if self.path.join(swap).exists() { self.files().set_memswap_limit(swap_bytes) } else { Ok(()) }
    }

    /// What has nothing to do with a controller is the same in all of the crate's.
    fn files(&self) -> MemController {
        MemController::new(self.path.clone(), self.is_v2())
    }

    fn is_v2(&self) -> bool {
        self.version == Version::V2
    }

    pub(super) fn is_cpu_only(&self) -> bool {
        self.controllers == [Controller::Cpu]
    }

    /// Only right for a process with one thread. On v1 it goes to `tasks`: a thread that moves itself skips
    /// the kernel's thread-group lock, a process in `cgroup.procs` waits for it (0.16 against 12.4 ms of a
    /// start, measured with three controllers; kernel ≥ 5.19).
    pub(super) fn enter(&self) -> Result<(), CgroupError> {
        let entered = match self.version {
            Version::V1 => self.files().add_task(&SELF),
            Version::V2 => self.files().add_task_by_tgid(&SELF),
        };
        entered.map_err(|e| CgroupError::Io { path: self.path.clone(), source: plain(&e) })
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        let pids = self.files().procs().into_iter();
        pids.filter_map(|p| u32::try_from(p.pid).ok()).filter(|pid| *pid != 0).collect()
    }

    /// Not from the crate's statistics: on v2 they lack it, on v1 they read ten more files for it.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let file = if self.is_v2() { "memory.events" } else { "memory.oom_control" };
        let counts = flat_keyed_to_hashmap(File::open(self.path.join(file)).ok()?).ok()?;
        counts.get("oom_kill").map(|n| *n as u64)
    }

    /// On v1 the freezer is a hierarchy of its own, in which containers are.
    pub(super) fn thaw(&self) {
        let file = if self.is_v2() { "cgroup.freeze" } else { "freezer.state" };
        if self.path.join(file).exists() {
            let _ = FreezerController::new(self.path.clone(), self.is_v2()).thaw();
        }
    }

    pub(super) fn remove(&self) -> Result<(), CgroupError> {
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(io_error(&self.path)),
        }
    }
}

/// The crate's error in one line; its kind stays what the kernel said.
fn plain(e: &Error) -> io::Error {
    let cause = std::error::Error::source(e).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) => io::Error::new(cause.kind(), format!("{}: {cause}", e.kind())),
        None => io::Error::other(e.to_string()),
    }
}
