//! What bounds an instance: one directory per cgroup hierarchy, made, read and removed by the agent,
//! entered by the shim.
//!
//! Written over plain files and not over `cgroups-rs` (0.3.4 was tried): its `create` on v1 only logs
//! when a directory cannot be made, it reads the mount table for each handle, and it cannot move a single
//! thread by writing `0`, which is the difference between 0.16 ms and 12.4 ms of a start (measured, v1,
//! three controllers): a pid in `cgroup.procs` waits for an RCU grace period of the kernel's thread-group
//! lock, a single-threaded process that writes `0` into `tasks` does not (kernel ≥ 5.19).
//!
//! v1 and v2 may be mixed: each controller is taken from where it is mounted.

mod detect;
mod dir;

use std::io;
use std::path::{Path, PathBuf};

use contract::run::ResourceLimits;
use serde::{Deserialize, Serialize};

pub use detect::Hierarchy;

/// What an instance is bounded by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub const ALL: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

    pub fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
        }
    }

    /// What to do about a kernel that does not offer it (FIELD F27: Raspberry Pi OS boots without memory).
    fn remedy(self) -> &'static str {
        match self {
            Controller::Memory => {
                "add `cgroup_enable=memory cgroup_memory=1` to the kernel command line \
                 (Raspberry Pi: /boot/firmware/cmdline.txt) and reboot"
            }
            Controller::Cpu => "the kernel needs CONFIG_CFS_BANDWIDTH and the cpu controller mounted",
            Controller::Pids => "the kernel needs CONFIG_CGROUP_PIDS and the pids controller mounted",
        }
    }
}

impl std::str::FromStr for Controller {
    type Err = String;

    fn from_str(text: &str) -> Result<Controller, String> {
        Controller::ALL
            .into_iter()
            .find(|c| c.name() == text)
            .ok_or_else(|| format!("'{text}' is no controller; there are memory, cpu and pids"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    V2,
}

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error(
        "this kernel has no {} cgroup controller: {}; or start with --allow-missing-cgroup {} to run without \
         that limit", .0.name(), .0.remedy(), .0.name()
    )]
    Missing(Controller),
    #[error("the cgroup parent '{0}' must be an absolute path without '..', such as /skerry/board-1")]
    BadParent(String),
    #[error("cgroup {path}")]
    Io { path: PathBuf, source: io::Error },
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CgroupError + '_ {
    move |source| CgroupError::Io { path: path.to_path_buf(), source }
}

/// Where the agent keeps the cgroups of its instances.
#[derive(Debug, Clone)]
pub struct Tree {
    hierarchies: Vec<Hierarchy>,
    parent: String,
    missing: Vec<Controller>,
}

impl Tree {
    /// Makes the parent in every hierarchy. A controller the kernel lacks is an error unless it is in
    /// `allow_missing`: a limit that is not enforced must be somebody's decision.
    pub fn open(parent: &str, allow_missing: &[Controller]) -> Result<Tree, CgroupError> {
        Tree::over(detect::hierarchies()?, parent, allow_missing)
    }

    fn over(
        hierarchies: Vec<Hierarchy>,
        parent: &str,
        allow_missing: &[Controller],
    ) -> Result<Tree, CgroupError> {
        let legal = parent.starts_with('/')
            && parent.len() > 1
            && parent.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        if !legal {
            return Err(CgroupError::BadParent(parent.to_string()));
        }
        let offered = |c: &Controller| hierarchies.iter().any(|h| h.controllers.contains(c));
        let missing: Vec<_> = Controller::ALL.into_iter().filter(|c| !offered(c)).collect();
        if let Some(refused) = missing.iter().find(|c| !allow_missing.contains(c)) {
            return Err(CgroupError::Missing(*refused));
        }
        let tree = Tree { hierarchies, parent: parent.trim_start_matches('/').to_string(), missing };
        for hierarchy in &tree.hierarchies {
            dir::make_parent(hierarchy, &tree.parent)?;
        }
        Ok(tree)
    }

    /// Controllers that the kernel lacks and that were allowed to be missing: a degraded mode to show.
    pub fn missing(&self) -> &[Controller] {
        &self.missing
    }

    pub fn parent(&self) -> &str {
        &self.parent
    }

    /// The cgroup of that name, whether it exists or not.
    pub fn leaf(&self, name: &str) -> Cgroup {
        let dirs = self.hierarchies.iter().map(|h| Dir {
            path: h.mount.join(&self.parent).join(name),
            version: h.version,
            controllers: h.controllers.clone(),
        });
        Cgroup { dirs: dirs.collect() }
    }

