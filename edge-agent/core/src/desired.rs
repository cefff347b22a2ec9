//! Which document is taken, and from when on it counts.
//!
//! A document is judged by its head against the newest one held; a newer one is committed first and
//! acted on when that is durable, so that nothing runs, and nothing is reported as applied, that a
//! power cut would take back. One waits behind the one that is being written; a newer replaces it.

use std::sync::Arc;

use contract::limits::{ASSIGNMENTS_MAX, SLOTS_PER_AGENT_MAX, clip};
use contract::message::{Desired, DesiredHead, EventKind};
use contract::run::Assignment;
use contract::{AgentId, Now, Term, WorkloadKey};

use crate::api::EffectId;
use crate::core::Core;
use crate::record::Record;

#[derive(Debug, Default)]
pub(crate) struct Documents {
    /// Durable, and acted on.
    pub applied: Option<DesiredHead>,
    writing: Option<Writing>,
    next: Option<Incoming>,
    /// The highest term under which a document was seen; kept in memory only.
    term_seen: Term,
    /// Told to the operator until a document is taken.
    pub refused: Option<String>,
}

#[derive(Debug)]
struct Incoming {
    head: DesiredHead,
    document: Box<Desired>,
    signed: Arc<[u8]>,
}

#[derive(Debug)]
struct Writing {
    /// None until the commit has left.
    persist: Option<EffectId>,
    head: DesiredHead,
    document: Box<Desired>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Newer,
    AlreadySo,
    Refused(String),
}

/// Of the newest head held, the document's head, and the highest term seen.
pub(crate) fn judge_head(newest: Option<&DesiredHead>, term_seen: Term, head: &DesiredHead) -> Verdict {
    let Some(held) = newest else { return Verdict::Newer };
    if held.lineage != head.lineage {
        return Verdict::Refused(format!(
            "the document is of another hub store (lineage {}); this agent follows {}",
            head.lineage, held.lineage
        ));
    }
    let (generation, digest) = (head.generation, head.digest);
    if generation == held.generation && digest == held.digest {
        return Verdict::AlreadySo;
    }
    if head.term < held.term.max(term_seen) {
        return Verdict::Refused(format!(
            "the document is of term {}; term {} was seen already",
            head.term,
            held.term.max(term_seen)
        ));
    }
    if generation < held.generation {
        return Verdict::Refused(format!(
            "the document has generation {generation}; generation {} is held already",
            held.generation
        ));
    }
    if generation == held.generation {
        return Verdict::Refused(format!(
            "a fork: generation {generation} is held with content {}, the document has {}",
            held.digest.short(),
            digest.short()
        ));
    }
    Verdict::Newer
}

/// What makes a document unusable whatever its head says.
pub(crate) fn check(agent: &AgentId, document: &Desired) -> Result<(), String> {
    if document.agent != *agent {
        return Err(format!("the document is for agent {}, this is {agent}", document.agent));
    }
    if document.assignments.len() > ASSIGNMENTS_MAX {
        return Err(format!(
            "{} assignments; at most {ASSIGNMENTS_MAX} are taken",
            document.assignments.len()
        ));
    }
    document.assignments.values().try_for_each(check_slots)
}

fn check_slots(assignment: &Assignment) -> Result<(), String> {
    let (key, slots) = (&assignment.workload, &assignment.slots);
    if slots.len() > SLOTS_PER_AGENT_MAX {
        return Err(format!("{key} has {} slots; at most {SLOTS_PER_AGENT_MAX} are taken", slots.len()));
    }
    match slots.is_sorted_by(|a, b| a < b) {
        true => Ok(()),
        false => Err(format!("the slots of {key} are not sorted, or one is named twice")),
    }
}

impl Documents {
    pub fn is_verified(&self) -> bool {
        self.applied.is_some()
    }

    fn newest(&self) -> Option<&DesiredHead> {
        let next = self.next.as_ref().map(|n| &n.head);
        next.or(self.writing.as_ref().map(|w| &w.head)).or(self.applied.as_ref())
    }

    /// What the hub is told: the content that is held, under the highest term that it was seen under. A
    /// hub whose store is an older copy could not know otherwise why its documents are refused.
    pub fn reported(&self) -> Option<DesiredHead> {
        let term_seen = self.term_seen;
        self.applied.map(|head| DesiredHead { term: head.term.max(term_seen), ..head })
    }

