//! How does a command inside the container end? A process of our own joins the container and runs it
//! (`edge-agent shim exec`): joining forks, and the agent never does.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::silence;
use crate::instance::{Ending, Handle, open_pid};

/// Of what it says, for the message.
const OUTPUT_BYTES_MAX: usize = 4 << 10;
/// How long `shim exec` may take to begin and, at its time-out, to end what it began.
pub const MARGIN: Duration = Duration::from_secs(2);
/// What `shim exec` ends with when the command's time was up.
const TIMED_OUT: i32 = 124;

/// None: it could not even be asked, which says nothing about the container.
pub async fn run(exe: &Path, dir: &Path, command: &[String], limit: Duration) -> Option<Result<(), String>> {
    let (mut asked, mut output) = match Asked::spawn(exe, dir, command, limit) {
        Ok(spawned) => spawned,
        Err(why) => {
            eprintln!("edge-agent: a probe's command cannot be started: {why}");
            return None;
        }
    };
    let mut said = Vec::new();
    let ended = {
        let ended = async { asked.handle.ended().await };
        let listens = listen(&mut output, &mut said);
        let both = async {
            tokio::pin!(ended, listens);
            tokio::select! {
                () = &mut ended => {}
                // Nobody can say anything any more; a child that was left behind may keep it open, so the
                // end of the command does not wait for the end of its words.
                () = &mut listens => ended.await,
            }
        };
        timeout(limit + MARGIN, both).await
    };
    if ended.is_err() {
        return Some(Err(silence(limit)));
    }
    last_words(&output, &mut said);
    let text = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
    let after = if text.is_empty() { String::new() } else { format!(": {text}") };
    Some(match asked.ending() {
        Some(Ending::Code(0)) => Ok(()),
        Some(Ending::Code(TIMED_OUT)) => Err(silence(limit)),
        Some(Ending::Code(code)) => Err(format!("exit code {code}{after}")),
        Some(Ending::Signal(signal)) => Err(format!("killed by signal {signal}{after}")),
        None => Err(format!("its end is not known{after}")),
    })
}

/// What more is said is read and thrown away, so that nobody waits to say it.
async fn listen(output: &mut Receiver, said: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    loop {
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => keep(said, &buffer[..n]),
        }
    }
}

/// What lay there when its end was seen: both may be told in one moment.
fn last_words(output: &Receiver, said: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while said.len() < OUTPUT_BYTES_MAX {
        match output.try_read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => keep(said, &buffer[..n]),
        }
    }
}

fn keep(said: &mut Vec<u8>, words: &[u8]) {
    let room = OUTPUT_BYTES_MAX - said.len();
    said.extend_from_slice(&words[..words.len().min(room)]);
}

/// Killed when nobody waits for it any more; what it began goes with it.
struct Asked {
    handle: Handle,
    ended: bool,
    _child: Child,
}

impl Asked {
    fn spawn(exe: &Path, dir: &Path, words: &[String], limit: Duration) -> io::Result<(Asked, Receiver)> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        let write = File::from(write);
        let mut command = Command::new(exe);
        command.args(["shim", "exec"]).arg(dir);
        command.arg("--timeout-ms").arg(limit.as_millis().to_string()).arg("--").args(words);
        command.env_clear().stdin(Stdio::null()).stdout(write.try_clone()?).stderr(write);
        let child = command.spawn()?;
        let handle = Handle::new(open_pid(child.id())?)?;
        Ok((Asked { handle, ended: false, _child: child }, Receiver::from_owned_fd(read)?))
    }

    fn ending(&mut self) -> Option<Ending> {
        self.ended = true;
        self.handle.ending()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.handle.kill();
        let handle = self.handle.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                handle.ended().await;
                let _ = handle.ending(); // reaped
            });
        }
    }
}
