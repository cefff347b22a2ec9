//! The kernel filter on a container's system calls, made from Docker's default profile.
//!
//! libcontainer without its C library ignores `linux.seccomp` without a word, so the filter is made here
//! and applied by `exec` as the last thing before the program. Two filters, for one knows two answers
//! only: calls that are not allowed give EPERM; `clone3` and calls newer than the profile give ENOSYS,
//! so that C libraries fall back to older ones. A program for another architecture (32-bit on 64) is
//! killed at its first call.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod calls;

use std::collections::BTreeSet;

use seccompiler::BpfProgram;

use super::settings::Seccomp;
use super::{RunError, refused};

/// What to apply, in this order; `capabilities` (with `CAP_`) open the calls that need them anyway.
pub fn filters(seccomp: Seccomp, capabilities: &BTreeSet<String>) -> Result<Vec<BpfProgram>, RunError> {
    match seccomp {
        Seccomp::Off => Ok(Vec::new()),
        Seccomp::Default => default(capabilities).map_err(|why| refused("seccomp", why)),
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn default(_: &BTreeSet<String>) -> Result<Vec<BpfProgram>, String> {
    Err("there is no system call filter for this processor; running without one must be said by name".into())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn default(capabilities: &BTreeSet<String>) -> Result<Vec<BpfProgram>, String> {
    use std::collections::BTreeMap;

    use seccompiler::SeccompAction::{Allow, Errno};
    use seccompiler::SeccompFilter;

    let arch = std::env::consts::ARCH.try_into().map_err(|e| format!("{e}"))?;
    let program = |rules: BTreeMap<i64, _>, mismatch, matched| {
        let filter = SeccompFilter::new(rules, mismatch, matched, arch).map_err(|e| e.to_string())?;
        filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
    };
    let allowed = calls::allowed(capabilities).map_err(|e| e.to_string())?;
    let unknown = calls::unknown(capabilities).map(|n| (n, vec![])).collect();
    Ok(vec![
        program(allowed, Errno(libc::EPERM as u32), Allow)?,
        program(unknown, Allow, Errno(libc::ENOSYS as u32))?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_fit_into_the_kernel() {
        let none = filters(Seccomp::Default, &BTreeSet::new()).unwrap();
        let all =
            filters(Seccomp::Default, &BTreeSet::from(["CAP_SYS_ADMIN".into(), "CAP_SYS_PTRACE".into()]))
                .unwrap();
        for program in none.iter().chain(&all) {
            assert!(program.len() < 4096, "{} instructions; the kernel takes 4,096", program.len());
        }
        assert!(all[0].len() > none[0].len());
        assert!(filters(Seccomp::Off, &BTreeSet::new()).unwrap().is_empty());
    }
}
