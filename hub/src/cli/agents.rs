//! `hub agents`: the list, and what operators say of boards: labels, taints, cordon, drain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Subcommand};
use contract::quantity::Duration;
use contract::taint::Taint;
use hub_core::api::Answer;
use hub_core::fleet::{AgentChange, Drain, Nothing, Untaint};
use hub_core::view::{AgentView, DrainState};
use serde_json::json;

use super::client::{Client, escape};
use super::exit::{Code, Done, Failure};
use super::fleet::{self, FleetArgs};
use super::get::{self, GetArgs, Output};
use super::kinds::{Kind, not_found};
use super::progress;
use super::sse::Events;
use super::trust;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  hub agents -l site=north --field state=offline
  hub agents --by line                       how many, by line and state
  hub agents label board-7 line=a rack-      sets one label, takes one away
  hub agents taint -l gpu=yes only-gpu=yes:NoSchedule
  hub agents drain board-7 --deadline 10m --wait
  hub agents uncordon board-7")]
pub struct AgentsArgs {
    #[command(subcommand)]
    command: Option<AgentsCommand>,
    /// Only this one
    name: Option<String>,
    /// Labels: k=v,k2!=v2,k3,!k4
    #[arg(short = 'l', long)]
    selector: Option<String>,
    #[command(flatten)]
    fleet: FleetArgs,
    /// Go on showing changes until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum AgentsCommand {
    /// Give labels (k=v) or take them away again (k-); they win over what a board says of itself
    Label(Marks),
    /// Keep work away: key=value:NoSchedule, PreferNoSchedule or NoExecute
    Taint(Marks),
    /// Take taints away: key:Effect, or key for all of that key
    Untaint(Marks),
    /// Nothing new comes to these agents; what runs there stays
    Cordon(Which),
    /// End a cordon or a drain
    Uncordon(Which),
    /// Move away what runs there, no faster than each workload's disruption budget allows
    Drain(DrainArgs),
    #[command(flatten)]
    Trust(trust::AgentsAction),
}

#[derive(Debug, Args)]
struct Which {
    /// Their names
    names: Vec<String>,
    /// Those with these labels: k=v,k2!=v2,k3,!k4
    #[arg(short = 'l', long, conflicts_with = "names")]
    selector: Option<String>,
}

#[derive(Debug, Args)]
struct Marks {
    /// Names of agents, then the marks
    #[arg(required = true)]
    words: Vec<String>,
    /// The agents with these labels instead of names: k=v,k2!=v2,k3,!k4
    #[arg(short = 'l', long)]
    selector: Option<String>,
}

#[derive(Debug, Args)]
struct DrainArgs {
    #[command(flatten)]
    which: Which,
    /// After so long it waits for nothing any more
    #[arg(long)]
    deadline: Option<Duration>,
    /// Until all are drained
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "30m")]
    timeout: Duration,
}

/// Agents in one request.
const CHUNK: usize = 500;

pub fn main(client: Client, args: AgentsArgs) -> Done {
    let Some(command) = args.command else {
        let mut list = GetArgs::list(Kind::Agents, args.name, args.selector, args.watch, args.output);
        list.fleet = args.fleet;
        return get::main(client, &list);
    };
    match command {
        AgentsCommand::Label(marks) => {
            let is_mark = |word: &str| word.contains('=') || word.ends_with('-');
            let (names, words) = marks.split(is_mark);
            let labels: BTreeMap<_, _> = words.iter().map(|word| label(word)).collect();
            change(&client, &marks.which(&client, names)?, &AgentChange::Label(labels), "labelled")
        }
        AgentsCommand::Taint(marks) => {
            let (names, words) = marks.split(|word| word.contains([':', '=']));
            let taints: Result<Vec<Taint>, _> = words.iter().map(|word| word.parse()).collect();
            let taints = taints.map_err(|e: contract::taint::TaintError| Failure::usage(e.to_string()))?;
            change(&client, &marks.which(&client, names)?, &AgentChange::Taint(taints), "tainted")
        }
        AgentsCommand::Untaint(marks) => {
            let (names, words) = marks.untainted();
            let gone = words.iter().map(|word| untaint(word)).collect::<Done<Vec<Untaint>>>()?;
            change(&client, &marks.which(&client, names)?, &AgentChange::Untaint(gone), "untainted")
        }
        AgentsCommand::Cordon(which) => {
            change(&client, &which.names(&client)?, &AgentChange::Cordon(Nothing {}), "cordoned")
        }
        AgentsCommand::Uncordon(which) => {
            change(&client, &which.names(&client)?, &AgentChange::Uncordon(Nothing {}), "uncordoned")
        }
        AgentsCommand::Drain(args) => drain(client, &args),
        AgentsCommand::Trust(action) => trust::agents(&client, action),
    }
}

impl Marks {
    /// Names first, then marks.
    fn split(&self, is_mark: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
        self.words.iter().cloned().partition(|word| !is_mark(word))
    }

    /// A key alone looks like a name: without a selector the first word is the agent, and the rest are keys.
    fn untainted(&self) -> (Vec<String>, Vec<String>) {
        let names = usize::from(self.selector.is_none());
        let (names, keys) = self.words.split_at(names.min(self.words.len()));
        (names.to_vec(), keys.to_vec())
    }

