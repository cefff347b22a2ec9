//! One instance's cgroup: made, entered, emptied and removed as a whole.
//!
//! ```text
//! <parent>/<instance>.<run>         a WASM instance: limits, shim and guest
//! <parent>/<instance>.<run>/shim    a container: its shim, without limits, so that the payload's OOM spares it
//!                          /work    its payload: made and limited by libcontainer, in every hierarchy
//! ```

use std::fs;
use std::path::PathBuf;

use contract::run::ResourceLimits;
use serde::{Deserialize, Serialize};

use super::{CgroupError, Controller, Version};

const SHIM: &str = "shim";
pub(super) const PAYLOAD: &str = "work";

/// One directory per hierarchy. Written into spec.json, so that what a run leaves can be found after the
/// agent's settings have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cgroup {
    pub dirs: Vec<Dir>,
    /// A container's: see above.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub split: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    pub path: PathBuf,
    pub version: Version,
    pub controllers: Vec<Controller>,
}

impl Cgroup {
    /// The limits of a container are its payload's, and libcontainer's to set.
    pub fn create(&self, limits: &ResourceLimits) -> Result<(), CgroupError> {
        match self.split {
            false => self.dirs.iter().try_for_each(|dir| dir.create(limits)),
            true => self.bounding().try_for_each(|dir| dir.create_split(SHIM)),
        }
    }

    /// Those with a controller of ours. What is in the others is libcontainer's to make.
    fn bounding(&self) -> impl Iterator<Item = &Dir> {
        self.dirs.iter().filter(|dir| !dir.controllers.is_empty())
    }

    /// The kernel's count of processes it killed at the memory limit; compare with the count at the start.
    pub fn oom_kills(&self) -> Option<u64> {
        let dir = self.bounding().find(|d| d.controllers.contains(&Controller::Memory))?;
        if self.split { dir.child(PAYLOAD).oom_kills() } else { dir.oom_kills() }
    }

    /// Every process inside, in any of the hierarchies and at any depth.
    pub fn processes(&self) -> Vec<u32> {
        listed(self.dirs.iter().flat_map(Dir::with_all_below))
    }

    /// Those of a container's payload.
    pub fn payload(&self) -> Vec<u32> {
        listed(self.dirs.iter().flat_map(|dir| dir.child(PAYLOAD).with_all_below()))
    }

    /// A frozen process does not die of SIGKILL before it is thawed.
    pub fn thaw(&self) {
        self.dirs.iter().flat_map(Dir::with_all_below).for_each(|dir| dir.thaw());
    }

    /// Removes the directories, the innermost first. `ResourceBusy` while a process is inside or just leaving.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let all = self.dirs.iter().flat_map(Dir::with_all_below);
        all.into_iter().try_for_each(|dir| dir.remove())
    }

    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|d| d.path.exists())
    }

    /// First act of a single-threaded process: moves itself in, memory and pids first, so that all it
    /// reads from then on is counted.
    pub fn enter(&self) -> Result<(), CgroupError> {
        match self.split {
            false => self.dirs.iter().filter(|d| !d.is_cpu_only()).try_for_each(Dir::enter),
            true => self.bounding().try_for_each(|dir| dir.child(SHIM).enter()),
        }
    }

    /// The cpu quota bounds the guest; the shim's own start would only be stretched by it (a quota of
    /// 1 ms in 100 ms makes 0.3 s of 3 ms). On v2 there is one hierarchy and `enter` did it already.
    pub fn enter_cpu(&self) -> Result<(), CgroupError> {
        self.dirs.iter().filter(|d| d.is_cpu_only()).try_for_each(Dir::enter)
    }
}

fn listed(dirs: impl Iterator<Item = Dir>) -> Vec<u32> {
    let mut all: Vec<u32> = dirs.flat_map(|dir| dir.processes()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Dir {
    /// The innermost first.
    fn with_all_below(&self) -> Vec<Dir> {
        let below = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let below = below.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
        let below = below.map(|entry| self.child(&entry.file_name().to_string_lossy()));
        let mut all: Vec<Dir> = below.flat_map(|dir| dir.with_all_below()).collect();
        all.push(self.clone());
        all
    }
}
