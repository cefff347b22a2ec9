//! Which artefacts and contents of Configs and Secrets are on the board, which are on their way, and which
//! nobody needs any more. A start waits for all that its assignment names, so no run ever has some of one
//! revision and some of another.
//!
//! A transport error never exhausts the retries (F20): 1 s up to 5 min, for ever, and at once when the
//! hub is heard again. A refused artefact (wrong bytes) waits the longest, or for a new document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::limits::clip;
use contract::message::EventKind;
use contract::run::{ArtifactRef, Assignment, DataRef, RunSpec};
use contract::time::{Millis, backoff_ms};
use contract::{Digest, Now};

use crate::api::{Op, Outcome};
use crate::core::Core;
use crate::instance::Phase;
use crate::outbox::Pending;
use crate::reconcile::Availability;
use crate::record::{Target, Workload};

pub(crate) const NO_HUB: &str = "waiting for the hub: artefact not on this board";

/// One thing that a start needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    Artifact(&'a ArtifactRef),
    Data(&'a DataRef),
}

/// All that a start needs.
pub(crate) fn pieces(run: &RunSpec) -> impl Iterator<Item = Piece<'_>> {
    let data = run.contents().iter().map(Piece::Data);
    std::iter::once(Piece::Artifact(&run.artifact)).chain(data)
}

impl Piece<'_> {
    pub fn digest(self) -> Digest {
        match self {
            Piece::Artifact(artifact) => artifact.digest,
            Piece::Data(data) => data.digest,
        }
    }

    /// For people.
    fn name(self) -> String {
        match self {
            Piece::Artifact(_) => "artefact".into(),
            Piece::Data(data) => data.of.to_string(),
        }
    }
}

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

    /// All that a start needs.
    pub fn has(&self, run: &RunSpec) -> bool {
        let here =
            |piece: Piece<'_>| matches!(self.items.get(&piece.digest()), Some(Artifact::Present { .. }));
        pieces(run).all(here)
    }

    pub fn needs_changed(&mut self) {
        self.needs_changed = true;
    }

    /// Something was started from it.
    pub fn proved(&mut self, digest: Digest) {
        self.items.insert(digest, Artifact::Present { tries: 0 });
    }

    /// Of the first thing that is not there.
    pub fn availability(&self, run: &RunSpec, hub_known: bool) -> Availability {
        let each = pieces(run).map(|piece| self.one(piece, hub_known));
        each.into_iter().find(|one| *one != Availability::Ready).unwrap_or(Availability::Ready)
    }

    fn one(&self, piece: Piece<'_>, hub_known: bool) -> Availability {
        match self.items.get(&piece.digest()) {
            Some(Artifact::Present { .. }) => Availability::Ready,
            Some(Artifact::Fetching { .. }) => Availability::Fetching,
            _ if !hub_known => {
                let reason = NO_HUB.replace("artefact", &piece.name());
                Availability::Waiting { reason, until: None }
            }
            Some(Artifact::Failed { reason, refused, not_before_ms, .. }) => {
                let what = if *refused { "refused" } else { "could not be fetched" };
                let reason = clip(&format!("{} {what}, tried again: {reason}", piece.name()));
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
    let here = |a: &Arc<Assignment>| artifacts.has(&a.run);
    match &target.spare {
        Some(spare) if !here(&target.assignment) && here(spare) => spare,
        _ => &target.assignment,
    }
}

/// What a target needs on the board.
fn wanted(workload: &Workload) -> impl Iterator<Item = Piece<'_>> {
    let target = workload.target.as_ref().filter(|t| !t.assignment.slots.is_empty() && t.lacks.is_none());
    target.into_iter().flat_map(|target| pieces(&target.assignment.run))
}

fn wants(workload: &Workload, digest: &Digest) -> bool {
    wanted(workload).any(|piece| piece.digest() == *digest)
}

impl Core {
    pub(crate) fn fetch_needed(&mut self, now: Now) {
        let Some(base_url) = self.session.base_url.clone() else { return };
        if self.artifacts.sweeping {
            return;
        }
        let mut free =
            self.config.fetches_at_once.saturating_sub(self.out.count(|p| matches!(p, Pending::Fetch(_))));
        for piece in self.workloads.values().flat_map(wanted) {
            let digest = piece.digest();
            if free == 0 || !self.artifacts.may_fetch(&digest, now.boot_ms) {
                continue;
            }
            free -= 1;
            let base_url = base_url.clone();
            let op = match piece {
                Piece::Artifact(artifact) => Op::Fetch { artifact: artifact.clone(), base_url },
                Piece::Data(data) => Op::FetchData { data: data.clone(), base_url },
            };
            self.out.emit(op, Pending::Fetch(digest));
            let tries = self.artifacts.tries(&digest);
            self.artifacts.items.insert(digest, Artifact::Fetching { tries });
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
        self.workloads.iter().filter(|(_, w)| wants(w, digest)).for_each(|(key, _)| self.reporter.mark(key));
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
            if wants(workload, &digest) && workload.can_fall_back() {
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
        let fetching =
            self.artifacts.items.iter().filter(|(_, item)| matches!(item, Artifact::Fetching { .. }));
        let mut needed: BTreeSet<Digest> = fetching.map(|(digest, _)| *digest).collect();
        for workload in self.workloads.values() {
            let assigned = workload.desired.iter().chain(&workload.record.good);
            needed.extend(assigned.flat_map(|a| pieces(&a.run)).map(Piece::digest));
            let runs = workload.slots.values().flat_map(|instance| instance.runs.values());
            needed.extend(runs.filter(|run| run.phase != Phase::Ended).flat_map(|run| run.pieces()));
        }
        needed
    }
}
