//! The `hub` program: which word on the command line leads where.

use std::process::ExitCode;

use clap::Parser;
use hub::compile::command::CompileArgs;
use hub::compile::worker::WorkerArgs;
use hub::serve::args::ServeArgs;
use hub::{compile, failpoint, serve};

/// Skerry's hub: runs a fleet's control side, and talks to it.
#[derive(Parser)]
#[command(name = "hub", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Serve(ServeArgs),
    Compile(CompileArgs),
    /// Compiles one file under limits and ends; started by the hub.
    #[command(hide = true)]
    CompileWorker(WorkerArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        // Before anything else: a worker limits itself first.
        Command::CompileWorker(args) => compile::worker::main(&args),
        Command::Serve(args) => serve(&args),
        Command::Compile(args) => told(compile::command::main(&args), 1),
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    // Times are the journal's to add; a hub in a terminal is read as it happens.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .init();
    let served = failpoint::arm().map_err(anyhow::Error::msg).and_then(|()| serve::main(args));
    told(served, serve::exit::REFUSED_TO_START)
}

fn told(done: anyhow::Result<()>, code: i32) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hub: {e:#}");
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
    }
}
