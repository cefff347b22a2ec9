//! What bounds an instance: one directory per cgroup hierarchy, made, read and removed by the agent,
//! entered by the shim. v1 and v2 may be mixed: each controller is taken from where it is mounted.
//!
//! Finding, limiting, entering, listing and thawing are cgroups-rs's. Ours is what it cannot do: its
//! `create` on v1 only logs a failure, its `delete` sleeps for up to 150 ms in the agent's loop, what hands
//! controllers down on v2 ignores errors, its whole-group handles read the mount table each time, link
//! eleven controllers and a regex engine, and know nothing of a hybrid.

mod dir;
mod instance;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cgroups_rs::Controllers;
use cgroups_rs::hierarchies::{UNIFIED_MOUNTPOINT, V1, is_cgroup2_unified_mode};
use serde::{Deserialize, Serialize};

use instance::PAYLOAD;
pub use instance::{Cgroup, Dir};

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

    fn theirs(self) -> Controllers {
        match self {
            Controller::Memory => Controllers::Mem,
            Controller::Cpu => Controllers::Cpu,
            Controller::Pids => Controllers::Pids,
        }
    }

    /// What to do about a kernel that does not offer it (FIELD F27: Raspberry Pi OS boots without memory).
    pub(crate) fn remedy(self) -> &'static str {
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

/// Where this kernel offers our controllers: the root of each hierarchy that has one.
fn roots() -> Vec<Dir> {
    let v1 = V1::new();
    let unified = Path::new(UNIFIED_MOUNTPOINT);
    // Where systemd and OpenRC mount it when v1 has the usual place.
    let v2 = if is_cgroup2_unified_mode() { unified.to_path_buf() } else { unified.join("unified") };
    let on_v2 = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
    let mut roots: Vec<Dir> = Vec::new();
    for controller in Controller::ALL {
        let on_v2 = on_v2.split_whitespace().any(|name| name == controller.name());
        let (path, version) = match v1.get_mount_point(controller.theirs()) {
            Some(mount) => (mount, Version::V1),
            None if on_v2 => (v2.clone(), Version::V2),
            None => continue,
        };
        match roots.iter_mut().find(|root| root.path == path) {
            Some(root) => root.controllers.push(controller),
            None => roots.push(Dir { path, version, controllers: vec![controller] }),
        }
    }
    roots
}

/// The hierarchies that have none of our controllers: freezer, devices and their like, or a v2 beside v1.
fn other_roots(ours: &[Dir]) -> Vec<Dir> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let path = PathBuf::from(mount.split(' ').nth(4)?);
        let version = match kind.split(' ').next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Dir { path, version, controllers: Vec::new() })
    });
    // A v1 hierarchy may be mounted under one name and linked under another.
    let same = |a: &Path, b: &Path| fs::canonicalize(a).ok() == fs::canonicalize(b).ok();
    mounted.filter(|other| !ours.iter().any(|own| same(&own.path, &other.path))).collect()
}

/// What this kernel offers, and where.
pub fn offered() -> Vec<(Controller, Version, PathBuf)> {
    let of_root = |root: Dir| root.controllers.into_iter().map(move |c| (c, root.version, root.path.clone()));
    roots().into_iter().flat_map(of_root).collect()
}

/// Where the agent keeps the cgroups of its instances.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Of the directory below which they are, from each hierarchy's root.
    name: String,
    /// That directory in each hierarchy.
    parents: Vec<Dir>,
    /// The same place in hierarchies that have none of our controllers: containers are in all there are.
    others: Vec<Dir>,
    missing: Vec<Controller>,
}

impl Tree {
    /// Makes the parent in every hierarchy. A controller the kernel lacks is an error unless it is in
    /// `allow_missing`: a limit that is not enforced must be somebody's decision.
    pub fn open(parent: &str, allow_missing: &[Controller]) -> Result<Tree, CgroupError> {
        let roots = roots();
        let others = other_roots(&roots);
        Tree::below(roots, others, parent, allow_missing)
    }

    fn below(
        roots: Vec<Dir>,
        others: Vec<Dir>,
        parent: &str,
        allow_missing: &[Controller],
    ) -> Result<Tree, CgroupError> {
        let legal = parent.starts_with('/')
            && parent.len() > 1
            && parent.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
        if !legal {
            return Err(CgroupError::BadParent(parent.to_string()));
        }
        let offered = |c: &Controller| roots.iter().any(|root| root.controllers.contains(c));
        let missing: Vec<_> = Controller::ALL.into_iter().filter(|c| !offered(c)).collect();
        if let Some(refused) = missing.iter().find(|c| !allow_missing.contains(c)) {
            return Err(CgroupError::Missing(*refused));
        }
        let below = parent.trim_start_matches('/');
        let others = others.into_iter().map(|root| root.child(below)).collect();
        let parents = roots.into_iter().map(|root| root.parent(below));
        Ok(Tree { name: parent.to_string(), parents: parents.collect::<Result<_, _>>()?, others, missing })
    }

    /// Controllers that the kernel lacks and that were allowed to be missing: a degraded mode to show.
    pub fn missing(&self) -> &[Controller] {
        &self.missing
    }

    /// The cgroup of that name, whether it exists or not.
    pub fn leaf(&self, name: &str) -> Cgroup {
        Cgroup { dirs: self.parents.iter().map(|parent| parent.child(name)).collect(), split: false }
    }

    /// The same for a container: its shim and its payload are each in one of their own below it.
    pub fn split_leaf(&self, name: &str) -> Cgroup {
        let all = self.parents.iter().chain(&self.others);
        Cgroup { dirs: all.map(|parent| parent.child(name)).collect(), split: true }
    }

    /// Where a container's payload is, from each hierarchy's root.
    pub fn payload_path(&self, name: &str) -> String {
        format!("{}/{name}/{PAYLOAD}", self.name)
    }

    /// Every cgroup below the parent, in any hierarchy: how a run is found whose directory was lost.
    pub fn leaves(&self) -> Result<Vec<String>, CgroupError> {
        let mut names = Vec::new();
        for Dir { path, .. } in &self.parents {
            for entry in fs::read_dir(path).map_err(io_error(path))? {
                let entry = entry.map_err(io_error(path))?;
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
        for parent in self.parents.iter().chain(&self.others) {
            let _ = fs::remove_dir(&parent.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(controllers: &[Controller], root: &Path) -> Dir {
        Dir { path: root.to_path_buf(), version: Version::V1, controllers: controllers.to_vec() }
    }

    #[test]
    fn f27_a_missing_controller_is_refused_by_name_or_declared() {
        let tmp = tempfile::tempdir().unwrap();
        let offered = vec![fake(&[Controller::Cpu, Controller::Pids], tmp.path())];
        let refused = Tree::below(offered.clone(), vec![], "/t", &[]).unwrap_err().to_string();
        assert!(
            refused.contains("cgroup_enable=memory") && refused.contains("--allow-missing-cgroup memory")
        );
        let tree = Tree::below(offered, vec![], "/t", &[Controller::Memory]).unwrap();
        assert_eq!(tree.missing(), [Controller::Memory]);
        assert_eq!(tree.leaf("a").oom_kills(), None);
    }

    #[test]
    fn a_parent_stays_inside() {
        let tmp = tempfile::tempdir().unwrap();
        for bad in ["", "/", "a", "/a/../b", "/a//b", "/."] {
            let tree = Tree::below(vec![fake(&Controller::ALL, tmp.path())], vec![], bad, &[]);
            assert!(matches!(tree, Err(CgroupError::BadParent(_))), "{bad}");
        }
    }
}
