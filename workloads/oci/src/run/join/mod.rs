//! A further process in a container that runs: for a person, for a probe, for copying files.
//!
//! ```text
//! this process:  find the container's first process ─▶ cgroup of its own below the container's ─▶ fork ─▶ wait
//! its child:     the container's process ids ─▶ fork ─▶ reap orphans; end them all when told to, or when orphaned
//! its child:     cgroups ─▶ namespaces ─▶ terminal ─▶ user, capabilities, filter ─▶ the command
//! ```
//!
//! What is begun together ends together: all that a command starts is in one cgroup, and nothing of it is left when
//! [`Joined`] is dropped or this process dies, whatever was forked away. Not libcontainer's: that one starts two processes, reads the mount table for each
//! hierarchy, knows no filter without its C library and no such cgroup; and its wait loses ends.
//!
//! As creating, for a process with one thread only: it forks.

mod child;
mod group;
mod keeper;
mod privilege;
mod pty;
mod target;

pub(super) use target::write_record;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::container::refuse_threads;
use super::{RunError, Streams, fault, refused};
use child::Child;
use group::Group;
use target::Target;

/// What is to happen inside.
pub enum Work {
    Command(Command),
    /// Of this program itself, as the container's root and with all rights; the code of its end.
    Own(Box<dyn FnOnce() -> u8>),
}

#[derive(Debug, Clone, Default)]
pub struct Command {
    pub args: Vec<String>,
    /// Over the container's own.
    pub env: Vec<(String, String)>,
    /// Names are those of the image. The container's own user when there is none.
    pub user: Option<String>,
    /// The container's own when there is none.
    pub workdir: Option<String>,
}

pub enum Io {
    Streams(Streams),
    /// One of the container's own; `Joined::terminal` is the other side.
    Terminal {
        columns: u16,
        rows: u16,
    },
}

/// Why nothing was begun, or how it ended at once, in the words and with the code that shells use.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Run(#[from] RunError),
    /// 126 or 127.
    #[error("{why}")]
    Command { code: u8, why: String },
}

/// "Could not begin", as `docker exec` and `env` have it.
pub const CANNOT_JOIN: u8 = 125;
/// As `timeout` has it.
pub const TIMED_OUT: u8 = 124;
const SAID_BYTES_MAX: u64 = 4096;

impl JoinError {
    pub fn code(&self) -> u8 {
        match self {
            JoinError::Run(_) => CANNOT_JOIN,
            JoinError::Command { code, .. } => *code,
        }
    }
}

/// Dropped, it ends the command and all that it started.
#[derive(Debug)]
pub struct Joined {
    keeper: OwnedFd,
    /// Where the process reads and writes, if it has a terminal.
    pub terminal: Option<OwnedFd>,
    alive: Option<OwnedFd>,
}

/// `state` is that of the `Place` that the container was created with.
pub fn join(state: &Path, work: Work, io: Io) -> Result<Joined, JoinError> {
    refuse_threads()?;
    // Nobody in the container may look into this program while it is there and not yet another.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| fault("dumpable")(e.into()))?;
    let target = Target::find(state)?;
    let filters = match &work {
        Work::Command(command) if command.args.first().is_none_or(String::is_empty) => {
            return Err(refused("command", "there is none; say what to run").into());
        }
        Work::Command(_) => target.filters()?,
        Work::Own(_) => Vec::new(),
    };
    let (terminal, streams) = match io {
        Io::Streams(streams) => (None, streams),
        Io::Terminal { columns, rows } => {
            pty::open_in(&target, columns, rows).map(|(ours, theirs)| (Some(ours), theirs))?
        }
    };
    let group = Group::make(&target.cgroups)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| fault("pipe")(e.into()));
    let ((heard, said), (watched, alive)) = (pipe()?, pipe()?);
    target.enter_pids()?;
    // SAFETY: this process has one thread, so the child finds no lock that is held for ever.
    let pid = match unsafe { libc::fork() } {
        0 => {
            drop((alive, heard));
            keeper::stand_between(&group, &watched);
            child::live(
                Child { target, work, filters, streams, has_terminal: terminal.is_some(), said },
                &group,
            )
        }
        -1 => return Err(fault("fork")(std::io::Error::last_os_error()).into()),
        pid => Pid::from_raw(pid).expect("fork gives a number"),
    };
    drop((said, streams));
    target.leave_pids()?;
    let keeper = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| fault("pidfd")(e.into()))?;
    let joined = Joined { keeper, terminal, alive: Some(alive) };
    begun(heard)?;
    Ok(joined)
}

/// The child's pipe closes by itself when the command begins.
fn begun(heard: OwnedFd) -> Result<(), JoinError> {
    let mut said = Vec::new();
    let _ = File::from(heard).take(SAID_BYTES_MAX).read_to_end(&mut said);
    let Some((&code, why)) = said.split_first() else { return Ok(()) };
    let why = String::from_utf8_lossy(why).into_owned();
    Err(match code {
        CANNOT_JOIN => RunError::Joined { why }.into(),
        code => JoinError::Command { code, why },
    })
}

impl Joined {
    /// Becomes readable when the command has ended; for the caller's own loop.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.keeper.as_fd()
    }

    /// Whether it ended within that time; without one it waits for ever.
    pub fn ends_within(&self, timeout: Option<Duration>) -> bool {
        let timeout =
            timeout.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos() as _ });
        poll(&mut [PollFd::new(&self.keeper, PollFlags::IN)], timeout.as_ref()).is_ok_and(|n| n > 0)
    }

    /// Blocks to the command's end, and says its code: 128 + the signal's number when one ended it. What it left
    /// in the background goes on as the container's own, as with Docker.
    pub fn wait(mut self) -> u8 {
        self.reap()
    }

    fn reap(&mut self) -> u8 {
        loop {
            match waitid(WaitId::PidFd(self.keeper.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    self.alive = None;
                    let signal = status.terminating_signal().map(|s| 128 + s);
                    return status.exit_status().or(signal).unwrap_or(-1) as u8;
                }
                Err(rustix::io::Errno::INTR) | Ok(None) => {}
                Err(_) => return CANNOT_JOIN,
            }
        }
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if self.alive.take().is_some() {
            self.reap();
        }
    }
}