    /// Every cgroup below the parent, in any hierarchy: how a run is found whose directory was lost.
    pub fn leaves(&self) -> Result<Vec<String>, CgroupError> {
        let mut names = Vec::new();
        for hierarchy in &self.hierarchies {
            let parent = hierarchy.mount.join(&self.parent);
            for entry in std::fs::read_dir(&parent).map_err(io_error(&parent))? {
                let entry = entry.map_err(io_error(&parent))?;
                let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
                names.extend(is_dir.then(|| entry.file_name().to_string_lossy().into_owned()));
            }
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Takes away the parent itself, if it is empty: tests and `try` leave nothing behind.
    pub fn remove_parent(&self) {
        for hierarchy in &self.hierarchies {
            let _ = std::fs::remove_dir(hierarchy.mount.join(&self.parent));
        }
    }
}

/// One instance's cgroup: one directory per hierarchy. Written into spec.json, so that what a run leaves
/// can be found after the agent's settings have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cgroup {
    pub dirs: Vec<Dir>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    pub path: PathBuf,
    pub version: Version,
    pub controllers: Vec<Controller>,
}

impl Cgroup {
    pub fn create(&self, limits: &ResourceLimits) -> Result<(), CgroupError> {
        for dir in &self.dirs {
            dir.create(limits)?;
        }
        Ok(())
    }

    /// The kernel's count of processes it killed at the memory limit; compare with the count at the start.
    pub fn oom_kills(&self) -> Option<u64> {
        self.memory()?.oom_kills()
    }

    /// The most memory it ever held, for people who look for the cause of an end.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        self.memory()?.memory_peak_bytes()
    }

    fn memory(&self) -> Option<&Dir> {
        self.dirs.iter().find(|d| d.controllers.contains(&Controller::Memory))
    }

    /// Every process inside, in any of the hierarchies.
    pub fn processes(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.dirs.iter().flat_map(Dir::processes).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A frozen process does not die of SIGKILL before it is thawed.
    pub fn thaw(&self) {
        self.dirs.iter().for_each(Dir::thaw);
    }

    /// Removes the directories. `ResourceBusy` while a process is inside or just leaving.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for dir in &self.dirs {
            dir.remove()?;
        }
        Ok(())
    }

    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|d| d.path.exists())
    }

    /// First act of a single-threaded process: moves itself in, memory and pids first, so that all it
    /// reads from then on is counted.
    pub fn enter(&self) -> Result<(), CgroupError> {
        self.dirs.iter().filter(|d| !d.is_cpu_only()).try_for_each(Dir::enter)
    }

    /// The cpu quota bounds the guest; the shim's own start would only be stretched by it (a quota of
    /// 1 ms in 100 ms makes 0.3 s of 3 ms). On v2 there is one hierarchy and `enter` did it already.
    pub fn enter_cpu(&self) -> Result<(), CgroupError> {
        self.dirs.iter().filter(|d| d.is_cpu_only()).try_for_each(Dir::enter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(controllers: &[Controller], mount: &Path) -> Hierarchy {
        Hierarchy { mount: mount.to_path_buf(), version: Version::V1, controllers: controllers.to_vec() }
    }

    #[test]
    fn a_missing_controller_is_refused_by_name_or_declared() {
        let tmp = tempfile::tempdir().unwrap();
        let offered = vec![fake(&[Controller::Cpu, Controller::Pids], tmp.path())];
        let refused = Tree::over(offered.clone(), "/t", &[]).unwrap_err().to_string();
        assert!(
            refused.contains("cgroup_enable=memory") && refused.contains("--allow-missing-cgroup memory")
        );
        let tree = Tree::over(offered, "/t", &[Controller::Memory]).unwrap();
        assert_eq!(tree.missing(), [Controller::Memory]);
        assert_eq!(tree.leaf("a").oom_kills(), None);
    }

    #[test]
    fn a_parent_stays_inside() {
        let tmp = tempfile::tempdir().unwrap();
        for bad in ["", "/", "a", "/a/../b", "/a//b", "/."] {
            let tree = Tree::over(vec![fake(&Controller::ALL, tmp.path())], bad, &[]);
            assert!(matches!(tree, Err(CgroupError::BadParent(_))), "{bad}");
        }
    }
}
