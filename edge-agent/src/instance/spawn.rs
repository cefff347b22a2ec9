//! Starting the shim's process and hearing the one line it says.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::identity::open_pid;
use super::pidfd::Handle;
use super::record::{RunDir, StatusLine};

/// A status line names a failure in at most a clipped text; JSON escapes may make it six times longer.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A shim whose guest may not run yet. Dropped before [`Spawned::keep`], it is killed and reaped.
pub struct Spawned {
    pub pid: u32,
    handle: Option<Handle>,
    status: Receiver,
}

/// Nothing runs between fork and exec, so std may use `posix_spawn`: no page of the agent is copied, and
/// no lock of another thread can be found held. The shim does the rest itself.
pub fn spawn(exe: &Path, dir: &RunDir, inherit_streams: bool) -> io::Result<Spawned> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    let mut command = Command::new(exe);
    command.arg("shim").arg(dir.path()).env_clear();
    let passed = ["SKERRY_FAILPOINT", "RUST_BACKTRACE"];
    command.envs(passed.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let held = if inherit_streams { Some(pass_on(&mut command, write)?) } else { plain(&mut command, write) };
    let child = command.spawn()?;
    drop((command, held));
    let pid = child.id();
    let handle = Handle::new(open_pid(pid)?)?;
    Ok(Spawned { pid, handle: Some(handle), status: Receiver::from_owned_fd(read)? })
}

fn plain(command: &mut Command, write: OwnedFd) -> Option<OwnedFd> {
    command.stdin(Stdio::null()).stdout(File::from(write)).stderr(Stdio::null());
    None
}

/// `try` spawns one shim at a time, so a descriptor without close-on-exec cannot leak into another.
fn pass_on(command: &mut Command, write: OwnedFd) -> io::Result<OwnedFd> {
    fcntl_setfd(&write, FdFlags::empty())?;
    command.arg("--status-fd").arg(write.as_raw_fd().to_string());
    Ok(write)
}

impl Spawned {
    /// What the shim says, or nothing if it died before it said anything.
    pub async fn status(&mut self) -> io::Result<Option<StatusLine>> {
        let mut line = Vec::new();
        (&mut self.status).take(LINE_BYTES_MAX).read_to_end(&mut line).await?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone().expect("held until kept or dropped")
    }

    /// The guest runs: from here on it is somebody else's.
    pub fn keep(mut self) -> Handle {
        self.handle.take().expect("held until kept or dropped")
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        handle.kill();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                handle.ended().await;
                let _ = handle.ending();
            });
        }
    }
}