    /// The document on its way no longer holds this workload.
    pub fn deletes(&self, key: &WorkloadKey) -> bool {
        self.writing.as_ref().is_some_and(|w| !w.document.assignments.contains_key(key))
    }
}

impl Core {
    pub(crate) fn on_desired(&mut self, now: Now, document: Box<Desired>, signed: Arc<[u8]>) {
        if let Err(reason) = check(&self.me.agent, &document) {
            return self.refuse_document(now, reason);
        }
        let head = document.head();
        if self.documents.newest().is_none() && !self.is_of_greeting_hub(now, &head) {
            return;
        }
        match judge_head(self.documents.newest(), self.documents.term_seen, &head) {
            Verdict::Refused(reason) => self.refuse_document(now, reason),
            Verdict::AlreadySo => {
                self.documents.term_seen = self.documents.term_seen.max(head.term);
                self.documents.refused = None;
            }
            Verdict::Newer => {
                self.documents.term_seen = self.documents.term_seen.max(head.term);
                self.take_document(Incoming { head, document, signed });
            }
        }
    }

    /// Whoever holds no document follows any lineage, and from then on no other. What a broker hands out
    /// may be of a hub store that is no more, so the first one has to be of the hub that greets. Before
    /// the hello nothing is said: the hub sends it again.
    fn is_of_greeting_hub(&mut self, now: Now, head: &DesiredHead) -> bool {
        match self.session.greeting.map(|greeting| greeting.lineage) {
            None => false,
            Some(lineage) if lineage == head.lineage => true,
            Some(lineage) => {
                let theirs = head.lineage;
                let text = format!(
                    "the document is of another hub store (lineage {theirs}); this hub's is {lineage}"
                );
                self.refuse_document(now, text);
                false
            }
        }
    }

    pub(crate) fn refuse_document(&mut self, now: Now, reason: String) {
        self.tell_refused(now, "desired", &reason);
        self.documents.refused = Some(clip(&reason));
    }

    fn take_document(&mut self, incoming: Incoming) {
        if self.documents.writing.is_some() {
            self.documents.next = Some(incoming);
            return;
        }
        let Incoming { head, document, signed } = incoming;
        self.queue_records(&document);
        self.out.writes.desired = Some((head, signed));
        self.documents.writing = Some(Writing { persist: None, head, document });
    }

    /// Candidates named and deletions made in the same commit as the document that causes them.
    fn queue_records(&mut self, document: &Desired) {
        for (key, assignment) in &document.assignments {
            let known = self.workloads.get_mut(key);
            let mut fresh = Record::default();
            let record = known.map_or(&mut fresh, |workload| &mut workload.record);
            let candidate = record.candidate_under(assignment);
            if record.candidate != candidate {
                record.name_candidate(candidate);
                self.out.writes.records.insert(key.clone(), Some(record.to_durable()));
            }
        }
        for (key, workload) in &self.workloads {
            if workload.stored && !document.assignments.contains_key(key) {
                self.out.writes.records.insert(key.clone(), None);
            }
        }
    }

    /// A commit left; if the document was in it, its end makes the document count.
    pub(crate) fn flush_writes(&mut self) {
        let carries = self.out.writes.desired.is_some();
        let boots = self.out.writes.boots.is_some();
        let Some(id) = self.out.flush() else { return };
        if let Some(writing) = self.documents.writing.as_mut().filter(|_| carries) {
            writing.persist = Some(id);
        }
        self.trials_left(id);
        if boots {
            self.session.boots_persist = Some(id);
        }
    }

    pub(crate) fn on_persisted(&mut self, now: Now, id: EffectId) {
        if self.session.boots_persist == Some(id) {
            self.session.boots_persist = None;
        }
        self.trials_durable(id);
        let Some(writing) = self.documents.writing.take_if(|w| w.persist == Some(id)) else { return };
        self.apply_document(now, writing.head, *writing.document);
        if let Some(next) = self.documents.next.take() {
            self.take_document(next);
        }
    }

