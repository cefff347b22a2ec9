//! How well are workloads, and what do their probes say? Each run that has probes gets its illnesses when
//! it comes up: times in which a question is answered badly. A shell asks as it should: each period, told
//! only as often as it can count. What must hold is stated against the illnesses themselves.
//!
//! Chance comes from a stream of its own: worlds without probes are what they were.

use std::collections::BTreeMap;

use agent_core::api::{Asking, Event};
use contract::quantity::Duration;
use contract::run::{Assignment, RunProbe};
use contract::spec::{Network, Probe, TcpProbe, WorkloadSpec};
use contract::status::ProbeKind;
use contract::time::Millis;
use contract::{InstanceId, RunId};

use crate::mutant::Mutant;
use crate::runtime::Run;
use crate::world::{Ev, World};

pub type Key = (InstanceId, RunId, ProbeKind);

const SECOND: Millis = 1_000;
/// Stops take up to their grace, four at one time of a dozen instances, and some fail at first.
const HEALED_WITHIN_MS: Millis = 180 * SECOND;
/// An agent that died while it stopped what was ill ends that when it is back.
const CONDEMNED_MS: Millis = 120 * SECOND;

/// One question that a shell asks.
#[derive(Debug, Clone)]
pub struct Asked {
    probe: RunProbe,
    number: u64,
    last: Option<bool>,
    times: u32,
}

/// From, to, and what answers badly then.
#[derive(Debug, Clone)]
pub struct Illness {
    which: ProbeKind,
    from: Millis,
    to: Millis,
}

/// Some probes for a workload; which ones is part of its revision.
pub fn give(spec: &mut WorkloadSpec, chance: u64) {
    let probe = |seconds: u64, failures: u32, successes: Option<u32>| Probe {
        tcp: Some(TcpProbe { port: 80, host: None }),
        period: Some(Duration { ms: seconds * SECOND }),
        failure_threshold: Some(failures),
        success_threshold: successes,
        ..Probe::default()
    };
    spec.network = Some(Network { listen: vec![80], ..Network::default() });
    spec.startup_probe = (chance & 1 != 0).then(|| probe(2, 10, None));
    spec.liveness_probe = (chance & 2 != 0).then(|| probe(5, 3, None));
    spec.readiness_probe = (chance & 4 != 0).then(|| probe(5, 2, Some(1 + (chance >> 3) as u32 % 2)));
}

fn of(run: &Run, which: ProbeKind) -> Option<&RunProbe> {
    run.assignment.run.probes.as_ref()?.get(which)
}

impl World {
    /// When and how a run that comes up now will be ill.
    pub fn illnesses(&mut self, assignment: &Assignment) -> Vec<Illness> {
        let Some(probes) = assignment.run.probes.clone().filter(|_| !self.healed) else { return Vec::new() };
        let (now, rng) = (self.now, &mut self.probe_rng);
        let mut ills = Vec::new();
        if probes.startup.is_some() {
            // Now and then longer than it may.
            ills.push(Illness { which: ProbeKind::Startup, from: now, to: now + rng.below(26 * SECOND) });
        }
        if probes.liveness.is_some() && rng.chance(500) {
            let from = now + rng.below(600 * SECOND);
            let to = if rng.chance(400) { Millis::MAX } else { from + rng.below(60 * SECOND) };
            ills.push(Illness { which: ProbeKind::Liveness, from, to });
        }
        for _ in 0..rng.below(4) {
            let from = now + rng.below(900 * SECOND);
            let to = from + rng.below(120 * SECOND);
            ills.push(Illness { which: ProbeKind::Readiness, from, to });
        }
        ills
    }

    /// While it comes up nothing else answers either.
    fn is_well(&self, run: &Run, which: ProbeKind, at: Millis) -> bool {
        let bad = |ill: &Illness| {
            (ill.which == which || ill.which == ProbeKind::Startup) && (ill.from..ill.to).contains(&at)
        };
        run.is_running() && (self.healed || !run.ills.iter().any(bad))
    }

    /// It has answered badly all the time, from `since` to `until`.
    fn was_ill(&self, run: &Run, which: ProbeKind, since: Millis, until: Millis) -> bool {
        let covers = |ill: &Illness| ill.which == which && ill.from <= since && ill.to >= until;
        !self.healed && run.ills.iter().any(covers)
    }

