//! What the agent makes of what it finds on the board when it starts.
//!
//! With a verified document: that, the records and the found runs, and nothing else, say what runs.
//! Without one nobody knows what is a stray, so every found run is adopted, and what its spec.json says
//! stands in for the document (*provisional*) until a verified one arrives.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::message::{Desired, EventKind};
use contract::run::Assignment;
use contract::status::Exit;
use contract::time::Millis;
use contract::{InstanceId, Now, RunId, WorkloadKey};

use crate::api::{
    BootFacts, DeviceId, FoundRun, FoundState, Op, ProbeNote, RestartNote, StoreState, WorkloadRecord,
};
use crate::core::{Core, Me};
use crate::desired;
use crate::fetch::Artifacts;
use crate::instance::{Instance, Phase, Retry, Run, brief_exit};
use crate::outbox::Pending;
use crate::probe::{Health, Illness};
use crate::restart;
use crate::trial;

impl Core {
    pub(crate) fn on_boot(&mut self, now: Now, facts: BootFacts) {
        let BootFacts {
            agent,
            board,
            presence,
            boots,
            store,
            desired,
            workloads,
            found,
            restarts,
            artifacts,
        } = facts;
        // Above every run that was found: if the last commit of the counter was lost, its run ids are
        // still never given twice.
        let boots = found.iter().map(|f| f.run.boots).max().unwrap_or(0).max(boots).saturating_add(1);
        self.features = presence.features.clone();
        self.me = Me { agent, board, presence, boots, started_ms: now.boot_ms, runs: 0 };
        let tried = trial::tried(&restarts);
        self.artifacts = Artifacts::with(artifacts);
        self.spool.rebase(boots);
        self.out.writes.boots = Some(boots);
        self.booted = true;
        self.session.start(now.boot_ms);

        self.tell(now, EventKind::AgentStarted, None, format!("agent started, start {boots}"));
        if let StoreState::SetAside { path, reason } = store {
            let text = format!("the store could not be opened and lies at {path} now: {reason}");
            self.tell(now, EventKind::StoreSetAside, None, text);
        }
        match desired.map(|(document, _)| document) {
            None => self.on_boot_without(&found, workloads),
            Some(document) => match desired::check(&self.me.agent, &document) {
                Ok(()) => self.on_boot_document(*document, workloads),
                Err(reason) => {
                    self.refuse_document(now, format!("in the store: {reason}"));
                    self.on_boot_without(&found, workloads);
                }
            },
        }
        self.on_found(now, found, &restarts);
        self.retarget_all(now);
        self.take_notes(restarts);
        self.recall_trials(&tried);
        self.date_candidates();
    }

    fn on_boot_document(&mut self, document: Desired, records: BTreeMap<WorkloadKey, WorkloadRecord>) {
        self.documents.applied = Some(document.head());
        for (key, record) in records {
            if document.assignments.contains_key(&key) {
                self.keep_record(key, record);
            } else {
                self.out.writes.records.insert(key, None);
            }
        }
        for (key, assignment) in document.assignments {
            self.assign(key, Arc::new(assignment));
        }
    }

    fn keep_record(&mut self, key: WorkloadKey, record: WorkloadRecord) {
        let workload = self.workloads.entry(key).or_default();
        workload.record = record.into();
        workload.stored = true;
    }

    /// The newest spec of each workload that left anything stands in for the document.
    fn on_boot_without(&mut self, found: &[FoundRun], records: BTreeMap<WorkloadKey, WorkloadRecord>) {
        for (key, record) in records {
            self.keep_record(key, record);
        }
        let mut newest: BTreeMap<&WorkloadKey, (RunId, &Assignment)> = BTreeMap::new();
        for run in found {
            let key = &run.instance.workload;
            let Some(assignment) = run.assignment.as_ref().filter(|a| a.workload == *key) else { continue };
            if newest.get(key).is_none_or(|(id, _)| *id < run.run) {
                newest.insert(key, (run.run, assignment));
            }
        }
        for (key, (_, assignment)) in newest {
            let mut slots: Vec<u32> =
                found.iter().filter(|f| f.instance.workload == *key).map(|f| f.instance.slot).collect();
            slots.sort_unstable();
            slots.dedup();
            let desired = Assignment { slots, ..assignment.clone() };
            self.workloads.entry(key.clone()).or_default().desired = Some(Arc::new(desired));
        }
    }

