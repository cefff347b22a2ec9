//! What is measured, against which budget, and how is it told?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use e2e::{Value, json};

pub struct Figure {
    pub id: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// At most; none where it is only watched.
    pub budget: Option<f64>,
    /// A peer's figure: the id of ours that it stands beside.
    pub beside: Option<&'static str>,
}

const fn ours(id: &'static str, title: &'static str, unit: &'static str, budget: Option<f64>) -> Figure {
    Figure { id, title, unit, budget, beside: None }
}

const fn peer(id: &'static str, title: &'static str, beside: &'static str) -> Figure {
    Figure { id, title, unit: "ms", budget: None, beside: Some(beside) }
}

const fn kib(id: &'static str, title: &'static str, beside: &'static str) -> Figure {
    Figure { id, title, unit: "KiB", budget: None, beside: Some(beside) }
}

/// In the order in which they are told.
pub const CATALOGUE: &[Figure] = &[
    ours("apply.1.runs", "apply → running, 1: first line", "ms", Some(20.0)),
    ours("apply.1.answered", "  … the hub has answered", "ms", None),
    ours("apply.1.shown", "  … the hub shows Running", "ms", None),
    ours("apply.10.runs", "apply → running, 10: last first line", "ms", Some(150.0)),
    ours("apply.10.shown", "  … the hub shows all Running", "ms", None),
    ours("restart.runs", "kill -9 → replaced: first line", "ms", Some(50.0)),
    ours("restart.shown", "  … the hub shows it", "ms", None),
    ours("oci.apply.1.runs", "container: apply → running, 1", "ms", Some(60.0)),
    ours("oci.apply.1.shown", "  … the hub shows Running", "ms", None),
    ours("oci.apply.10.runs", "container: apply → running, 10", "ms", None),
    ours("oci.apply.10.shown", "  … the hub shows all Running", "ms", None),
    ours("oci.restart.runs", "container: kill -9 → replaced", "ms", Some(50.0)),
    ours("oci.restart.shown", "  … the hub shows it", "ms", None),
    ours("adopt.10", "agent kill, start → 11 adopted", "ms", Some(100.0)),
    ours("adopt.shown", "  … the hub shows all fresh", "ms", None),
    ours("boot.first", "start, no hub → first of 10 runs", "ms", None),
    ours("boot.10", "start, no hub → all 10 run", "ms", Some(1000.0)),
    peer("ankaios.apply.runs", "Ankaios: apply → running, 1", "apply.1.runs"),
    peer("ankaios.restart.runs", "Ankaios: kill -9 → replaced", "restart.runs"),
    peer("swarm.apply.runs", "Swarm: create → running, 1", "apply.1.runs"),
    peer("swarm.restart.runs", "Swarm: kill -9 → replaced", "restart.runs"),
    ours("container.ours.cpu", "a container, created to cleared: CPU", "ms", None),
    peer("container.crun.cpu", "  crun, no filter, no overlay", "container.ours.cpu"),
    peer("container.crun-same.cpu", "  crun, with both", "container.ours.cpu"),
    peer("container.runc.cpu", "  runc, no filter, no overlay", "container.ours.cpu"),
    peer("container.runc-same.cpu", "  runc, with both", "container.ours.cpu"),
    peer("container.podman.cpu", "  podman", "container.ours.cpu"),
    peer("container.docker.cpu", "  docker", "container.ours.cpu"),
    ours("container.ours.wall", "a container, created to cleared: wall", "ms", None),
    peer("container.crun.wall", "  crun, no filter, no overlay", "container.ours.wall"),
    peer("container.crun-same.wall", "  crun, with both", "container.ours.wall"),
    peer("container.runc.wall", "  runc, no filter, no overlay", "container.ours.wall"),
    peer("container.runc-same.wall", "  runc, with both", "container.ours.wall"),
    peer("container.podman.wall", "  podman", "container.ours.wall"),
    peer("container.docker.wall", "  docker", "container.ours.wall"),
    ours("beside.ours.pss", "beside a container: our shim, PSS", "KiB", None),
    ours("beside.ours.dirty", "  … private dirty", "KiB", Some(1024.0)),
    kib("beside.podman.pss", "  conmon (podman): PSS", "beside.ours.pss"),
    kib("beside.podman.dirty", "  … private dirty", "beside.ours.dirty"),
    kib("beside.docker.pss", "  containerd-shim (docker): PSS", "beside.ours.pss"),
    kib("beside.docker.dirty", "  … private dirty", "beside.ours.dirty"),
    ours("memory.agent.oci.pss", "agent with one container: PSS", "KiB", Some(5120.0)),
    ours("memory.agent.0.pss", "agent, 0 workloads: PSS", "KiB", Some(5120.0)),
    ours("memory.agent.0.rss", "  … RSS", "KiB", None),
    ours("memory.agent.0.dirty", "  … private dirty", "KiB", None),
    ours("memory.agent.10.pss", "agent, 10 workloads: PSS", "KiB", None),
    ours("memory.agent.10.rss", "  … RSS", "KiB", None),
    ours("memory.agent.10.dirty", "  … private dirty", "KiB", None),
    ours("memory.shim.10.pss", "a shim of 10: PSS", "KiB", None),
    ours("memory.shim.10.dirty", "  … private dirty", "KiB", Some(1024.0)),
    ours("memory.agent.100.pss", "agent, 100 workloads: PSS", "KiB", None),
    ours("memory.agent.100.rss", "  … RSS", "KiB", None),
    ours("memory.agent.100.dirty", "  … private dirty", "KiB", None),
    ours("memory.shim.100.pss", "a shim of 100: PSS", "KiB", None),
    ours("memory.shim.100.dirty", "  … private dirty", "KiB", Some(1024.0)),
    ours("memory.all.100.pss", "agent and 100 shims: PSS", "KiB", None),
    ours("idle.switches", "voluntary switches a minute, sled apart", "", Some(60.0)),
    ours("idle.switches.sled", "  … of sled's threads", "", None),
    ours("idle.cpu", "agent's CPU an idle minute", "ms", None),
    ours("idle.written", "written to disk an idle minute", "B", Some(0.0)),
    ours("idle.wire.beat", "IP bytes a heartbeat, both ways", "B", None),
    ours("idle.wire.hour", "IP bytes an idle hour", "B", Some(4266.0)),
    ours("size.agent", "edge-agent, as built", "KiB", None),
    ours("size.hub", "hub, as built", "KiB", None),
    ours("fleet.hub.0", "hub, no agent: RSS", "KiB", None),
    ours("fleet.1k.rss", "hub: RSS per agent, 1,000 connected", "KiB", None),
    ours("fleet.1k.dirty", "  … private dirty", "KiB", None),
    ours("fleet.1k.cpu", "  … CPU per connect and resync", "ms", None),
    ours("fleet.5k.rss", "hub: RSS per agent, 5,000 connected", "KiB", None),
    ours("fleet.5k.dirty", "  … private dirty", "KiB", None),
    ours("fleet.5k.cpu", "  … CPU per connect and resync", "ms", None),
];

