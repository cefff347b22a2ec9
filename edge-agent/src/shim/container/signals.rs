//! Signals that come to the shim as something to read, so that one loop hears all there is.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Of the shim: from now on no signal interrupts or ends it but KILL and STOP.
pub struct Signals(OwnedFd);

impl Signals {
    pub fn hold() -> io::Result<Signals> {
        // SAFETY: plain calls on a local set; the descriptor is new and nobody else's.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&mut all);
            // Children that end are seen by their own descriptors.
            libc::sigdelset(&mut all, libc::SIGCHLD);
            if libc::sigprocmask(libc::SIG_SETMASK, &all, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::signalfd(-1, &all, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Signals(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// The next that came, if one did.
    pub fn next(&self) -> Option<i32> {
        // SAFETY: all zeroes are valid, and the kernel writes at most one of them.
        unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of_val(&info);
            let read = libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size);
            (read == size as isize).then_some(info.ssi_signo as i32)
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
