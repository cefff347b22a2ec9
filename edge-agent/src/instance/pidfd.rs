//! When a process ended, without polling, and how, even if it was not our child.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, whatever becomes of its pid.
#[derive(Debug, Clone)]
pub struct Handle(Arc<AsyncFd<OwnedFd>>);

/// A descriptor that the event loop waits on.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and the same file until AsyncFd, which owns it now, drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// How a process ended, as the kernel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
}

impl Handle {
    pub fn new(fd: OwnedFd) -> io::Result<Handle> {
        Ok(Handle(Arc::new(readable(fd)?)))
    }

    pub async fn ended(&self) {
        // An error here means that the event loop is going down, and nobody waits any more.
        let _ = self.0.readable().await;
    }

    /// A process that is gone already is as dead as asked for.
    pub fn signal(&self, number: i32) {
        // SAFETY: `number` comes from our table of names or is SIGKILL; the kernel refuses what is none.
        let signal = unsafe { Signal::from_raw_unchecked(number) };
        let _ = pidfd_send_signal(self.0.get_ref(), signal);
    }

    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// To be asked once, after [`Handle::ended`]. A child is reaped by it; of another's child the kernel
    /// tells since 6.15, and before that nobody can.
    pub fn ending(&self) -> Option<Ending> {
        let fd = self.0.get_ref().as_fd();
        match waitid(WaitId::PidFd(fd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => status
                .exit_status()
                .map(Ending::Code)
                .or_else(|| status.terminating_signal().map(Ending::Signal)),
            _ => of_anybody(fd),
        }
    }
}

/// `struct pidfd_info` of `linux/pidfd.h`, first published size.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`
const PIDFD_GET_INFO: u64 = (3 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xFF << 8) | 11;
const _: () = assert!(size_of::<PidfdInfo>() == 64);

fn of_anybody(fd: BorrowedFd<'_>) -> Option<Ending> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel writes at most the size in the request number.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), PIDFD_GET_INFO as _, &mut info) };
    if result != 0 || info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    let status = info.exit_code;
    Some(if libc::WIFSIGNALED(status) {
        Ending::Signal(libc::WTERMSIG(status))
    } else {
        Ending::Code(libc::WEXITSTATUS(status))
    })
}
