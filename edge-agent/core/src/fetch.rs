//! Which artefacts are on the board, which are on their way, and which nobody needs any more.
//!
//! A transport error never exhausts the retries (F20): 1 s up to 5 min, for ever, and at once when the
//! hub is heard again. A refused artefact (wrong bytes) waits the longest, or for a new document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::limits::clip;
use contract::message::EventKind;
use contract::run::{ArtifactRef, Assignment};
use contract::time::{Millis, backoff_ms};
use contract::{Digest, Now};

use crate::api::{Op, Outcome};
use crate::core::Core;
use crate::instance::Phase;
use crate::outbox::Pending;
use crate::reconcile::Availability;
use crate::record::{Target, Workload};

pub(crate) const NO_HUB: &str = "waiting for the hub: artefact not on this board";

#[derive(Debug, Default)]
pub(crate) struct Artifacts {
    items: BTreeMap<Digest, Artifact>,
    /// What was needed at the last look.
    needed: BTreeSet<Digest>,
    needs_changed: bool,
    /// A sweep is under way: what it deletes must not be fetched meanwhile.
    sweeping: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Artifact {
    /// `tries` that it took; kept until a start proves that it is really there.
    Present {
        tries: u32,
    },
    Fetching {
        tries: u32,
    },
    Failed {
        tries: u32,
        not_before_ms: Millis,
        reason: String,
        refused: bool,
    },
}

impl Artifacts {
    pub fn with(present: BTreeSet<Digest>) -> Artifacts {
        let items = present.iter().map(|digest| (*digest, Artifact::Present { tries: 0 })).collect();
        Artifacts { items, needed: present, needs_changed: true, sweeping: false }
    }

    pub fn is_present(&self, digest: &Digest) -> bool {
        matches!(self.items.get(digest), Some(Artifact::Present { .. }))
    }

    pub fn needs_changed(&mut self) {
        self.needs_changed = true;
    }

    /// Something was started from it.
    pub fn proved(&mut self, digest: Digest) {
        self.items.insert(digest, Artifact::Present { tries: 0 });
    }

    pub fn availability(&self, digest: &Digest, hub_known: bool) -> Availability {
        match self.items.get(digest) {
            Some(Artifact::Present { .. }) => Availability::Ready,
            Some(Artifact::Fetching { .. }) => Availability::Fetching,
            _ if !hub_known => Availability::Waiting { reason: NO_HUB.into(), until: None },
            Some(Artifact::Failed { reason, refused, not_before_ms, .. }) => {
                let what = if *refused { "artefact refused" } else { "artefact could not be fetched" };
                let reason = clip(&format!("{what}, tried again: {reason}"));
                Availability::Waiting { reason, until: Some(*not_before_ms) }
            }
            None if self.sweeping => {
                Availability::Waiting { reason: "old artefacts are being deleted first".into(), until: None }
            }
            None => Availability::Waiting { reason: "other artefacts are fetched first".into(), until: None },
        }
    }

    fn may_fetch(&self, digest: &Digest, now: Millis) -> bool {
        match self.items.get(digest) {
            Some(Artifact::Present { .. } | Artifact::Fetching { .. }) => false,
            Some(Artifact::Failed { not_before_ms, .. }) => *not_before_ms <= now,
            None => true,
        }
    }

    /// Failures so far.
    fn tries(&self, digest: &Digest) -> u32 {
        match self.items.get(digest) {
            Some(
                Artifact::Failed { tries, .. } | Artifact::Fetching { tries } | Artifact::Present { tries },
            ) => *tries,
            None => 0,
        }
    }

    /// The way is open again, or the document is new: try at once.
    pub fn retry_now(&mut self, also_refused: bool) {
        for item in self.items.values_mut() {
            if let Artifact::Failed { not_before_ms, refused, .. } = item
                && (also_refused || !*refused)
            {
                *not_before_ms = 0;
            }
        }
    }

    pub fn retries(&self) -> impl Iterator<Item = Millis> + '_ {
        self.items.values().filter_map(|item| match item {
            Artifact::Failed { not_before_ms, .. } => Some(*not_before_ms),
            _ => None,
        })
    }
}

/// What a start would use now: the target, or what is good for as long as the target's artefact is not
/// here (a new revision, or the same one compiled anew).
pub(crate) fn runnable<'a>(target: &'a Target, artifacts: &Artifacts) -> &'a Arc<Assignment> {
    let here = |a: &Arc<Assignment>| artifacts.is_present(&a.run.artifact.digest);
    match &target.spare {
        Some(spare) if !here(&target.assignment) && here(spare) => spare,
        _ => &target.assignment,
    }
}

/// A target whose artefact should be on the board.
fn wants_artifact(workload: &Workload) -> Option<&ArtifactRef> {
    let target = workload.target.as_ref().filter(|t| !t.assignment.slots.is_empty())?;
    target.lacks.is_none().then_some(&target.assignment.run.artifact)
}

