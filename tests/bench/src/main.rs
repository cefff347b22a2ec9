//! Which figures are wanted, and in which order are they taken?
//!
//! The quick ones and the peers' take turns in rounds, so that a busy minute of the machine falls on
//! all of them alike. No figure is a verdict: the program fails only when something could not be measured.

mod containers;
mod fast;
mod figures;
mod fleet;
mod idle;
mod machine;
mod memory;
mod mqtt;
mod peers;
mod process;
mod proxy;
mod scene;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use figures::Figures;
use scene::Kind;

const MEASURES: [&str; 9] =
    ["apply", "restart", "adopt", "boot", "container", "memory", "idle", "size", "fleet"];
const KINDS: [(Kind, &str); 2] = [(Kind::Wasm, "module"), (Kind::Container, "container")];
/// These take minutes and differ little from run to run.
const SLOW_ROUNDS_MAX: usize = 3;
const USAGE: &str = "usage: bench [all|apply|restart|adopt|boot|container|memory|idle|size|fleet]... [--rounds N] [--window SECONDS] [-o table|json]";

struct Options {
    measures: Vec<String>,
    rounds: usize,
    window: Duration,
    json: bool,
}

impl Options {
    fn wants(&self, measure: &str) -> bool {
        self.measures.iter().any(|m| m == measure || m == "all")
    }
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let before = machine::load();
    let mut figures = Figures::default();
    let whole = run(&options, &mut figures);
    let machine = machine::describe(&before);
    if options.json {
        println!("{:#}", figures.json(&machine));
    } else {
        print!("{}", figures.table(&machine));
    }
    if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(options: &Options, figures: &mut Figures) -> bool {
    let mut whole = true;
    if options.wants("size") {
        whole &= attempt("size", figures, memory::sizes);
    }
    whole &= rounds(options, figures);
    if options.wants("container") {
        whole &= attempt("container", figures, |figures| containers::measure(figures, options.rounds));
    }
    for round in 0..options.rounds.min(SLOW_ROUNDS_MAX) {
        if options.wants("memory") {
            eprintln!("memory, round {}", round + 1);
            whole &= attempt("memory", figures, memory::measure);
        }
    }
    if options.wants("idle") {
        whole &= attempt("idle", figures, |figures| idle::measure(figures, options.window));
    }
    if options.wants("fleet") {
        whole &= attempt("fleet", figures, fleet::measure);
    }
    whole
}

/// What is measured many times, peers among it.
fn rounds(options: &Options, figures: &mut Figures) -> bool {
    let wanted = |measure: &str| options.wants(measure);
    if !["apply", "restart", "adopt", "boot"].iter().any(|m| wanted(m)) {
        return true;
    }
    let mut whole = true;
    let mut crowd = (wanted("apply") || wanted("restart") || wanted("adopt")).then(fast::Crowd::start);
    let mut island = wanted("boot").then(fast::Island::start);
    let mut peers = if wanted("apply") || wanted("restart") { peers::installed(figures) } else { Vec::new() };
    for round in 0..options.rounds {
        eprintln!("round {} of {}, load {}", round + 1, options.rounds, machine::load());
        if let Some(crowd) = &mut crowd {
            if wanted("apply") {
                for (kind, name) in KINDS {
                    whole &= attempt(&format!("apply 1 {name}"), figures, |f| crowd.apply(f, kind, 1));
                    whole &= attempt(&format!("apply 10 {name}"), figures, |f| crowd.apply(f, kind, 10));
                }
            }
            if wanted("restart") {
                for (kind, name) in KINDS {
                    whole &= attempt(&format!("restart {name}"), figures, |f| crowd.restart(f, kind));
                }
            }
            if wanted("adopt") {
                whole &= attempt("adopt", figures, |f| crowd.adopt(f));
            }
        }
        if let Some(island) = &mut island {
            whole &= attempt("boot", figures, |f| island.boot(f));
        }
        // A peer that fails once is left out of the rounds that follow.
        peers.retain_mut(|peer| attempt(peer.name(), figures, |f| peers::round(peer.as_mut(), f)));
    }
    drop(peers);
    if let Some(crowd) = crowd {
        whole &= attempt("clearing up", figures, |_| crowd.finish());
    }
    if let Some(island) = island {
        whole &= attempt("clearing up", figures, |_| island.finish());
    }
    whole
}

/// A measure that fails (nothing happened in a minute) is named, and the others are taken all the same.
fn attempt(name: &str, figures: &mut Figures, measure: impl FnOnce(&mut Figures)) -> bool {
    let done = catch_unwind(AssertUnwindSafe(|| measure(figures))).is_ok();
    if !done {
        figures.note(format!("{name} could not be measured in one of its rounds: see the messages above"));
    }
    done
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { measures: Vec::new(), rounds: 10, window: Duration::from_secs(60), json: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => options.rounds = number(&value()?, 1, 10_000)?,
            "--window" => options.window = Duration::from_secs(number(&value()?, 10, 3600)? as u64),
            "-o" => match value()?.as_str() {
                "json" => options.json = true,
                "table" => options.json = false,
                other => return Err(format!("-o {other}: table or json")),
            },
            measure if measure == "all" || MEASURES.contains(&measure) => options.measures.push(arg),
            other => return Err(format!("'{other}' is no measure")),
        }
    }
    if options.measures.is_empty() {
        options.measures.push("all".to_string());
    }
    Ok(options)
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| format!("'{text}': a number from {least} to {most}"))
}
