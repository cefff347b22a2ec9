//! Watching workloads until they are where they should be: a line each, redrawn on a terminal that
//! has room for them, one line per change elsewhere.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::WorkloadKey;
use hub_core::view::{InstanceView, WorkloadView};
use serde::Deserialize;

use super::client::Client;
use super::exit::{Code, Done, Failure};
use super::kinds;
use super::sse::Events;
use super::style::{Color, columns, fit, lines, paint};

/// A workload that only fails, with nothing under way, for so long is reported as failed: three
/// starts with their back-off have gone by.
const FAILING_FOR: Duration = Duration::from_secs(15);

/// Between two looks at what boards still run: a fleet reports more often than anybody reads.
const LOOK_APART: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// `all`: the targets of offline agents too.
    Steady {
        all: bool,
    },
    Deleted,
}

#[derive(Deserialize)]
struct Position {
    seq: u64,
}

/// Where the hub's stream of changes is now: asked before a change, so that none is missed.
pub fn position(client: &Client) -> Done<u64> {
    Ok(client.get::<Position>("/v1/events?limit=1")?.seq)
}

struct Row {
    goal: Goal,
    /// None when the hub has it no more.
    view: Option<WorkloadView>,
    /// How many instances boards that are here still run of one that was deleted; None: not asked yet.
    leaving: Option<usize>,
    failing_since: Option<Instant>,
    shown: String,
}

impl Row {
    fn update(&mut self, view: Option<WorkloadView>) {
        let failing = view.as_ref().is_some_and(|v| v.targets.failing > 0 && v.targets.progressing == 0);
        self.failing_since = if failing { self.failing_since.or_else(|| Some(Instant::now())) } else { None };
        self.view = view;
    }

    fn is_reached(&self) -> bool {
        match (&self.view, self.goal) {
            (None, Goal::Deleted) => self.leaving == Some(0),
            (None, Goal::Steady { .. }) => true,
            (Some(_), Goal::Deleted) => false,
            (Some(view), Goal::Steady { all: true }) => view.steady,
            (Some(view), Goal::Steady { all: false }) => {
                view.targets.steady + view.targets.offline == view.targets.total
            }
        }
    }

    fn waits_for_boards(&self) -> bool {
        self.view.is_none() && !self.is_reached()
    }

    fn has_failed(&self) -> bool {
        self.failing_since.is_some_and(|since| since.elapsed() >= FAILING_FOR)
    }

    fn text(&self, key: &WorkloadKey) -> String {
        let (mark, message) = match &self.view {
            None if self.is_reached() => (paint("✓", Color::Green), "gone".to_string()),
            None => {
                let still = self.leaving.map_or_else(String::new, |count| format!(" {count}"));
                (paint("…", Color::Yellow), format!("deleted; waiting for{still} instances to stop"))
            }
            Some(view) if self.is_reached() => (paint("✓", Color::Green), view.message.clone()),
            Some(view) if view.targets.failing > 0 => (paint("!", Color::Red), view.message.clone()),
            Some(view) => (paint("…", Color::Yellow), view.message.clone()),
        };
        format!("{mark} {key}  {message}")
    }
}

#[derive(Deserialize)]
struct Changed {
    change: serde_json::Value,
    object: Option<WorkloadView>,
}

pub fn watch(
    client: Arc<Client>,
    goals: BTreeMap<WorkloadKey, Goal>,
    seq: u64,
    timeout: contract::quantity::Duration,
) -> Done {
    let deadline = Instant::now() + Duration::from_millis(timeout.ms);
    // What a deleted workload's boards still run shows in their reports.
    let kinds = if goals.values().any(|g| *g == Goal::Deleted) { "workload,agent" } else { "workload" };
    let path = format!("/v1/watch?after={seq}&kinds={kinds}");
    let events = Events::open(Arc::clone(&client), path, None, true)?;
    let mut rows = BTreeMap::new();
    for (key, goal) in goals {
        let mut row = Row { goal, view: None, leaving: None, failing_since: None, shown: String::new() };
        row.update(look(&client, &key)?);
        rows.insert(key, row);
    }
    let mut screen = Screen::default();
    let (mut news, mut looked) = (true, None::<Instant>);
    loop {
        let waits = rows.values().any(Row::waits_for_boards);
        if waits && news && looked.is_none_or(|at| at.elapsed() >= LOOK_APART) {
            for (key, row) in rows.iter_mut().filter(|(_, row)| row.waits_for_boards()) {
                row.leaving = Some(leaving(&client, key)?);
            }
            (news, looked) = (false, Some(Instant::now()));
        }
        screen.draw(&mut rows);
        if rows.values().all(Row::is_reached) {
            return Ok(());
        }
        if let Some(failure) = failed(&rows) {
            return Err(failure);
        }
        let Some(left) = deadline.checked_duration_since(Instant::now()) else {
            return Err(timed_out(&rows));
        };
        let pause = if waits && news { LOOK_APART } else { Duration::from_secs(1) };
        match events.next_within(left.min(pause)) {
            Ok(None) => {}
            Ok(Some(event)) => {
                take(&client, event?, &mut rows)?;
                news = true;
            }
            Err(()) => {
                return Err(Failure::new(Code::Unreachable, "the hub went away; what was applied goes on"));
            }
        }
    }
}

