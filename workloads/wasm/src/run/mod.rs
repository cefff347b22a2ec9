//! Runs one guest in this process, to its end: what a shim does once its cgroup stands.
//!
//! One process, one guest, one thread: the runtime is tokio's current-thread one and file calls block it,
//! for nobody else waits. (The synchronous WASI linker would start a multi-thread runtime behind our
//! back.) Two things cost a second thread, for as long as they last: a guest that reads an inherited
//! stdin, and a name lookup.

mod exit;
mod memory;
mod module;
mod names;
mod network;
mod output;
mod wasi;

pub use output::{Output, Sink, Stream};

use std::io::Write;

use tokio::runtime::Builder;
use wasmtime::{Engine, Precompiled};

use crate::profile::engine;
use crate::spec::{Ended, Exit, RunConfig, Stage};
use crate::target::native_target;

/// A start that failed, before it is an [`Exit`].
struct Failure {
    stage: Stage,
    message: String,
}

impl Failure {
    fn new(stage: Stage, message: impl ToString) -> Self {
        Failure { stage, message: message.to_string() }
    }

    fn wasm(stage: Stage) -> impl Fn(wasmtime::Error) -> Failure {
        move |e| Failure::new(stage, format!("{e:#}"))
    }
}

/// Runs `cfg.module` until it ends. `on_start` is called once, when the guest stands in memory and its
/// first instruction comes next; it is not called when the start fails, nor when a
/// module's own `start` section already ends it.
///
/// Writes to the file descriptors 0, 1 and 2 as they are: whoever calls has set them up. Nothing here
/// interrupts a guest; to stop it, end the process.
///
/// # Safety
///
/// Compiled code is machine code: loading a forged file executes it outside the sandbox, and a file that
/// is changed or cut short while it runs is undefined behaviour (it is mapped, not read). `cfg.module`
/// must therefore be a file
/// * whose digest comes from a document signed by the hub, compared with the content by the caller, and
/// * that nobody else can write, from that comparison until this function returns.
pub unsafe fn run(cfg: &RunConfig, on_start: impl FnOnce()) -> Ended {
    // SAFETY: the caller's promise, passed on unchanged.
    unsafe { run_with(cfg, &Output::Inherit, on_start) }
}

/// As [`run`], with the guest's output going to `output`.
///
/// # Safety
/// As for [`run`].
pub unsafe fn run_with(cfg: &RunConfig, output: &Output, on_start: impl FnOnce()) -> Ended {
    let memory = memory::Meter::new(cfg.memory_limit_bytes);
    // SAFETY: the caller's promise, passed on unchanged.
    let exit = unsafe { start(cfg, output, &memory, on_start) };
    let exit = exit.unwrap_or_else(|f| Exit::Failed { stage: f.stage, message: f.message });
    // The guest's last line may lack its end and so still wait in our buffer.
    let _ = std::io::stdout().flush();
    Ended { exit, memory: memory.used() }
}

/// # Safety
/// As for [`run`].
unsafe fn start(
    cfg: &RunConfig,
    output: &Output,
    memory: &memory::Meter,
    on_start: impl FnOnce(),
) -> Result<Exit, Failure> {
    if cfg.args.is_empty() {
        return Err(Failure::new(Stage::Config, "args: must start with the workload's name"));
    }
    let network = network::Rules::parse(&cfg.network).map_err(|e| Failure::new(Stage::Config, e))?;
    let engine = engine(native_target()).map_err(Failure::wasm(Stage::Load))?;
    let kind = detect(cfg)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .map_err(|e| Failure::new(Stage::Config, format!("no event loop: {e}")))?;
    let ended = runtime.block_on(async {
        // SAFETY: the caller's promise, passed on unchanged.
        unsafe {
            match kind {
                Precompiled::Module => {
                    module::run_module(&engine, cfg, output, memory, network, on_start).await
                }
                Precompiled::Component => {
                    module::run_component(&engine, cfg, output, memory, network, on_start).await
                }
            }
        }
    });
    // A name lookup that hangs must not hold up the exit record.
    runtime.shutdown_background();
    ended
}

fn detect(cfg: &RunConfig) -> Result<Precompiled, Failure> {
    let path = cfg.module.display();
    let not_compiled = || {
        Failure::new(
            Stage::Load,
            format!("{path} is not code compiled by the hub for {}", native_target().engine_id()),
        )
    };
    std::fs::File::open(&cfg.module).map_err(|e| Failure::new(Stage::Load, format!("{path}: {e}")))?;
    match Engine::detect_precompiled_file(&cfg.module) {
        Ok(Some(kind)) => Ok(kind),
        Ok(None) | Err(_) => Err(not_compiled()),
    }
}