    fn comes_up_until(&self, run: &Run) -> Millis {
        let startup = run.ills.iter().find(|ill| ill.which == ProbeKind::Startup);
        startup.map_or(0, |ill| if self.healed { ill.from } else { ill.to })
    }

    // --- the shell ---

    pub fn ask(&mut self, b: usize, life: u64, key: Key, asking: Option<Asking>) {
        let first = asking.as_ref().map(|asking| asking.delay_ms);
        let Some(process) = self.boards[b].process.as_mut().filter(|p| p.life == life) else { return };
        let number = process.asked.get(&key).map_or(0, |asked| asked.number) + 1;
        match asking {
            Some(Asking { probe, .. }) => {
                process.asked.insert(key.clone(), Asked { probe, number, last: None, times: 0 });
            }
            // Its number stays: what is under way is another's.
            None => drop(process.asked.remove(&key)),
        }
        if let Some(wait) = first {
            self.after(wait, Ev::Asks { b, life, key, number });
        }
    }

    pub fn asks(&mut self, b: usize, life: u64, key: Key, number: u64) {
        let Some(process) = self.boards[b].process.as_ref().filter(|p| p.life == life) else { return };
        let Some(asked) = process.asked.get(&key).filter(|asked| asked.number == number) else { return };
        let (mut asked, now) = (asked.clone(), self.now);
        let run = self.boards[b].runs.get(&(key.0.clone(), key.1));
        let well = run.is_some_and(|run| self.is_well(run, key.2, now));
        let told = self.told(key.2, well);
        asked.times = if asked.last == Some(told) { asked.times + 1 } else { 1 };
        asked.last = Some(told);
        let most = if told { asked.probe.success_threshold } else { asked.probe.failure_threshold };
        let (counts, goes_on) = (asked.times <= most, asked.times < most);
        let period = asked.probe.period_ms;
        // Nothing can be told until it changes: nobody need act out the questions between.
        let next = match goes_on {
            true => Some(now + period),
            false => run.and_then(|run| self.changes_after(run, now)).map(|at| {
                let periods = (at - now).div_ceil(period).max(1);
                now + periods * period
            }),
        };
        if let Some(process) = self.boards[b].process.as_mut() {
            process.asked.insert(key.clone(), asked);
        }
        if let Some(at) = next {
            self.at(at, Ev::Asks { b, life, key: key.clone(), number });
        }
        if counts {
            let answer = if told { Ok(()) } else { Err("connection refused".to_string()) };
            self.trace(|| format!("a{b} {} {}: {} {answer:?}", key.0, key.1, key.2));
            let probed = |which, answer| Event::Probed { instance: key.0.clone(), run: key.1, which, answer };
            if key.2 == ProbeKind::Readiness && self.is_mutant(Mutant::ReadinessToldAsLiveness) {
                // As often as liveness may fail.
                (0..3).for_each(|_| self.agent_step(b, probed(ProbeKind::Liveness, answer.clone())));
            }
            self.agent_step(b, probed(key.2, answer));
        }
    }

    fn told(&self, which: ProbeKind, well: bool) -> bool {
        let lost = which == ProbeKind::Liveness && self.is_mutant(Mutant::LivenessFailuresLost);
        let early = which == ProbeKind::Startup && self.is_mutant(Mutant::StartupToldWell);
        well || lost || early
    }

    fn changes_after(&self, run: &Run, now: Millis) -> Option<Millis> {
        let edges = run.ills.iter().flat_map(|ill| [ill.from, ill.to]);
        edges.filter(|at| *at > now && *at < Millis::MAX).min().filter(|_| !self.healed)
    }

    /// All is well from now on: what sleeps asks again.
    pub fn heal_all(&mut self) {
        let mut again = Vec::new();
        for (b, board) in self.boards.iter().enumerate() {
            let Some(process) = &board.process else { continue };
            again.extend(
                process.asked.iter().map(|(key, asked)| (b, process.life, key.clone(), asked.number)),
            );
        }
        for (b, life, key, number) in again {
            self.after(SECOND, Ev::Asks { b, life, key, number });
        }
    }

    // --- what must hold ---

