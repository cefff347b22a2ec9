//! Is a run well? What the answers of its probes come to; the shell asks, and tells only answers that can
//! still count ([`Event::Probed`](crate::api::Event::Probed)).
//!
//! ```text
//!            ┌─ startup fails ───────────────────▶ ill ─▶ stopped, started anew (with back-off)
//!  coming up ┤                                      ▲ │ it answers again before it is its turn
//!            └─ startup succeeds ─▶ up ─ liveness ──┘ ▼ fails
//!                (or there is none)  └─ readiness ─▶ ready ◀─▶ not ready   (never restarted)
//! ```
//!
//! Until it is up, neither liveness nor readiness is asked. What is known is noted in `/run`, so that an
//! agent that starts again goes on where it was: it asks no startup probe of what has long come up, and
//! shows ready what was ready. Counts of answers are not kept; what is ill is found ill again.

use contract::message::EventKind;
use contract::run::{Probes, RunProbe};
use contract::status::{Exit, ProbeKind};
use contract::time::{Millis, jitter_hash};
use contract::{InstanceId, Now, RunId};

use crate::api::{Asking, Op, ProbeNote};
use crate::boot::note_of;
use crate::core::Core;
use crate::instance::{Phase, Run, brief};
use crate::outbox::Pending;

/// A readiness that comes and goes is told as an event at most so often; reports show each change.
const TOLD_AGAIN_MS: Millis = 600_000;

/// Of a run that has probes.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    tallies: [Tally; 3],
    up: bool,
    /// What readiness says.
    serves: bool,
    pub ill: Option<Illness>,
    /// It is stopped for being ill.
    pub condemned: bool,
    /// Since it came up, or was found: what the shell asks.
    asked: [bool; 3],
    /// What was known when it was found: nothing presses.
    recalled: bool,
    /// Why it is not ready, as it was last shown. A text that changed with each answer would be reported
    /// each time.
    shown: Option<String>,
    /// When the loss of its readiness was last told as an event; and whether its return is to be told.
    lost_told_ms: Option<Millis>,
    tell_return: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    successes: u32,
    failures: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Illness {
    pub probe: ProbeKind,
    pub message: String,
}

impl Illness {
    pub fn exit(&self) -> Exit {
        Exit::ProbeFailed { probe: self.probe, message: self.message.clone() }
    }
}

fn index(which: ProbeKind) -> usize {
    which as usize
}

impl Health {
    pub fn new(probes: &Probes) -> Health {
        let mut health = Health {
            tallies: Default::default(),
            up: probes.startup.is_none(),
            serves: probes.readiness.is_none(),
            ill: None,
            condemned: false,
            asked: [false; 3],
            recalled: false,
            shown: None,
            lost_told_ms: None,
            tell_return: true,
        };
        health.shown = health.unready(None);
        health
    }

    /// Of a run that was found, as far as it was noted.
    pub fn recalled(probes: &Probes, note: Option<&ProbeNote>) -> Health {
        let mut health = Health::new(probes);
        let Some(note) = note else { return health };
        health.up |= note.up;
        health.serves |= note.ready_since_ms.is_some();
        health.ill = note.failed.clone().map(|(probe, message)| Illness { probe, message });
        health.condemned = health.ill.is_some();
        health.recalled = true;
        health.shown = health.unready(None);
        health
    }

    pub fn is_ready(&self) -> bool {
        self.up && self.serves && self.ill.is_none()
    }

    fn wants(&self, which: ProbeKind) -> bool {
        (which == ProbeKind::Startup) != self.up
    }

    fn answer(&mut self, which: ProbeKind, probe: &RunProbe, answer: &Result<(), String>) {
        let tally = &mut self.tallies[index(which)];
        match answer {
            Ok(()) => *tally = Tally { successes: tally.successes.saturating_add(1), failures: 0 },
            Err(_) => *tally = Tally { successes: 0, failures: tally.failures.saturating_add(1) },
        }
        let (well, failed) =
            (tally.successes >= probe.success_threshold, tally.failures >= probe.failure_threshold);
        match (which, answer) {
            (ProbeKind::Readiness, _) => self.serves = well || self.serves && !failed,
            (_, Ok(())) => {
                self.ill = None;
                self.up |= which == ProbeKind::Startup && well;
            }
            (_, Err(message)) if failed && self.ill.is_none() => {
                self.ill = Some(Illness { probe: which, message: brief(message) });
            }
            (_, Err(_)) => {}
        }
    }