impl Core {
    pub(crate) fn fetch_needed(&mut self, now: Now) {
        let Some(base_url) = self.session.base_url.clone() else { return };
        if self.artifacts.sweeping {
            return;
        }
        let mut free =
            self.config.fetches_at_once.saturating_sub(self.out.count(|p| matches!(p, Pending::Fetch(_))));
        for artifact in self.workloads.values().filter_map(wants_artifact) {
            if free == 0 || !self.artifacts.may_fetch(&artifact.digest, now.boot_ms) {
                continue;
            }
            free -= 1;
            let op = Op::Fetch { artifact: artifact.clone(), base_url: base_url.clone() };
            self.out.emit(op, Pending::Fetch(artifact.digest));
            let tries = self.artifacts.tries(&artifact.digest);
            self.artifacts.items.insert(artifact.digest, Artifact::Fetching { tries });
        }
    }

    pub(crate) fn on_fetched(&mut self, now: Now, digest: Digest, outcome: Outcome) {
        self.artifacts.needs_changed();
        self.mark_users(&digest);
        match outcome {
            Outcome::Done | Outcome::Started { .. } => {
                let tries = self.artifacts.tries(&digest);
                self.artifacts.items.insert(digest, Artifact::Present { tries });
            }
            Outcome::Refused(reason) => self.on_fetch_refused(now, digest, reason),
            Outcome::Fault(reason) => self.on_fetch_failed(now, digest, reason),
            Outcome::Missing => self.on_fetch_failed(now, digest, "the hub does not have it".into()),
            Outcome::Deadline => self.on_fetch_failed(now, digest, "it took too long".into()),
        }
    }

    /// Which revision an instance without a run is of depends on what is here.
    fn mark_users(&mut self, digest: &Digest) {
        let uses = |w: &Workload| wants_artifact(w).is_some_and(|artifact| artifact.digest == *digest);
        self.workloads.iter().filter(|(_, w)| uses(w)).for_each(|(key, _)| self.reporter.mark(key));
    }

    /// It was not there when it was needed: fetched again, ever later if that does not help.
    pub(crate) fn artifact_lost(&mut self, now: Now, digest: Digest) {
        self.mark_users(&digest);
        self.on_fetch_failed(now, digest, "it was missing when it was to be started".into());
    }

    fn on_fetch_failed(&mut self, now: Now, digest: Digest, reason: String) {
        let tries = self.artifacts.tries(&digest).saturating_add(1);
        let wait = backoff_ms(self.config.fetch_base_ms, self.config.fetch_max_ms, tries, &self.agent_text());
        let (not_before_ms, reason) = (now.boot_ms + wait, clip(&reason));
        if tries == 1 {
            self.tell(now, EventKind::FetchFailed, None, format!("artefact {}: {reason}", digest.short()));
        }
        let item = Artifact::Failed { tries, not_before_ms, reason, refused: false };
        self.artifacts.items.insert(digest, item);
    }

    fn on_fetch_refused(&mut self, now: Now, digest: Digest, reason: String) {
        let (not_before_ms, reason) = (now.boot_ms + self.config.fetch_max_ms, clip(&reason));
        self.tell(
            now,
            EventKind::FetchFailed,
            None,
            format!("artefact {} refused: {reason}", digest.short()),
        );
        let tries = self.artifacts.tries(&digest);
        let item = Artifact::Failed { tries, not_before_ms, reason: reason.clone(), refused: true };
        self.artifacts.items.insert(digest, item);
        for workload in self.workloads.values_mut() {
            let uses = wants_artifact(workload).is_some_and(|artifact| artifact.digest == digest);
            if uses && workload.can_fall_back() {
                workload.fault = Some(format!("its artefact was refused: {reason}"));
            }
        }
    }

    /// Delete what nothing needs. Only when every commit is durable: a record on its way still names
    /// what it replaces, should the power go now.
    pub(crate) fn sweep_artifacts(&mut self) {
        let settled = self.out.writes.is_empty() && self.out.last_persist().is_none();
        let may = settled && self.documents.is_verified() && !self.artifacts.sweeping;
        if !may || !std::mem::take(&mut self.artifacts.needs_changed) {
            return;
        }
        let needed = self.needed_artifacts();
        let idle = self.artifacts.needed.iter().any(|digest| !needed.contains(digest));
        self.artifacts.items.retain(|digest, _| needed.contains(digest));
        self.artifacts.needed.clone_from(&needed);
        if idle {
            self.out.emit(Op::KeepArtifacts(needed), Pending::Sweep);
            self.artifacts.sweeping = true;
        }
    }

    pub(crate) fn on_swept(&mut self) {
        self.artifacts.sweeping = false;
    }

    fn needed_artifacts(&self) -> BTreeSet<Digest> {
        let of = |a: &Arc<Assignment>| a.run.artifact.digest;
        let fetching =
            self.artifacts.items.iter().filter(|(_, item)| matches!(item, Artifact::Fetching { .. }));
        let mut needed: BTreeSet<Digest> = fetching.map(|(digest, _)| *digest).collect();
        for workload in self.workloads.values() {
            needed.extend(workload.desired.iter().chain(&workload.record.good).map(of));
            let runs = workload.slots.values().flat_map(|instance| instance.runs.values());
            needed.extend(runs.filter(|run| run.phase != Phase::Ended).filter_map(|run| run.artifact()));
        }
        needed
    }
}
