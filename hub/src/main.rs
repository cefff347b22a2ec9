//! The `hub` program: which word on the command line leads where.

use std::process::ExitCode;

use hub::cli::{self, Role};
use hub::serve::args::ServeArgs;
use hub::{compile, failpoint, serve};

fn main() -> ExitCode {
    match cli::main() {
        // Before anything else: a worker limits itself first.
        Role::CompileWorker(args) => compile::worker::main(&args),
        Role::Serve(args) => serve(&args),
        Role::Compile(args) => told(compile::command::main(&args), 1),
        Role::Done(code) => code,
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    // Times are the journal's to add; a hub in a terminal is read as it happens.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        // It would complain on the same stderr, and panic when nobody reads that any more.
        .log_internal_errors(false)
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
