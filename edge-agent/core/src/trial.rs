//! In how many boots of the board was the candidate tried?
//!
//! A revision whose start takes the whole board down leaves no exit that could be counted. So each boot
//! in which a candidate is started is counted, durably, before the first start. After `TRIALS_MAX` it
//! falls back; where there is nothing to fall back to it is started ever later after the boot, so that
//! the hub can be heard meanwhile. (A restart within one boot waits for no disk: `/run` knows of it.)

use std::collections::{BTreeMap, BTreeSet};

use contract::time::{Millis, backoff_ms};
use contract::{Attempt, InstanceId, RevisionId, WorkloadKey};

use crate::api::{EffectId, RestartNote};
use crate::core::Core;
use crate::reconcile::Wait;
use crate::record::Workload;

/// Boots in which a candidate may be started without ever becoming healthy.
pub(crate) const TRIALS_MAX: u32 = 3;

/// Whether this boot is counted already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Trial {
    #[default]
    Uncounted,
    /// The commit that counts it; none: it has not left yet.
    Writing(Option<EffectId>),
    Counted,
}

/// What was started since the board booted.
pub(crate) fn tried(
    notes: &BTreeMap<InstanceId, RestartNote>,
) -> BTreeSet<(WorkloadKey, RevisionId, Attempt)> {
    let started = notes.iter().filter(|(_, note)| note.started);
    started.map(|(id, note)| (id.workload.clone(), note.revision, note.attempt)).collect()
}

impl Workload {
    /// The record counts the trials of what should run. (Not while a document is on its way that names
    /// another candidate.)
    fn is_on_trial(&self) -> bool {
        let target = self.target.as_ref().map(|t| (t.assignment.revision, t.assignment.attempt));
        self.is_candidate() && self.record.candidate == target
    }

    fn runs_target(&self) -> bool {
        let runs = |t: &crate::record::Target| self.slots.values().any(|i| i.keeper(&t.assignment).is_some());
        self.target.as_ref().is_some_and(runs)
    }

    /// What a start of the candidate waits for.
    pub(crate) fn trial_wait(&self, agent_started_ms: Millis, base: Millis, max: Millis) -> Option<Wait> {
        if !self.is_on_trial() {
            return None;
        }
        if self.trial != Trial::Counted {
            return Some(Wait::Trial);
        }
        let over = self.record.trials.saturating_sub(TRIALS_MAX);
        let until = agent_started_ms + backoff_ms(base, max, over, "");
        (over > 0).then_some(Wait::Backoff { until })
    }
}

impl Core {
    /// Count this boot for every candidate that would start now.
    pub(crate) fn count_trials(&mut self) {
        let mut counted = Vec::new();
        for (key, workload) in &mut self.workloads {
            let uncounted = workload.trial == Trial::Uncounted && workload.is_on_trial();
            if !uncounted || self.documents.deletes(key) {
                continue;
            }
            let Some(target) = &workload.target else { continue };
            if !self.artifacts.has(&target.assignment.run) {
                continue;
            }
            let trials = workload.record.trials;
            if trials >= TRIALS_MAX && workload.can_fall_back() {
                let text = format!("the board went down {trials} times before it was healthy");
                workload.fault.get_or_insert(text);
                continue;
            }
            workload.record.trials = trials.saturating_add(1);
            workload.trial = Trial::Writing(None);
            counted.push(key.clone());
        }
        counted.iter().for_each(|key| self.write_record(key));
    }

    pub(crate) fn trials_left(&mut self, commit: EffectId) {
        let waiting = self.workloads.values_mut().filter(|w| w.trial == Trial::Writing(None));
        waiting.for_each(|workload| workload.trial = Trial::Writing(Some(commit)));
    }

    pub(crate) fn trials_durable(&mut self, commit: EffectId) {
        let durable = self.workloads.values_mut().filter(|w| w.trial == Trial::Writing(Some(commit)));
        durable.for_each(|workload| workload.trial = Trial::Counted);
    }

    /// The agent started: what was started since the board booted is counted already.
    pub(crate) fn recall_trials(&mut self, tried: &BTreeSet<(WorkloadKey, RevisionId, Attempt)>) {
        for (key, workload) in &mut self.workloads {
            let Some(target) = &workload.target else { continue };
            let named = (key.clone(), target.assignment.revision, target.assignment.attempt);
            let known = tried.contains(&named) || workload.runs_target();
            workload.trial = if known { Trial::Counted } else { Trial::Uncounted };
        }
    }
}
