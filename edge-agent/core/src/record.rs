//! Which revision of a workload is trusted here, and which one should run (DESIGN §4).
//!
//! The document's revision is the *candidate* until every assigned slot of it is healthy; then it is
//! *good*. A candidate that cannot be started, ends three times before it is healthy, or is late, is
//! *rejected*: but only where a good one exists to fall back to. Without one there is only back-off.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::message::EventKind;
use contract::run::Assignment;
use contract::status::Rejected;
use contract::time::Millis;
use contract::{Attempt, InstanceId, Now, RevisionId, WorkloadKey};

use crate::api::WorkloadRecord;
use crate::core::Core;
use crate::instance::{Instance, brief};
use crate::restart;
use crate::trial::Trial;

/// One workload: what should be, what is trusted, what is there.
#[derive(Debug, Default)]
pub(crate) struct Workload {
    /// From the verified document; without any, from what was found (provisional).
    pub desired: Option<Arc<Assignment>>,
    pub record: Record,
    /// A record of it lies in the store, or is on its way there.
    pub stored: bool,
    /// It stands in the document that is being applied.
    pub seen: bool,
    pub target: Option<Target>,
    /// Whether this boot is counted as one in which the candidate was tried.
    pub trial: Trial,
    /// When the candidate was first started.
    pub candidate_since_ms: Option<Millis>,
    /// Why what is good runs in place of the target, as it was last told.
    pub spared: Option<String>,
    /// Why the candidate is to be rejected at the next look.
    pub fault: Option<String>,
    pub slots: BTreeMap<u32, Box<Instance>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    pub good: Option<Arc<Assignment>>,
    pub candidate: Option<(RevisionId, Attempt)>,
    pub trials: u32,
    pub rejected: Option<Rejected>,
}

/// What should run.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub assignment: Arc<Assignment>,
    /// The good revision, which runs for as long as the artefact of `assignment` is not here.
    pub spare: Option<Arc<Assignment>>,
    pub role: Role,
    /// The feature this agent lacks: for what the document says, and for what should run instead.
    pub unsupported: Option<String>,
    pub lacks: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Candidate,
    Good,
    Provisional,
}

impl From<WorkloadRecord> for Record {
    fn from(record: WorkloadRecord) -> Record {
        let WorkloadRecord { good, candidate, trials, rejected } = record;
        Record { good: good.map(Arc::new), candidate, trials, rejected }
    }
}

impl Record {
    pub fn to_durable(&self) -> WorkloadRecord {
        WorkloadRecord {
            good: self.good.as_deref().cloned(),
            candidate: self.candidate,
            trials: self.trials,
            rejected: self.rejected.clone(),
        }
    }

    /// A new candidate has not been tried. Where nothing is good there is nothing that a start could take
    /// down: the first trial is counted in the commit that names the candidate, so that it need not wait.
    pub fn name_candidate(&mut self, candidate: Option<(RevisionId, Attempt)>) {
        if self.candidate != candidate {
            self.candidate = candidate;
            self.trials = u32::from(candidate.is_some() && self.good.is_none());
        }
    }

    fn is_good(&self, revision: RevisionId) -> bool {
        self.good.as_ref().is_some_and(|good| good.revision == revision)
    }

    /// Fell back already, and the hub has not asked for another attempt.
    fn is_rejected(&self, desired: &Assignment) -> bool {
        let same = |r: &Rejected| r.revision == desired.revision && r.attempt >= desired.attempt;
        self.good.is_some() && self.rejected.as_ref().is_some_and(same)
    }

    /// What the record should name as candidate under this assignment.
    pub fn candidate_under(&self, desired: &Assignment) -> Option<(RevisionId, Attempt)> {
        let settled = self.is_good(desired.revision) || self.is_rejected(desired);
        (!settled).then_some((desired.revision, desired.attempt))
    }
}

