//! How the plan becomes effects on runs, and what the ends of those effects mean.

use std::sync::Arc;

use contract::limits::EFFECTS_PAGE_MAX;
use contract::message::EventKind;
use contract::run::Assignment;
use contract::status::{Exit, InstanceState};
use contract::time::Millis;
use contract::{InstanceId, Now, RunId, WorkloadKey};

use crate::api::{Op, Outcome};
use crate::boot::note_of;
use crate::core::Core;
use crate::fetch::runnable;
use crate::instance::{Instance, Phase, Run, brief, brief_exit};
use crate::outbox::Pending;
use crate::probe::Illness;
use crate::reconcile::{Availability, Bucket, Plan, View, Wait, Wanted, WorkloadView, reconcile};
use crate::record::{Role, Target, Workload};
use crate::restart::{self, CANDIDATE_EXITS_MAX, Ended};

impl Core {
    /// Look at everything, act on what the plan says, and note what changed for the report.
    pub(crate) fn pursue(&mut self, now: Now) {
        let plan = self.plan(now.boot_ms).entries.into_iter();
        let changed = plan.filter(|e| e.bucket.is_action() || e.instance.bucket != e.bucket);
        let changes: Vec<_> = changed.map(|e| (e.workload.clone(), e.slot, e.bucket)).collect();
        for (workload, slot, bucket) in changes {
            self.pursue_one(now, InstanceId { workload, slot }, bucket);
        }
        self.show(now);
        self.note_spared();
    }

