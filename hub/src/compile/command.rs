//! `hub compile x.wasm -o out`: the hub's compiler for people, with no hub running. The same worker
//! under the same limits, so that what compiles here compiles there.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use wasm::{EngineId, Target};

use super::{Limits, Workers};

/// Compile a module or component for a board, as the hub would.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    /// The .wasm file as built, or a .wat as written.
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
    let input = Binary::of(&args.input, &aside)?;
    runtime
        .block_on(workers.compile(&input.0, &aside, target))
        .with_context(|| format!("{} was not compiled", args.input.display()))?;
    std::fs::rename(&aside, &args.output)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let size = std::fs::metadata(&args.output)?.len();
    eprintln!("{} ({size} bytes) for {}", args.output.display(), target.engine_id());
    Ok(())
}

/// The file as a worker takes it; one made from text goes when this does.
struct Binary<'a>(Cow<'a, Path>);

impl Binary<'_> {
    /// Text is the user's own, so it is read here and not by a worker; what comes of it is bounded as ever.
    fn of<'a>(input: &'a Path, aside: &Path) -> anyhow::Result<Binary<'a>> {
        let bytes = std::fs::read(input).with_context(|| format!("cannot read {}", input.display()))?;
        let is_text = wat::Detect::from_bytes(&bytes) == wat::Detect::WasmText;
        if !is_text {
            return Ok(Binary(Cow::Borrowed(input)));
        }
        let wasm = wat::Parser::new().parse_bytes(Some(input), &bytes).map(Cow::into_owned)?;
        let made = Binary(Cow::Owned(aside.with_extension(format!("wasm-{}", std::process::id()))));
        std::fs::write(&made.0, wasm).with_context(|| format!("cannot write {}", made.0.display()))?;
        Ok(made)
    }
}

impl Drop for Binary<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
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
