//! A terminal of the container: from its own `/dev/pts`, so that it has a name there.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, fstatfs, major, minor, open, openat2};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::target::Target;
use crate::run::{RunError, Streams, fault, refused};

const DEVPTS: u64 = 0x1cd1;
/// A process that is killed closes its descriptors in their order: this one after the pipe that tells the keeper, who
/// would else take the hang-up that follows for the command's own end.
const HIGH_FD: i32 = 256;

/// Our side, and the container's.
pub fn open_in(target: &Target, columns: u16, rows: u16) -> Result<(OwnedFd, Streams), RunError> {
    let said = |what: &'static str| move |e: rustix::io::Errno| fault(what)(e.into());
    let root = format!("/proc/{}/root", target.pid);
    let root = open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(said("the container's root"))?;
    // Its links lead nowhere outside of it, and what is no terminal is not opened.
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let named = openat2(&root, "dev/pts/ptmx", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(said("the container's /dev/pts/ptmx"))?;
    let device = fstat(&named).map_err(said("the container's /dev/pts/ptmx"))?.st_rdev;
    let system = fstatfs(&named).map_err(said("the container's /dev/pts/ptmx"))?.f_type;
    if (major(device), minor(device), system as u64) != (5, 2, DEVPTS) {
        return Err(refused("container", "its /dev/pts/ptmx makes no terminals"));
    }
    let path = format!("/proc/self/fd/{}", named.as_raw_fd());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = open(path, flags, Mode::empty()).map_err(said("a terminal"))?;
    unlockpt(&ours).map_err(said("a terminal"))?;
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).map_err(said("a terminal"))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = rustix::io::fcntl_dupfd_cloexec(&ours, HIGH_FD).map_err(said("a terminal"))?;
    let theirs = File::from(ioctl_tiocgptpeer(&ours, flags).map_err(said("a terminal"))?);
    let again = || theirs.try_clone().map_err(fault("a terminal"));
    let streams = Streams { stdin: again()?.into(), stdout: again()?.into(), stderr: theirs.into() };
    Ok((ours, streams))
}
