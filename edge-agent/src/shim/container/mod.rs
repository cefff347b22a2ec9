//! A container of this shim: created, started, heard and handed its signals, in one loop that only wakes when
//! something happens.

mod ears;
mod settings;
mod signals;

use contract::limits::clip;
use contract::status::Exit;
use oci::layer::Rootfs;
use oci::run::{Container, Ended as End, Place, RunError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, getppid};

use super::guest::{OUT_OF_MEMORY, open_log};
use crate::instance::failpoint::reach;
use crate::instance::record::{RunDir, Spec, Streams};
use crate::instance::told;
use crate::run::frugal;
use ears::Ears;
use signals::Signals;

pub struct Ended {
    pub exit: Exit,
    /// What this process ends with.
    pub code: u8,
    /// To be deleted.
    pub container: Container,
}

pub struct Cannot {
    pub message: String,
    pub again: bool,
}

impl Cannot {
    fn again(what: &str, e: impl std::fmt::Display) -> Cannot {
        Cannot { message: format!("{what}: {e}"), again: true }
    }
}

impl From<RunError> for Cannot {
    fn from(e: RunError) -> Cannot {
        Cannot { message: clip(&told(&e)), again: !matches!(e, RunError::Refused { .. }) }
    }
}

/// To the container's end.
pub fn run(dir: &RunDir, spec: &Spec, on_start: impl FnOnce()) -> Result<Ended, Cannot> {
    let parent = getppid();
    let signals = Signals::hold().map_err(|e| Cannot::again("signals", e))?;
    let (streams, mut ears) = ears::open(spec, open_log(spec)).map_err(|e| Cannot::again("streams", e))?;
    let mut container = create(dir, spec, streams)?;
    reach("before-start");
    if let Err(e) = container.start() {
        let _ = container.delete();
        return Err(e.into());
    }
    on_start();
    reach("after-start");
    frugal::give_back();
    let tried_by = (spec.streams == Streams::Inherit).then_some(parent).flatten();
    let heard = listen(&container, &signals, &mut ears, tried_by);
    let end =
        match heard.map_err(|e| Cannot::again("waiting for its end", e)).and_then(|()| Ok(container.wait()?))
        {
            Ok(end) => end,
            Err(cannot) => {
                let _ = container.delete();
                return Err(cannot);
            }
        };
    ears.hear_rest();
    let (exit, code) = conclude(&end, spec.assignment.run.limits.memory_bytes);
    remark(&end, &exit, &mut ears);
    Ok(Ended { exit, code, container })
}

fn create(dir: &RunDir, spec: &Spec, streams: oci::run::Streams) -> Result<Container, Cannot> {
    let wrong = || Cannot { message: "spec.json: container is missing".into(), again: false };
    let asked = spec.container.as_ref().ok_or_else(wrong)?;
    let place = Place {
        bundle: dir.bundle(),
        state: dir.container_state(),
        neighbours: Some(asked.neighbours.clone()),
    };
    let rootfs = Rootfs { layers: asked.layers.clone(), notes: Vec::new() };
    let settings = settings::of(dir, spec, asked);
    Ok(Container::create(&settings, &asked.image, &rootfs, &place, streams)?)
}

/// Until its first process has ended.
fn listen(
    container: &Container,
    signals: &Signals,
    ears: &mut Ears,
    tried_by: Option<Pid>,
) -> rustix::io::Result<()> {
    loop {
        let ready = {
            let wait = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            let first = [std::os::fd::AsFd::as_fd(signals), container.pidfd()];
            let mut fds: Vec<_> = first.into_iter().chain(ears.fds()).map(wait).collect();
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>()
        };
        if ready[0] {
            pass_on(container, signals, tried_by);
        }
        ears.hear(&ready[2..]);
        if ready[1] {
            return Ok(());
        }
    }
}

/// Who tries in the foreground and dies cannot ask a second time.
fn pass_on(container: &Container, signals: &Signals, tried_by: Option<Pid>) {
    while let Some(number) = signals.next() {
        let orphaned = tried_by.is_some() && getppid() != tried_by;
        // SAFETY: the kernel told of it, so there is such a signal.
        let signal = if orphaned { Signal::KILL } else { unsafe { Signal::from_raw_unchecked(number) } };
        let _ = container.signal(signal);
    }
}

/// What the kernel kills for want of memory dies of KILL, and a shell hands that on as its own code.
fn conclude(end: &End, limit_bytes: u64) -> (Exit, u8) {
    let killed = end.signal == Some(libc::SIGKILL) || end.code == i32::from(OUT_OF_MEMORY);
    match (end.oom_kills > 0 && killed, end.signal) {
        (true, _) => (Exit::OutOfMemory { limit_bytes }, OUT_OF_MEMORY),
        (false, Some(signal)) => (Exit::Signal { signal }, end.code as u8),
        (false, None) => (Exit::Code { code: end.code }, end.code as u8),
    }
}

/// Where the container's own words are, for whoever wonders.
fn remark(end: &End, exit: &Exit, ears: &mut Ears) {
    if end.oom_kills > 0 {
        ears.remark(&format!(
            "{exit}; the kernel killed {} of its processes for want of memory",
            end.oom_kills
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_what_was_killed_for_it() {
        let exit = |code, signal, oom_kills| conclude(&End { code, signal, oom_kills }, 9).0;
        let out_of_memory = Exit::OutOfMemory { limit_bytes: 9 };
        assert_eq!(exit(137, Some(9), 1), out_of_memory);
        assert_eq!(exit(137, None, 1), out_of_memory, "a shell tells its child's end");
        assert_eq!(exit(137, Some(9), 0), Exit::Signal { signal: 9 });
        assert_eq!(exit(1, None, 1), Exit::Code { code: 1 }, "it went on without a child");
        assert_eq!(exit(143, Some(15), 0), Exit::Signal { signal: 15 });
    }
}
