//! WebAssembly for both sides: how the hub compiles a guest and how the shim on a board runs it.
//!
//! The hub builds this with `compile` (Cranelift for every board, no runtime), the shim with `run`
//! (runtime and WASI, no compiler). [`target`] and `profile` are the part that must be the same on
//! both sides, or compiled code does not load.
//!
//! | | |
//! |---|---|
//! | [`target`] | which engines there are, their ids, which one this binary runs |
//! | `profile` | the engine settings that compiled code depends on |
//! | [`spec`] | plain data: what to run, and how it ended |
//! | `compile` | refuse what cannot run, compile the rest |
//! | `run` | load compiled code and run it with WASI |

#[cfg(feature = "compile")]
pub mod compile;
#[cfg(any(feature = "compile", feature = "run"))]
pub mod profile;
#[cfg(feature = "run")]
pub mod run;
pub mod spec;
pub mod target;

pub use target::{EngineId, Target, native_engine};
