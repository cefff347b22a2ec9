//! `edge-agent shim exec RUN_DIR [--tty] [--timeout-ms N] [--user U] [--workdir D] -- CMD…`: one further command in a
//! container that runs, for probes and for whoever sits at the board. A process of its own: joining forks, and the
//! agent never does.
//!
//! Ends with the command's code; 124 when its time was up, 125 when it could not be joined, 126 and 127 as shells
//! have it. Killed, or its parent, it leaves nothing of the command.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use oci::run::Streams;
use oci::run::join::{CANNOT_JOIN, Command, Io, Joined, TIMED_OUT, Work, join};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::instance::record::RunDir;
use crate::instance::told;

const USAGE: &str =
    "edge-agent shim exec RUN_DIR [--tty] [--timeout-ms N] [--user U] [--workdir D] -- COMMAND [ARGUMENT]...";

#[derive(Debug, Default, PartialEq)]
struct Asked {
    dir: String,
    tty: bool,
    timeout: Option<Duration>,
    user: Option<String>,
    workdir: Option<String>,
    args: Vec<String>,
}

pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    // Whoever asks is gone: nobody waits for the command any more.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let asked = match parse(args) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\nusage: {USAGE}");
            return ExitCode::from(CANNOT_JOIN);
        }
    };
    match begin(&asked) {
        Ok(joined) => ExitCode::from(end(joined, asked.timeout)),
        Err((code, why)) => {
            eprintln!("{why}");
            ExitCode::from(code)
        }
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let mut args = args.map(|a| a.into_string().map_err(|a| format!("{a:?} is no UTF-8")));
    let mut asked = Asked { dir: args.next().ok_or("RUN_DIR is missing")??, ..Asked::default() };
    while let Some(flag) = args.next().transpose()? {
        let mut value = || args.next().unwrap_or_else(|| Err(format!("{flag} needs a value")));
        match flag.as_str() {
            "--" => {
                asked.args = args.collect::<Result<_, _>>()?;
                return Ok(asked);
            }
            "--tty" => asked.tty = true,
            "--timeout-ms" => {
                let text = value()?;
                let millis =
                    text.parse().map_err(|_| format!("--timeout-ms: '{text}' is no whole number"))?;
                asked.timeout = Some(Duration::from_millis(millis));
            }
            "--user" => asked.user = Some(value()?),
            "--workdir" => asked.workdir = Some(value()?),
            other => return Err(format!("'{other}' is none of its flags; the command comes after --")),
        }
    }
    Err("-- and the command are missing".into())
}

fn begin(asked: &Asked) -> Result<Joined, (u8, String)> {
    let own = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
    let streams = || -> std::io::Result<Streams> {
        Ok(Streams {
            stdin: own(&std::io::stdin())?,
            stdout: own(&std::io::stdout())?,
            stderr: own(&std::io::stderr())?,
        })
    };
    let io = match asked.tty {
        true => terminal(),
        false => Io::Streams(streams().map_err(|e| (CANNOT_JOIN, format!("its streams: {e}")))?),
    };
    let command = Command {
        args: asked.args.clone(),
        env: Vec::new(),
        user: asked.user.clone(),
        workdir: asked.workdir.clone(),
    };
    let dir = RunDir(asked.dir.clone().into());
    join(&dir.container_state(), Work::Command(command), io).map_err(|e| (e.code(), told(&e)))
}

/// As large as the one that asks.
fn terminal() -> Io {
    let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok().filter(|s| s.ws_col > 0);
    let (columns, rows) = size.map_or((80, 24), |s| (s.ws_col, s.ws_row));
    Io::Terminal { columns, rows }
}

fn end(mut joined: Joined, timeout: Option<Duration>) -> u8 {
    let deadline = timeout.map(|t| Instant::now() + t);
    let in_time = match joined.terminal.take() {
        Some(terminal) => copy(terminal, &joined, deadline),
        None => joined.ends_within(timeout),
    };
    if in_time {
        return joined.wait();
    }
    drop(joined);
    eprintln!("it did not end within {} ms, and was ended", timeout.unwrap_or_default().as_millis());
    TIMED_OUT
}

/// Between our streams and its terminal, until nobody has that open any more. Whether that was in time.
fn copy(terminal: OwnedFd, joined: &Joined, deadline: Option<Instant>) -> bool {
    let stdin = std::io::stdin();
    let mut terminal = File::from(terminal);
    let (mut buffer, mut input_open) = ([0; 16 << 10], true);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let wait = left.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: t.subsec_nanos() as _ });
        let pidfd = joined.pidfd();
        let mut fds = [
            PollFd::new(&terminal, PollFlags::IN),
            PollFd::new(&pidfd, PollFlags::IN),
            PollFd::new(&stdin, if input_open { PollFlags::IN } else { PollFlags::empty() }),
        ];
        match poll(&mut fds, wait.as_ref()) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => continue,
            _ => {}
        }
        let [said, ended, asked] = [0, 1, 2].map(|n| !fds[n].revents().is_empty());
        if said {
            // EIO is how the kernel says that all have closed it.
            match terminal.read(&mut buffer) {
                Ok(n) if n > 0 => drop(std::io::stdout().write_all(&buffer[..n])),
                _ => return true,
            }
        } else if ended {
            return true;
        }
        if asked && input_open {
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(n) if n > 0 => drop(terminal.write_all(&buffer[..n])),
                _ => input_open = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn flags_come_before_and_the_command_is_taken_as_it_is() {
        let asked =
            parsed("/run/x --tty --timeout-ms 500 --user web --workdir /srv -- ls --tty -- x").unwrap();
        let args = ["ls", "--tty", "--", "x"].map(String::from).to_vec();
        let (user, workdir) = (Some("web".into()), Some("/srv".into()));
        let timeout = Some(Duration::from_millis(500));
        assert_eq!(asked, Asked { dir: "/run/x".into(), tty: true, timeout, user, workdir, args });
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, why) in [
            ("", "RUN_DIR is missing"),
            ("/run/x", "-- and the command are missing"),
            ("/run/x ls", "the command comes after --"),
            ("/run/x --user", "--user needs a value"),
            ("/run/x --timeout-ms soon -- ls", "no whole number"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
