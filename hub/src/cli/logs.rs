//! `hub logs` and `hub events`: what workloads said, and what happened to them.

use std::io::Write as _;
use std::sync::Arc;

use clap::Args;
use contract::quantity::Duration;
use hub_core::view::EventView;
use serde::Deserialize;

use super::client::{Client, query};
use super::exit::{Code, Done, Failure};
use super::get;
use super::kinds;
use super::sse::Events;
use super::style::{Color, paint, table};
use crate::api::logs::{Line, LogError, Start};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hub logs press-guard                  the last lines of every instance
  hub logs plant/press-guard/0 -f       one instance, and go on
  hub logs press-guard --previous       the run before the present one
  hub logs -l app=press --tail 5 --all  of every workload with that label")]
pub struct LogsArgs {
    /// A workload, [namespace/]name, or one instance, namespace/name/slot
    #[arg(required_unless_present_any = ["selector", "all"])]
    name: Option<String>,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Labels of workloads: k=v,…
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Only on this agent
    #[arg(long)]
    agent: Option<String>,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long, conflicts_with = "previous")]
    follow: bool,
    /// The last N lines of each instance; 100 when several are shown
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// All that is kept
    #[arg(long)]
    all: bool,
    /// Only what is younger, such as 90s, 10m or 2h
    #[arg(long)]
    since: Option<Duration>,
    /// Of the run before the present one
    #[arg(short, long)]
    previous: bool,
    /// Show when each line was written (UTC milliseconds)
    #[arg(short, long)]
    timestamps: bool,
}

pub fn logs(client: Client, args: &LogsArgs) -> Done {
    let (workload, slot) = target(args)?;
    let tail = if args.all { None } else { args.tail.or(Some(100)) };
    let flag = |on: bool| on.then(|| "true".to_string());
    let path = format!(
        "/v1/logs{}",
        query(&[
            ("namespace", args.namespace.clone()),
            ("workload", workload),
            ("slot", slot),
            ("selector", args.selector.clone()),
            ("agent", args.agent.clone()),
            ("tail", tail.map(|n| n.to_string())),
            ("since", args.since.map(|d| d.to_string())),
            ("previous", flag(args.previous)),
            ("follow", flag(args.follow)),
        ])
    );
    let events = Events::open(Arc::new(client), path, None, false)?;
    let (mut several, mut wrong, mut ended) = (false, 0, false);
    while let Some(event) = events.next() {
        let event = event?;
        match event.name.as_str() {
            // One instance alone reads as it wrote.
            "start" => {
                several = serde_json::from_str::<Start>(&event.data).is_ok_and(|start| start.sources > 1)
            }
            "line" => {
                let Ok(line) = serde_json::from_str::<Line>(&event.data) else { continue };
                show(&line, several, args.timestamps)?;
            }
            "error" => {
                let Ok(error) = serde_json::from_str::<LogError>(&event.data) else { continue };
                wrong += 1;
                eprintln!(
                    "{} {} on {}: {}",
                    paint("no logs:", Color::Red),
                    error.instance,
                    error.agent,
                    error.reason
                );
            }
            "end" => {
                ended = true;
                break;
            }
            _ => {}
        }
    }
    match (wrong, ended) {
        (0, true) => Ok(()),
        (0, false) => Err(Failure::new(Code::Unreachable, "the hub ended the stream")),
        _ => Err(Failure::new(Code::Failed, "")),
    }
}

/// `name`, `ns/name` or `ns/name/slot`.
fn target(args: &LogsArgs) -> Done<(Option<String>, Option<String>)> {
    let Some(name) = &args.name else { return Ok((None, None)) };
    if name.matches('/').count() == 2 {
        let id: contract::InstanceId =
            name.parse().map_err(|why| Failure::usage(format!("instance {why}")))?;
        return Ok((Some(id.workload.to_string()), Some(id.slot.to_string())));
    }
    Ok((Some(kinds::key(name, args.namespace.as_deref())?.to_string()), None))
}

fn show(line: &Line, several: bool, timestamps: bool) -> Done {
    let mut text = String::new();
    if several {
        text += &paint(&format!("{} {} | ", line.instance, line.agent), Color::Dim);
    }
    // `<unix ms> <o|e|s> what was said`
    let mut parts = line.text.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(at), Some("o" | "e" | "s"), Some(said)) if at.bytes().all(|b| b.is_ascii_digit()) => {
            if timestamps {
                text += &format!("{at} ");
            }
            text += said;
        }
        _ => text += &line.text,
    }
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hub events\n  hub events -w --workload press-guard")]
pub struct EventsArgs {
    /// Only of this workload
    #[arg(long)]
    workload: Option<String>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// JSON; one line per event with -w
    #[arg(short, long)]
    output: Option<super::describe::JsonOnly>,
}

#[derive(Deserialize)]
struct EventList {
    newest: u64,
    items: Vec<EventView>,
    seq: u64,
}

pub fn events(client: Client, args: &EventsArgs) -> Done {
    let client = Arc::new(client);
    let list = fetch(&client, args, None)?;
    print_events(&list.items, args, true)?;
    if !args.watch {
        return Ok(());
    }
    let (mut newest, seq) = (list.newest, list.seq);
    let stream = Events::open(Arc::clone(&client), format!("/v1/watch?after={seq}&kinds=event"), None, true)?;
    while let Some(event) = stream.next() {
        if matches!(event?.name.as_str(), "change" | "gone") {
            let list = fetch(&client, args, Some(newest))?;
            newest = list.newest;
            print_events(&list.items, args, false)?;
        }
    }
    Ok(())
}

fn fetch(client: &Client, args: &EventsArgs, after: Option<u64>) -> Done<EventList> {
    client.get(&format!(
        "/v1/events{}",
        query(&[
            ("after", after.map(|n| n.to_string())),
            ("limit", Some(args.limit.to_string())),
            ("workload", args.workload.clone()),
            ("agent", args.agent.clone()),
        ])
    ))
}

fn print_events(items: &[EventView], args: &EventsArgs, first: bool) -> Done {
    let mut out = std::io::stdout();
    if args.output.is_some() {
        let text = if args.watch {
            items.iter().map(|e| serde_json::to_string(e).unwrap_or_default() + "\n").collect()
        } else {
            serde_json::to_string_pretty(&serde_json::json!({"items": items})).unwrap_or_default() + "\n"
        };
        return Ok(out.write_all(text.as_bytes())?);
    }
    if items.is_empty() {
        if first {
            writeln!(out, "No events.")?;
        }
        return Ok(());
    }
    let text = if first { get::events(items) } else { rest(items) };
    Ok(out.write_all(text.as_bytes())?)
}

/// Without a head: it stands above already.
fn rest(items: &[EventView]) -> String {
    let rows: Vec<_> = items.iter().map(get::event_row).collect();
    let text = table(&["", "", "", "", ""], &rows);
    text.split_once('\n').map_or(String::new(), |(_, rows)| rows.to_string())
}
