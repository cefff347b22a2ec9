//! How an error out of wasmtime reads as the end of a guest.

use wasmtime::{Error, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::spec::{BACKTRACE_FRAMES_MAX, Exit};

/// Whether the guest itself ended (by exit or trap), not our handling of it.
pub(super) fn is_guest(e: &Error) -> bool {
    e.downcast_ref::<I32Exit>().is_some() || e.downcast_ref::<Trap>().is_some()
}

pub(super) fn of_error(e: &Error) -> Exit {
    if let Some(I32Exit(code)) = e.downcast_ref::<I32Exit>() {
        return Exit::Code(*code);
    }
    let (name, message) = match e.downcast_ref::<Trap>() {
        Some(trap) => (format!("{trap:?}"), trap.to_string()),
        None => ("Host".to_string(), format!("host call failed: {}", e.root_cause())),
    };
    Exit::Trap { name, message, backtrace: backtrace(e) }
}

fn backtrace(e: &Error) -> Vec<String> {
    let frames = e.downcast_ref::<WasmBacktrace>().map(|b| b.frames()).unwrap_or_default();
    frames.iter().take(BACKTRACE_FRAMES_MAX).map(frame).collect()
}

/// `module!function@0x1a2b`; the offset is into the .wasm, for tools that know its debug information.
fn frame(frame: &wasmtime::FrameInfo) -> String {
    let module = frame.module().name().unwrap_or("wasm");
    let function = frame
        .func_name()
        .map_or_else(|| format!("function {}", frame.func_index()), |n| n.chars().take(120).collect());
    match frame.module_offset() {
        Some(offset) => format!("{module}!{function}@{offset:#x}"),
        None => format!("{module}!{function}"),
    }
}
