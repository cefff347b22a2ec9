//! What do workloads do? As the script of their artefact says: run, crash, end, start slowly, or be
//! refused. Runs outlive the agent and end with the power.

use std::sync::Arc;

use agent_core::api::{EffectId, Event, Outcome};
use contract::run::Assignment;
use contract::status::Exit;
use contract::time::Millis;
use contract::{InstanceId, RunId};

use crate::mutant::Mutant;
use crate::probes::Illness;
use crate::script::Act;
use crate::truth::Candidate;
use crate::world::{Ev, World};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    /// Takes its time to come up.
    Slow,
    /// Ends badly, always.
    Crashes,
    /// Ends badly now and then.
    Flaky,
    /// Ends well after a while.
    Completes,
    /// Cannot be started.
    Refused,
    /// Its compiler refuses it.
    DoesNotCompile,
    /// Does not end when it is asked to.
    Stubborn,
    /// Takes the whole board down, each time.
    Fells,
}

#[derive(Debug, Clone)]
pub struct Run {
    pub assignment: Arc<Assignment>,
    pub state: RunState,
    /// Somebody asked it to end.
    pub stop_asked: bool,
    /// Nobody told the agent that it came up.
    pub suspect: bool,
    /// When its probes answer badly.
    pub ills: Vec<Illness>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    Starting,
    Running { since: Millis },
    Ended(Exit),
}

impl Run {
    pub fn is_live(&self) -> bool {
        !matches!(self.state, RunState::Ended(_))
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running { .. })
    }
}

impl World {
    pub fn behaviour(&self, assignment: &Assignment) -> Behaviour {
        self.operator.behaviour(&assignment.run.artifact.source)
    }

    pub fn start(
        &mut self,
        b: usize,
        life: u64,
        id: EffectId,
        instance: InstanceId,
        run: RunId,
        a: Assignment,
    ) {
        self.trace(|| format!("a{b} start {instance} run {run} revision {}", a.revision.short()));
        let live = self.boards[b].runs.iter().find(|((i, _), r)| *i == instance && r.is_live());
        let live = live.map(|((_, run), _)| *run);
        self.demand(live.is_none(), "one_live_run_per_instance", || {
            format!("a{b}: {instance} starts as {run} while {live:?} lives")
        });
        self.check_start(b, &instance, &a);
        let contents = a.run.contents().iter().map(|data| data.digest);
        if !contents.chain([a.run.artifact.digest]).all(|digest| self.boards[b].artifacts.contains(&digest)) {
            return self.ends(b, life, id, 2, Outcome::Missing);
        }
        if self.rng.chance(self.plan.start_faults) {
            return self.ends(b, life, id, 5, Outcome::Fault("no process to be had".into()));
        }
        let behaviour = self.behaviour(&a);
        if behaviour == Behaviour::Refused {
            return self.ends(b, life, id, 5, Outcome::Refused("no such host path".into()));
        }
        let assignment = Arc::new(a);
        let entry = Run {
            assignment,
            state: RunState::Starting,
            stop_asked: false,
            suspect: false,
            ills: Vec::new(),
        };
        self.boards[b].runs.insert((instance.clone(), run), entry);
        let wait = match behaviour {
            Behaviour::Slow => self.rng.range(2_000, 20_000),
            _ => self.rng.range(2, 150),
        };
        let power = self.boards[b].power;
        self.after(wait, Ev::RunUp { b, power, life, id, instance, run });
    }

    #[allow(clippy::too_many_arguments)] // one event's fields
    pub fn run_up(
        &mut self,
        b: usize,
        power: u64,
        life: u64,
        id: EffectId,
        instance: InstanceId,
        run: RunId,
    ) {
        let now = self.now;
        let late = self.rng.chance(self.plan.start_faults / 4);
        let board = &mut self.boards[b];
        let Some(entry) = board.runs.get_mut(&(instance.clone(), run)) else { return };
        if board.power != power || entry.state != RunState::Starting {
            return;
        }
        entry.state = RunState::Running { since: now };
        entry.suspect = late;
        let assignment = entry.assignment.clone();
        let ills = self.illnesses(&assignment);
        if let Some(entry) = self.boards[b].runs.get_mut(&(instance.clone(), run)) {
            entry.ills = ills;
        }
        self.truth.up(b, &instance, assignment.revision, now);
        let behaviour = self.behaviour(&assignment);
        let end = match behaviour {
            Behaviour::Crashes => Some((self.rng.range(10, 900), Exit::Code { code: 1 })),
            Behaviour::Flaky if self.rng.chance(300) && !self.healed => {
                Some((self.rng.range(100, 200_000), Exit::Trap { message: "unreachable".into() }))
            }
            Behaviour::Completes => Some((self.rng.range(500, 60_000), Exit::Code { code: 0 })),
            _ => None,
        };
        if behaviour == Behaviour::Fells {
            let (wait, a) = (self.rng.range(10, 400), &assignment);
            let candidate = (a.workload.clone(), a.revision, a.attempt);
            self.after(wait, Ev::Felled { b, power, candidate });
        }
        if let Some((wait, exit)) = end {
            self.after(wait, Ev::RunEnds { b, power, instance, run, exit, stop: None });
        }
        if self.is_life(b, life) {
            let outcome = if late { Outcome::Deadline } else { Outcome::Started { pid: 7 } };
            self.agent_step(b, Event::Finished { id, outcome });
        }
    }

