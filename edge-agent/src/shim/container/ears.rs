//! What the container says, from its pipes into the log. The shim always reads on, whatever becomes of the
//! log's disk, so the container never waits longer than one write takes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::run::Streams;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::instance::record::{Spec, Streams as Wanted};
use crate::logs::{LogWriter, Origin};

/// One page more would be a page more of every instance's memory.
const PIECE_BYTES: usize = 4096;
/// What is still in a pipe when the container has ended: at most what a pipe holds (64 KiB, or 1 MiB where a
/// process asked for more).
const REST_PIECES: usize = (1 << 20) / PIECE_BYTES;

pub struct Ears {
    pipes: Vec<(Origin, OwnedFd)>,
    log: Option<LogWriter>,
}

pub fn open(spec: &Spec, log: Option<LogWriter>) -> io::Result<(Streams, Ears)> {
    if spec.streams == Wanted::Inherit {
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
        let (stdin, stdout) = (own(io::stdin().as_fd())?, own(io::stdout().as_fd())?);
        let streams = Streams { stdin, stdout, stderr: own(io::stderr().as_fd())? };
        return Ok((streams, Ears { pipes: Vec::new(), log }));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
    for end in [&out, &err] {
        rustix::io::ioctl_fionbio(end, true)?;
    }
    let streams = Streams { stdin: File::open("/dev/null")?.into(), stdout, stderr };
    Ok((streams, Ears { pipes: vec![(Origin::Stdout, out), (Origin::Stderr, err)], log }))
}

impl Ears {
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|(_, fd)| fd.as_fd())
    }

    /// One piece of each of these; a pipe that nobody writes to any more is closed.
    pub fn hear(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        let log = &mut self.log;
        self.pipes
            .retain(|(origin, fd)| !ready.next().is_some_and(|r| *r) || piece(log, *origin, fd).is_some());
    }

    /// Everything that was said before the end.
    pub fn hear_rest(&mut self) {
        for (origin, fd) in std::mem::take(&mut self.pipes) {
            for _ in 0..REST_PIECES {
                if piece(&mut self.log, origin, &fd).is_none_or(|bytes| bytes == 0) {
                    break;
                }
            }
        }
    }

    pub fn remark(&mut self, text: &str) {
        if let Some(log) = &mut self.log {
            log.remark(text);
        }
    }
}

/// None at the end of the stream; 0 bytes when there is nothing now.
fn piece(log: &mut Option<LogWriter>, origin: Origin, fd: &OwnedFd) -> Option<usize> {
    let mut buffer = [0; PIECE_BYTES];
    match rustix::io::read(fd, &mut buffer) {
        Ok(0) => None,
        Ok(bytes) => {
            if let Some(log) = log {
                log.write(origin, &buffer[..bytes]);
            }
            Some(bytes)
        }
        Err(Errno::AGAIN | Errno::INTR) => Some(0),
        Err(_) => None,
    }
}
