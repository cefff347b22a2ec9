//! A development tool: `oci-join STATE [--tty] [--timeout-ms N] [--user U] [--workdir D] -- CMD…` runs one further
//! command in a container, for the tests. With `--tty` what the terminal says goes to stdout.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use skerry_oci::run::Streams;
use skerry_oci::run::join::{Command, Io, Joined, TIMED_OUT, Work, join};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let state = PathBuf::from(args.next().expect("a state directory"));
    let (mut command, mut tty, mut timeout) = (Command::default(), false, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--" => break,
            "--tty" => tty = true,
            "--timeout-ms" => {
                timeout = args.next().map(|n| Duration::from_millis(n.parse().expect("a number")))
            }
            "--user" => command.user = args.next(),
            "--workdir" => command.workdir = args.next(),
            other => panic!("{other}"),
        }
    }
    command.args = args.collect();
    let io = if tty { Io::Terminal { columns: 80, rows: 24 } } else { Io::Streams(streams()) };
    let joined = match join(&state, Work::Command(command), io) {
        Ok(joined) => joined,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(e.code());
        }
    };
    ExitCode::from(end(joined, timeout))
}

fn end(joined: Joined, timeout: Option<Duration>) -> u8 {
    if let Some(terminal) = &joined.terminal {
        copy(File::from(terminal.try_clone().expect("a descriptor")));
    }
    match joined.ends_within(timeout) {
        true => joined.wait(),
        false => {
            drop(joined);
            TIMED_OUT
        }
    }
}

fn copy(mut from: File) {
    let mut buffer = [0; 4096];
    while let Ok(n) = from.read(&mut buffer) {
        std::io::stdout().write_all(&buffer[..n]).expect("stdout");
    }
}

fn streams() -> Streams {
    let own = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().expect("a descriptor");
    Streams {
        stdin: own(&std::io::stdin()),
        stdout: own(&std::io::stdout()),
        stderr: own(&std::io::stderr()),
    }
}