    /// For people, after this failure.
    fn unready(&self, failure: Option<(ProbeKind, &str)>) -> Option<String> {
        if self.is_ready() {
            return None;
        }
        if let Some(ill) = &self.ill {
            return Some(brief(&format!("{}: {}", ill.probe, ill.message)));
        }
        let which = if self.up { ProbeKind::Readiness } else { ProbeKind::Startup };
        let told = failure.filter(|(failed, _)| *failed == which);
        Some(told.map_or_else(
            || format!("{which} has not succeeded yet"),
            |(_, message)| brief(&format!("{which}: {message}")),
        ))
    }

    fn note(&self, run: RunId, ready_since_ms: Option<Millis>) -> ProbeNote {
        let failed = self.ill.as_ref().filter(|_| self.condemned);
        let failed = failed.map(|ill| (ill.probe, ill.message.clone()));
        ProbeNote { run, up: self.up, ready_since_ms, failed }
    }
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Change {
    shown: bool,
    noted: bool,
    /// Of what is told as an event.
    lost: bool,
    returned: bool,
}

impl Run {
    pub fn probes(&self) -> Option<&Probes> {
        self.assignment.as_ref()?.run.probes.as_deref()
    }

    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.ready_since_ms.is_some()
    }

    /// A probe failed as often as it may, and it runs.
    pub fn is_ill(&self) -> bool {
        self.phase == Phase::Running && self.health.as_ref().is_some_and(|health| health.ill.is_some())
    }

    /// Why it was stopped, if a probe did it.
    pub fn condemned(&self) -> Option<&Illness> {
        self.health.as_ref().filter(|health| health.condemned)?.ill.as_ref()
    }

    pub fn unready(&self) -> Option<&String> {
        self.health.as_ref().filter(|_| !self.is_ready())?.shown.as_ref()
    }

    /// Until then others of its workload wait for it to become ready.
    pub fn patience_ends(&self) -> Option<Millis> {
        let waits = self.phase == Phase::Running && !self.is_ready();
        let assignment = self.assignment.as_ref().filter(|_| waits)?;
        Some(self.started_ms.saturating_add(assignment.run.health_deadline_ms))
    }

    /// It has been ready for so long without a break that what went before is forgiven.
    pub fn is_proven(&self, now: Millis, reset_ms: Millis) -> bool {
        let Some(assignment) = &self.assignment else { return false };
        let long = assignment.run.healthy_after_ms.saturating_add(reset_ms);
        let lasts = |since: Millis| now.saturating_sub(since) >= long;
        self.proven || self.healthy && self.ready_since_ms.is_some_and(lasts)
    }

    /// It runs from now on, or was found running since `since`.
    pub fn comes_up(&mut self, since: Millis) {
        let ready = self.health.as_ref().is_none_or(|health| health.is_ready());
        self.ready_since_ms = ready.then_some(since);
    }

    fn answered(
        &mut self,
        now: Millis,
        reset_ms: Millis,
        which: ProbeKind,
        answer: &Result<(), String>,
    ) -> Change {
        let assignment = self.assignment.clone();
        let probes = assignment.as_ref().and_then(|a| a.run.probes.as_deref());
        let proven = self.is_proven(now, reset_ms);
        let (Some(probe), Some(health)) = (probes.and_then(|p| p.get(which)), &mut self.health) else {
            return Change::default();
        };
        if self.phase != Phase::Running || !health.wants(which) {
            return Change::default();
        }
        let (was_up, was_ill, was_ready) = (health.up, health.ill.is_some(), health.is_ready());
        health.answer(which, probe, answer);
        let ready = health.is_ready();
        let mut change = Change::default();
        let moved = (was_up, was_ill, was_ready) != (health.up, health.ill.is_some(), ready);
        // The first failure is worth a word, the ones after it are not.
        let silent = health.shown == health.unready(None);
        if moved || silent && !ready && answer.is_err() {
            let failure = answer.as_ref().err().map(|message| (which, message.as_str()));
            let shown = health.unready(failure);
            change.shown = shown != health.shown || ready != was_ready;
            health.shown = shown;
        }
        change.noted = was_up != health.up || was_ready != ready;
        if was_ready && !ready {
            let due = health.lost_told_ms.is_none_or(|at| now.saturating_sub(at) >= TOLD_AGAIN_MS);
            // What is ill is told when it has ended.
            change.lost = due && health.ill.is_none();
            health.tell_return = change.lost;
            health.lost_told_ms = if due { Some(now) } else { health.lost_told_ms };
            self.proven = proven;
            (self.ready_since_ms, self.healthy) = (None, false);
        } else if ready && !was_ready {
            change.returned = std::mem::replace(&mut health.tell_return, false);
            self.ready_since_ms = Some(now);
        }
        change
    }

