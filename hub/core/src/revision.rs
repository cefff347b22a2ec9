//! What is a workload's next record, when this is applied over what is there?

use std::collections::BTreeSet;

use contract::spec::Workload;
use contract::{Attempt, RevisionId, Version};

use crate::api::ChangeKind;
use crate::data::{self, Pins};
use crate::record::{ArtifactRecord, REVISIONS_KEPT, RevisionRecord, WorkloadRecord};
use crate::world::{Work, World};

pub fn created(
    workload: &Workload,
    revision: RevisionId,
    artifact: &ArtifactRecord,
    data: Pins,
) -> WorkloadRecord {
    WorkloadRecord {
        manifest: workload.clone(),
        revision,
        attempt: Attempt(1),
        image: artifact.digest,
        runtime: artifact.kind.runtime(),
        data,
        restarts: 0,
        version: Version(0),
        created_wall_ms: None,
        applied_wall_ms: None,
        revisions: Vec::new(),
    }
}

pub fn changed(
    world: &World,
    work: &Work,
    workload: &Workload,
    revision: RevisionId,
    artifact: &ArtifactRecord,
    data: Pins,
) -> (WorkloadRecord, ChangeKind) {
    let present = &*work.record;
    let mut record = WorkloadRecord { manifest: workload.clone(), data, ..present.clone() };
    if revision != present.revision {
        (record.revision, record.image, record.runtime) =
            (revision, artifact.digest, artifact.kind.runtime());
        record.attempt = attempt_of(present, revision);
        return (record, ChangeKind::Changed);
    }
    if is_rejected_somewhere(world, work) {
        record.attempt = Attempt(present.attempt.0.saturating_add(1));
        return (record, ChangeKind::Changed);
    }
    if present.manifest == *workload {
        return (record, ChangeKind::Unchanged);
    }
    let mut scaled = present.manifest.clone();
    scaled.spec.replicas = workload.spec.replicas;
    let change = if scaled == *workload { ChangeKind::Scaled } else { ChangeKind::Changed };
    (record, change)
}

/// A revision that was here before may have been rejected by some board; attempts never fall, so that
/// asking for it again is a new attempt everywhere.
fn attempt_of(present: &WorkloadRecord, revision: RevisionId) -> Attempt {
    let again = present.revisions.iter().any(|old| old.revision == revision);
    if again { Attempt(present.attempt.0.saturating_add(1)) } else { present.attempt }
}

/// The same spec with other contents; None when they are the same.
pub fn repinned(present: &WorkloadRecord, data: Pins) -> Option<WorkloadRecord> {
    let revision = data::revision(&present.manifest.spec, &present.image, &data);
    let attempt = attempt_of(present, revision);
    (revision != present.revision).then(|| WorkloadRecord { revision, attempt, data, ..present.clone() })
}

/// A board that is heard of gave the present revision up: applying it again means trying again.
pub fn is_rejected_somewhere(world: &World, work: &Work) -> bool {
    let (revision, attempt) = (work.record.revision, work.record.attempt);
    work.placed.keys().any(|id| {
        let agent = world.agents.get(id).filter(|agent| world.is_fresh(agent));
        let seen = agent.and_then(|agent| agent.session.as_ref()?.seen.get(&work.template.key));
        seen.is_some_and(|seen| seen.rejects(revision, attempt).is_some())
    })
}

/// The history, with the present revision as its newest entry. What a board still runs stays.
pub fn history(present: Option<&Work>, record: &WorkloadRecord) -> Vec<RevisionRecord> {
    let mut revisions = present.map_or(Vec::new(), |work| work.record.revisions.clone());
    revisions.retain(|old| old.revision != record.revision);
    let in_use: BTreeSet<RevisionId> =
        present.iter().flat_map(|work| work.placed.values().map(|p| p.record.revision)).collect();
    let mut spare = (revisions.len() + 1).saturating_sub(REVISIONS_KEPT);
    revisions.retain(|old| {
        let drop = spare > 0 && !in_use.contains(&old.revision);
        spare -= usize::from(drop);
        !drop
    });
    revisions.push(RevisionRecord {
        revision: record.revision,
        manifest: record.manifest.clone(),
        image: record.image,
        runtime: record.runtime,
        data: record.data.clone(),
        version: record.version,
    });
    revisions
}
