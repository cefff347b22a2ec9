//! `edge-agent try`: one artefact in the foreground, exactly as a workload would run: the same shim, the
//! same engine, the same cgroup limits. Neither hub nor agent needs to run.
//!
//! Exit codes: the guest's own; 134 it trapped; 137 it ran out of memory or was killed; 128 + n it was
//! ended by signal n; 125 it could not be started; 2 the arguments are wrong.

mod args;
mod artifact;
mod board;
mod change;
mod session;

use std::process::ExitCode;

pub use args::TryArgs;

/// As for `docker run` and `env`: the trying failed, not what was tried.
const CANNOT_TRY: u8 = 125;

/// As clap ends.
const WRONG_USAGE: u8 = 2;

pub fn main(args: TryArgs) -> ExitCode {
    if let Err(e) = args.check() {
        eprintln!("edge-agent: {e:#}");
        return ExitCode::from(WRONG_USAGE);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(session::run(&args)));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("edge-agent: {e:#}");
            ExitCode::from(CANNOT_TRY)
        }
    }
}