#[derive(Default)]
pub struct Figures {
    values: BTreeMap<&'static str, Vec<f64>>,
    notes: Vec<String>,
}

/// Of all rounds.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
    rounds: usize,
}

impl Figures {
    pub fn add(&mut self, id: &str, value: f64) {
        let figure =
            CATALOGUE.iter().find(|f| f.id == id).unwrap_or_else(|| panic!("{id} is not in the catalogue"));
        eprintln!("  {:<44} {} {}", figure.title, number(value), figure.unit);
        self.values.entry(figure.id).or_default().push(value);
    }

    /// Once each.
    pub fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    fn spread(&self, id: &str) -> Option<Spread> {
        let mut sorted = self.values.get(id)?.clone();
        sorted.sort_by(f64::total_cmp);
        let (first, last, half) = (*sorted.first()?, *sorted.last()?, sorted.len() / 2);
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
        Some(Spread { median, min: first, max: last, rounds: sorted.len() })
    }

    /// How many times ours, for a peer's figure.
    fn ratio(&self, figure: &Figure, spread: Spread) -> Option<f64> {
        Some(spread.median / self.spread(figure.beside?)?.median)
    }

    pub fn table(&self, machine: &Value) -> String {
        let mut text = String::new();
        for (key, value) in machine.as_object().into_iter().flatten() {
            let _ = writeln!(text, "{key:<14} {}", value.as_str().unwrap_or_default());
        }
        let head = ["figure", "median", "min", "max", "n", "unit", "budget", ""];
        let rows: Vec<[String; 8]> =
            CATALOGUE.iter().filter_map(|f| Some(self.row(f, self.spread(f.id)?))).collect();
        let rows: Vec<[String; 8]> = std::iter::once(head.map(str::to_string)).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        text.push('\n');
        for row in &rows {
            let cell = |(n, cell): (usize, &String)| match n {
                0 | 5 | 7 => format!("{cell:<w$}", w = widths[n]),
                _ => format!("{cell:>w$}", w = widths[n]),
            };
            let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        text
    }

    fn row(&self, figure: &Figure, spread: Spread) -> [String; 8] {
        let budget = figure.budget.map_or_else(String::new, |b| format!("≤ {}", number(b)));
        let verdict = match (figure.budget, self.ratio(figure, spread)) {
            (Some(budget), _) if spread.median <= budget => "met".to_string(),
            (Some(budget), _) if spread.min <= budget => "NOT MET, at best met".to_string(),
            (Some(_), _) => "NOT MET".to_string(),
            (None, Some(ratio)) => format!("{ratio:.1} × ours"),
            (None, None) => String::new(),
        };
        [
            figure.title.to_string(),
            number(spread.median),
            number(spread.min),
            number(spread.max),
            spread.rounds.to_string(),
            figure.unit.to_string(),
            budget,
            verdict,
        ]
    }

    pub fn json(&self, machine: &Value) -> Value {
        let one = |figure: &Figure| {
            let spread = self.spread(figure.id)?;
            Some(json!({
                "id": figure.id, "title": figure.title.trim_start_matches([' ', '…']), "unit": figure.unit,
                "median": spread.median, "min": spread.min, "max": spread.max, "rounds": spread.rounds,
                "values": self.values[figure.id], "budget": figure.budget,
                "met": figure.budget.map(|budget| spread.median <= budget),
                "timesOurs": self.ratio(figure, spread),
            }))
        };
        let figures: Vec<Value> = CATALOGUE.iter().filter_map(one).collect();
        json!({"machine": machine, "figures": figures, "notes": self.notes})
    }
}

/// Three digits that matter, no more than one after the point.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_rounds_is_judged_and_the_best_is_shown() {
        let mut figures = Figures::default();
        for value in [10.0, 90.0, 30.0, 21.0] {
            figures.add("apply.1.runs", value);
        }
        figures.add("ankaios.apply.runs", 255.0);
        let json = figures.json(&json!({}));
        let first = &json["figures"][0];
        assert_eq!(
            (first["median"].as_f64(), first["min"].as_f64(), first["met"].as_bool()),
            (Some(25.5), Some(10.0), Some(false))
        );
        assert_eq!(json["figures"][1]["timesOurs"], 10.0);
        let table = figures.table(&json!({}));
        assert!(table.contains("NOT MET, at best met") && table.contains("10.0 × ours"), "{table}");
    }

    #[test]
    fn every_figure_has_one_name() {
        for (n, figure) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..n].iter().all(|other| other.id != figure.id), "{}", figure.id);
            assert!(
                figure.beside.is_none_or(|id| CATALOGUE.iter().any(|other| other.id == id)),
                "{}",
                figure.id
            );
        }
    }
}
