//! What `edge-agent` can be asked to do, and what an exit code of it means.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::check::CheckArgs;
use crate::collect::CollectArgs;
use crate::identity::command::JoinArgs;
use crate::logs::LogsArgs;
use crate::run::RunArgs;
use crate::status::StatusArgs;
use crate::try_cmd::TryArgs;
use crate::volumes::VolumesArgs;

/// Runs this board's share of a fleet's workloads, and goes on when nobody answers.
#[derive(Debug, Parser)]
#[command(name = "edge-agent", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Try something without any hub:
  edge-agent try hello.wasm                     run a module under the limits a workload has
  edge-agent try hello.wasm --memory 16Mi --watch
  edge-agent logs press-guard --follow          what an instance says, agent alive or not")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: work from disk first, then the hub
    Run(Box<RunArgs>),
    /// Make this board one of a hub's: edge-agent join <token>
    Join(JoinArgs),
    /// What this board runs and waits for; asks the agent, needs no hub
    Status(StatusArgs),
    /// Whether this board can do its work, and what to do if not; needs neither agent nor hub
    #[command(
        after_help = "Exit code: 0 when nothing fails, 1 when something fails, 2 for a wrong command line."
    )]
    Check(CheckArgs),
    /// One file with what is needed to find a fault on this board, and no secrets
    Collect(Box<CollectArgs>),
    /// Run one artefact in the foreground, exactly as a workload would run
    Try(TryArgs),
    /// What an instance of this board said; needs neither agent nor hub
    Logs(LogsArgs),
    /// The volumes on this board, those of deleted workloads too; `volumes rm` gives them up
    Volumes(VolumesArgs),
    /// The engine id that compiled code must carry to run here
    Engine,
    /// Version and engine
    Version,
}

/// Where the agent keeps what must survive.
#[derive(Debug, Clone, Args)]
pub struct StateDir {
    /// The agent's state directory
    #[arg(
        long = "state-dir",
        global = true,
        value_name = "DIR",
        env = "SKERRY_STATE_DIR",
        default_value = "/var/lib/skerry/agent"
    )]
    pub state_dir: PathBuf,
}

/// Where the agent is asked.
#[derive(Debug, Clone, Args)]
pub struct RunDir {
    /// The run directory of the agent that is asked
    #[arg(
        long = "run-dir",
        global = true,
        value_name = "DIR",
        env = "SKERRY_RUN_DIR",
        default_value = "/run/skerry/agent"
    )]
    pub run_dir: PathBuf,
}

/// Any failure that has no code of its own.
const FAILURE: u8 = 1;

pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(command, Command::Run(_) | Command::Try(_)) {
        // `edge-agent status | head` is no error. SAFETY: before any thread, and no handler is replaced.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    match command {
        Command::Run(args) => crate::run::main(*args),
        Command::Join(args) => crate::identity::command::main(args).unwrap_or_else(|e| report(Err(e))),
        Command::Status(args) => crate::status::main(args).unwrap_or_else(|e| report(Err(e))),
        Command::Check(args) => crate::check::main(args).unwrap_or_else(|e| report(Err(e))),
        Command::Collect(args) => crate::collect::main(*args).unwrap_or_else(|e| report(Err(e))),
        Command::Try(args) => crate::try_cmd::main(args),
        Command::Logs(args) => report(crate::logs::main(args)),
        Command::Volumes(args) => crate::volumes::main(args).unwrap_or_else(|e| report(Err(e))),
        Command::Engine => {
            println!("{}", wasm::native_engine());
            ExitCode::SUCCESS
        }
        Command::Version => {
            println!("edge-agent {}\nengine {}", env!("CARGO_PKG_VERSION"), wasm::native_engine());
            ExitCode::SUCCESS
        }
    }
}

/// What a command line of ours told an agent.
pub(crate) fn run_args(words: impl Iterator<Item = String>) -> Option<RunArgs> {
    match Cli::try_parse_from(words).ok()?.command {
        Command::Run(args) => Some(*args),
        _ => None,
    }
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("edge-agent: {e:#}");
            ExitCode::from(FAILURE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
