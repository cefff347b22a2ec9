//! `hub compile x.wasm -o out`: the hub's compiler for people, with no hub running. The same worker
//! under the same limits, so that what compiles here compiles there.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use wasm::{EngineId, Target};

use super::{Limits, Workers};

/// Compile a module or component for a board, as the hub would.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    /// The .wasm file as built.
    input: PathBuf,
    /// Where the compiled code goes.
    #[arg(short, long)]
    output: PathBuf,
    /// The engine id to compile for; `edge-agent version` prints a board's.
    #[arg(long, conflicts_with = "target")]
    engine: Option<String>,
    /// The kind of board: x86_64-unknown-linux-musl, aarch64-unknown-linux-musl,
    /// riscv64gc-unknown-linux-musl, pulley32 (armv7) or pulley64. This machine's when absent.
    #[arg(long)]
    target: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// How much a worker may take.
#[derive(Debug, Clone, clap::Args)]
pub struct LimitArgs {
    /// Memory of one compile worker, such as 512Mi.
    #[arg(long, value_name = "SIZE", default_value = "1Gi")]
    pub compile_memory: contract::quantity::Bytes,
    /// Processor time of one compile worker, such as 2m; it may take three times as long by the clock.
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub compile_time: contract::quantity::Duration,
}

impl LimitArgs {
    pub fn limits(&self) -> Limits {
        let cpu_secs = (self.compile_time.ms / 1000).max(1);
        let wall = std::time::Duration::from_secs(cpu_secs.saturating_mul(3));
        Limits { memory_bytes: self.compile_memory.0, cpu_secs, wall }
    }
}

pub fn main(args: &CompileArgs) -> anyhow::Result<()> {
    let target = target(args)?;
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    let workers = Workers::new(exe, args.limits.limits());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Beside the target, so that nobody ever sees half a file under its name.
    let aside = args.output.with_extension(format!("part-{}", std::process::id()));
    runtime
        .block_on(workers.compile(&args.input, &aside, target))
        .with_context(|| format!("{} was not compiled", args.input.display()))?;
    std::fs::rename(&aside, &args.output)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let size = std::fs::metadata(&args.output)?.len();
    eprintln!("{} ({size} bytes) for {}", args.output.display(), target.engine_id());
    Ok(())
}

fn target(args: &CompileArgs) -> anyhow::Result<Target> {
    if let Some(name) = &args.target {
        return Ok(name.parse()?);
    }
    let Some(id) = &args.engine else { return Ok(wasm::target::native_target()) };
    let served = super::engines().join("\n  ");
    match EngineId::from(id.clone()).served_target() {
        Some(target) => Ok(target),
        None => bail!("no compiler for engine '{id}'; this hub compiles for\n  {served}"),
    }
}
