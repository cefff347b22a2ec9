//! The process between this one and the command: it sees that all ends that was started.
//!
//! It is of the container's process ids, and so can be the one to whom orphans go: an image's first process is
//! seldom an init, and what a command leaves behind would stay a zombie there for ever, counted against the
//! container's processes. And it outlives whoever joined by a moment: killed or not, nothing is left of them.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, wait};

use super::group::Group;

const KILLED: u8 = 128 + 9;
const PATIENCE_SECS: u32 = 2;
/// Descriptors from here on are those of the one who forked.
const FIRST_FOREIGN_FD: u32 = 6;

/// Returns in the command's process only; `alive` closes when the one who joined wants it to end, or is gone.
pub fn stand_between(group: &Group, alive: &OwnedFd) {
    let _ = set_child_subreaper(Some(rustix::process::getpid()));
    let children = watch_children();
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => exit(super::CANNOT_JOIN),
        pid => {
            let command = Pid::from_raw(pid).expect("fork gives a number");
            let kept = [children.as_raw_fd(), alive.as_raw_fd(), group.lock().as_raw_fd()];
            let [children, alive, _lock] = keep_only(kept);
            exit(keep(command, group, &children, &alive))
        }
    }
}

fn keep(command: Pid, group: &Group, children: &OwnedFd, alive: &OwnedFd) -> u8 {
    loop {
        let _ = poll(&mut [PollFd::new(children, PollFlags::IN), PollFd::new(alive, PollFlags::IN)], None);
        drain(children);
        let ended = reap(command);
        // Asked after the command's end: that may have come of the joiner's (its terminal is gone, see `pty`).
        if is_closed(alive) {
            if ended.is_none() {
                let _ = kill_process(command, Signal::KILL);
            }
            group.kill();
            reap_all(children);
            return KILLED;
        }
        if let Some(code) = ended {
            group.give_to_container();
            return code;
        }
    }
}

/// The killed leave their cgroup a moment before they can be reaped; one that the kernel does not let go of is not
/// waited for.
fn reap_all(children: &OwnedFd) {
    let mut tenths_left = PATIENCE_SECS * 10;
    while tenths_left > 0 {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => {
                tenths_left -= 1;
                let tenth = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                let _ = poll(&mut [PollFd::new(children, PollFlags::IN)], Some(&tenth));
                drain(children);
            }
            Err(_) => return,
        }
    }
}

/// Nobody ever writes to it.
fn is_closed(alive: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(alive, PollFlags::IN)], Some(&now)).is_ok_and(|n| n > 0)
}

fn drain(signals: &OwnedFd) {
    let _ = rustix::io::read(signals, &mut [0; 128][..]);
}

/// All that have ended; the command's code, if it was among them.
fn reap(command: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == command {
            let by_signal = || status.terminating_signal().map(|s| 128 + s);
            code = Some(status.exit_status().or_else(by_signal).unwrap_or(-1) as u8);
        }
    }
    code
}

/// Becomes readable when a child ends.
fn watch_children() -> OwnedFd {
    // SAFETY: plain calls on a local set; the descriptor is new and nobody else's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            exit(super::CANNOT_JOIN);
        }
        OwnedFd::from_raw_fd(fd)
    }
}

/// Pipes of the command, held here too, would never be seen to close.
fn keep_only<const N: usize>(kept: [i32; N]) -> [OwnedFd; N] {
    // SAFETY: what is closed belongs to values that this process never touches again, for it ends by `_exit`;
    // what is kept is moved out of the way first, and is nobody else's afterwards.
    unsafe {
        let high = kept.map(|fd| libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 64));
        let mut at = FIRST_FOREIGN_FD as i32 - N as i32;
        let low = high.map(|fd| {
            libc::dup3(fd, at, libc::O_CLOEXEC);
            at += 1;
            OwnedFd::from_raw_fd(at - 1)
        });
        libc::syscall(libc::SYS_close_range, FIRST_FOREIGN_FD, libc::c_uint::MAX, 0);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        (0..3).for_each(|n| {
            libc::dup2(null, n);
        });
        libc::close(null);
        low
    }
}

fn exit(code: u8) -> ! {
    // SAFETY: no destructor of the forked process may run here.
    unsafe { libc::_exit(code.into()) }
}
