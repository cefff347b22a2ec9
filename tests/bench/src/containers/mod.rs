//! What does one container cost, from its creation until nothing is left of it? Ours beside runtimes and engines, with
//! the same files and limits, in rounds that take turns.
//!
//! Each has a cgroup in which all that works for it is counted: commands, daemons, helpers that outlive the
//! command, the container itself.

mod beside;
mod engines;
mod place;
mod runtimes;

use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::machine;
use crate::process::Memory;
use crate::scene::ms;
use place::{Account, Place};

/// A program, or a service with its client, that runs one container and clears it away.
pub trait Runner {
    /// The middle of its figures' ids, and its cgroup.
    fn id(&self) -> &'static str;
    fn once(&mut self, account: &Account) -> Result<(), String>;
    /// What stays beside a container of it that runs, where that is somebody.
    fn beside(&mut self, _: &Account) -> Result<Option<Memory>, String> {
        Ok(None)
    }
}

/// Helpers of an engine work on for a while after its command has ended.
const QUIET: Duration = Duration::from_millis(60);
const QUIET_MS: f64 = 0.2;
const LONGEST: Duration = Duration::from_secs(5);

/// In a thread of its own, for this one goes to a mount namespace that the other measures must not see.
pub fn measure(figures: &mut Figures, rounds: usize) {
    beside::ours(figures);
    std::thread::scope(|scope| {
        scope.spawn(|| within(figures, rounds)).join().expect("what went wrong is said above");
    });
}

fn within(figures: &mut Figures, rounds: usize) {
    let place = Place::make();
    let mut runners: Vec<(Box<dyn Runner>, Account)> = Vec::new();
    let found = runtimes::found(&place).into_iter().chain(engines::found(&place));
    for runner in found {
        match runner {
            Ok(runner) => {
                let account = place.account(runner.id());
                runners.push((runner, account));
            }
            Err(why) => figures.note(format!("Left out: {why}.")),
        }
    }
    // The first container of each finds cold caches, and makes what later ones find.
    runners.retain_mut(|(runner, account)| attempt(runner.as_mut(), account, figures).is_some());
    for round in 0..rounds {
        eprintln!("containers, round {} of {rounds}, load {}", round + 1, machine::load());
        for turn in 0..runners.len() {
            let at = (turn + round) % runners.len();
            let (runner, account) = &mut runners[at];
            if let Some((cpu, wall)) = attempt(runner.as_mut(), account, figures) {
                figures.add(&format!("container.{}.cpu", runner.id()), cpu);
                figures.add(&format!("container.{}.wall", runner.id()), wall);
            }
        }
    }
    for (runner, account) in &mut runners {
        match runner.beside(account) {
            Ok(memory) => memory.into_iter().for_each(|memory| beside::add(figures, runner.id(), memory)),
            Err(why) => figures.note(format!("{}, running: {why}", runner.id())),
        }
    }
    drop(runners);
    place.clear();
}

/// Milliseconds of processor, and until its command had ended.
fn attempt(runner: &mut dyn Runner, account: &Account, figures: &mut Figures) -> Option<(f64, f64)> {
    let (before, start) = (account.cpu_ms(), Instant::now());
    match runner.once(account) {
        Ok(()) => {
            let wall = ms(start, Instant::now());
            Some((settled(account, before), wall))
        }
        Err(why) => {
            figures.note(format!("{}: {why}", runner.id()));
            None
        }
    }
}

fn settled(account: &Account, before: f64) -> f64 {
    let end = Instant::now() + LONGEST;
    let mut last = account.cpu_ms();
    loop {
        std::thread::sleep(QUIET);
        let now = account.cpu_ms();
        if now - last < QUIET_MS || Instant::now() > end {
            return now - before;
        }
        last = now;
    }
}
