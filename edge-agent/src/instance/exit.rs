//! How a run ended, from what it left: its own record, else the kernel's count of OOM kills, else how
//! the process died, else what it said last. Never a guess: without evidence it is `Unknown`.

use contract::limits::clip;
use contract::status::Exit;

use super::identity::kernel_boot;
use super::pidfd::Ending;
use super::record::{RunDir, ShimRecord, Spec};

/// To be asked while the cgroup still stands.
pub fn conclude(dir: &RunDir, ending: Option<Ending>) -> Exit {
    let damaged = match dir.read_exit() {
        Ok(Some(record)) => return record.exit,
        Ok(None) => None,
        Err(e) => Some(e.to_string()),
    };
    let spec = dir.read_spec().ok().flatten();
    if let Some(oom) = spec.as_ref().and_then(out_of_memory) {
        return oom;
    }
    match dir.read_shim().ok().flatten() {
        None => Exit::StartFailed { message: clip(&never_began(dir, ending)) },
        Some(shim) if is_of_another_boot(&shim) => Exit::Rebooted,
        // A container is not its shim.
        Some(shim) => {
            by_the_process(dir, &shim, ending, damaged, spec.is_some_and(|s| s.container.is_some()))
        }
    }
}

/// A run's cgroup is its own and new, so the count began at 0.
fn out_of_memory(spec: &Spec) -> Option<Exit> {
    let limit_bytes = spec.assignment.run.limits.memory_bytes;
    (spec.cgroup.oom_kills()? > 0).then_some(Exit::OutOfMemory { limit_bytes })
}

fn never_began(dir: &RunDir, ending: Option<Ending>) -> String {
    let how = match ending {
        Some(ending) => format!("its shim {} before it began", told(ending)),
        None => "the agent or its shim died before it began".to_string(),
    };
    with_last_words(dir, how)
}

fn by_the_process(
    dir: &RunDir,
    shim: &ShimRecord,
    ending: Option<Ending>,
    damaged: Option<String>,
    contained: bool,
) -> Exit {
    let silent = dir.last_words().is_none() && damaged.is_none();
    match ending {
        Some(Ending::Signal(signal)) if silent && !contained => Exit::Signal { signal },
        _ => {
            let how = ending.map_or("is gone".into(), told);
            let mut evidence = with_last_words(dir, format!("shim {} {how}", shim.process.pid));
            evidence.extend(damaged.map(|e| format!("; {e}")));
            Exit::Unknown { evidence: clip(&evidence) }
        }
    }
}

fn told(ending: Ending) -> String {
    match ending {
        Ending::Code(code) => format!("ended with code {code} and no exit record"),
        Ending::Signal(signal) => format!("was killed by signal {signal}"),
    }
}

fn with_last_words(dir: &RunDir, text: String) -> String {
    match dir.last_words() {
        Some(words) => format!("{text}; it said: {words}"),
        None => text,
    }
}

fn is_of_another_boot(shim: &ShimRecord) -> bool {
    kernel_boot().is_ok_and(|now| now != shim.process.kernel_boot)
}
