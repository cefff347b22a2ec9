//! What a command starts, wherever it went: a cgroup below the container's, in one hierarchy. In all others it is
//! in the container's own, and the container's limits bound both together everywhere.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use crate::run::cgroup::{Cgroups, remove, thaw};
use crate::run::{RunError, fault, refused};

const PREFIX: &str = "exec-";
const TRIES: u32 = 4;

#[derive(Debug)]
pub struct Group {
    /// Where else the process belongs.
    others: Vec<PathBuf>,
    container: PathBuf,
    own: PathBuf,
    /// Locked as long as somebody looks after it; the kernel unlocks what was killed.
    held: OwnedFd,
}

impl Group {
    pub fn make(cgroups: &Cgroups) -> Result<Group, RunError> {
        let mut others: Vec<_> = cgroups.existing().map(Path::to_path_buf).collect();
        let at = others.iter().position(|d| serves(d)).or(others.first().map(|_| 0));
        let container = others.remove(at.ok_or_else(|| refused("container", "it has no cgroup"))?);
        sweep(&container);
        for number in 0..TRIES {
            let own = container.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match fs::create_dir(&own) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(fault(own.display().to_string()))?,
            }
            // Somebody who swept between the two took it for abandoned.
            if let Some(held) = hold(&own).filter(|_| own.exists()) {
                return Ok(Group { others, container, own, held });
            }
        }
        Err(fault(container.display().to_string())(io::ErrorKind::ResourceBusy.into()))
    }

    /// By the child itself, while paths are still the board's.
    pub fn enter(&self) -> io::Result<()> {
        self.others.iter().chain([&self.own]).try_for_each(|dir| {
            // A thread that moves itself waits for no lock of the kernel's; v2 has no such file.
            let file = [dir.join("tasks"), dir.join("cgroup.procs")].into_iter().find(|f| f.exists());
            fs::write(file.ok_or(io::ErrorKind::NotFound)?, "0")
        })
    }

    pub fn lock(&self) -> &OwnedFd {
        &self.held
    }

    pub fn kill(&self) {
        thaw(&self.own);
        let _ = remove(&self.own);
    }

    /// What is left of a command that has ended. Whatever forks meanwhile is seen in the next round.
    pub fn give_to_container(&self) {
        for _ in 0..TRIES {
            let left = fs::read_to_string(self.own.join("cgroup.procs")).unwrap_or_default();
            for pid in left.lines() {
                let _ = fs::write(self.container.join("cgroup.procs"), pid);
            }
            match fs::remove_dir(&self.own) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {}
                _ => return,
            }
        }
        self.kill();
    }
}

/// On v1 a new directory of some controllers would have to be set up first; of these not.
fn serves(dir: &Path) -> bool {
    ["pids.current", "cgroup.kill", "cgroup.freeze"].iter().any(|name| dir.join(name).exists())
}

fn hold(dir: &Path) -> Option<OwnedFd> {
    let dir = open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => None,
        // A kernel without locks here sweeps nothing either.
        _ => Some(dir),
    }
}

/// What commands started whose watcher was killed: nobody else would end it before the container ends.
fn sweep(container: &Path) {
    for entry in fs::read_dir(container).into_iter().flatten().flatten() {
        let abandoned = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && File::open(entry.path())
                .is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        if abandoned {
            thaw(&entry.path());
            let _ = remove(&entry.path());
        }
    }
}
