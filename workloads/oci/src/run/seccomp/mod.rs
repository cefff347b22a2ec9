//! The kernel filter on a container's system calls, made from Docker's default profile.
//!
//! libcontainer without its C library ignores `linux.seccomp` without a word, so the filter is made here
//! and applied by `exec` as the last thing before the program. Calls that are not allowed give EPERM;
//! `clone3` and calls newer than the profile give ENOSYS, so that C libraries fall back to older ones. A
//! program for another architecture (32-bit on 64) is killed at its first call.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod program;
#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;

use std::collections::BTreeSet;

use seccompiler::BpfProgram;

use super::settings::Seccomp;
use super::{RunError, refused};

/// Whether there is a filter for this processor.
pub const AVAILABLE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// What to apply, if anything; `capabilities` (with `CAP_`) open the calls that need them anyway.
pub fn filters(seccomp: Seccomp, capabilities: &BTreeSet<String>) -> Result<Vec<BpfProgram>, RunError> {
    match seccomp {
        Seccomp::Off => Ok(Vec::new()),
        Seccomp::Default => Ok(vec![default(capabilities).map_err(|why| refused("seccomp", why))?]),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn default(_: &BTreeSet<String>) -> Result<BpfProgram, String> {
    Err("there is no system call filter for this processor; running without one must be said by name".into())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn default(capabilities: &BTreeSet<String>) -> Result<BpfProgram, String> {
    Ok(program::compile(&calls::ranges(capabilities)))
}