/// Choose what should run.
pub(crate) fn choose(desired: &Arc<Assignment>, record: &Record, features: &BTreeSet<String>) -> Target {
    let lack = |a: &Assignment| a.requires.iter().find(|feature| !features.contains(*feature)).cloned();
    let unsupported = lack(desired);
    let good = record.good.as_ref().map(|good| as_desired(good, desired));
    let target = |assignment: &Arc<Assignment>, role| Target {
        assignment: assignment.clone(),
        spare: None,
        role,
        unsupported: unsupported.clone(),
        lacks: lack(assignment),
    };
    match good {
        Some(good) if good.revision == desired.revision => {
            let spare = (good.run != desired.run).then_some(good);
            Target { spare, ..target(desired, Role::Good) }
        }
        // What this agent cannot run must not take down what it can.
        Some(good) if record.is_rejected(desired) || unsupported.is_some() => target(&good, Role::Good),
        good => Target { spare: good, ..target(desired, Role::Candidate) },
    }
}

/// The good revision in as many slots, and as often restarted, as the document says now.
fn as_desired(good: &Arc<Assignment>, desired: &Arc<Assignment>) -> Arc<Assignment> {
    if good.slots == desired.slots && good.restarts == desired.restarts {
        return good.clone();
    }
    let (slots, restarts) = (desired.slots.clone(), desired.restarts);
    Arc::new(Assignment { slots, restarts, ..good.as_ref().clone() })
}

impl Workload {
    /// Choose anew, and make room for every wanted slot.
    pub fn retarget(&mut self, features: &BTreeSet<String>, verified: bool, now: Millis) {
        let old = self.target.take().map(|t| (t.assignment.revision, t.assignment.attempt));
        self.target = self.desired.as_ref().map(|desired| match verified {
            true => choose(desired, &self.record, features),
            false => Target {
                assignment: desired.clone(),
                spare: None,
                role: Role::Provisional,
                unsupported: None,
                lacks: None,
            },
        });
        let new = self.target.as_ref().map(|t| (t.assignment.revision, t.assignment.attempt));
        if old != new {
            self.fault = None;
            self.trial = match self.record.good {
                None => Trial::Counted, // With the document.
                Some(_) => Trial::Uncounted,
            };
            // What runs already is on trial from now on.
            let runs = |t: &Target| self.slots.values().any(|i| i.keeper(&t.assignment).is_some());
            self.candidate_since_ms = self.target.as_ref().filter(|t| runs(t)).map(|_| now);
        }
        for slot in self.target.iter().flat_map(|t| &t.assignment.slots) {
            self.slots.entry(*slot).or_insert_with(|| Box::new(Instance::new(now)));
        }
    }

    /// Nothing says that it should be, nothing is there, nothing is kept of it.
    pub fn is_gone(&self) -> bool {
        self.desired.is_none() && self.slots.is_empty() && !self.stored
    }

    pub fn is_candidate(&self) -> bool {
        self.target.as_ref().is_some_and(|t| t.role == Role::Candidate && t.unsupported.is_none())
    }

    /// A candidate that can fall back.
    pub fn can_fall_back(&self) -> bool {
        self.is_candidate() && self.record.good.is_some()
    }

    /// When a candidate that is not healthy by then falls back.
    pub fn deadline(&self) -> Option<Millis> {
        let target = self.target.as_ref().filter(|_| self.can_fall_back())?;
        Some(self.candidate_since_ms?.saturating_add(target.assignment.run.health_deadline_ms))
    }

    /// Every assigned slot runs `assignment`'s very content, healthy, or completed it.
    fn all_healthy(&self, assignment: &Assignment) -> bool {
        let healthy = |slot: &u32| {
            let Some(instance) = self.slots.get(slot) else { return false };
            let run = instance.keeper(assignment).map(|(_, run)| run);
            let same = |a: &Arc<Assignment>| a.run == assignment.run;
            let runs = run.is_some_and(|run| run.healthy && run.assignment.as_ref().is_some_and(same));
            runs || run.is_none() && completed(instance, assignment)
        };
        !assignment.slots.is_empty() && assignment.slots.iter().all(healthy)
    }