    fn apply_document(&mut self, now: Now, head: DesiredHead, mut document: Desired) {
        self.documents.applied = Some(head);
        self.documents.refused = None;
        self.artifacts.needs_changed();
        self.artifacts.retry_now(true);
        for (key, assignment) in std::mem::take(&mut document.assignments) {
            self.assign(key, Arc::new(assignment));
        }
        let gone = self.workloads.iter().filter(|(_, w)| !w.seen);
        let gone: Vec<WorkloadKey> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.unassign(&key);
        }
        self.retarget_all(now);
    }

    pub(crate) fn assign(&mut self, key: WorkloadKey, assignment: Arc<Assignment>) {
        // The commit that brought a new workload named its candidate.
        let fresh = !self.workloads.contains_key(&key);
        let workload = self.workloads.entry(key.clone()).or_default();
        workload.seen = true;
        let candidate = workload.record.candidate_under(&assignment);
        if workload.desired.as_ref() != Some(&assignment) {
            // What is the good one to the letter shares its memory.
            let good = workload.record.good.clone().filter(|good| *good == assignment);
            workload.desired = Some(good.unwrap_or(assignment));
            self.reporter.mark(&key);
        }
        // What became good while the document was written may have named an older candidate.
        let write = workload.record.candidate != candidate && !fresh;
        workload.stored |= candidate.is_some();
        workload.record.name_candidate(candidate);
        if write {
            self.write_record(&key);
        }
    }

    fn unassign(&mut self, key: &WorkloadKey) {
        let Some(workload) = self.workloads.get_mut(key) else { return };
        if workload.desired.take().is_some() {
            self.reporter.mark(key);
        }
        workload.record = Record::default();
        workload.stored = false;
    }

    pub(crate) fn retarget_all(&mut self, now: Now) {
        let verified = self.documents.is_verified();
        let mut unsupported = Vec::new();
        for (key, workload) in &mut self.workloads {
            let before = workload.target.as_ref().and_then(|t| t.unsupported.clone());
            workload.seen = false;
            workload.retarget(&self.features, verified, now.boot_ms);
            let lacks = workload.target.as_ref().and_then(|t| t.unsupported.clone());
            unsupported
                .extend(lacks.filter(|l| before.as_ref() != Some(l)).map(|l| format!("{key} needs '{l}'")));
        }
        self.workloads.retain(|_, workload| !workload.is_gone());
        for text in unsupported {
            self.tell(now, EventKind::Unsupported, None, format!("this agent cannot run it: {text}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Digest, Generation, Lineage};

    fn head(lineage: u8, term: u64, generation: u64, content: u8) -> DesiredHead {
        DesiredHead {
            lineage: Lineage([lineage; 16]),
            term: Term(term),
            generation: Generation(generation),
            digest: Digest::of(&[content]),
        }
    }

    #[test]
    fn every_head_gets_one_of_three_answers() {
        let held = head(1, 5, 10, 0);
        let judge = |seen, new| judge_head(Some(&held), Term(seen), &new);
        assert_eq!(judge_head(None, Term(0), &held), Verdict::Newer);
        assert_eq!(judge(5, head(1, 5, 11, 1)), Verdict::Newer);
        assert_eq!(judge(5, head(1, 6, 11, 0)), Verdict::Newer);
        assert_eq!(judge(5, head(1, 5, 10, 0)), Verdict::AlreadySo);
        assert_eq!(judge(5, head(1, 6, 10, 0)), Verdict::AlreadySo);
        assert_eq!(judge(5, head(1, 4, 10, 0)), Verdict::AlreadySo, "the same content under an older term");
        for (new, says) in [
            (head(2, 9, 99, 1), "another hub store"),
            (head(1, 4, 11, 1), "term 4"),
            (head(1, 5, 9, 0), "generation 9"),
            (head(1, 5, 10, 1), "fork"),
            (head(1, 9, 10, 1), "fork"),
        ] {
            let Verdict::Refused(reason) = judge(5, new) else { panic!("{new:?} was not refused") };
            assert!(reason.contains(says), "{reason}");
        }
        assert!(
            matches!(judge(7, head(1, 6, 11, 1)), Verdict::Refused(_)),
            "a term that was only seen counts"
        );
    }
}
