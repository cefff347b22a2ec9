//! `edge-agent status`: what the board runs and what it waits for, with no hub. Asks the running
//! agent through its socket; when there is none it says so, and what it left running.

use std::io::{IsTerminal as _, Read as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agent_core::{SessionView, StatusView};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use contract::quantity::Bytes;
use contract::status::{InstanceState, InstanceStatus};
use serde::Deserialize;

use crate::identity::trust::TrustView;
use crate::instance::Places;
use crate::volumes::Volume;

/// More than the largest board's status: 500 workloads × 2 KiB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// The agent does not answer, as `systemctl status` counts.
const EXIT_NOT_RUNNING: u8 = 3;

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    place: crate::cli::RunDir,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    pub agent: StatusView,
    #[serde(default)]
    pub identity: Option<TrustView>,
    #[serde(default)]
    pub store_waits: Option<String>,
    #[serde(default)]
    kept_volumes: Vec<Volume>,
}

pub fn main(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let text = match ask(&args.place.run_dir) {
        Ok(text) => text,
        Err(why) => {
            eprintln!("edge-agent: {why}");
            orphans(&args.place.run_dir)?;
            return Ok(ExitCode::from(EXIT_NOT_RUNNING));
        }
    };
    if args.output == Output::Json {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    print(&read(&text)?);
    Ok(ExitCode::SUCCESS)
}

/// What the agent of that run directory says of itself.
pub fn agent_of(run_dir: &Path) -> anyhow::Result<StatusView> {
    Ok(read(&ask(run_dir)?)?.agent)
}

pub(crate) fn read(text: &str) -> anyhow::Result<Answer> {
    serde_json::from_str(text).context("the agent's answer cannot be read: is it of another version?")
}

pub(crate) fn ask(run_dir: &Path) -> anyhow::Result<String> {
    let socket = run_dir.join("agent.sock");
    let answer = || -> std::io::Result<String> {
        let stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
        if text.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(text) }
    };
    answer().map_err(|why| anyhow::anyhow!("no agent answers at {} ({why})", socket.display()))
}

/// Without an agent the run directory still tells what was started.
fn orphans(run_dir: &Path) -> anyhow::Result<()> {
    let places = Places::new(run_dir, run_dir);
    for (instance, run) in places.runs()? {
        let shim = places.run(&instance, run).read_shim().ok().flatten();
        let alive = shim.as_ref().is_some_and(|shim| shim.process.open().is_some());
        let state = if alive { "runs on" } else { "has ended" };
        let pid = shim.map_or_else(String::new, |shim| format!(", pid {}", shim.process.pid));
        eprintln!("  {instance} (run {run}{pid}) {state}; an agent will take it over");
    }
    Ok(())
}

