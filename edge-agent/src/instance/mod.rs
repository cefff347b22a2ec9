//! Runs of instances on this board: start, watch, stop, remove, and find again after a crash.
//!
//! ```text
//!  agent: directory ─▶ spec.json ─▶ cgroup, mounts ─▶ spawn ─▶ (status pipe) ─▶ Started
//!  shim:                              enter cgroup ─▶ shim.json ─▶ guest ─▶ exit.json
//!  agent: pidfd readable ─▶ conclude ─▶ Exited    …    Remove: kill ─▶ unmount ─▶ cgroup ─▶ directory
//! ```
//!
//! Whatever dies at whichever arrow ([`failpoint`]) leaves a directory or a cgroup that names the run;
//! [`Runtime::scan`] lists them, [`Runtime::remove`] clears them, in an order in which the name goes last.

pub mod failpoint;
pub mod identity;
pub mod record;
pub mod signal;

mod container;
pub(crate) mod data;
mod device;
mod exit;
mod mounts;
pub(crate) mod pidfd;
mod place;
mod remove;
mod runtime;
mod scan;
mod spawn;
mod start;
mod volume;

pub use container::{Artifact, Image};
pub use data::Loaded;
pub use device::identity as device_identity;
pub(crate) use identity::open_pid;
pub(crate) use pidfd::{Ending, Handle, readable};
pub use place::{LOG_BYTES_MAX, Places, cgroup_name};
pub(crate) use runtime::lock_patiently;
pub use runtime::{Exited, RemoveError, Runtime, Settings, StartError, Started, StopError};
pub(crate) use volume::attached_to;

use contract::Millis;

/// CLOCK_BOOTTIME: never jumps, counts through suspend.
pub fn boottime_ms() -> Millis {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// An error with all it comes from, in one line.
pub(crate) fn told(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
