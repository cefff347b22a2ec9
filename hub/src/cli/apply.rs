//! `hub apply` and `hub diff`: hand the manifests over, then watch until the reachable targets are
//! steady. Ctrl-C only stops watching.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use contract::WorkloadKey;
use contract::quantity::Duration;
use hub_core::api::{Answer, AppliedChange, ChangeKind};

use super::client::{Client, query};
use super::exit::{Code, Done, Failure};
use super::fetching::Fetching;
use super::files;
use super::progress::{self, Goal};
use super::style::{Color, paint};
use crate::api::diff::Diffs;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// Every target, those of offline agents too
    All,
    /// The targets whose agents are online
    Reachable,
    /// Only until the hub has it, durably
    Accepted,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hub apply -f press.yaml
  hub apply -f manifests/ --prune -l app=press   and delete what has that label and is not in the files
  hub apply -f web.yaml --resolve     and ask registries what their tags mean today
  hub example | hub apply -f - --dry-run
Ctrl-C stops watching; what was applied goes on.")]
pub struct ApplyArgs {
    /// A file, a folder, or - for standard input; may be given several times
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// How long to watch
    #[arg(long, value_enum, default_value_t = Wait::Reachable)]
    wait: Wait,
    /// When to stop watching
    #[arg(long, default_value = "5m")]
    timeout: Duration,
    /// Delete the workloads with the labels of -l that are not in the files
    #[arg(long, requires = "selector")]
    prune: bool,
    /// The labels for --prune: k=v,k2=v2
    #[arg(short = 'l', long, requires = "prune")]
    selector: Option<String>,
    /// Ask other registries again what their tags mean; else a tag means what it meant at the first apply
    #[arg(long)]
    resolve: bool,
    /// Let the hub judge it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the hub's answer as JSON and do not watch
    #[arg(short, long)]
    output: Option<super::describe::JsonOnly>,
}

pub fn apply(client: Client, args: &ApplyArgs) -> Done {
    let manifests = files::read(&args.files)?;
    let seq = progress::position(&client)?;
    let prune = args.selector.clone().filter(|_| args.prune);
    let yes = |given: bool| given.then(|| "true".to_string());
    let asked = [("dryRun", yes(args.dry_run)), ("resolve", yes(args.resolve)), ("prune", prune)];
    let path = format!("/v1/apply{}", query(&asked));
    let client = Arc::new(client);
    let fetching = Fetching::watch(Arc::clone(&client));
    let answer = client.post_manifests::<Answer>(&path, &manifests);
    fetching.end();
    let answer = answer?;
    if args.output.is_some() {
        say!("{}", serde_json::to_string_pretty(&answer).unwrap_or_default());
        return Ok(());
    }
    let Answer::Applied { changes, warnings, .. } = answer else {
        return Err(Failure::new(Code::Internal, "the hub's answer to apply is of another version"));
    };
    for change in &changes {
        say!("{}", told(change, args.dry_run));
    }
    for warning in &warnings {
        eprintln!("{} {warning}", paint("warning:", Color::Yellow));
    }
    if args.dry_run || args.wait == Wait::Accepted {
        return Ok(());
    }
    let goals = changes.iter().filter(|change| change.kind.is_none()).map(|change| {
        let goal = if change.change == ChangeKind::Deleted {
            Goal::Deleted
        } else {
            Goal::Steady { all: args.wait == Wait::All }
        };
        (change.workload.clone(), goal)
    });
    let goals: BTreeMap<WorkloadKey, Goal> = goals.collect();
    progress::watch(client, goals, seq, args.timeout)
}

fn told(change: &AppliedChange, dry_run: bool) -> String {
    let word = match change.change {
        ChangeKind::Created => "created",
        ChangeKind::Changed => "changed",
        ChangeKind::Scaled => "scaled",
        ChangeKind::Unchanged => "unchanged",
        ChangeKind::Deleted => "deleted",
    };
    let kind = change.kind.map_or("workload", contract::DataKind::word);
    let mut text = format!("{kind} {} {word}", change.workload);
    if let Some(revision) = &change.revision {
        text += &format!(" (revision {})", revision.short());
    }
    if let Some(resolved) = &change.resolved {
        text += &format!(", {resolved}");
    }
    if dry_run { text + " (dry run)" } else { text }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hub diff -f press.yaml    ends with 1 when something would change, like diff(1)"
)]
pub struct DiffArgs {
    /// A file, a folder, or - for standard input; may be given several times
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Ask other registries again what their tags mean
    #[arg(long)]
    resolve: bool,
}

pub fn diff(client: &Client, args: &DiffArgs) -> Done {
    let manifests = files::read(&args.files)?;
    let path = format!("/v1/diff{}", query(&[("resolve", args.resolve.then(|| "true".to_string()))]));
    let diffs: Diffs = client.post_manifests(&path, &manifests)?;
    let mut differs = false;
    for item in diffs.items.iter().filter(|item| item.change != ChangeKind::Unchanged) {
        differs = true;
        for line in item.text.lines() {
            say!(
                "{}",
                match line.as_bytes().first() {
                    Some(b'+') => paint(line, Color::Green),
                    Some(b'-') => paint(line, Color::Red),
                    _ => line.to_string(),
                }
            );
        }
    }
    if differs { Err(Failure::new(Code::Failed, "")) } else { Ok(()) }
}
