//! How long until it runs, runs again, is adopted, runs with nobody there?

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use e2e::{Fleet, kill9, until};

use crate::figures::Figures;
use crate::scene::{CPU_DEFAULT, Kind, delete, fleet, manifest, moment, ms, names, shown, spoken, told};

/// On the board while others come and go: a board with work on it is the usual one.
const RESIDENTS: usize = 10;
/// And a container.
const ON_BOARD: usize = RESIDENTS + 1;
const RESIDENT_CPU: u32 = 50;
/// Of each of several at once; a single one has the default.
const CPU_OF_MANY: u32 = 100;

/// A hub and a board with ten workloads.
pub struct Crowd {
    fleet: Fleet,
    residents: Vec<String>,
    round: usize,
}

impl Crowd {
    pub fn start() -> Crowd {
        let (fleet, residents) = fleet(RESIDENTS, RESIDENT_CPU, &[]);
        // Fetched and unpacked once; what stays keeps it on the board.
        e2e::push_stock(&fleet, Kind::Container.image());
        let kept = names("box", 1);
        fleet.hub.apply(&manifest(Kind::Container, &kept, RESIDENT_CPU));
        fleet.steady(&kept[0]);
        let residents = residents.into_iter().chain(kept).collect();
        Crowd { fleet, residents, round: 0 }
    }

    /// New names each time: back-off and earlier logs of a workload must not count.
    fn prefix(&mut self, what: &str) -> String {
        self.round += 1;
        format!("{what}-{}", self.round)
    }

    pub fn apply(&mut self, figures: &mut Figures, kind: Kind, count: usize) {
        let prefix = self.prefix("apply");
        let names = names(&prefix, count);
        let cpu_millis = if count == 1 { CPU_DEFAULT } else { CPU_OF_MANY };
        let (fleet, board, text) = (&self.fleet, &self.fleet.boards[0], manifest(kind, &names, cpu_millis));
        let sent = Instant::now();
        let (answered, runs) = std::thread::scope(|scope| {
            let post = scope.spawn(|| {
                fleet.hub.apply(&text);
                Instant::now()
            });
            let mut silent: Vec<&String> = names.iter().collect();
            let runs = moment("the first lines are said", || {
                silent.retain(|name| spoken(board, name).is_empty());
                silent.is_empty()
            });
            (post.join().expect("the apply"), runs)
        });
        figures.add(&format!("{}apply.{count}.runs", kind.id()), ms(sent, runs));
        if count == 1 && kind == Kind::Wasm {
            figures.add("apply.1.answered", ms(sent, answered));
        }
        let shown = moment("the hub shows them", || shown(fleet, &prefix, 0) == count);
        figures.add(&format!("{}apply.{count}.shown", kind.id()), ms(sent, shown));
        names.iter().for_each(|name| fleet.steady(name));
        delete(fleet, &names, ON_BOARD);
    }

    /// The first end of a workload that had been healthy.
    pub fn restart(&mut self, figures: &mut Figures, kind: Kind) {
        let prefix = self.prefix("kill");
        let names = names(&prefix, 1);
        let (fleet, board) = (&self.fleet, &self.fleet.boards[0]);
        fleet.hub.apply(&manifest(kind, &names, CPU_DEFAULT));
        fleet.steady(&names[0]);
        let (shim, before) = (board.pid(&names[0]), spoken(board, &names[0]));
        let pid = if kind == Kind::Wasm { shim } else { child(shim) };
        let killed = Instant::now();
        kill9(pid);
        let runs = moment("another run says its first line", || has_new(&before, &spoken(board, &names[0])));
        figures.add(&format!("{}restart.runs", kind.id()), ms(killed, runs));
        let shown = moment("the hub shows it", || shown(fleet, &prefix, 1) == 1);
        figures.add(&format!("{}restart.shown", kind.id()), ms(killed, shown));
        delete(fleet, &names, ON_BOARD);
    }

    pub fn adopt(&mut self, figures: &mut Figures) {
        let (pids, boots) = (self.fleet.boards[0].pids(), self.boots());
        assert_eq!(pids.len(), ON_BOARD);
        self.fleet.boards[0].kill();
        let started = Instant::now();
        self.fleet.boards[0].revive();
        let board = &self.fleet.boards[0];
        let adopted = moment("the agent has adopted all", || told(board) == Some(ON_BOARD));
        figures.add("adopt.10", ms(started, adopted));
        let shown = moment("the hub shows all fresh", || {
            self.boots() > boots && shown(&self.fleet, "base", 0) == RESIDENTS
        });
        figures.add("adopt.shown", ms(started, shown));
        assert_eq!(board.pids(), pids, "adopted, not restarted");
        self.fleet.online(0);
        self.residents.iter().for_each(|name| self.fleet.steady(name));
    }

    /// How often the agent has started, as far as the hub has heard.
    fn boots(&self) -> u64 {
        self.fleet.hub.get("/v1/agents/board-0")["epoch"]["boots"].as_u64().unwrap_or(0)
    }

    pub fn finish(self) {
        self.fleet.finish();
    }
}

/// A board whose hub is gone for good.
pub struct Island {
    fleet: Fleet,
    residents: Vec<String>,
}

impl Island {
    pub fn start() -> Island {
        let (mut fleet, residents) = fleet(RESIDENTS, RESIDENT_CPU, &[]);
        fleet.hub.kill();
        Island { fleet, residents }
    }

    /// As after a power cut: nothing runs, and what lies below /run is gone.
    pub fn boot(&mut self, figures: &mut Figures) {
        let board = &mut self.fleet.boards[0];
        board.kill();
        board.pids().values().for_each(|pid| kill9(*pid));
        until("nothing runs", || board.pids().is_empty());
        std::fs::remove_dir_all(&board.run).expect("the run directory");
        let before: Vec<_> = self.residents.iter().map(|name| spoken(board, name)).collect();
        let started = Instant::now();
        board.revive();
        let mut silent: Vec<_> = self.residents.iter().zip(&before).collect();
        let mut first = None;
        let all = moment("all run again", || {
            silent.retain(|(name, before)| !has_new(before, &spoken(board, name)));
            if silent.len() < RESIDENTS {
                first.get_or_insert_with(Instant::now);
            }
            silent.is_empty()
        });
        figures.add("boot.first", ms(started, first.unwrap_or(all)));
        figures.add("boot.10", ms(started, all));
        board.answers();
    }

    pub fn finish(self) {
        self.fleet.finish();
    }
}

/// A shim's container: its only child.
fn child(shim: u32) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).expect("a living shim");
    text.trim().parse().unwrap_or_else(|_| panic!("one child: '{text}'"))
}

fn has_new(before: &BTreeSet<PathBuf>, now: &BTreeSet<PathBuf>) -> bool {
    now.iter().any(|file| !before.contains(file))
}