    /// What should run is stopped: a probe must have failed as often as it may.
    pub fn was_ill_enough(&self, b: usize, instance: &InstanceId, run: &Run) -> bool {
        let recalled = self.boards[b]
            .process
            .as_ref()
            .is_some_and(|p| p.condemned.contains(instance) && self.now - p.born < CONDEMNED_MS);
        let failed = |which: ProbeKind| {
            let Some(probe) = of(run, which) else { return false };
            let spell = probe.period_ms * u64::from(probe.failure_threshold - 1);
            // It may have recovered since it was asked last.
            let until = self.now.saturating_sub(2 * probe.period_ms);
            let since = self.now.saturating_sub(spell);
            let ill = run.ills.iter().filter(|ill| ill.which == which && !self.healed);
            ill.into_iter().any(|ill| ill.from <= since && ill.to >= until)
        };
        recalled || failed(ProbeKind::Startup) || failed(ProbeKind::Liveness)
    }

    /// The name of what is broken when it was not.
    pub fn stopped_while(&self, run: &Run) -> Option<&'static str> {
        run.assignment.run.probes.as_ref()?;
        if self.now < self.comes_up_until(run) {
            return Some("startup_holds_back_liveness");
        }
        let unready = !self.is_well(run, ProbeKind::Readiness, self.now);
        unready.then_some("readiness_never_restarts")
    }

    pub fn check_probes(&mut self) {
        for b in 0..self.boards.len() {
            if let Some((name, text)) = self.wrong_health(b) {
                return self.violate(name, text);
            }
        }
    }

    fn wrong_health(&self, b: usize) -> Option<(&'static str, String)> {
        let board = &self.boards[b];
        let process = board.process.as_ref()?;
        let probed: BTreeMap<_, _> = board
            .runs
            .iter()
            .filter(|(_, run)| run.is_running() && !run.stop_asked && run.assignment.run.probes.is_some())
            .collect();
        if probed.is_empty() {
            return None;
        }
        let status = process.core.status(board.clock(self.now));
        for ((instance, id), run) in probed {
            let view = status.workloads.get(&instance.workload);
            let Some(told) = view.and_then(|v| v.status.instances.get(&instance.slot)) else { continue };
            if told.run != Some(*id) || !process.asked.keys().any(|key| key.0 == *instance && key.1 == *id) {
                continue; // Another one is there, or the agent has not begun with it.
            }
            let long = |probe: &RunProbe| probe.period_ms * u64::from(probe.failure_threshold + 1) + SECOND;
            if let Some(probe) = of(run, ProbeKind::Readiness) {
                let since = self.now.saturating_sub(long(probe));
                let ill = self.was_ill(run, ProbeKind::Readiness, since, self.now) && process.born <= since;
                if ill && told.ready {
                    return Some((
                        "ready_is_not_shown_while_its_probe_fails",
                        format!("a{b}: {instance} {told:?}"),
                    ));
                }
            }
            if let Some(probe) = of(run, ProbeKind::Liveness).filter(|_| self.should_run(b, instance, run)) {
                let since = self.now.saturating_sub(long(probe) + HEALED_WITHIN_MS);
                let ill = self.was_ill(run, ProbeKind::Liveness, since, self.now);
                if ill && process.born <= since && self.comes_up_until(run) <= since {
                    return Some(("what_is_ill_is_restarted", format!("a{b}: {instance} {told:?}")));
                }
            }
        }
        None
    }

    /// At the hub, under a fresh report: it has not been ready for longer than a report may be late.
    pub fn was_unready_throughout(&self, b: usize, instance: &InstanceId, since: Millis) -> bool {
        let mut runs = self.boards[b].runs.iter().filter(|((i, _), run)| i == instance && run.is_running());
        runs.any(|(_, run)| {
            let Some(probe) = of(run, ProbeKind::Readiness) else { return false };
            let since = since.saturating_sub(probe.period_ms * u64::from(probe.failure_threshold + 2));
            self.was_ill(run, ProbeKind::Readiness, since, self.now)
        })
    }

    pub fn has_probes(&self, b: usize, instance: &InstanceId) -> bool {
        let runs = self.boards[b].runs.iter().filter(|((i, _), _)| i == instance);
        runs.into_iter().any(|(_, run)| run.assignment.run.probes.is_some())
    }
}