fn take(client: &Client, event: super::sse::SseEvent, rows: &mut BTreeMap<WorkloadKey, Row>) -> Done {
    if event.name == "gone" {
        for (key, row) in rows.iter_mut() {
            row.update(look(client, key)?);
        }
    }
    let Ok(Changed { change, object }) = serde_json::from_str(&event.data) else { return Ok(()) };
    let key = change["workload"]["workload"].as_str().and_then(|key| key.parse().ok());
    if let Some(row) = key.and_then(|key: WorkloadKey| rows.get_mut(&key)) {
        row.update(object);
    }
    Ok(())
}

fn look(client: &Client, key: &WorkloadKey) -> Done<Option<WorkloadView>> {
    match client.get(&kinds::path(key)) {
        Ok(view) => Ok(Some(view)),
        Err(failure) if failure.code == Code::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[derive(Deserialize)]
struct Instances {
    items: Vec<InstanceView>,
}

/// A board that is away stops it when it is back; nobody waits for that.
fn leaving(client: &Client, key: &WorkloadKey) -> Done<usize> {
    let found: Instances = client.get(&format!("/v1/instances?workload={}%2F{}", key.namespace, key.name))?;
    Ok(found.items.iter().filter(|instance| instance.fresh).count())
}

fn failed(rows: &BTreeMap<WorkloadKey, Row>) -> Option<Failure> {
    let bad: Vec<_> = rows.iter().filter(|(_, row)| row.has_failed()).map(|(key, _)| key).collect();
    // As long as another one makes progress there is something to wait for.
    let done = rows.values().all(|row| row.is_reached() || row.has_failed());
    let first = *bad.first().filter(|_| done)?;
    let text = format!(
        "{} of {} workloads fail. What it said: hub logs {first}; what it waits for: hub describe workload {first}",
        bad.len(),
        rows.len()
    );
    Some(Failure::new(Code::Failed, text))
}

fn timed_out(rows: &BTreeMap<WorkloadKey, Row>) -> Failure {
    let open: Vec<_> =
        rows.iter().filter(|(_, row)| !row.is_reached()).map(|(key, _)| key.to_string()).collect();
    let text = format!(
        "not steady in time: {}. Nothing was cancelled; see hub describe workload {}",
        open.join(", "),
        open[0]
    );
    Failure::new(Code::Timeout, text)
}

#[derive(Default)]
struct Screen {
    drawn: usize,
}

impl Screen {
    fn draw(&mut self, rows: &mut BTreeMap<WorkloadKey, Row>) {
        let mut out = std::io::stdout().lock();
        let texts: Vec<String> = rows.iter().map(|(key, row)| row.text(key)).collect();
        if rows.values().zip(&texts).all(|(row, text)| row.shown == *text) {
            return;
        }
        // What has scrolled away cannot be drawn over: then a line per change, as in a file.
        if texts.len() < lines() {
            if self.drawn > 0 {
                let _ = write!(out, "\x1b[{}A", self.drawn);
            }
            let columns = columns();
            for text in &texts {
                let _ = writeln!(out, "\r\x1b[2K{}", fit(text, columns));
            }
            self.drawn = texts.len();
        } else {
            for (_, text) in rows.values().zip(&texts).filter(|(row, text)| row.shown != **text) {
                let _ = writeln!(out, "{text}");
            }
        }
        for (row, text) in rows.values_mut().zip(texts) {
            row.shown = text;
        }
        let _ = out.flush();
    }
}
