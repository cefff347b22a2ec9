//! How is a fleet shown? In numbers by site and state when it is large, as a list when that is asked for; a
//! list comes in pages, so that it may be of any length.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use contract::quantity::Duration;
use hub_core::view::{AgentState, AgentView, DrainState, DrainView, FleetGroup, FleetView};
use serde::Deserialize;

use super::client::{Client, query};
use super::exit::Done;
use super::get::{self, GetArgs, List, Output};
use super::kinds::Kind;
use super::style::{self, Color, Columns, age, age_or_dash, paint, size, state};

/// Which agents, and how they are shown.
#[derive(Debug, Clone, Default, Args)]
pub struct FleetArgs {
    /// Of agents: state, arch, version, cordoned, drain, tainted, like state=offline,arch!=x86_64
    #[arg(long)]
    pub field: Option<String>,
    /// Agents not heard of for at least so long, like 1h
    #[arg(long)]
    pub offline_for: Option<Duration>,
    /// Count agents by the values of this label
    #[arg(long, value_name = "LABEL")]
    pub by: Option<String>,
    /// List every agent, also of a large fleet
    #[arg(long)]
    pub all: bool,
}

impl FleetArgs {
    pub fn is_empty(&self) -> bool {
        self.field.is_none() && self.offline_for.is_none() && self.by.is_none() && !self.all
    }

    fn parts(&self) -> [(&'static str, Option<String>); 2] {
        [("field", self.field.clone()), ("offlineFor", self.offline_for.map(|d| d.to_string()))]
    }
}

/// A list that is longer than a screen answers no question.
const LISTED_MAX: usize = 50;
const PAGE: usize = 500;

#[derive(Deserialize)]
struct Counted {
    seq: u64,
    #[serde(flatten)]
    fleet: FleetView,
}

/// The numbers, if they are asked for, or if a person would otherwise be shown too long a list.
pub fn count(client: &Client, args: &GetArgs) -> Done<Option<u64>> {
    let asked = args.fleet.by.is_some();
    let for_people = args.output == Output::Table && args.name.is_none() && !args.fleet.all;
    if !(asked || for_people && std::io::stdout().is_terminal()) {
        return Ok(None);
    }
    let [field, offline] = args.fleet.parts();
    let parts = [("label", args.fleet.by.clone()), ("selector", args.selector.clone()), field, offline];
    let counted: Counted = client.get(&format!("/v1/fleet{}", query(&parts)))?;
    if !asked && counted.fleet.total <= LISTED_MAX {
        return Ok(None);
    }
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&counted.fleet).unwrap_or_default() + "\n",
        _ => numbers(&counted.fleet),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Some(counted.seq))
}

/// Page after page.
fn pages(client: &Client, args: &GetArgs, mut take: impl FnMut(List) -> Done) -> Done<u64> {
    let (mut after, mut seq) = (None, None);
    loop {
        let [field, offline] = args.fleet.parts();
        let limit = ("limit", Some(PAGE.to_string()));
        let parts = [("selector", args.selector.clone()), field, offline, limit, ("continue", after.clone())];
        let page: List = client.get(&format!("/v1/agents{}", query(&parts)))?;
        // What changes while the pages are read is told by a watch from the first one on.
        let first = *seq.get_or_insert(page.seq);
        after = page.next.clone();
        take(page)?;
        if after.is_none() {
            return Ok(first);
        }
    }
}

/// All of it, for what wants one text.
pub fn whole(client: &Client, args: &GetArgs) -> Done<List> {
    let mut items = Vec::new();
    let seq = pages(client, args, |page| {
        items.extend(page.items);
        Ok(())
    })?;
    Ok(List { seq, items, next: None })
}