    /// What the shell is to begin or to end asking.
    fn asks(&mut self, id: &InstanceId, now: Millis) -> Vec<(ProbeKind, Option<Box<Asking>>)> {
        let assignment = self.assignment.clone();
        let probes = assignment.as_ref().and_then(|a| a.run.probes.as_deref());
        let (Some(probes), Some(health)) = (probes, &mut self.health) else { return Vec::new() };
        let mut asks = Vec::new();
        for which in ProbeKind::ALL {
            let probe = probes.get(which).filter(|_| self.phase == Phase::Running && health.wants(which));
            if probe.is_some() == health.asked[index(which)] {
                continue;
            }
            health.asked[index(which)] = probe.is_some();
            let spread =
                |probe: &RunProbe| if health.recalled { probe.period_ms } else { probe.period_ms / 10 };
            let asking = probe.map(|probe| {
                let first = self.started_ms.saturating_add(probe.initial_delay_ms).saturating_sub(now);
                let jitter = jitter_hash(&id.file_name(), which as u64) % spread(probe).max(1);
                Box::new(Asking { probe: probe.clone(), delay_ms: first.saturating_add(jitter) })
            });
            asks.push((which, asking));
        }
        asks
    }
}

impl Core {
    pub(crate) fn on_probed(
        &mut self,
        now: Now,
        id: InstanceId,
        run: RunId,
        which: ProbeKind,
        answer: Result<(), String>,
    ) {
        let reset_ms = self.config.restart_reset_ms;
        let Some(found) = self.run_mut(&id, run) else { return };
        let change = found.answered(now.boot_ms, reset_ms, which, &answer);
        let why = found.unready().cloned().unwrap_or_default();
        if change.shown {
            self.reporter.mark(&id.workload);
        }
        if change.noted {
            self.note_probes(&id, run);
        }
        if change.lost {
            let text = format!("run {run} is not ready: {why}");
            self.tell(now, EventKind::ProbeFailed, Some(id), text);
        } else if change.returned {
            self.tell(now, EventKind::Ready, Some(id), format!("run {run} is ready"));
        }
    }

    /// Into `/run`, for an agent that starts again.
    fn note_probes(&mut self, id: &InstanceId, run: RunId) {
        let Some(instance) = self.instance_mut(id) else { return };
        let Some(found) = instance.runs.get(&run) else { return };
        let Some(health) = &found.health else { return };
        let probes = Some(health.note(run, found.ready_since_ms));
        let Some(note) = instance.note.take().or_else(|| note_of(found)) else { return };
        let note = crate::api::RestartNote { probes, ..note };
        instance.note = Some(note.clone());
        self.out.emit(Op::NoteRestarts { instance: id.clone(), note: Some(note) }, Pending::Nothing);
    }

    /// Stopped for being ill; its end counts as one of its own.
    pub(crate) fn condemn(&mut self, id: &InstanceId, run: RunId) {
        if let Some(health) = self.run_mut(id, run).and_then(|found| found.health.as_mut()) {
            health.condemned = true;
            self.note_probes(id, run);
        }
    }

    /// The shell asks what should be asked, and nothing else.
    pub(crate) fn pursue_probes(&mut self, now: Now) {
        let mut ops = Vec::new();
        for (key, workload) in &mut self.workloads {
            for (slot, instance) in &mut workload.slots {
                for (run, found) in instance.runs.iter_mut().filter(|(_, found)| found.health.is_some()) {
                    let id = InstanceId { workload: key.clone(), slot: *slot };
                    let asks = found.asks(&id, now.boot_ms).into_iter();
                    ops.extend(asks.map(|(which, asking)| (id.clone(), *run, which, asking)));
                }
            }
        }
        for (instance, run, which, asking) in ops {
            self.out.emit(Op::Probe { instance, run, which, asking }, Pending::Nothing);
        }
    }

    /// Runs that are being stopped for being ill.
    pub(crate) fn healing(&self) -> usize {
        let runs = self.workloads.values().flat_map(|w| w.slots.values()).flat_map(|i| i.runs.values());
        runs.filter(|run| run.busy.is_some() && run.condemned().is_some()).count()
    }
}
