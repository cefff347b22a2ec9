//! The board's end of a session (`hub exec`, `hub cp`): a process of its own, started by the agent as
//! `edge-agent shim session`, which gives it its order on stdin.
//!
//! ```text
//! order ─▶ join the container (forks, so before anything else) ─▶ dial the hub ─▶ frames ⇄ pipes or terminal ─▶ exit frame
//! ```
//!
//! Not in the agent: joining forks, and neither a fault in here nor a fast producer may touch what keeps workloads
//! alive. Nothing is kept but one frame each way; whoever does not read is waited for. It ends with the command,
//! with the hub's connection and with the agent that started it, and the command ends with it.

mod copy;
mod talk;

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use contract::message::{CommandOp, CopyTo, Exec};
use oci::run::Streams;
use oci::run::join::{Command, Io, JoinError, Joined, Work, join};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use crate::identity::trust::come_as_written;
use crate::instance::record::RunDir;
use crate::instance::told;

/// What the agent tells: all that the process needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    pub dir: std::path::PathBuf,
    /// Of the hub, from its newest hello.
    pub base_url: String,
    /// The board's state, if it has joined: there lies as whom it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<std::path::PathBuf>,
    /// Where the other end waits.
    pub ticket: String,
    pub op: CommandOp,
}

/// Our ends of what the command reads and writes.
pub struct Ends {
    pub joined: Joined,
    /// None when it has a terminal.
    pub pipes: Option<Pipes>,
}

pub struct Pipes {
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    pub errors: OwnedFd,
}

/// An order is bounded by the message that brought it.
const ORDER_BYTES_MAX: u64 = contract::limits::MESSAGE_BYTES_MAX as u64;

/// What could not be done is said on stdout, to the agent.
pub fn main() -> ExitCode {
    // The agent is gone, and with it whoever could be told to stop.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn live() -> Result<(), String> {
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(ORDER_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|e| format!("its order: {e}"))?;
    let order: Order = serde_json::from_slice(&text).map_err(|e| format!("its order: {e}"))?;
    let begun = begin(&order);
    // Only now: what joins the container was forked before the board's key is in memory.
    if let Some(state) = &order.identity {
        come_as_written(state).map_err(|e| format!("the board's identity: {e:#}"))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| format!("event loop: {e}"))?;
    runtime.block_on(talk::talk(&order, begun))
}

fn begin(order: &Order) -> Result<Ends, JoinError> {
    let dir = RunDir(order.dir.clone());
    match &order.op {
        CommandOp::Exec(exec) => match exec.terminal {
            Some(size) => {
                let io = Io::Terminal { columns: size.columns, rows: size.rows };
                Ok(Ends { joined: join(&dir.container_state(), command(exec), io)?, pipes: None })
            }
            None => piped(&dir, command(exec), exec.input),
        },
        CommandOp::Copy(asked) => piped(&dir, copy::work(asked.clone()), asked.to == CopyTo::Container),
        other => Err(oci::run::refused("command", format!("{other:?} is no session")).into()),
    }
}

fn command(exec: &Exec) -> Work {
    Work::Command(Command {
        args: exec.args.clone(),
        env: exec.env.clone().into_iter().collect(),
        user: exec.user.clone(),
        workdir: exec.workdir.clone(),
    })
}

fn piped(dir: &RunDir, work: Work, input: bool) -> Result<Ends, JoinError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| oci::run::fault("pipe")(e.into()));
    let (output, stdout) = pipe()?;
    let (errors, stderr) = pipe()?;
    let (stdin, ours) = match input {
        true => pipe().map(|(theirs, ours)| (theirs, Some(ours)))?,
        false => {
            let null = std::fs::File::open("/dev/null").map_err(oci::run::fault("/dev/null"))?;
            (null.into(), None)
        }
    };
    let joined = join(&dir.container_state(), work, Io::Streams(Streams { stdin, stdout, stderr }))?;
    Ok(Ends { joined, pipes: Some(Pipes { input: ours, output, errors }) })
}

/// Of a join that failed: what the exit frame says.
pub(super) fn failed(e: &JoinError) -> (u8, String) {
    (e.code(), told(e))
}