    fn late_text(&self, assignment: &Assignment) -> String {
        let runs = self.slots.values().filter_map(|instance| instance.keeper(assignment));
        let why = runs.filter_map(|(_, run)| run.unready()).next();
        let text = format!("not healthy within {} ms", assignment.run.health_deadline_ms);
        why.map_or_else(|| text.clone(), |why| format!("{text}: {why}"))
    }

    /// Same revision, other content (code compiled anew, another label): the record should follow.
    fn good_is_stale(&self) -> bool {
        self.target.as_ref().is_some_and(|t| t.role == Role::Good && t.spare.is_some())
    }
}

fn completed(instance: &Instance, assignment: &Assignment) -> bool {
    let note = restart::binding(instance.note.as_ref(), assignment);
    note.and_then(|note| note.finished.as_ref()).is_some_and(|exit| exit.is_success())
}

enum Verdict {
    BecameGood,
    FellBack(String),
}

fn verdict(workload: &Workload, now: Millis) -> Option<Verdict> {
    let target = workload.target.as_ref()?;
    if !workload.is_candidate() {
        let follow = workload.good_is_stale() && workload.all_healthy(&target.assignment);
        return follow.then_some(Verdict::BecameGood);
    }
    if workload.all_healthy(&target.assignment) {
        return Some(Verdict::BecameGood);
    }
    if !workload.can_fall_back() {
        return None;
    }
    let late = workload.deadline().is_some_and(|at| at <= now);
    let late = || late.then(|| workload.late_text(&target.assignment));
    workload.fault.clone().or_else(late).map(Verdict::FellBack)
}

impl Core {
    /// Runs become healthy with time.
    pub(crate) fn ripen(&mut self, now: Now) {
        for (key, workload) in &mut self.workloads {
            for run in workload.slots.values_mut().flat_map(|instance| instance.runs.values_mut()) {
                if run.healthy_at().is_some_and(|at| at <= now.boot_ms) {
                    run.healthy = true;
                    self.reporter.mark(key);
                }
            }
        }
    }

    /// Promote what proved itself, drop what failed. Not of a workload that the document on its way has
    /// deleted: its record is gone, and what is not durable is not told.
    pub(crate) fn judge(&mut self, now: Now) {
        let stays = self.workloads.iter().filter(|(key, _)| !self.documents.deletes(key));
        let verdicts = stays.filter_map(|(key, w)| Some((key.clone(), verdict(w, now.boot_ms)?)));
        for (key, verdict) in verdicts.collect::<Vec<_>>() {
            match verdict {
                Verdict::BecameGood => self.on_became_good(now, &key),
                Verdict::FellBack(reason) => self.on_fell_back(now, &key, reason),
            }
        }
    }

    fn on_became_good(&mut self, now: Now, key: &WorkloadKey) {
        let Some(workload) = self.workloads.get_mut(key) else { return };
        let Some(target) = &workload.target else { return };
        let assignment = target.assignment.clone();
        let first = !workload.record.is_good(assignment.revision);
        let record = &mut workload.record;
        record.name_candidate(None);
        record.rejected = record.rejected.take().filter(|r| r.revision != assignment.revision);
        record.good = Some(assignment.clone());
        if first {
            let text = format!("{key}: revision {} is good", assignment.revision.short());
            self.tell(now, EventKind::BecameGood, first_slot(key, &assignment), text);
        }
        self.record_changed(now, key);
    }