/// As it comes.
pub fn list(client: &Client, args: &GetArgs) -> Done<u64> {
    let wide = args.output == Output::Wide;
    let mut columns = Columns::new(&head(wide));
    let mut any = false;
    let seq = pages(client, args, |page| {
        let text = if args.output == Output::Name {
            get::names(Kind::Agents, &page.items)
        } else {
            let views: Vec<AgentView> = get::typed(page.items)?;
            let rows: Vec<Vec<String>> = views.iter().map(|view| row(view, wide)).collect();
            columns.fit(&rows);
            let first = !any && !rows.is_empty();
            let head = if first { columns.line(head(wide).into_iter()) } else { String::new() };
            any |= first;
            head + &columns.lines(&rows)
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    })?;
    if !any && args.output != Output::Name {
        let chosen = args.selector.is_some() || !args.fleet.is_empty();
        say!("No agents{}", if chosen { " are so." } else { "; start one with 'edge-agent run'." });
    }
    Ok(seq)
}

/// The names of the agents that a selector means.
pub fn names(client: &Client, args: &GetArgs) -> Done<Vec<String>> {
    let list = whole(client, args)?;
    Ok(list.items.iter().filter_map(|item| item["agent"].as_str()).map(str::to_string).collect())
}

const STATES: [AgentState; 6] = [
    AgentState::Online,
    AgentState::Offline,
    AgentState::Unknown,
    AgentState::Duplicate,
    AgentState::FloorConflict,
    AgentState::OtherLineage,
];

fn numbers(fleet: &FleetView) -> String {
    let shown = STATES.into_iter().filter(|state| fleet.groups.iter().any(|g| g.states.contains_key(state)));
    let shown: Vec<AgentState> = shown.collect();
    let label = fleet.label.to_uppercase();
    let mut head = vec![label.as_str(), "AGENTS"];
    let names: Vec<String> = shown.iter().map(|state| state.name().to_uppercase()).collect();
    head.extend(names.iter().map(String::as_str));
    head.push("CORDONED");
    let row = |name: &str, group: &FleetGroup| {
        let count = |n: usize| if n == 0 { "-".to_string() } else { n.to_string() };
        let mut row = vec![name.to_string(), group.total.to_string()];
        row.extend(shown.iter().map(|state| count(group.states.get(state).copied().unwrap_or(0))));
        row.push(count(group.cordoned));
        row
    };
    let mut rows: Vec<Vec<String>> =
        fleet.groups.iter().map(|group| row(group.value.as_deref().unwrap_or("(none)"), group)).collect();
    if fleet.groups.len() > 1 && fleet.more == 0 {
        rows.push(row("all", &sum(fleet)));
    }
    let mut text = style::table(&head, &rows);
    if fleet.more > 0 {
        text += &format!("… and {} agents with other values\n", fleet.more);
    }
    text + "--all or -o wide lists them; -l, --field and --offline-for choose\n"
}

fn sum(fleet: &FleetView) -> FleetGroup {
    let mut sum = FleetGroup { total: fleet.total, ..FleetGroup::default() };
    for group in &fleet.groups {
        sum.cordoned += group.cordoned;
        for (state, n) in &group.states {
            *sum.states.entry(*state).or_default() += n;
        }
    }
    sum
}

pub fn table(items: &[AgentView], wide: bool) -> String {
    style::table(&head(wide), &items.iter().map(|view| row(view, wide)).collect::<Vec<_>>())
}

fn head(wide: bool) -> Vec<&'static str> {
    let mut head = vec!["AGENT", "STATE", "FOR", "ARCH", "CPU", "MEMORY", "WORKLOADS", "LABELS"];
    if wide {
        head.extend(["TAINTS", "VERSION", "GENERATION", "REPORT"]);
    }
    head.push("PROBLEMS");
    head
}

fn row(a: &AgentView, wide: bool) -> Vec<String> {
    let joined = |texts: Vec<String>| if texts.is_empty() { "-".to_string() } else { texts.join(",") };
    let mut row = vec![
        a.agent.to_string(),
        marked(a),
        age_or_dash(a.since_ms),
        a.arch.clone(),
        format!("{}m/{}m", a.allocated.cpu_millis, a.capacity.cpu_millis),
        format!("{}/{}", size(a.allocated.memory_bytes), size(a.capacity.memory_bytes)),
        a.workloads.to_string(),
        joined(a.labels.iter().map(|(k, v)| format!("{k}={v}")).collect()),
    ];
    if wide {
        let applied = a.applied.map_or_else(|| "-".to_string(), |g| g.to_string());
        row.push(joined(a.taints.iter().map(ToString::to_string).collect()));
        row.extend([a.version.clone(), format!("{applied}/{}", a.current), age_or_dash(a.age_ms)]);
    }
    row.push(a.problems.join("; "));
    row
}

/// `online`, or `online,draining`.
fn marked(a: &AgentView) -> String {
    let mark = match &a.drain {
        Some(drain) => drain_word(drain.state),
        None if a.cordoned => "cordoned",
        None => return state(a.state.name()),
    };
    format!("{},{}", state(a.state.name()), paint(mark, Color::Yellow))
}

fn drain_word(state: DrainState) -> &'static str {
    match state {
        DrainState::Draining => "draining",
        DrainState::Stopping => "stopping",
        DrainState::Drained => "drained",
    }
}

/// How far a drain is, in one line.
pub fn drained(drain: &DrainView) -> String {
    let mut text = drain_word(drain.state).to_string();
    if drain.left > 0 {
        text += &format!(", {} to go", drain.left);
    }
    if let Some(ms) = drain.deadline_in_ms.filter(|_| drain.left > 0) {
        text += &format!(", waits for {} more at most", age(ms));
    }
    let more = drain.left.saturating_sub(drain.waits.len());
    let and = if more > 0 && !drain.waits.is_empty() { format!("; and {more} more") } else { String::new() };
    let waits = drain.waits.iter().map(|wait| format!("\n              {wait}")).collect::<String>();
    format!("{text}{waits}{and}")
}
