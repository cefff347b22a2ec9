//! One container from creation to nothing left: libcontainer, used within what it can do.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_child_subreaper, waitid};

use super::cgroup::Cgroups;
use super::exec::{self, Exec};
use super::launch::{self, Launched};
use super::root::{self, Root};
use super::settings::{Network, Settings};
use super::{RunError, bounds, fault, join, loopback, names, refused, seccomp, spec, volume};
use crate::image::Defaults;
use crate::layer::Rootfs;

/// Directories of one container; both are emptied when it is created.
#[derive(Debug, Clone)]
pub struct Place {
    /// Mount points.
    pub bundle: PathBuf,
    /// The socket that the container waits at for its start, and what whoever joins it needs to know.
    pub state: PathBuf,
    /// Mounts below it that are not below `bundle`'s parent are other containers': kept here too, they would
    /// hold their disks after they were unmounted on the board.
    pub neighbours: Option<PathBuf>,
}

/// What the container has as its first three descriptors.
pub struct Streams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// 128 + the signal's number when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// How many processes the kernel killed because the container's memory was used up.
    pub oom_kills: u64,
}

pub struct Container {
    root: Option<Root>,
    cgroups: Cgroups,
    place: Place,
    pid: Pid,
    pidfd: OwnedFd,
}

impl Container {
    /// Everything but the first instruction. What an earlier container of that place left is cleared first.
    pub fn create(
        settings: &Settings,
        image: &Defaults,
        rootfs: &Rootfs,
        place: &Place,
        streams: Streams,
    ) -> Result<Container, RunError> {
        refuse_threads()?;
        let cgroups = Cgroups::at(&settings.cgroups_path)?;
        clear(place, &cgroups)?;
        // The container's first process is our grandchild and comes to us when its parent ends.
        set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|e| fault("child subreaper")(e.into()))?;
        root::own_mounts()?;
        if let (Some(neighbours), Some(own)) = (&place.neighbours, place.bundle.parent()) {
            root::let_go(neighbours, own)?;
        }
        for dir in [&place.bundle, &place.state] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(fault(dir.display().to_string()))?;
        }
        let root = Root::at(&place.bundle);
        let built = root.mount(rootfs, &settings.writable);
        match built.and_then(|()| build(settings, image, &root, &cgroups, place, streams)) {
            Ok(Launched { pid, pidfd }) => {
                Ok(Container { root: Some(root), cgroups, place: place.clone(), pid, pidfd })
            }
            Err(e) => {
                let _ = clear(place, &cgroups);
                let _ = root.unmount().and_then(|()| remove_bundle(&place.bundle));
                Err(e)
            }
        }
    }

    pub fn start(&mut self) -> Result<(), RunError> {
        launch::start(&self.place.state)
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// Becomes readable when the container's first process has ended; for the caller's own loop.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// To its first process. The kernel keeps from that one what it has no handler for, but KILL.
    pub fn signal(&self, signal: Signal) -> Result<(), RunError> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(fault("signal")(e.into())),
        }
    }

    /// Blocks to its end. libcontainer's own wait was seen to lose the end (14 of 40 runs).
    pub fn wait(&mut self) -> Result<Ended, RunError> {
        let status = loop {
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => break status,
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(fault("wait")(e.into())),
            }
        };
        let signal = status.terminating_signal();
        let code = status.exit_status().or(signal.map(|s| 128 + s)).unwrap_or(-1);
        Ok(Ended { code, signal, oom_kills: self.cgroups.oom_kills() })
    }

    /// Kills it if it lives, and leaves no process, cgroup, state or mount.
    pub fn delete(mut self) -> Result<(), RunError> {
        let _ = self.signal(Signal::KILL);
        let root = self.root.take();
        let cleared = clear(&self.place, &self.cgroups);
        let unmounted = root.map_or(Ok(()), Root::unmount);
        let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        cleared.and(unmounted)?;
        remove_bundle(&self.place.bundle)
    }
}

fn build(
    settings: &Settings,
    image: &Defaults,
    root: &Root,
    cgroups: &Cgroups,
    place: &Place,
    streams: Streams,
) -> Result<Launched, RunError> {
    names::write(&root.path, settings)?;
    let built = spec::build(settings, image, &root.path, cgroups)?;
    volume::give_all(settings, &root.path, built.user)?;
    volume::hand_over(settings, built.user)?;
    for stream in [&streams.stdout, &streams.stderr] {
        own_pipe(stream, built.user);
    }
    let filters = seccomp::filters(settings.seccomp, &built.capabilities.all)?;
    bounds::make(cgroups, &settings.limits, &built.devices)?;
    join::write_record(&place.state, &built.spec, settings)?;
    let executor = Exec { filters };
    let launched = launch::create(built.spec, &root.path, executor, cgroups, &place.state, streams);
    let launched = launched.map_err(exec::refusal)?;
    if settings.network == Network::None {
        loopback::up(launched.pid.as_raw_nonzero().get() as u32)?;
    }
    Ok(launched)
}

/// Who opens /dev/stdout by its name needs to own what it leads to; root does in any case.
fn own_pipe(stream: &OwnedFd, (uid, gid): (u32, u32)) {
    let is_pipe =
        rustix::fs::fstat(stream).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Fifo);
    if is_pipe && uid != 0 {
        let _ = std::os::unix::fs::fchown(stream, Some(uid), Some(gid));
    }
}

/// See the module's documentation for what happens with more than one.
pub fn refuse_threads() -> Result<(), RunError> {
    let threads = fs::read_dir("/proc/self/task").map_err(fault("/proc/self/task"))?.count();
    match threads {
        1 => Ok(()),
        n => Err(refused(
            "process",
            format!("it has {n} threads; containers are created by a process with one"),
        )),
    }
}

/// A crash between two steps leaves a state directory, a cgroup that may be frozen, or both.
fn clear(place: &Place, cgroups: &Cgroups) -> Result<(), RunError> {
    cgroups.clear()?;
    remove(&place.state)
}

fn remove(path: &Path) -> Result<(), RunError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fault(path.display().to_string())(e)),
        _ => Ok(()),
    }
}

/// Name by name, so that nothing is ever deleted through a mount.
fn remove_bundle(path: &Path) -> Result<(), RunError> {
    let mut dirs = ["rootfs", "upper", ""].iter().map(|name| fs::remove_dir(path.join(name)));
    match dirs.find_map(|done| done.err().filter(|e| e.kind() != io::ErrorKind::NotFound)) {
        Some(e) => Err(fault(path.display().to_string())(e)),
        None => Ok(()),
    }
}