    fn which(&self, client: &Client, names: Vec<String>) -> Done<Vec<String>> {
        if self.words.len() == names.len() {
            return Err(Failure::usage("say what: hub agents label NAME k=v, taint NAME key:NoSchedule"));
        }
        if self.selector.is_some() && !names.is_empty() {
            return Err(Failure::usage(format!("'{}' stands beside -l: give names or labels", names[0])));
        }
        Which { names, selector: self.selector.clone() }.names(client)
    }
}

impl Which {
    fn names(&self, client: &Client) -> Done<Vec<String>> {
        let Some(selector) = &self.selector else {
            return match self.names.as_slice() {
                [] => Err(Failure::usage("which agents? give names, or -l k=v")),
                names => Ok(names.to_vec()),
            };
        };
        let list = GetArgs::list(Kind::Agents, None, Some(selector.clone()), false, Output::Name);
        let names = fleet::names(client, &list)?;
        if names.is_empty() { Err(not_found("no agent has these labels")) } else { Ok(names) }
    }
}

fn label(word: &str) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((key, value)) => (key.to_string(), Some(value.to_string())),
        None => (word.strip_suffix('-').unwrap_or(word).to_string(), None),
    }
}

fn untaint(word: &str) -> Done<Untaint> {
    let (label, effect) = match word.rsplit_once(':') {
        Some((label, effect)) => {
            let effect =
                effect.parse().map_err(|_| Failure::usage(format!("'{word}': write key or key:Effect")))?;
            (label, Some(effect))
        }
        None => (word, None),
    };
    let key = label.split_once('=').map_or(label, |(key, _)| key).to_string();
    Ok(Untaint { key, effect })
}

fn change(client: &Client, names: &[String], change: &AgentChange, done: &str) -> Done {
    let mut total = 0;
    for chunk in names.chunks(CHUNK) {
        let body = json!({"agents": chunk, "change": change}).to_string();
        let answer: Answer = client.post("/v1/agents", "application/json", body.as_bytes())?;
        if let Answer::AgentsChanged { changed, warnings, .. } = answer {
            total += changed;
            for warning in warnings {
                eprintln!("hub: {warning}");
            }
        }
    }
    let same = names.len() - total;
    let who = if names.len() == 1 { names[0].clone() } else { format!("{} agents", names.len()) };
    match (total, same) {
        (0, _) => say!("{who}: nothing changed"),
        (_, 0) => say!("{who} {done}"),
        (total, same) => say!("{total} agents {done}, {same} were so already"),
    }
    Ok(())
}

fn drain(client: Client, args: &DrainArgs) -> Done {
    let names = args.which.names(&client)?;
    let seq = progress::position(&client)?;
    let deadline_ms = args.deadline.map(|d| d.ms);
    change(&client, &names, &AgentChange::Drain(Drain { deadline_ms }), "draining")?;
    if args.wait { wait(Arc::new(client), names, seq, args.timeout) } else { Ok(()) }
}

/// Looks again at whichever agent changed, and says what each still waits for.
fn wait(client: Arc<Client>, names: Vec<String>, seq: u64, timeout: Duration) -> Done {
    let events = Events::open(Arc::clone(&client), format!("/v1/watch?after={seq}&kinds=agent"), None, true)?;
    let end = Instant::now() + std::time::Duration::from_millis(timeout.ms);
    let mut open: BTreeMap<String, String> = names.into_iter().map(|name| (name, String::new())).collect();
    let mut look: BTreeSet<String> = open.keys().cloned().collect();
    loop {
        for name in std::mem::take(&mut look) {
            if let Some(said) = open.get(&name).cloned() {
                let view: AgentView = client.get(&format!("/v1/agents/{}", escape(&name)))?;
                note(&mut open, &view, &said)?;
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let event = match events.next_within(end.saturating_duration_since(Instant::now())) {
            Ok(None) if Instant::now() >= end => {
                return Err(Failure::new(Code::Timeout, still(&open, timeout)));
            }
            Ok(None) => continue,
            Err(()) => return Err(Failure::new(Code::Unreachable, "the hub went away".to_string())),
            Ok(Some(event)) => event?,
        };
        match event.name.as_str() {
            "change" => look.extend(changed(&event.data)),
            "gone" => look.extend(open.keys().cloned()),
            _ => {}
        }
    }
}

fn note(open: &mut BTreeMap<String, String>, view: &AgentView, said: &str) -> Done {
    let name = view.agent.to_string();
    let Some(drain) = &view.drain else {
        return Err(Failure::new(Code::Failed, format!("{name} is not drained any more: somebody ended it")));
    };
    let text = fleet::drained(drain);
    if text != said {
        say!("{name} {text}");
    }
    if drain.state == DrainState::Drained {
        open.remove(&name);
    } else {
        open.insert(name, text);
    }
    Ok(())
}

fn changed(data: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(data).ok()?;
    value["change"]["agent"]["agent"].as_str().map(str::to_string)
}

fn still(open: &BTreeMap<String, String>, timeout: Duration) -> String {
    let all: Vec<String> = open.iter().map(|(name, text)| format!("{name} {text}")).collect();
    format!("not drained within {timeout}:\n{}", all.join("\n"))
}
