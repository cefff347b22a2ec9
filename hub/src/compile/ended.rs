//! What the end of a worker means: the module's fault, in words for its author, or ours.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use contract::quantity::Bytes;
use rustix::process::Signal;

use super::{CompileFailure, Limits, worker};

pub fn judge(status: ExitStatus, stderr: &str, limits: &Limits) -> Result<(), CompileFailure> {
    let memory = || refused(format!("needs more than {} to compile", Bytes(limits.memory_bytes)));
    if status.success() {
        return Ok(());
    }
    if out_of_memory(stderr) {
        return memory();
    }
    match (status.code(), status.signal()) {
        (Some(worker::REFUSED), _) => refused(first_line(stderr)),
        (Some(worker::FAULT), _) => Err(CompileFailure::Fault(first_line(stderr))),
        (_, Some(signal)) if signal == Signal::XCPU.as_raw() => {
            refused(format!("takes more than {} s of processor time to compile", limits.cpu_secs))
        }
        // Somebody outside: the kernel when the machine is out of memory, or an operator.
        (_, Some(signal)) if signal == Signal::KILL.as_raw() || signal == Signal::TERM.as_raw() => {
            Err(CompileFailure::Fault(format!("the compile worker was killed (signal {signal})")))
        }
        (_, Some(signal)) => {
            refused(format!("the compiler crashed on it (signal {signal}): {}", first_line(stderr)))
        }
        (code, None) => {
            let code = code.unwrap_or(-1);
            refused(format!("the compiler failed on it (exit {code}): {}", first_line(stderr)))
        }
    }
}

/// Either Rust's allocator gave up, or the kernel refused a mapping and that became an error.
fn out_of_memory(stderr: &str) -> bool {
    stderr.contains("memory allocation of") || stderr.contains("(os error 12)")
}

fn refused(reason: String) -> Result<(), CompileFailure> {
    Err(CompileFailure::Refused(contract::limits::clip(&reason)))
}

fn first_line(stderr: &str) -> String {
    let line = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    contract::limits::clip(line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge_wait(wait: i32, stderr: &str) -> Result<(), CompileFailure> {
        judge(ExitStatus::from_raw(wait), stderr, &Limits::default())
    }

    #[test]
    fn each_end_has_its_name() {
        assert_eq!(judge_wait(0, ""), Ok(()));
        let text = |wait, stderr| judge_wait(wait, stderr).unwrap_err();
        let oom = text(6, "memory allocation of 123 bytes failed\n");
        assert_eq!(oom, CompileFailure::Refused("needs more than 1Gi to compile".into()));
        assert!(matches!(text(24, ""), CompileFailure::Refused(t) if t.contains("120 s of processor time")));
        assert!(matches!(text(9, ""), CompileFailure::Fault(_)));
        assert_eq!(text(3 << 8, "\nno\nmore"), CompileFailure::Refused("no".into()));
        assert_eq!(text(4 << 8, "x"), CompileFailure::Fault("x".into()));
        assert!(matches!(text(11, ""), CompileFailure::Refused(t) if t.contains("signal 11")));
        assert!(matches!(text(101 << 8, "panicked"), CompileFailure::Refused(t) if t.contains("panicked")));
    }
}
