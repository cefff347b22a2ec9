//! `hub audit`: the hub's log of deeds, filtered.

use clap::Args;
use contract::quantity::Duration;

use super::access::{json, span};
use super::client::{Client, escape};
use super::describe::JsonOnly;
use super::exit::Done;
use super::style::table;
use crate::api::audit::AuditList;
use crate::audit::Entry;
use crate::trust::wall_ms;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hub audit --who ci --since 1d\n  hub audit --failed\n  hub audit --about plant/press -o json"
)]
pub struct AuditArgs {
    /// By this token
    #[arg(long, value_name = "TOKEN")]
    who: Option<String>,
    /// get, apply, delete, exec or reveal
    #[arg(long)]
    verb: Option<String>,
    /// As in 'hub role create --help'
    #[arg(long)]
    kind: Option<String>,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Part of the path, or of what it was done to
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// Only younger than this: 10m, 1d
    #[arg(long)]
    since: Option<Duration>,
    /// Only what was not allowed, failed, or never ended
    #[arg(long)]
    failed: bool,
    /// The newest so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[arg(short, long)]
    output: Option<JsonOnly>,
}

pub fn main(client: &Client, args: &AuditArgs) -> Done {
    let mut path = format!("/v1/audit?limit={}&failed={}", args.limit, args.failed);
    let texts = [
        ("who", &args.who),
        ("verb", &args.verb),
        ("kind", &args.kind),
        ("namespace", &args.namespace),
        ("about", &args.about),
    ];
    for (name, value) in texts {
        path += &value.as_ref().map_or_else(String::new, |value| format!("&{name}={}", escape(value)));
    }
    if let Some(since) = args.since {
        path += &format!("&sinceMs={}", wall_ms().saturating_sub(since.ms));
    }
    let list: AuditList = client.get(&path)?;
    if args.output.is_some() {
        return json(&list);
    }
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    say!("{}", table(&["AGO", "WHO", "FROM", "WHAT", "ON", "OUTCOME"], &rows).trim_end());
    Ok(())
}

fn row(entry: &Entry) -> Vec<String> {
    let outcome = match entry.status {
        None => "unknown: the hub died".into(),
        Some(status) if entry.reason.is_empty() => status.to_string(),
        Some(status) => format!("{status} {}", entry.reason),
    };
    let dash = |text: &str| if text.is_empty() { "-".to_string() } else { text.to_string() };
    vec![
        span(wall_ms().saturating_sub(entry.at_ms)),
        dash(&entry.who),
        dash(&entry.from),
        entry.what.clone(),
        dash(&entry.objects.join(",")),
        outcome,
    ]
}
