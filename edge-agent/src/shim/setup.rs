//! What the process must be before it is a shim: its own session, its own descriptors, its own name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::process::{Signal, set_child_subreaper, set_parent_process_death_signal, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdout};

use crate::instance::record::{RunDir, Spec, StatusLine, Streams};

/// Descriptors from here on are not ours: whatever the agent was started with.
const FIRST_FOREIGN_FD: u32 = 4;
/// Under memory pressure of the whole board a guest goes before the agent does.
const OOM_SCORE_ADJ: &str = "500";

/// Where the agent that started us listens, until the one line is said.
pub struct StatusPipe(Option<File>);

impl StatusPipe {
    /// An agent that died meanwhile reads nothing; its successor reads the files.
    pub fn say(&mut self, line: &StatusLine) {
        if let Some(mut pipe) = self.0.take() {
            let _ = pipe.write_all(&serde_json::to_vec(line).expect("a status line serialises"));
        }
    }
}

/// The status pipe comes as stdout, so that the agent spawns without a hook between fork and exec; `try`,
/// whose guest needs the real stdout, names another descriptor.
pub fn process(dir: &RunDir, spec: Option<&Spec>, status_fd: Option<i32>) -> StatusPipe {
    let _ = setsid();
    let _ = set_child_subreaper(Some(rustix::process::getpid()));
    let _ = rustix::thread::set_name(c"skerry-shim");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let _ = std::env::set_current_dir("/");
    let pipe = keep_status(status_fd);
    close_foreign();
    if spec.is_some_and(|s| s.streams == Streams::Inherit) {
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
    } else {
        own_streams(dir);
    }
    StatusPipe(pipe)
}

fn keep_status(status_fd: Option<i32>) -> Option<File> {
    const KEPT: i32 = FIRST_FOREIGN_FD as i32 - 1;
    let from = status_fd.unwrap_or(1);
    if from != KEPT {
        // SAFETY: nothing in this process uses descriptor 3 yet; it has opened and closed spec.json only.
        (unsafe { libc::dup3(from, KEPT, libc::O_CLOEXEC) } == KEPT).then_some(())?;
    }
    // SAFETY: just made, and nobody else's.
    Some(File::from(unsafe { OwnedFd::from_raw_fd(KEPT) }))
}

fn close_foreign() {
    // SAFETY: no descriptor from here on belongs to a Rust object of this process yet.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST_FOREIGN_FD, libc::c_uint::MAX, 0) };
}

/// stdout and stderr of the shim itself: what it says in distress, beside its records.
fn own_streams(dir: &RunDir) {
    let log = OpenOptions::new().create(true).append(true).open(dir.shim_log());
    let Ok(log) = log.or_else(|_| OpenOptions::new().write(true).open("/dev/null")) else { return };
    let _ = dup2_stdout(log.as_fd());
    let _ = dup2_stderr(log.as_fd());
}
