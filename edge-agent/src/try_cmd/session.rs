//! One trial from beginning to end, and from change to change with `--watch`.

use contract::status::Exit;
use contract::{InstanceId, RunId};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::CANNOT_TRY;
use super::args::TryArgs;
use super::artifact::runnable;
use super::board::{Board, clear_leftovers};
use super::change::Change;
use crate::instance::StartError;

/// What ends a wait.
enum Woken {
    Ended(Exit),
    Changed,
    /// Ctrl-C or its like, and what to exit with.
    Asked(u8),
}

pub async fn run(args: &TryArgs) -> anyhow::Result<u8> {
    let mut asked = Asked::listen()?;
    // First, so that a change while it starts is not missed.
    let mut change = args.watch.then(|| Change::of(&args.artifact)).transpose()?;
    clear_leftovers(&args.allow_missing_cgroup).await;
    let mut board = Board::open(&args.allow_missing_cgroup, args.allow_missing_seccomp)?;
    for controller in board.runtime.settings().cgroups.missing() {
        eprintln!("edge-agent: this kernel cannot limit {}; it runs without that limit", controller.name());
    }
    let code = trials(args, &mut board, &mut change, &mut asked).await;
    board.close(args.keep);
    code
}

async fn trials(
    args: &TryArgs,
    board: &mut Board,
    change: &mut Option<Change>,
    asked: &mut Asked,
) -> anyhow::Result<u8> {
    let instance = args.instance();
    for number in 1.. {
        let run = RunId { boots: 0, number };
        let outcome = trial(args, board, change, asked, &instance, run).await;
        finish(args, board, &instance, run).await?;
        let Some(change) = change else { return outcome.map(|(code, _)| code) };
        let changed = match outcome {
            Ok((code, Woken::Asked(_))) => return Ok(code),
            Ok((_, Woken::Changed)) => true,
            Ok((_, Woken::Ended(_))) => false,
            Err(e) => {
                eprintln!("edge-agent: {e:#}");
                false
            }
        };
        if !changed {
            eprintln!("edge-agent: waiting for {} to change", args.artifact.display());
            tokio::select! {
                changed = change.next() => changed?,
                code = asked.next() => return Ok(code),
            }
        }
        eprintln!("edge-agent: {} changed, starting again", args.artifact.display());
    }
    unreachable!("2^64 trials")
}

/// One run, to its end or until something else is wanted.
async fn trial(
    args: &TryArgs,
    board: &mut Board,
    change: &mut Option<Change>,
    asked: &mut Asked,
    instance: &InstanceId,
    run: RunId,
) -> anyhow::Result<(u8, Woken)> {
    let artifact = runnable(args, &board.runtime.settings().places.state_dir)?;
    let assignment = args.assignment(instance, &artifact)?;
    match board.runtime.start(instance, run, &assignment, artifact).await {
        Ok(_) => {}
        Err(StartError::Refused(why)) => anyhow::bail!("{}: {why}", args.artifact.display()),
        Err(e) => return Err(e.into()),
    }
    let woken = tokio::select! {
        ended = board.exits.recv() => Woken::Ended(ended.map_or(Exit::Rebooted, |e| e.exit)),
        changed = next_change(change) => changed.map(|()| Woken::Changed)?,
        code = asked.next() => Woken::Asked(code),
    };
    Ok(match woken {
        Woken::Ended(exit) => (explain(args, &exit), Woken::Ended(exit)),
        Woken::Changed | Woken::Asked(_) => {
            let signal = &assignment.run.stop_signal;
            let code = stop(args, board, asked, instance, run, signal).await?;
            (if let Woken::Asked(asked) = woken { asked } else { code }, woken)
        }
    })
}

/// A second Ctrl-C does not wait for the grace.
async fn stop(
    args: &TryArgs,
    board: &mut Board,
    asked: &mut Asked,
    instance: &InstanceId,
    run: RunId,
    signal: &str,
) -> anyhow::Result<u8> {
    let runtime = board.runtime.clone();
    tokio::select! {
        stopped = runtime.stop(instance, run, signal, args.grace()) => stopped?,
        _ = asked.next() => runtime.stop(instance, run, "KILL", args.grace()).await?,
    }
    let exit = board.exits.recv().await.map_or(Exit::Rebooted, |e| e.exit);
    Ok(exit_code(&exit))
}

async fn finish(args: &TryArgs, board: &Board, instance: &InstanceId, run: RunId) -> anyhow::Result<()> {
    if args.keep {
        let dir = board.runtime.settings().places.run(instance, run);
        std::fs::write(board.runtime.settings().places.run_dir.join("kept"), "")?;
        eprintln!("edge-agent: the run's records are in {}", dir.path().display());
        return Ok(board
            .runtime
            .settings()
            .cgroups
            .split_leaf(&crate::instance::cgroup_name(instance, run))
            .remove()?);
    }
    Ok(board.runtime.remove(instance, run).await?)
}

async fn next_change(change: &mut Option<Change>) -> anyhow::Result<()> {
    match change {
        Some(change) => change.next().await,
        None => std::future::pending().await,
    }
}

fn explain(args: &TryArgs, exit: &Exit) -> u8 {
    match exit {
        Exit::Code { .. } => {}
        Exit::OutOfMemory { .. } => {
            eprintln!("edge-agent: {exit}; give it more than --memory {}", args.memory());
        }
        other => eprintln!("edge-agent: {other}"),
    }
    exit_code(exit)
}

/// The table of the module comment.
fn exit_code(exit: &Exit) -> u8 {
    match exit {
        Exit::Code { code } => *code as u8,
        Exit::Trap { .. } => 134,
        Exit::OutOfMemory { .. } => 137,
        Exit::Signal { signal } => 128u8.wrapping_add(*signal as u8),
        Exit::StartFailed { .. } | Exit::ProbeFailed { .. } | Exit::Rebooted | Exit::Unknown { .. } => {
            CANNOT_TRY
        }
    }
}

/// The signals that ask a program in the foreground to end.
struct Asked {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Asked {
    fn listen() -> anyhow::Result<Asked> {
        Ok(Asked {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// 128 + the signal that came.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hangup.recv() => 129,
        }
    }
}
