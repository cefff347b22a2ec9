//! Loads, links and starts: a preview 1 module or a preview 2 component.

use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi::{I32Exit, p1, p2};

use super::memory::{Limiter, Meter};
use super::network::Rules;
use super::output::Output;
use super::wasi::{ComponentState, ModuleState, builder};
use super::{Failure, exit, names};
use crate::spec::{Exit, RunConfig, Stage};

/// # Safety
/// As for [`super::run`].
pub(super) async unsafe fn run_module(
    engine: &Engine,
    cfg: &RunConfig,
    output: &Output,
    memory: &Meter,
    network: Rules,
    on_start: impl FnOnce(),
) -> Result<Exit, Failure> {
    if !network.is_empty() {
        output.note("network: a preview 1 module cannot open sockets; build a component (wasm32-wasip2)");
    }
    let wasi = builder(cfg, output, None)?.build_p1();
    // SAFETY: the caller's promise.
    let module =
        unsafe { Module::deserialize_file(engine, &cfg.module) }.map_err(Failure::wasm(Stage::Load))?;
    let mut linker = Linker::<ModuleState>::new(engine);
    p1::add_to_linker_async(&mut linker, |s| &mut s.wasi).map_err(Failure::wasm(Stage::Link))?;
    allow_any_exit_code(&mut linker).map_err(Failure::wasm(Stage::Link))?;
    let pre = linker.instantiate_pre(&module).map_err(Failure::wasm(Stage::Link))?;
    let mut store = Store::new(engine, ModuleState { wasi, limiter: memory.limiter() });
    store.limiter(|s| &mut s.limiter as &mut Limiter);
    let instance = match pre.instantiate_async(&mut store).await {
        Ok(instance) => instance,
        // A `start` section already runs guest code; what it does is the guest's.
        Err(e) if exit::is_guest(&e) => return Ok(exit::of_error(&e)),
        Err(e) => return Err(instantiate_failure(memory, &e)),
    };
    let entry =
        instance.get_typed_func::<(), ()>(&mut store, "_start").map_err(Failure::wasm(Stage::Instantiate))?;
    on_start();
    let ended = entry.call_async(&mut store, ()).await;
    Ok(ended.map_or_else(|e| exit::of_error(&e), |()| Exit::Code(0)))
}

/// # Safety
/// As for [`super::run`].
pub(super) async unsafe fn run_component(
    engine: &Engine,
    cfg: &RunConfig,
    output: &Output,
    memory: &Meter,
    network: Rules,
    on_start: impl FnOnce(),
) -> Result<Exit, Failure> {
    let wasi = builder(cfg, output, Some(&network))?.build();
    // SAFETY: the caller's promise.
    let component =
        unsafe { Component::deserialize_file(engine, &cfg.module) }.map_err(Failure::wasm(Stage::Load))?;
    let mut linker = ComponentLinker::<ComponentState>::new(engine);
    p2::add_to_linker_async(&mut linker).map_err(Failure::wasm(Stage::Link))?;
    names::shadow_lookup(&mut linker).map_err(Failure::wasm(Stage::Link))?;
    let pre = linker.instantiate_pre(&component).map_err(Failure::wasm(Stage::Link))?;
    let pre = CommandPre::new(pre).map_err(Failure::wasm(Stage::Link))?;
    let mut store = Store::new(engine, ComponentState::new(wasi, memory.limiter(), network));
    store.limiter(|s| &mut s.limiter as &mut Limiter);
    let command: Command = match pre.instantiate_async(&mut store).await {
        Ok(command) => command,
        Err(e) if exit::is_guest(&e) => return Ok(exit::of_error(&e)),
        Err(e) => return Err(instantiate_failure(memory, &e)),
    };
    on_start();
    Ok(match command.wasi_cli_run().call_run(&mut store).await {
        Ok(Ok(())) => Exit::Code(0),
        Ok(Err(())) => Exit::Code(1),
        Err(e) => exit::of_error(&e),
    })
}

/// wasmtime-wasi takes an exit with 126 or more for a fault of the guest; `exit(255)` is common and is
/// its word. Eight bits, as everywhere on Unix.
fn allow_any_exit_code(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code & 0xff).into())
    })?;
    Ok(())
}

/// wasmtime's text speaks of pages and of "memory limits"; ours names the limit and the need.
fn instantiate_failure(memory: &Meter, e: &wasmtime::Error) -> Failure {
    let message = match memory.denied_text() {
        Some(text) => text,
        None => format!("{e:#}"),
    };
    Failure::new(Stage::Instantiate, message)
}
