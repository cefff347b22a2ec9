//! How a compile worker bounds itself before it reads a stranger's module.
//!
//! Measured on x86_64 with `tests/hostile.rs` (its ignored test prints this), CPU time and peak RSS:
//!
//! | module | time | memory |
//! |---|---|---|
//! | `sensor`, an honest component of 199 KB | 0.6 s | 21 MB |
//! | one function of 7 MB, straight on | 0.6 s | 189 MB |
//! | 60 MB of code in 60 functions | 6.5 s | 106 MB |
//! | 50,000 functions, 200 KB | 2.1 s | 277 MB |
//! | 900,000 functions, 3.6 MB (unlimited) | 48 s | 4.8 GB |
//! | 400 variables tangled 100 / 1,000 times in one function, 0.4 / 3.6 MB (unlimited) | 6.4 / 203 s | 78 / 685 MB |
//!
//! Memory grows with the number of functions (5.4 KB each), time with the square of a tangled function.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Room for 190,000 functions, many times what the largest interpreters and databases have.
pub const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// CPU seconds for one target: 200 times the honest component above.
pub const CPU_SECS_DEFAULT: u64 = 120;

/// Address space that is not data: the binary itself, its libraries, the stack.
const TEXT_BYTES: u64 = 256 << 20;

#[derive(Debug, thiserror::Error)]
#[error("cannot limit {what} to {value}")]
pub struct LimitError {
    pub what: &'static str,
    pub value: u64,
    pub source: std::io::Error,
}

/// Limits this process for the rest of its life; the first thing a worker does.
///
/// Too much memory ends it by SIGABRT ("memory allocation of n bytes failed" on stderr), too much CPU by
/// SIGXCPU, and a second later by SIGKILL. No core files.
pub fn apply(memory_bytes: u64, cpu_secs: u64) -> Result<(), LimitError> {
    lower("data", Resource::Data, memory_bytes, memory_bytes)?;
    let space = memory_bytes.saturating_add(TEXT_BYTES);
    lower("address space", Resource::As, space, space)?;
    lower("cpu seconds", Resource::Cpu, cpu_secs, cpu_secs.saturating_add(1))?;
    lower("core size", Resource::Core, 0, 0)
}

/// A limit that is already tighter stays.
fn lower(what: &'static str, resource: Resource, soft: u64, hard: u64) -> Result<(), LimitError> {
    let now = getrlimit(resource);
    let least = |wanted: u64, present: Option<u64>| Some(present.map_or(wanted, |p| p.min(wanted)));
    let maximum = least(hard, now.maximum);
    let current = least(soft, now.current).min(maximum);
    setrlimit(resource, Rlimit { current, maximum }).map_err(|e| LimitError {
        what,
        value: soft,
        source: e.into(),
    })
}
