//! The shim: a small process that owns one guest, its log and its exit record, and outlives the agent.
//!
//! ```text
//! spec.json ─▶ enter cgroup ─▶ shim.json ─▶ load ─▶ "started" ─▶ guest runs ─▶ exit.json ─▶ gone
//!                   │              │          │                       │
//!                   └── fails ─────┴──────────┴─▶ "failed" + exit.json│
//!                                             stop signal ────────────┴─▶ WASM: exit.json (from the handler)
//!                                                                         container: handed on to it
//! ```
//!
//! One thread, so that it can enter its cgroups cheaply (see [`crate::cgroup`]) and so that containers
//! can be created from it (libcontainer forks). It speaks by files alone; the status pipe only
//! saves the agent that started it from watching the directory.

mod container;
mod exec;
mod guest;
mod setup;
mod stop;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use contract::status::Exit;

use crate::instance::data;
use crate::instance::failpoint::{self, reach};
use crate::instance::identity::ProcessId;
use crate::instance::record::{ExitRecord, PROTO, RunDir, ShimRecord, Spec, StatusLine};
use crate::instance::told;
use setup::StatusPipe;

/// "Could not start", as `docker run` and `env` have it.
const CANNOT_START: u8 = 125;

/// `edge-agent shim DIR [--status-fd N]`; hidden from the help, for nobody but the agent.
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(first) = args.next() else {
        eprintln!("edge-agent shim: started by the agent for one instance; not for people");
        return ExitCode::from(2);
    };
    if first == "exec" {
        return exec::main(args);
    }
    if first == "session" {
        return crate::session::main();
    }
    if first == "--failpoints" {
        println!("{}", failpoint::ALL.join("\n"));
        return ExitCode::SUCCESS;
    }
    let status_fd = match args.next() {
        Some(flag) if flag == "--status-fd" => args.next().and_then(|n| n.to_str()?.parse().ok()),
        _ => None,
    };
    live(&RunDir(PathBuf::from(first)), status_fd)
}

fn live(dir: &RunDir, status_fd: Option<i32>) -> ExitCode {
    let spec =
        dir.read_spec().map_err(|e| told(&e)).and_then(|spec| spec.ok_or("there is no spec.json".into()));
    let mut pipe = setup::process(dir, spec.as_ref().ok(), status_fd);
    let prepared = spec.and_then(|mut spec| {
        enter(dir, &spec)?;
        let more = data::read_env(dir, &spec.assignment.run)?;
        spec.assignment.run.env.extend(more);
        Ok(spec)
    });
    match prepared {
        Ok(spec) if spec.container.is_some() => contain(dir, &spec, &mut pipe),
        Ok(spec) => run(dir, &spec, &mut pipe),
        Err(why) => fail(dir, &mut pipe, why),
    }
}

/// From here on everything this process takes is counted, and the scan can name it.
fn enter(dir: &RunDir, spec: &Spec) -> Result<(), String> {
    spec.cgroup.enter().map_err(|e| told(&e))?;
    reach("before-shim-json");
    let record = ShimRecord {
        proto: PROTO,
        process: ProcessId::own().map_err(|e| format!("/proc: {e}"))?,
        instance: spec.instance.clone(),
        revision: spec.assignment.revision,
        attempt: spec.assignment.attempt,
    };
    dir.write_shim(&record).map_err(|e| told(&e))?;
    reach("after-shim-json");
    Ok(())
}

fn run(dir: &RunDir, spec: &Spec, pipe: &mut StatusPipe) -> ExitCode {
    let caught = stop::catch(dir.path(), &spec.assignment.run.stop_signal);
    let ended = caught.and_then(|()| {
        guest::run(spec, || {
            reach("before-start");
            pipe.say(&StatusLine::Started);
            reach("after-start");
        })
    });
    let ended = match ended {
        Ok(ended) => ended,
        Err(why) => return fail(dir, pipe, why),
    };
    if let Exit::StartFailed { message } = &ended.exit {
        pipe.say(&StatusLine::Failed { message: message.clone(), again: false });
    }
    record(dir, ended.exit);
    ExitCode::from(ended.code)
}

fn contain(dir: &RunDir, spec: &Spec, pipe: &mut StatusPipe) -> ExitCode {
    let ended = match container::run(dir, spec, || pipe.say(&StatusLine::Started)) {
        Ok(ended) => ended,
        Err(cannot) => return fail_with(dir, pipe, cannot.message, cannot.again),
    };
    // First what the agent waits for. What is not cleared here, the agent clears.
    record(dir, ended.exit);
    if let Err(e) = ended.container.delete() {
        eprintln!("after its end: {}", told(&e));
    }
    ExitCode::from(ended.code)
}

fn fail(dir: &RunDir, pipe: &mut StatusPipe, message: String) -> ExitCode {
    fail_with(dir, pipe, message, false)
}

fn fail_with(dir: &RunDir, pipe: &mut StatusPipe, message: String, again: bool) -> ExitCode {
    pipe.say(&StatusLine::Failed { message: message.clone(), again });
    record(dir, Exit::StartFailed { message });
    ExitCode::from(CANNOT_START)
}

/// A stop signal that comes now finds the record written and changes nothing any more.
fn record(dir: &RunDir, exit: Exit) {
    stop::hold_back();
    reach("before-exit-json");
    let record = ExitRecord { proto: PROTO, exit, ended_ms: crate::instance::boottime_ms() };
    if let Err(e) = dir.write_exit(&record) {
        // To shim.log, which is all that is left to the agent as evidence.
        eprintln!("{}; it ended: {}", told(&e), record.exit);
    }
    reach("after-exit-json");
}