    /// A run took its board down; it boots again.
    pub fn felled(&mut self, b: usize, power: u64, candidate: Candidate) {
        if self.boards[b].power != power || !self.boards[b].powered {
            return;
        }
        self.trace(|| format!("a{b} goes down by {}", candidate.0));
        self.check_felled(b, candidate);
        self.power_cut(b);
        let wait = self.rng.range(2_000, 20_000);
        self.after(wait, Ev::Act(Act::PowerOn(b)));
    }

    /// `stop`: (life, effect) of the Stop that this is the end of.
    pub fn run_ends(
        &mut self,
        b: usize,
        power: u64,
        instance: InstanceId,
        run: RunId,
        exit: Exit,
        stop: Option<(u64, EffectId)>,
    ) {
        if self.boards[b].power != power {
            return;
        }
        let key = (instance.clone(), run);
        let live = self.boards[b].runs.get(&key).is_some_and(Run::is_live);
        if live {
            self.trace(|| format!("a{b} {instance} run {run} ended: {exit}"));
            self.end_run(b, &key, exit.clone());
            self.agent_step(b, Event::Exited { instance, run, exit });
        }
        if let Some((life, id)) = stop {
            self.agent_effect_ends(b, life, id, Outcome::Done);
        }
    }

    pub fn end_run(&mut self, b: usize, key: &(InstanceId, RunId), exit: Exit) {
        let now = self.now;
        let Some(entry) = self.boards[b].runs.get_mut(key) else { return };
        let state = std::mem::replace(&mut entry.state, RunState::Ended(exit.clone()));
        let assignment = entry.assignment.clone();
        if let RunState::Running { since } = state {
            self.truth.down(b, &key.0, &assignment, since, now, exit.is_success());
        }
    }

    pub fn end_all_runs(&mut self, b: usize) {
        let live = self.boards[b].runs.iter().filter(|(_, r)| r.is_live());
        let live: Vec<_> = live.map(|(key, _)| key.clone()).collect();
        for key in live {
            self.end_run(b, &key, Exit::Rebooted);
        }
    }

    /// The agent died while some of its starts were under way: those shims come up, or never do.
    pub fn abort_some_starts(&mut self, b: usize) {
        let starting = self.boards[b].runs.iter().filter(|(_, r)| r.state == RunState::Starting);
        let starting: Vec<_> = starting.map(|(key, _)| key.clone()).collect();
        for key in starting {
            if self.rng.chance(500) {
                self.end_run(b, &key, Exit::Unknown { evidence: "it never began".into() });
            } else {
                let power = self.boards[b].power;
                self.run_up(b, power, 0, 0, key.0, key.1);
            }
        }
    }

    pub fn stop(
        &mut self,
        b: usize,
        life: u64,
        id: EffectId,
        instance: InstanceId,
        run: RunId,
        grace: Millis,
    ) {
        self.trace(|| format!("a{b} stop {instance} run {run}"));
        self.check_stop(b, &instance, run);
        let now = self.now;
        let power = self.boards[b].power;
        let Some(entry) = self.boards[b].runs.get_mut(&(instance.clone(), run)) else {
            return self.ends(b, life, id, 1, Outcome::Done);
        };
        if !entry.is_live() {
            return self.ends(b, life, id, 1, Outcome::Done);
        }
        entry.stop_asked = true;
        let assignment = entry.assignment.clone();
        self.truth.stopping(b, &instance, now);
        if self.is_mutant(Mutant::StopLost) {
            return self.ends(b, life, id, 5, Outcome::Done);
        }
        if self.rng.chance(self.plan.stop_faults) {
            let deadline = self.rng.chance(500);
            let outcome = if deadline { Outcome::Deadline } else { Outcome::Fault("no such signal".into()) };
            return self.ends(b, life, id, 500, outcome);
        }
        let (wait, signal) = match self.behaviour(&assignment) {
            Behaviour::Stubborn => (grace, 9),
            _ => (self.rng.range(1, 300), 15),
        };
        let (exit, stop) = (Exit::Signal { signal }, Some((life, id)));
        self.after(wait, Ev::RunEnds { b, power, instance, run, exit, stop });
    }

    pub fn remove(&mut self, b: usize, life: u64, id: EffectId, instance: InstanceId, run: RunId) {
        let key = (instance, run);
        let live = self.boards[b].runs.get(&key).is_some_and(Run::is_live);
        self.demand(!live || self.is_mutant(Mutant::StopLost), "only_ended_runs_are_removed", || {
            format!("a{b}: {} run {} lives", key.0, key.1)
        });
        if self.rng.chance(self.plan.stop_faults) {
            return self.ends(b, life, id, 20, Outcome::Fault("device busy".into()));
        }
        if !live && !self.is_mutant(Mutant::RemoveDropped) {
            self.boards[b].runs.remove(&key);
        }
        self.ends(b, life, id, 3, Outcome::Done);
    }

    /// Planted: a shell that restarts work when its session comes or goes.
    pub fn restart_something(&mut self, b: usize) {
        let running = self.boards[b].runs.iter().find(|(_, r)| r.is_running() && !r.stop_asked);
        let Some((instance, run)) = running.map(|(key, _)| key.clone()) else { return };
        let life = self.boards[b].process.as_ref().map_or(0, |p| p.life);
        self.stop(b, life, u64::MAX, instance, run, 1_000);
    }
}