    /// The plan for this moment: pure, nothing is changed.
    pub(crate) fn plan(&self, now: Millis) -> Plan<'_> {
        let starting = self.out.count(|p| matches!(p, Pending::Start(..)));
        let working =
            self.out.count(|p| matches!(p, Pending::Start(..) | Pending::Stop(..) | Pending::Remove(..)));
        let view = View {
            workloads: self.workloads.iter().map(|(key, w)| self.view(key, w)).collect(),
            verified: self.documents.is_verified(),
            starts_free: self.config.starts_at_once.saturating_sub(starting),
            work_free: (EFFECTS_PAGE_MAX / 2).saturating_sub(working),
            heals_free: self.config.heals_at_once.saturating_sub(self.healing()),
        };
        reconcile(&view, now)
    }

    fn view<'a>(&'a self, key: &'a WorkloadKey, workload: &'a Workload) -> WorkloadView<'a> {
        let wanted = workload.target.as_ref().map(|target| self.wanted(workload, target));
        WorkloadView { key, wanted, slots: &workload.slots }
    }

    fn wanted<'a>(&'a self, workload: &'a Workload, target: &'a Target) -> Wanted<'a> {
        let assignment = runnable(target, &self.artifacts);
        let on_trial = assignment.revision == target.assignment.revision;
        let (base, max) = (self.config.restart_base_ms, self.config.restart_max_ms);
        let trusted = workload.record.good.as_ref().filter(|_| target.role == Role::Candidate);
        Wanted {
            assignment,
            unsupported: target.lacks.as_deref(),
            artifact: self.availability(assignment),
            trusted: trusted.map(|good| good.revision),
            hold: self
                .devices
                .wait(assignment)
                .or_else(|| workload.trial_wait(self.me.started_ms, base, max).filter(|_| on_trial)),
        }
    }

    pub(crate) fn availability(&self, assignment: &Assignment) -> Availability {
        let hub_known = self.session.base_url.is_some();
        self.artifacts.availability(&assignment.run, hub_known)
    }

    fn pursue_one(&mut self, now: Now, id: InstanceId, bucket: Bucket) {
        match bucket {
            Bucket::Start => self.start(now, &id),
            Bucket::Replace(run) | Bucket::Stop(run) => self.stop(now, &id, run),
            Bucket::Heal(run) => {
                self.condemn(&id, run);
                self.stop(now, &id, run);
            }
            Bucket::Clear(run) => self.clear(&id, run),
            Bucket::Forget => return self.forget(&id),
            Bucket::Running(_)
            | Bucket::Held(..)
            | Bucket::Busy(_)
            | Bucket::Finished
            | Bucket::Waiting(_) => {}
        }
        if let Some(instance) = self.instance_mut(&id) {
            let busy =
                instance.runs.iter().find(|(_, run)| run.busy.is_some()).map(|(run, _)| Bucket::Busy(*run));
            instance.bucket = busy.filter(|_| bucket.is_action()).unwrap_or(bucket);
        }
    }

    fn start(&mut self, now: Now, id: &InstanceId) {
        let Some(workload) = self.workloads.get_mut(&id.workload) else { return };
        let Some(target) = &workload.target else { return };
        let assignment = runnable(target, &self.artifacts).clone();
        let on_trial = assignment.revision == target.assignment.revision;
        let devices = self.devices.of(&assignment);
        let Some(instance) = workload.slots.get_mut(&id.slot) else { return };
        let run = self.me.next_run();
        let note = restart::at_start(instance.note.as_ref(), &assignment);
        instance.note = Some(note.clone());
        let op = Op::NoteRestarts { instance: id.clone(), note: Some(note) };
        self.out.emit(op, Pending::Nothing);
        let op = Op::Start { instance: id.clone(), run, assignment: Box::new(assignment.as_ref().clone()) };
        let effect = self.out.emit(op, Pending::Start(id.clone(), run));
        let mut starting = Run::starting(assignment, effect, now.boot_ms);
        starting.devices = devices;
        instance.runs.insert(run, Box::new(starting));
        if on_trial {
            workload.candidate_since_ms.get_or_insert(now.boot_ms);
        }
    }

    fn stop(&mut self, now: Now, id: &InstanceId, run: RunId) {
        let known = self.workloads.get(&id.workload).is_some_and(|w| w.desired.is_some());
        let Some(found) = self.run_mut(id, run) else { return };
        let stray = found.found && found.phase == Phase::Running && !known;
        found.phase = Phase::Stopping;
        let (signal, grace_ms) = found.stop_with();
        let op = Op::Stop { instance: id.clone(), run, signal, grace_ms };
        let effect = self.out.emit(op, Pending::Stop(id.clone(), run));
        if let Some(found) = self.run_mut(id, run) {
            found.busy = Some(effect);
        }
        if stray {
            let text = format!("run {run} is in no document of this agent: stopped");
            self.tell(now, EventKind::Stray, Some(id.clone()), text);
        }
    }

    fn clear(&mut self, id: &InstanceId, run: RunId) {
        let op = Op::Remove { instance: id.clone(), run };
        let effect = self.out.emit(op, Pending::Remove(id.clone(), run));
        if let Some(found) = self.run_mut(id, run) {
            found.busy = Some(effect);
        }
    }

    fn forget(&mut self, id: &InstanceId) {
        let Some(workload) = self.workloads.get_mut(&id.workload) else { return };
        let gone = workload.slots.remove(&id.slot);
        if workload.is_gone() {
            self.workloads.remove(&id.workload);
        }
        if gone.is_some_and(|instance| instance.note.is_some()) {
            self.out.emit(Op::NoteRestarts { instance: id.clone(), note: None }, Pending::Nothing);
        }
        self.reporter.mark(&id.workload);
    }

    // --- ends of effects ---

    pub(crate) fn on_start_end(&mut self, now: Now, id: InstanceId, run: RunId, outcome: Outcome) {
        let Some(phase) = self.release(&id, run).map(|run| run.phase) else { return };
        if phase == Phase::Ended {
            return; // It ended before its start was reported; that counted.
        }
        match outcome {
            Outcome::Started { pid } => self.on_running(now, id, run, Some(pid)),
            Outcome::Done => self.on_running(now, id, run, None),
            Outcome::Missing => self.on_artifact_missing(now, &id, run),
            Outcome::Refused(reason) => {
                self.on_start_failed(now, &id, run, Phase::Ended, &reason);
                self.fault_candidate(&id, run, format!("it cannot be started: {reason}"));
            }
            Outcome::Fault(reason) => self.on_start_failed(now, &id, run, Phase::Ended, &reason),
            // Nobody knows whether it runs.
            Outcome::Deadline => self.on_start_failed(now, &id, run, Phase::Stopping, "it took too long"),
        }
    }

    fn on_running(&mut self, now: Now, id: InstanceId, run: RunId, pid: Option<u32>) {
        if let Some(found) = self.run_mut(&id, run) {
            found.phase = Phase::Running;
            found.pid = pid;
            found.started_ms = now.boot_ms;
            found.comes_up(now.boot_ms);
            for digest in found.pieces() {
                self.artifacts.proved(digest);
            }
        }
        self.reporter.mark(&id.workload);
        self.tell(now, EventKind::Started, Some(id), format!("run {run} started"));
    }

    /// Not the workload's failure: fetched again, then started.
    fn on_artifact_missing(&mut self, now: Now, id: &InstanceId, run: RunId) {
        let Some(found) = self.run_mut(id, run) else { return };
        found.phase = Phase::Ended;
        for digest in found.pieces() {
            self.artifact_lost(now, digest);
        }
        self.reporter.mark(&id.workload);
    }

    fn on_start_failed(&mut self, now: Now, id: &InstanceId, run: RunId, phase: Phase, reason: &str) {
        let exit = Exit::StartFailed { message: brief(reason) };
        self.count_exit(now, id, run, &exit);
        if let Some(found) = self.run_mut(id, run) {
            found.phase = phase;
        }
    }

    pub(crate) fn on_stop_end(&mut self, now: Now, id: InstanceId, run: RunId, outcome: Outcome) {
        let (base, max) = (self.config.work_base_ms, self.config.work_max_ms);
        let Some(found) = self.release(&id, run) else { return };
        match failure(outcome) {
            Some(reason) if found.phase != Phase::Ended => {
                found.retry.failed(now.boot_ms, base, max, &id.file_name(), reason);
            }
            _ => self.on_stopped(now, id, run),
        }
    }

    fn on_stopped(&mut self, now: Now, id: InstanceId, run: RunId) {
        let Some(found) = self.run_mut(&id, run) else { return };
        found.retry = Default::default();
        let ill = found.condemned().map(Illness::exit);
        let unheard = found.phase == Phase::Stopping;
        if let Some(exit) = ill.as_ref().filter(|_| unheard) {
            self.count_exit(now, &id, run, exit);
        }
        self.end(&id, run);
        // Its end may never have been told: then nothing but this says that the run is over.
        self.reporter.mark(&id.workload);
        self.artifacts.needs_changed();
        if ill.is_none() {
            self.tell(now, EventKind::Stopped, Some(id), format!("run {run} was stopped"));
        }
    }

    pub(crate) fn on_remove_end(&mut self, now: Now, id: InstanceId, run: RunId, outcome: Outcome) {
        let (base, max) = (self.config.work_base_ms, self.config.work_max_ms);
        let Some(found) = self.release(&id, run) else { return };
        match failure(outcome) {
            Some(reason) => found.retry.failed(now.boot_ms, base, max, &id.file_name(), reason),
            None => {
                if let Some(instance) = self.instance_mut(&id) {
                    instance.runs.remove(&run);
                }
            }
        }
    }

    pub(crate) fn on_exited(&mut self, now: Now, id: InstanceId, run: RunId, exit: Exit) {
        let exit = brief_exit(exit);
        let Some(found) = self.run_mut(&id, run) else { return };
        if found.phase == Phase::Ended {
            return;
        }
        let ill = found.condemned().map(Illness::exit);
        let asked = found.phase == Phase::Stopping && ill.is_none();
        found.retry = Default::default();
        self.artifacts.needs_changed();
        if asked {
            self.end(&id, run);
            if let Some(note) = self.instance_mut(&id).and_then(|i| i.note.as_mut()) {
                note.last_exit = Some(exit);
            }
            return;
        }
        self.count_exit(now, &id, run, &ill.unwrap_or(exit));
        self.end(&id, run);
    }

    fn end(&mut self, id: &InstanceId, run: RunId) {
        if let Some(found) = self.run_mut(id, run) {
            found.phase = Phase::Ended;
        }
        self.reporter.mark(&id.workload);
    }

    /// A run ended by itself: its back-off, its event, and whether the candidate falls back.
    pub(crate) fn count_exit(&mut self, now: Now, id: &InstanceId, run: RunId, exit: &Exit) {
        let config = self.config.clone();
        let Some(instance) = self.instance_mut(id) else { return };
        let Some(found) = instance.runs.get(&run) else { return };
        let Some(assignment) = found.assignment.clone() else { return };
        let was_healthy = found.healthy;
        let proven = found.is_proven(now.boot_ms, config.restart_reset_ms);
        // Counted under what it ran as; a note of another revision says nothing about it.
        let note = instance.note.take().filter(|note| note.revision == assignment.revision);
        let Some(note) = note.or_else(|| note_of(found)) else { return };
        let ended = Ended { run, exit, proven };
        let note = restart::at_exit(note, &ended, &assignment, now.boot_ms, &id.file_name(), &config);
        instance.note = Some(note.clone());
        let (streak, finished) = (note.streak, note.finished.is_some());
        self.out.emit(Op::NoteRestarts { instance: id.clone(), note: Some(note) }, Pending::Nothing);
        self.reporter.mark(&id.workload);
        self.tell_exit(now, id, run, exit, streak);
        if !was_healthy && !exit.is_success() && (finished || streak >= CANDIDATE_EXITS_MAX) {
            let reason = match finished {
                true => format!("it ended before it was healthy: {exit}"),
                false => format!("it ended {streak} times before it was healthy, the last time: {exit}"),
            };
            self.fault_candidate(id, run, reason);
        }
    }

    fn tell_exit(&mut self, now: Now, id: &InstanceId, run: RunId, exit: &Exit, streak: u32) {
        let kind = match exit {
            Exit::OutOfMemory { .. } => EventKind::OutOfMemory,
            Exit::StartFailed { .. } => EventKind::StartFailed,
            Exit::ProbeFailed { .. } => EventKind::ProbeFailed,
            _ => EventKind::Exited,
        };
        self.tell(now, kind, Some(id.clone()), format!("run {run}: {exit}"));
        if streak == 2 {
            let text = "it ended again: restarts are spaced out from now on".to_string();
            self.tell(now, EventKind::BackingOff, Some(id.clone()), text);
        }
    }

    /// The candidate falls back at the next look, if the run was one of its.
    fn fault_candidate(&mut self, id: &InstanceId, run: RunId, reason: String) {
        let revision = self.run_mut(id, run).and_then(|r| r.assignment.as_ref().map(|a| a.revision));
        let Some(workload) = self.workloads.get_mut(&id.workload) else { return };
        let of_candidate = workload.target.as_ref().is_some_and(|t| Some(t.assignment.revision) == revision);
        if of_candidate && workload.can_fall_back() {
            workload.fault.get_or_insert(reason);
        }
    }

    // --- small steps ---

    pub(crate) fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.workloads.get(&id.workload)?.slots.get(&id.slot).map(|instance| &**instance)
    }

    pub(crate) fn instance_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.workloads.get_mut(&id.workload)?.slots.get_mut(&id.slot).map(|instance| &mut **instance)
    }

    pub(crate) fn run_mut(&mut self, id: &InstanceId, run: RunId) -> Option<&mut Run> {
        self.instance_mut(id)?.runs.get_mut(&run).map(|run| &mut **run)
    }

    fn release(&mut self, id: &InstanceId, run: RunId) -> Option<&mut Run> {
        let run = self.run_mut(id, run)?;
        run.busy = None;
        Some(run)
    }

    /// Bring what is told up to date, of every instance: it follows from the target as well, which can
    /// change where the plan does not (a job that has finished, say, under another revision).
    fn show(&mut self, now: Now) {
        for (key, workload) in &mut self.workloads {
            let wanted = workload.target.as_ref().map(|target| runnable(target, &self.artifacts));
            for (slot, instance) in &mut workload.slots {
                let state = state_of(instance, wanted.filter(|a| a.slots.contains(slot)));
                if state != instance.state {
                    (instance.state, instance.since_ms) = (state, now.boot_ms);
                    self.reporter.mark(key);
                }
            }
        }
    }
}

