//! A session as the agent sees it: a process that it starts, and ends when nobody wants it any more.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::instance::identity::open_pid;
use crate::instance::pidfd::Handle;
use crate::session::Order;

/// Of what a session's process says when it could not begin.
const WORDS_BYTES_MAX: u64 = 4096;

/// Runs to the session's end. Dropped, it ends the session: its process dies, and with it the command.
pub async fn session(exe: &Path, order: &Order) -> Result<(), String> {
    let fault = |e: io::Error| format!("the session's process: {e}");
    let text = serde_json::to_vec(order).map_err(|e| fault(e.into()))?;
    let mut child = spawn(exe).map_err(fault)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let running =
        Running { handle: Handle::new(open_pid(child.id()).map_err(fault)?).map_err(fault)?, child };
    let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
        return Err(fault(io::ErrorKind::BrokenPipe.into()));
    };
    let (mut tell, hear) = open(stdin.into(), stdout.into()).map_err(fault)?;
    tell.write_all(&text).await.map_err(fault)?;
    drop(tell);
    let mut words = String::new();
    let _ = hear.take(WORDS_BYTES_MAX).read_to_string(&mut words).await;
    running.handle.ended().await;
    match words.trim() {
        "" => Ok(()),
        words => Err(words.to_string()),
    }
}

fn spawn(exe: &Path) -> io::Result<Child> {
    let mut command = Command::new(exe);
    command.args(["shim", "session"]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
}

fn open(stdin: std::os::fd::OwnedFd, stdout: std::os::fd::OwnedFd) -> io::Result<(Sender, Receiver)> {
    rustix::io::ioctl_fionbio(&stdin, true)?;
    rustix::io::ioctl_fionbio(&stdout, true)?;
    Ok((Sender::from_owned_fd_unchecked(stdin)?, Receiver::from_owned_fd_unchecked(stdout)?))
}

struct Running {
    handle: Handle,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.kill();
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // It dies at once; only its zombie is left for a moment.
        let handle = self.handle.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                handle.ended().await;
                let _ = handle.ending();
            });
        }
    }
}
