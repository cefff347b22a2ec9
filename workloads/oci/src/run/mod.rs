//! A container: from an image and settings to a process that is bounded, watched and cleared away.
//!
//! ```text
//! Container::create ─▶ clear what is stale ─▶ overlay, writable layer ─▶ spec ─▶ libcontainer creates
//!        start ─▶ runs ─▶ wait (pidfd) ─▶ oom_kill read ─▶ delete: state, cgroup, mounts
//! ```
//!
//! For a process with one thread only: libcontainer forks and goes on in the child as if nothing had
//! happened, and a lock that another thread held is never released there (it hung on the first create).
//! That process gets a mount namespace of its own, so that no kill leaves a mount behind.

mod bounds;
mod capability;
mod cgroup;
mod container;
mod disk;
mod exec;
pub mod join;
mod launch;
mod loopback;
mod names;
mod points;
mod root;
pub mod seccomp;
mod settings;
mod spec;
mod user;
mod volume;

use std::io;

pub use container::{Container, Ended, Place, Streams};
pub use points::mount_points;
pub use settings::{
    Capabilities, Device, Hidden, Limits, Mount, MountSource, Network, Seccomp, Settings, Writable,
};

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings or the image cannot be run like this; another try ends the same.
    #[error("{field}: {why}")]
    Refused { field: &'static str, why: String },
    #[error("{what}")]
    Fault { what: String, source: io::Error },
    /// In the words of the process that was to be inside.
    #[error("{why}")]
    Joined { why: String },
    /// In libcontainer's words.
    #[error("{what}: {why}")]
    Runtime { what: &'static str, why: String },
}

pub fn refused(field: &'static str, why: impl Into<String>) -> RunError {
    RunError::Refused { field, why: why.into() }
}

pub fn fault(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |source| RunError::Fault { what, source }
}
