//! The child's side: limit itself, then look at or compile one file. Nothing before the limits touches
//! the file, and nothing here knows of the hub's data.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use wasm::Target;
use wasm::compile::{CompileError, Kind, compile, inspect, limits};

/// Exit codes; anything else is a crash.
pub const REFUSED: i32 = 3;
pub const FAULT: i32 = 4;

/// Printed for what was found.
pub const MODULE: &str = "module";
pub const COMPONENT: &str = "component";

/// `hub compile-worker`: without an output only looks.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {
    #[arg(long)]
    memory_bytes: u64,
    #[arg(long)]
    cpu_secs: u64,
    #[arg(long, requires = "output")]
    target: Option<String>,
    #[arg(long, requires = "target")]
    output: Option<PathBuf>,
    input: PathBuf,
}

enum Failure {
    Refused(String),
    Fault(String),
}

pub fn main(args: &WorkerArgs) -> ExitCode {
    let (code, text) = match work(args) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Refused(text)) => (REFUSED, text),
        Err(Failure::Fault(text)) => (FAULT, text),
    };
    // One line: the parent shows the first.
    eprintln!("{}", text.replace('\n', " "));
    ExitCode::from(code as u8)
}

fn work(args: &WorkerArgs) -> Result<(), Failure> {
    bound(args)?;
    let io = |path: &PathBuf| {
        let path = path.display().to_string();
        move |e: std::io::Error| Failure::Fault(format!("{path}: {e}"))
    };
    let bytes = std::fs::read(&args.input).map_err(io(&args.input))?;
    let kind = inspect(&bytes).map_err(|e| Failure::Refused(e.to_string()))?.kind;
    if let (Some(target), Some(output)) = (&args.target, &args.output) {
        let target: Target =
            target.parse().map_err(|e: wasm::target::UnknownTarget| Failure::Fault(e.to_string()))?;
        let code = compile(&bytes, target).map_err(failure)?;
        let mut file = File::create_new(output).map_err(io(output))?;
        file.write_all(&code).map_err(io(output))?;
    }
    println!("{}", if kind == Kind::Module { MODULE } else { COMPONENT });
    Ok(())
}

fn failure(e: CompileError) -> Failure {
    match e {
        CompileError::Refused(_) | CompileError::Invalid(_) => Failure::Refused(e.to_string()),
        CompileError::Engine { .. } => Failure::Fault(e.to_string()),
    }
}

/// Die with the hub, give way to everybody, and never grow past the limits.
fn bound(args: &WorkerArgs) -> Result<(), Failure> {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let _ = rustix::process::nice(10);
    limits::apply(args.memory_bytes, args.cpu_secs).map_err(|e| Failure::Fault(e.to_string()))
}