    fn on_found(&mut self, now: Now, found: Vec<FoundRun>, restarts: &BTreeMap<InstanceId, RestartNote>) {
        for FoundRun { instance, run, assignment, devices, state } in found {
            let wanted = self.workloads.get(&instance.workload).and_then(|w| w.desired.clone());
            let adopted = wanted.is_some() || !self.documents.is_verified();
            let assignment = assignment.filter(|a| a.workload == instance.workload).map(|a| share(a, wanted));
            let workload = self.workloads.entry(instance.workload.clone()).or_default();
            let slot =
                workload.slots.entry(instance.slot).or_insert_with(|| Box::new(Instance::new(now.boot_ms)));
            slot.note = slot.note.take().or_else(|| restarts.get(&instance).cloned());
            let probes = slot.note.as_ref().and_then(|note| note.probes.as_ref()).filter(|p| p.run == run);
            let found = found_run(assignment, devices, &state, probes, now.boot_ms);
            slot.runs.insert(run, Box::new(found));
            match state {
                FoundState::Running { .. } if adopted => {
                    self.tell(
                        now,
                        EventKind::Adopted,
                        Some(instance),
                        format!("run {run} was found running"),
                    );
                }
                FoundState::Running { .. } => {}
                FoundState::Ended(exit) => self.on_found_ended(now, instance, run, brief_exit(exit)),
            }
        }
    }

    /// It ended while nobody looked: counted as an exit, once.
    fn on_found_ended(&mut self, now: Now, instance: InstanceId, run: RunId, exit: Exit) {
        let note = self.instance(&instance).and_then(|i| i.note.as_ref());
        if note.and_then(|note| note.counted).is_some_and(|counted| counted >= run) {
            return;
        }
        // The agent died while it was being stopped.
        let ill = self.run_mut(&instance, run).and_then(|found| found.condemned().map(Illness::exit));
        self.count_exit(now, &instance, run, &ill.unwrap_or(exit));
    }

    /// Notes of instances that are not here any more are dropped; the others bind.
    fn take_notes(&mut self, restarts: BTreeMap<InstanceId, RestartNote>) {
        for (instance, note) in restarts {
            match self.instance_mut(&instance) {
                Some(here) => {
                    here.note.get_or_insert(note);
                }
                None => {
                    self.out.emit(Op::NoteRestarts { instance, note: None }, Pending::Nothing);
                }
            }
        }
    }

    /// A candidate that runs already has been on trial since its oldest run began.
    fn date_candidates(&mut self) {
        for workload in self.workloads.values_mut().filter(|w| w.is_candidate()) {
            let Some(target) = &workload.target else { continue };
            let runs = workload.slots.values().filter_map(|i| i.keeper(&target.assignment));
            workload.candidate_since_ms = runs.map(|(_, run)| run.started_ms).min();
        }
    }
}

/// Found specs are mostly those of the document: one copy serves all.
fn share(found: Assignment, wanted: Option<Arc<Assignment>>) -> Arc<Assignment> {
    match wanted {
        Some(wanted) if *wanted == found => wanted,
        _ => Arc::new(found),
    }
}

fn found_run(
    assignment: Option<Arc<Assignment>>,
    devices: BTreeMap<String, DeviceId>,
    state: &FoundState,
    note: Option<&ProbeNote>,
    now: Millis,
) -> Run {
    let (phase, pid, started_ms) = match state {
        FoundState::Running { pid, started_ms } => (Phase::Running, Some(*pid), (*started_ms).min(now)),
        FoundState::Ended(_) => (Phase::Ended, None, now),
    };
    let probes = assignment.as_ref().and_then(|a| a.run.probes.as_ref());
    let health = probes.map(|probes| Box::new(Health::recalled(probes, note)));
    let mut run = Run {
        assignment,
        phase,
        busy: None,
        pid,
        started_ms,
        ready_since_ms: None,
        healthy: false,
        proven: false,
        health,
        retry: Retry::default(),
        found: true,
        devices: devices.into_iter().collect(),
        unplugged: false,
    };
    run.comes_up(note.and_then(|note| note.ready_since_ms).unwrap_or(started_ms).min(now));
    run
}

/// A run id above all that were given.
impl Me {
    pub(crate) fn next_run(&mut self) -> RunId {
        self.runs += 1;
        RunId { boots: self.boots, number: self.runs }
    }
}

/// The note of an instance that was found running without one (its board kept no `/run`, or it was
/// started by an agent that had no time to write it).
pub(crate) fn note_of(run: &Run) -> Option<RestartNote> {
    let note = |a: &Arc<Assignment>| RestartNote { started: false, ..restart::at_start(None, a) };
    run.assignment.as_ref().map(note)
}