fn print(answer: &Answer) {
    let core = &answer.agent;
    println!(
        "Agent       {} {} (board {}, start {})",
        core.agent,
        core.agent_version,
        &core.board.to_string()[..8],
        core.boots
    );
    println!("Hub         {}", session(core));
    if let Some(identity) = &answer.identity {
        println!("Identity    key {}, of {}", identity.key, identity.hubs.join(", "));
        if let Some(trouble) = &identity.trouble {
            println!("            {}", paint(trouble, 31));
        }
        if identity.clock_doubted {
            println!(
                "            this board's clock is ahead of the hub's certificate; the hub's time was believed"
            );
        }
    }
    if let Some(head) = core.applied {
        println!(
            "Document    generation {} of term {}, lineage {}",
            head.generation,
            head.term,
            &head.lineage.to_string()[..8]
        );
    } else if core.provisional {
        println!("Document    none; what was found running is kept");
    } else {
        println!("Document    none yet");
    }
    if let Some(refused) = &core.refused {
        println!("Refused     {refused}");
    }
    if let Some(waits) = &answer.store_waits {
        println!("Store       waits: {waits}");
    }
    if !answer.kept_volumes.is_empty() {
        let bytes = answer.kept_volumes.iter().map(|v| v.size_bytes).sum();
        let count = answer.kept_volumes.len();
        let volumes = if count == 1 { "volume" } else { "volumes" };
        println!(
            "Kept        {count} {volumes} of workloads that are gone ({}): edge-agent volumes",
            Bytes(bytes)
        );
    }
    if core.workloads.is_empty() {
        println!("\nNo workloads.");
        return;
    }
    println!(
        "\n{:<32} {:<10} {:<6} {:<10} {:>8} {:>9}  LAST EXIT, WAITING FOR",
        "INSTANCE", "STATE", "READY", "REVISION", "RESTARTS", "FOR"
    );
    for (key, view) in &core.workloads {
        for (slot, instance) in &view.status.instances {
            println!("{}", row(&format!("{key}/{slot}"), instance, view.waiting.get(slot), core.now_ms));
        }
        if let Some(missing) = &view.status.unsupported {
            println!("{key:<32} {}", paint("Unsupported", 31) + &format!(" this agent lacks {missing}"));
        }
        if let Some(rejected) = &view.status.rejected {
            println!("{:<32} fell back from {}: {}", "", rejected.revision.short(), rejected.reason);
        }
    }
}

fn row(name: &str, instance: &InstanceStatus, waiting: Option<&String>, now_ms: u64) -> String {
    let state = format!("{:<10}", instance.state.name());
    let color = match instance.state {
        InstanceState::Running | InstanceState::Completed => 32,
        InstanceState::Backoff { .. } | InstanceState::Failed => 31,
        _ => 33,
    };
    let mut notes: Vec<String> = instance.last_exit.iter().map(ToString::to_string).collect();
    notes.extend(instance.unready.as_ref().map(|why| format!("not ready: {why}")));
    match (&instance.state, waiting) {
        (InstanceState::Backoff { until_ms }, _) => {
            notes.push(format!("restarts in {}", age(until_ms.saturating_sub(now_ms))))
        }
        (_, Some(reason)) => notes.push(reason.clone()),
        (InstanceState::Waiting { reason }, None) => notes.push(reason.clone()),
        _ => {}
    }
    let ready = if instance.ready { "yes" } else { "no" };
    let held = age(now_ms.saturating_sub(instance.since_ms));
    let (revision, restarts) = (instance.revision.short(), instance.restarts);
    format!(
        "{name:<32} {} {ready:<6} {revision:<10.10} {restarts:>8} {held:>9}  {}",
        paint(&state, color),
        notes.join("; ")
    )
}

fn session(core: &StatusView) -> String {
    match &core.session {
        SessionView::Connected { greeted: true, since_ms, .. } => {
            format!("connected for {}", age(core.now_ms.saturating_sub(*since_ms)))
        }
        SessionView::Connected { greeted: false, .. } => {
            "broker reached, the hub has not answered yet".to_string()
        }
        SessionView::Connecting { .. } => "connecting".to_string(),
        SessionView::Closing => "closing the session".to_string(),
        SessionView::Disconnected { next_ms, reason } => {
            let why = reason.as_deref().unwrap_or("not tried yet");
            format!(
                "away ({why}); next attempt in {}; workloads run on",
                age(next_ms.saturating_sub(core.now_ms))
            )
        }
    }
}

/// Two units at most: `3d4h`, `12m5s`, `840ms`.
fn age(ms: u64) -> String {
    let (s, m, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match () {
        () if ms < 1000 => format!("{ms}ms"),
        () if m == 0 => format!("{s}s"),
        () if h == 0 => format!("{m}m{}s", s % 60),
        () if h < 48 => format!("{h}h{}m", m % 60),
        () => format!("{}d{}h", h / 24, h % 24),
    }
}

pub(crate) fn paint(text: &str, color: u8) -> String {
    let plain = !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    if plain { text.to_string() } else { format!("\x1b[{color}m{text}\x1b[0m") }
}