    fn on_fell_back(&mut self, now: Now, key: &WorkloadKey, reason: String) {
        let Some(workload) = self.workloads.get_mut(key) else { return };
        let Some(target) = &workload.target else { return };
        let assignment = target.assignment.clone();
        let reason = brief(&reason);
        let text = format!("{key}: revision {} fell back: {reason}", assignment.revision.short());
        workload.record.name_candidate(None);
        workload.record.rejected =
            Some(Rejected { revision: assignment.revision, attempt: assignment.attempt, reason });
        self.tell(now, EventKind::FellBack, first_slot(key, &assignment), text);
        self.record_changed(now, key);
    }

    fn record_changed(&mut self, now: Now, key: &WorkloadKey) {
        self.artifacts.needs_changed();
        self.reporter.mark(key);
        let verified = self.documents.is_verified();
        if let Some(workload) = self.workloads.get_mut(key) {
            workload.retarget(&self.features, verified, now.boot_ms);
        }
        self.write_record(key);
    }

    /// Queue the record's commit.
    pub(crate) fn write_record(&mut self, key: &WorkloadKey) {
        if let Some(workload) = self.workloads.get_mut(key) {
            workload.stored = true;
            self.out.writes.records.insert(key.clone(), Some(workload.record.to_durable()));
        }
    }
}

fn first_slot(key: &WorkloadKey, assignment: &Assignment) -> Option<InstanceId> {
    assignment.slots.first().map(|slot| InstanceId { workload: key.clone(), slot: *slot })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assignment, revision};

    fn record(good: Option<u8>, rejected: Option<(u8, u32)>) -> Record {
        Record {
            good: good.map(|n| Arc::new(assignment("a", n, &[0]))),
            candidate: None,
            trials: 0,
            rejected: rejected.map(|(n, attempt)| Rejected {
                revision: revision(n),
                attempt: Attempt(attempt),
                reason: "it failed".into(),
            }),
        }
    }

    fn chosen(record: &Record, n: u8, attempt: u32, needs: &[&str]) -> (RevisionId, Role, bool) {
        let mut desired = assignment("a", n, &[0, 1]);
        desired.attempt = Attempt(attempt);
        desired.requires = needs.iter().map(|f| f.to_string()).collect();
        let target = choose(&Arc::new(desired), record, &BTreeSet::from(["wasm".to_string()]));
        assert_eq!(target.assignment.slots, [0, 1], "always as many slots as the document says");
        (target.assignment.revision, target.role, target.lacks.is_some())
    }

    #[test]
    fn what_runs_follows_from_document_and_record() {
        let (new, old) = (revision(2), revision(1));
        assert_eq!(chosen(&record(None, None), 2, 1, &[]), (new, Role::Candidate, false));
        assert_eq!(chosen(&record(Some(1), None), 2, 1, &[]), (new, Role::Candidate, false));
        assert_eq!(chosen(&record(Some(2), None), 2, 1, &[]), (new, Role::Good, false));
        assert_eq!(chosen(&record(Some(1), Some((2, 1))), 2, 1, &[]), (old, Role::Good, false));
        assert_eq!(chosen(&record(Some(1), Some((2, 3))), 2, 2, &[]), (old, Role::Good, false));
        assert_eq!(chosen(&record(Some(1), Some((2, 1))), 2, 2, &[]), (new, Role::Candidate, false));
        assert_eq!(chosen(&record(Some(1), Some((3, 9))), 2, 1, &[]), (new, Role::Candidate, false));
        // Without a good one there is nothing to fall back to.
        assert_eq!(chosen(&record(None, Some((2, 1))), 2, 1, &[]), (new, Role::Candidate, false));
        assert_eq!(chosen(&record(Some(1), None), 2, 1, &["wasm"]), (new, Role::Candidate, false));
        assert_eq!(chosen(&record(Some(1), None), 2, 1, &["gpu"]), (old, Role::Good, false));
        assert_eq!(chosen(&record(None, None), 2, 1, &["gpu"]), (new, Role::Candidate, true));
        assert_eq!(
            chosen(&record(Some(2), None), 2, 1, &["gpu"]),
            (new, Role::Good, true),
            "after a downgrade"
        );
    }
}
