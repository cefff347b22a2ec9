//! From a spec to a running guest, and from its end to an exit that a person understands.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use contract::spec::NetworkMode;
use contract::status::Exit;
use wasm::run::{Output, Sink, Stream, run_with};
use wasm::spec as guest;

use super::CANNOT_START;
use crate::instance::record::{Spec, Streams};
use crate::logs::{LogWriter, Origin};

/// What the shim itself takes of the instance's memory, with room: it holds 0.5 MB of its own, the rest
/// is wasmtime's bookkeeping of a large component, pages of its code and of the log. So much less is
/// given to the guest, that its `malloc` fails before the kernel kills.
pub const OVERHEAD_BYTES: u64 = 4 << 20;
const GUEST_MEMORY_BYTES_MIN: u64 = 1 << 20;
/// A trap ends a process as `abort` does: 128 + SIGABRT.
const TRAPPED: u8 = 134;
/// 128 + SIGKILL, what the kernel would have done a little later.
pub(super) const OUT_OF_MEMORY: u8 = 137;

pub struct Ended {
    pub exit: Exit,
    /// What this process ends with.
    pub code: u8,
}

/// Runs the guest to its end; `Err` when the spec cannot be run by this shim at all.
pub fn run(spec: &Spec, on_start: impl FnOnce()) -> Result<Ended, String> {
    let config = config(spec)?;
    let log = open_log(spec).map(|log| Arc::new(Mutex::new(log)));
    let output = match (&spec.streams, &log) {
        (Streams::Inherit, _) => Output::Inherit,
        (_, Some(log)) => Output::Sink(sink(log.clone())),
        (_, None) => Output::Sink(Arc::new(|_, _| {})),
    };
    spec.cgroup.enter_cpu().map_err(|e| crate::instance::told(&e))?;
    // SAFETY: the agent compared the artefact's digest with the hub's signed document (or `try` compiled
    // it here), and keeps it in a directory that only it writes.
    let ended = unsafe { run_with(&config, &output, on_start) };
    let _ = std::io::stdout().flush();
    explain(&ended, log.as_ref());
    Ok(conclude(&ended, spec.assignment.run.limits.memory_bytes))
}

fn config(spec: &Spec) -> Result<guest::RunConfig, String> {
    let run = &spec.assignment.run;
    let name = spec.instance.workload.name.to_string();
    let mode = match run.network.mode {
        NetworkMode::None => guest::NetworkMode::None,
        NetworkMode::Host => guest::NetworkMode::Host,
        NetworkMode::Private => {
            return Err("network: private needs a container; a WebAssembly workload has none or host".into());
        }
    };
    let inherits = spec.streams == Streams::Inherit;
    Ok(guest::RunConfig {
        module: spec.artifact.clone(),
        args: std::iter::once(name).chain(run.args.iter().cloned()).collect(),
        env: run.env.clone().into_iter().collect(),
        preopens: spec.directories.iter().map(preopen).collect(),
        network: guest::Network {
            mode,
            connect: run.network.connect.clone(),
            listen: run.network.listen.clone(),
        },
        memory_limit_bytes: run
            .limits
            .memory_bytes
            .saturating_sub(OVERHEAD_BYTES)
            .max(GUEST_MEMORY_BYTES_MIN),
        stdin: if inherits { guest::Stdin::Inherit } else { guest::Stdin::Null },
    })
}

fn preopen(directory: &crate::instance::record::Directory) -> guest::Preopen {
    guest::Preopen {
        host_dir: directory.host.clone(),
        guest_path: directory.guest.clone(),
        read_only: directory.read_only,
    }
}

type SharedLog = Arc<Mutex<LogWriter>>;

/// A guest whose log cannot be opened (a full disk) runs all the same, unheard.
pub(super) fn open_log(spec: &Spec) -> Option<LogWriter> {
    let Streams::Log { directory, bytes_max } = &spec.streams else { return None };
    match LogWriter::create(directory, spec.run, *bytes_max) {
        Ok(log) => Some(log),
        Err(e) => {
            eprintln!("no log in {}: {e}", directory.display());
            None
        }
    }
}

fn sink(log: SharedLog) -> Sink {
    Arc::new(move |stream, bytes| {
        let origin = match stream {
            Stream::Stdout => Origin::Stdout,
            Stream::Stderr => Origin::Stderr,
        };
        log.lock().unwrap_or_else(PoisonError::into_inner).write(origin, bytes);
    })
}

/// What does not fit into a status goes where the guest's own words are.
fn explain(ended: &guest::Ended, log: Option<&SharedLog>) {
    let frames = match &ended.exit {
        guest::Exit::Trap { backtrace, .. } => backtrace.as_slice(),
        guest::Exit::Code(0) | guest::Exit::Failed { .. } => return,
        guest::Exit::Code(_) if ended.memory.denied == 0 => return,
        guest::Exit::Code(_) => &[],
    };
    let frames: String = frames.iter().map(|frame| format!("  at {frame}\n")).collect();
    match log {
        Some(log) => log.lock().unwrap_or_else(PoisonError::into_inner).remark(&format!("{ended}\n{frames}")),
        // Whoever tries it in the foreground is told the end by `try`.
        None => eprint!("{frames}"),
    }
}

/// A guest that was refused memory and then gave up ("unreachable" is how `abort` looks) ran out of it;
/// any other trap is told as it is, with the refusal beside it.
fn conclude(ended: &guest::Ended, limit_bytes: u64) -> Ended {
    match &ended.exit {
        guest::Exit::Code(code) => Ended { exit: Exit::Code { code: *code }, code: *code as u8 },
        guest::Exit::Trap { name, .. } if name == "UnreachableCodeReached" && ended.memory.denied > 0 => {
            Ended { exit: Exit::OutOfMemory { limit_bytes }, code: OUT_OF_MEMORY }
        }
        guest::Exit::Trap { .. } => {
            Ended { exit: Exit::Trap { message: contract::limits::clip(&ended.to_string()) }, code: TRAPPED }
        }
        guest::Exit::Failed { .. } => Ended {
            exit: Exit::StartFailed { message: contract::limits::clip(&ended.to_string()) },
            code: CANNOT_START,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit: guest::Exit, denied: u64) -> guest::Ended {
        guest::Ended { exit, memory: guest::MemoryUse { denied, ..guest::MemoryUse::default() } }
    }

    fn trap(name: &str) -> guest::Exit {
        guest::Exit::Trap { name: name.into(), message: format!("wasm trap: {name}"), backtrace: vec![] }
    }

    #[test]
    fn only_an_abort_after_a_refusal_is_out_of_memory() {
        let conclude = |e, denied| conclude(&ended(e, denied), 9).exit;
        assert_eq!(conclude(trap("UnreachableCodeReached"), 1), Exit::OutOfMemory { limit_bytes: 9 });
        assert!(matches!(conclude(trap("UnreachableCodeReached"), 0), Exit::Trap { .. }));
        let other = conclude(trap("IntegerDivisionByZero"), 1);
        assert!(matches!(&other, Exit::Trap { message } if message.contains("memory limit")), "{other}");
        assert_eq!(conclude(guest::Exit::Code(3), 1), Exit::Code { code: 3 });
    }
}
