//! Turns a guest as its author built it into code for one kind of board.
//!
//! Runs in the hub's worker process, under limits that the worker sets first ([`limits`]): Cranelift is
//! given modules of strangers, and its memory and time are only bounded from outside.

pub mod inspect;
pub mod limits;
mod names;

pub use inspect::{Inspected, Kind, Refused, inspect};

use crate::profile::engine;
use crate::target::Target;

#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The author's to mend, found without compiling.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The author's to mend: not valid WebAssembly, or it needs a feature that no board has.
    #[error("not valid WebAssembly for the boards here: {0}")]
    Invalid(String),
    /// Ours to mend: no engine for the target.
    #[error("no engine for {target}: {message}")]
    Engine { target: Target, message: String },
}

/// Compiles a module or component. The result loads on [`Target::engine_id`] and nowhere else.
pub fn compile(bytes: &[u8], target: Target) -> Result<Vec<u8>, CompileError> {
    let kind = inspect(bytes)?.kind;
    let engine = engine(target).map_err(|e| CompileError::Engine { target, message: format!("{e:#}") })?;
    let compiled = match kind {
        Kind::Module => engine.precompile_module(bytes),
        Kind::Component => engine.precompile_component(bytes),
    };
    compiled.map_err(|e| CompileError::Invalid(format!("{e:#}")))
}