fn failure(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Done | Outcome::Started { .. } => None,
        Outcome::Refused(reason) | Outcome::Fault(reason) => Some(brief(&reason)),
        Outcome::Missing => Some("it is missing".to_string()),
        Outcome::Deadline => Some("it took too long".to_string()),
    }
}

/// What people are told: the life in `contract::status::InstanceState`.
fn state_of(instance: &Instance, wanted: Option<&Arc<Assignment>>) -> InstanceState {
    let note = wanted.and_then(|wanted| restart::binding(instance.note.as_ref(), wanted));
    let ended = || match note.and_then(|note| note.finished.as_ref()) {
        Some(exit) if exit.is_success() => InstanceState::Completed,
        Some(_) => InstanceState::Failed,
        None => InstanceState::Backoff { until_ms: note.map_or(0, |note| note.not_before_ms) },
    };
    match &instance.bucket {
        Bucket::Running(_) => InstanceState::Running,
        Bucket::Held(run, wait) => match instance.runs.get(run).map(|run| run.phase) {
            Some(Phase::Running) => InstanceState::Running,
            _ => InstanceState::Waiting { reason: brief(&wait.reason()) },
        },
        Bucket::Start => InstanceState::Starting,
        Bucket::Replace(_) | Bucket::Heal(_) | Bucket::Stop(_) => InstanceState::Stopping,
        Bucket::Clear(run) | Bucket::Busy(run) => match instance.runs.get(run).map(|run| run.phase) {
            Some(Phase::Starting) => InstanceState::Starting,
            // What ended by itself backs off (mostly for 0 ms) while its leftovers are cleared.
            Some(Phase::Ended) if note.is_some_and(|note| note.counted == Some(*run)) => ended(),
            _ => InstanceState::Stopping,
        },
        Bucket::Finished => ended(),
        Bucket::Waiting(Wait::Backoff { until }) => InstanceState::Backoff { until_ms: *until },
        Bucket::Waiting(Wait::Fetching) => InstanceState::Fetching,
        Bucket::Waiting(wait) => InstanceState::Waiting { reason: brief(&wait.reason()) },
        Bucket::Forget => InstanceState::Waiting { reason: String::new() },
    }
}
