//! The directories of the board that a run's guest sees: which they are, and making and unmaking those
//! that are mounts.
//!
//! They are made in the agent's own mount namespace and must outlive the agent: a service unit that gives
//! it a private one (PrivateTmp, ProtectSystem, PrivateMounts…) would hide them from the next agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::run::{MountSource, RunMount, RunSpec};
use contract::spec::Runtime;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::data::{self, Loaded};
use super::record::{Directory, RunDir};
use super::volume;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// Trying again is pointless.
    #[error("{0}")]
    Refused(String),
    #[error("{what}")]
    Fault { what: String, source: io::Error },
}

pub(super) fn fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> MountError {
    |source| MountError::Fault { what: what.into(), source }
}

/// What the guest will see; nothing is made yet.
pub fn plan(dir: &RunDir, run: &RunSpec) -> Result<Vec<Directory>, MountError> {
    let place = |(n, m): (usize, &RunMount)| {
        let host = match &m.from {
            MountSource::HostPath { path } => host_path(path, run.runtime)?,
            MountSource::Volume { .. } | MountSource::Tmpfs { .. } => dir.mounts().join(n.to_string()),
        };
        Ok(Directory { host, guest: m.path.clone(), read_only: m.read_only })
    };
    let mounts = run.mounts.iter().enumerate().filter(|(_, m)| !is_containers_own(m, run)).map(place);
    mounts.chain(data::plan(dir, run).into_iter().map(Ok)).collect()
}

/// A container's tmpfs is mounted in the container.
fn is_containers_own(mount: &RunMount, run: &RunSpec) -> bool {
    run.runtime == Runtime::Oci && matches!(mount.from, MountSource::Tmpfs { .. })
}

fn host_path(path: &str, runtime: Runtime) -> Result<PathBuf, MountError> {
    let refused = |why: &str| MountError::Refused(format!("hostPath {path} {why}"));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() || runtime == Runtime::Oci => Ok(PathBuf::from(path)),
        Ok(_) => Err(refused("is not a directory; WebAssembly mounts directories, so name the one it is in")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(refused("does not exist on this board")),
        Err(e) => Err(refused(&format!("cannot be used: {e}"))),
    }
}

pub fn needs_work(run: &RunSpec) -> bool {
    let is_there = |m: &RunMount| matches!(m.from, MountSource::HostPath { .. }) || is_containers_own(m, run);
    run.data.is_some() || !run.mounts.iter().all(is_there)
}

/// Blocks: on disks, and on mkfs for a new volume.
pub fn make(dir: &RunDir, volumes: &Path, run: &RunSpec, loaded: &Loaded) -> Result<(), MountError> {
    data::make(dir, run, loaded)?;
    for (n, m) in run.mounts.iter().enumerate() {
        let target = dir.mounts().join(n.to_string());
        match &m.from {
            MountSource::HostPath { .. } => continue,
            MountSource::Tmpfs { .. } if is_containers_own(m, run) => continue,
            MountSource::Tmpfs { size_bytes } => {
                make_target(&target)?;
                tmpfs(&target, *size_bytes)?;
            }
            MountSource::Volume { name, size_bytes } => {
                make_target(&target)?;
                volume::mount(volumes, name, *size_bytes, &target)?;
            }
        }
    }
    Ok(())
}

fn make_target(target: &Path) -> Result<(), MountError> {
    fs::create_dir_all(target).map_err(fault(target.display().to_string()))
}

/// Its pages are charged to the instance's memory as well, so it can hold no more than that.
fn tmpfs(target: &Path, size_bytes: u64) -> Result<(), MountError> {
    // Inodes cost kernel memory too: one per page, and some for the small.
    let options = format!("size={size_bytes},nr_inodes={},mode=1777", size_bytes / 4096 + 64);
    let options = std::ffi::CString::new(options).expect("digits hold no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", target, "tmpfs", flags, options.as_c_str())
        .map_err(|e| fault(format!("tmpfs on {}", target.display()))(e.into()))
}

/// Every mount below the run's directory, innermost first.
pub fn present(dir: &RunDir) -> io::Result<Vec<PathBuf>> {
    if !dir.mounts().exists() {
        return Ok(Vec::new());
    }
    let mut below = oci::run::mount_points()?;
    below.retain(|point| point.starts_with(dir.path()));
    below.reverse();
    Ok(below)
}

/// Blocks while a disk takes what was written.
pub fn unmake(points: &[PathBuf]) -> Result<(), MountError> {
    for point in points {
        let flags = UnmountFlags::NOFOLLOW;
        let gone = unmount(point, flags).or_else(|_| unmount(point, flags | UnmountFlags::DETACH));
        gone.map_err(|e| fault(format!("unmount {}", point.display()))(e.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_that_cannot_be_mounted_is_refused_by_name() {
        let host = |path: &str, runtime| host_path(path, runtime);
        for (path, why) in [("/etc/hostname", "not a directory"), ("/nonexistent", "does not exist")] {
            let refused = host(path, Runtime::Wasm).unwrap_err();
            assert!(
                matches!(&refused, MountError::Refused(text) if text.contains(path) && text.contains(why))
            );
        }
        assert_eq!(host("/etc", Runtime::Wasm).unwrap(), PathBuf::from("/etc"));
        assert_eq!(host("/etc/hostname", Runtime::Oci).unwrap(), PathBuf::from("/etc/hostname"));
    }
}
