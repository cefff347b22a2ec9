//! What must hold after every event? Each promise under its own name (DESIGN §5); a check compares a
//! core's claim or decision with what the world knows to be so.

use std::collections::BTreeSet;

use agent_core::api::Write;
use contract::limits::EVENT_SPOOL_MAX;
use contract::message::{Desired, EventKind, FromAgent, Hello, ObservedBody};
use contract::run::Assignment;
use contract::time::Millis;
use contract::{AgentId, Digest, Epoch, InstanceId, RevisionId, RunId, WorkloadKey};
use hub_core::api::{Answer, Apply, ChangeKind, Effect, Op, Request, Write as HubWrite};
use hub_core::view::{AgentState, AgentView, InstanceFilter};

use crate::runtime::RunState;
use crate::truth::{Acked, Candidate};
use crate::world::World;

/// A lost message, or a session whose end nobody told, may go unnoticed for two and a half heartbeats
/// and the time that messages take; not longer.
const PROPAGATION_MS: Millis = 90_000;

/// Boots in which a candidate may be tried.
const FELLED_MAX: u32 = 3;

impl World {
    fn window(&self) -> Millis {
        self.plan.heartbeat_ms * 5 / 2 + PROPAGATION_MS
    }

    // --- on boards ---

    pub fn check_board(&mut self, b: usize) {
        let Some(process) = &self.boards[b].process else { return };
        let state = process.core.state();
        let (spooled, applied, halted) = (state.spooled, state.applied, state.halted);
        drop(state);
        self.demand(spooled <= EVENT_SPOOL_MAX, "spool_bounded", || format!("a{b}: {spooled} events"));
        if halted {
            return;
        }
        let held = self.boards[b].disk.desired.as_ref().map(|h| h.head);
        let durable = match (applied, held) {
            (Some(applied), Some(held)) => applied.generation <= held.generation,
            (applied, _) => applied.is_none(),
        };
        self.demand(
            durable || self.boards[b].disk.boots == 0,
            "a_document_counts_when_it_is_durable",
            || format!("a{b} acts on {applied:?}, the disk has {held:?}"),
        );
    }

    /// A document became durable.
    pub fn check_generation(&mut self, b: usize) {
        let Some(head) = self.boards[b].disk.desired.as_ref().map(|h| h.head) else { return };
        let agent = self.boards[b].agent.clone();
        let before = self.truth.highest.insert(b, head);
        let forward = before.is_none_or(|old| {
            let newer = head.generation > old.generation;
            head.lineage == old.lineage
                && (newer || head.generation == old.generation && head.digest == old.digest)
        });
        self.demand(forward, "p1_generation_never_goes_back_on_a_board", || {
            format!("a{b}: {head:?} after {before:?}")
        });
        let published = self.truth.was_published(&agent, &head);
        self.demand(published, "p1_only_published_documents_count", || format!("a{b} holds {head:?}"));
    }

    /// What leaves the board claims nothing that a power cut would take back.
    pub fn check_claims(&mut self, b: usize, message: &FromAgent) {
        let disk = &self.boards[b].disk;
        let epoch = match message {
            FromAgent::Presence(p) => Some(p.epoch),
            FromAgent::Observed(o) => Some(o.epoch),
            FromAgent::Events(e) => Some(e.epoch),
            FromAgent::Reply(_) => None,
        };
        let boots = disk.boots;
        self.demand(epoch.is_none_or(|e| e.boots <= boots), "persist_before_publish", || {
            format!("a{b} speaks under {epoch:?}, durable are {boots} boots")
        });
        if let FromAgent::Events(batch) = message {
            let agent = self.boards[b].agent.clone();
            self.truth.events_left(&agent, batch.first_seq, batch.events.len() as u64);
        }
        let FromAgent::Observed(report) = message else { return };
        let held = self.boards[b].disk.desired.as_ref().map(|h| h.head);
        let durable = match (report.applied, held) {
            (Some(claimed), Some(held)) => {
                claimed.generation < held.generation
                    || claimed.generation == held.generation && claimed.digest == held.digest
            }
            (claimed, _) => claimed.is_none(),
        };
        let applied = report.applied;
        self.demand(durable, "persist_before_publish", || {
            format!("a{b} reports {applied:?} as applied, the disk has {held:?}")
        });
        if let ObservedBody::Full { workloads } = &report.body {
            for (key, status) in workloads {
                self.check_good_claim(b, key, status.good);
            }
        }
    }

    fn check_good_claim(&mut self, b: usize, key: &WorkloadKey, claimed: Option<RevisionId>) {
        let Some(record) = self.boards[b].disk.workloads.get(key) else { return };
        let durable = record.good.as_ref().map(|good| good.revision);
        self.demand(claimed.is_none() || claimed == durable, "persist_before_publish", || {
            format!("a{b} reports {claimed:?} as the good {key}, the disk has {durable:?}")
        });
    }

    pub fn check_epoch(&mut self, b: usize, epoch: Epoch) {
        let boots = self.boards[b].disk.boots;
        self.demand(epoch.boots <= boots, "persist_before_publish", || {
            format!("a{b} connects as {epoch}, durable are {boots} boots")
        });
        let again = self.truth.is_known(b, epoch) && !self.truth.boards_lost;
        self.demand(!again, "an_epoch_is_never_used_twice", || format!("a{b}: {epoch}"));
    }

    /// What must run in a slot now, by the durable document: its revision, or the good one after a fall-back.
    fn wanted(&self, b: usize, instance: &InstanceId) -> Wanted<'_> {
        let board = &self.boards[b];
        let Some(held) = &board.disk.desired else { return Wanted::Unknown };
        let key = &instance.workload;
        let assignment = held.document.assignments.get(key).filter(|a| a.slots.contains(&instance.slot));
        let Some(assignment) = assignment else { return Wanted::Nothing };
        let state = board.process.as_ref().map(|p| p.core.state());
        let rejected = state.as_ref().and_then(|s| s.rejected.get(key).copied());
        let fell = rejected.is_some_and(|(revision, attempt)| {
            revision == assignment.revision && attempt >= assignment.attempt
        });
        // What is good also runs for as long as the newer revision is not on the board. It counts as soon
        // as it is known, durable or not: it stands in for something that cannot run, and a power cut
        // before its commit leaves what there would be without it. (Seed 49: it was stopped for an
        // operator's restart of the workload while its commit was under way.)
        let good = state.and_then(|s| s.goods.get(key).copied());
        let here = |a: &Assignment| board.artifacts.contains(&a.run.artifact.digest);
        match good.filter(|good| fell || !here(assignment) && here(good)) {
            Some(good) => Wanted::Good(assignment, good),
            None => Wanted::Desired(assignment),
        }
    }

    pub fn should_run(&self, b: usize, instance: &InstanceId, run: &crate::runtime::Run) -> bool {
        let fits = |revision, restarts: u64| {
            run.assignment.revision == revision && run.assignment.restarts >= restarts
        };
        match self.wanted(b, instance) {
            Wanted::Desired(a) => fits(a.revision, a.restarts),
            Wanted::Good(a, good) => fits(good.revision, a.restarts),
            Wanted::Unknown | Wanted::Nothing => false,
        }
    }

    pub fn check_start(&mut self, b: usize, instance: &InstanceId, started: &Assignment) {
        let revision = started.revision;
        let legal = match self.wanted(b, instance) {
            // What was found stands in for the document.
            Wanted::Unknown => true,
            Wanted::Nothing => false,
            Wanted::Desired(a) => a.revision == revision,
            Wanted::Good(_, good) => good.revision == revision,
        };
        self.demand(legal, "p2_only_desired_or_good_work_starts", || {
            format!("a{b} starts {instance} of revision {}", revision.short())
        });
        let contents: Vec<Digest> = started.run.contents().iter().map(|data| data.digest).collect();
        let first = self.truth.contents_of(&instance.workload, revision, &contents);
        self.demand(first == contents, "a_revision_is_one_set_of_contents", || {
            format!(
                "a{b} starts {instance} of revision {} with {contents:?}, others with {first:?}",
                revision.short()
            )
        });
    }

    /// Where something good is known, a revision that fells the board is given up.
    pub fn check_felled(&mut self, b: usize, candidate: Candidate) {
        let record = self.boards[b].disk.workloads.get(&candidate.0);
        let spare = record.is_some_and(|record| record.good.is_some());
        let (key, revision) = (candidate.0.clone(), candidate.1);
        let times = self.truth.felled(b, candidate);
        self.demand(!spare || times <= FELLED_MAX, "p2_what_fells_the_board_is_given_up", || {
            format!("a{b} goes down for the {times}th time by {key} revision {}", revision.short())
        });
    }

    pub fn check_stop(&mut self, b: usize, instance: &InstanceId, run: RunId) {
        let Some(reason) = self.no_reason_to_stop(b, instance, run) else { return };
        let text = format!("a{b}: {instance} run {run} is stopped: {reason}");
        let entry = self.boards[b].runs.get(&(instance.clone(), run));
        if let Some(name) = entry.and_then(|entry| self.stopped_while(entry)) {
            return self.violate(name, text);
        }
        let connected = self.boards[b].process.as_ref().is_some_and(|p| p.conn.is_some());
        let name = match connected {
            false => "p10_outage_deletes_replaces_restarts_nothing",
            true if self.boards[b].disk.desired.is_none() => "p2_nothing_is_a_stray_without_a_document",
            true if self.just_connected(b) => "p4_reconnect_restarts_nothing_unchanged",
            true => "p2_running_work_is_not_stopped_without_a_newer_document",
        };
        self.violate(name, text);
    }

    fn just_connected(&self, b: usize) -> bool {
        self.boards[b].process.as_ref().is_some_and(|p| !p.core.state().greeted)
    }

    fn no_reason_to_stop(&self, b: usize, instance: &InstanceId, run: RunId) -> Option<String> {
        let board = &self.boards[b];
        let entry = board.runs.get(&(instance.clone(), run))?;
        if !entry.is_running() || entry.stop_asked || entry.suspect {
            return None;
        }
        let twin = |((i, other), r): (&(InstanceId, RunId), &crate::runtime::Run)| {
            i == instance && *other != run && r.is_live()
        };
        if board.runs.iter().any(twin) {
            return None;
        }
        let (ran, restarts) = (entry.assignment.revision, entry.assignment.restarts);
        let (revision, wanted, artifact) = match self.wanted(b, instance) {
            // What stands in for the document is healed as well: it is started again from its own spec.
            Wanted::Unknown if self.was_ill_enough(b, instance, entry) => return None,
            Wanted::Unknown => return Some("there is no verified document".into()),
            Wanted::Nothing => return None,
            Wanted::Desired(a) => (a.revision, a.restarts, Some(a.run.artifact.digest)),
            Wanted::Good(a, good) => (good.revision, a.restarts, Some(good.run.artifact.digest)),
        };
        if ran == revision && restarts >= wanted {
            let ill = self.was_ill_enough(b, instance, entry);
            return (!ill).then(|| "it is what should run".into());
        }
        let here = artifact.is_none_or(|digest| board.artifacts.contains(&digest));
        (!here && ran != revision).then(|| {
            let (from, to) = (ran.short(), revision.short());
            format!("what replaces it is not here yet: {from} by {to}, artefact {artifact:?}")
        })
    }

    /// A good revision was seen healthy on this very board.
    pub fn check_goods(&mut self, b: usize, writes: &[Write]) {
        for write in writes {
            let Write::Workload { key, record: Some(record) } = write else { continue };
            let Some(good) = &record.good else { continue };
            let healthy = self.truth.was_healthy(b, key, good.revision) || self.is_healthy_now(b, key, good);
            self.demand(healthy, "p2_one_bad_revision_falls_back_alone", || {
                format!("a{b} calls revision {} of {key} good", good.revision.short())
            });
        }
    }

    fn is_healthy_now(&self, b: usize, key: &WorkloadKey, good: &Assignment) -> bool {
        self.boards[b].runs.iter().any(|((instance, _), run)| {
            let long = |since: &Millis| self.now - since >= good.run.healthy_after_ms;
            instance.workload == *key
                && run.assignment.revision == good.revision
                && matches!(&run.state, RunState::Running { since } if long(since))
        })
    }

    pub fn check_kept(&mut self, b: usize, keep: &BTreeSet<Digest>) {
        let board = &self.boards[b];
        let goods = board.disk.workloads.values().filter_map(|r| r.good.as_ref());
        let desired = board.disk.desired.iter().flat_map(|h| h.document.assignments.values());
        let needed = goods.chain(desired).map(|a| a.run.artifact.digest);
        let gone = needed.into_iter().find(|d| board.artifacts.contains(d) && !keep.contains(d));
        self.demand(gone.is_none(), "p3_what_may_run_again_is_kept", || format!("a{b} deletes {gone:?}"));
    }

    // --- at the hub ---

    pub fn check_hub_decision(&mut self, effect: &Effect) {
        match &effect.op {
            Op::PublishDesired { agent, .. } => {
                let now = self.hub_now();
                let view = self.hub.core.as_ref().and_then(|core| core.agent(now, agent));
                let held = view
                    .is_some_and(|v| matches!(v.state, AgentState::FloorConflict | AgentState::OtherLineage));
                self.demand(!held, "floor_conflict_publishes_nothing", || format!("to {agent}"));
            }
            Op::Persist(writes) => {
                for write in writes {
                    let HubWrite::Agent { agent, record } = write else { continue };
                    self.truth.hub_believes(agent, record.as_deref());
                }
                if self.truth.was_caused() {
                    return;
                }
                let taken = writes.iter().filter_map(|w| self.takes_work_away(w));
                let moved = taken.into_iter().find(|(key, agent)| !self.is_sent_away(key, agent, writes));
                self.demand(moved.is_none(), "p10_outage_deletes_replaces_restarts_nothing", || {
                    format!("the hub takes {moved:?} away and nobody asked")
                });
            }
            _ => {}
        }
    }

    fn takes_work_away(&self, write: &HubWrite) -> Option<(WorkloadKey, AgentId)> {
        let HubWrite::Placement { key, agent, record } = write else { return None };
        let pair = (key.clone(), agent.clone());
        let before = self.hub.disk.placements.get(&pair)?;
        let kept = record.as_ref().is_some_and(|r| r.slots.is_superset(&before.slots));
        (!kept).then_some(pair)
    }

    pub fn check_document(&mut self, agent: &AgentId, document: &Desired) {
        let term = self.hub.disk.meta.map(|meta| meta.term);
        self.demand(term >= Some(document.term), "persist_before_publish", || {
            format!("a document of term {} leaves, durable is {term:?}", document.term)
        });
        let Some(record) = self.hub.disk.agents.get(agent) else { return };
        let digest = document.digest();
        let durable = record.generation > document.generation
            || record.generation == document.generation
                && (record.digest == Some(digest) || record.digest.is_none());
        let (generation, held) = (document.generation, record.generation);
        self.demand(durable, "persist_before_publish", || {
            format!("{agent}: generation {generation} leaves, durable is {held}")
        });
    }

    pub fn check_hello(&mut self, agent: &AgentId, hello: &Hello) {
        let Some(record) = self.hub.disk.agents.get(agent) else { return };
        let (acked, have) = (hello.acked.event_seq, record.event_seq);
        self.demand(acked <= have, "persist_before_publish", || {
            format!("{agent}: events up to {acked} are acknowledged, durable are {have}")
        });
    }

    pub fn check_answer(&mut self, request: &Request, answer: &Answer) {
        match (request, answer) {
            (Request::Apply(apply), Answer::Applied { version, changes, .. }) if !apply.dry_run => {
                for change in changes.iter().filter(|change| change.kind.is_none()) {
                    let key = &change.workload;
                    let record = self.hub.disk.workloads.get(key);
                    let durable = match change.change {
                        ChangeKind::Deleted => record.is_none_or(|r| r.version > *version),
                        ChangeKind::Unchanged => record.is_some(),
                        _ => record.is_some_and(|r| r.version >= *version),
                    };
                    self.demand(durable, "persist_before_answer", || format!("apply of {key}"));
                    self.acknowledge(key);
                }
            }
            (Request::Delete { keys, .. }, Answer::Deleted { .. }) => {
                for key in keys {
                    let durable = !self.hub.disk.workloads.contains_key(key);
                    self.demand(durable, "persist_before_answer", || format!("deletion of {key}"));
                    self.acknowledge(key);
                }
            }
            (Request::Scale { key, .. } | Request::Restart { key }, Answer::Done { .. }) => {
                self.acknowledge(key);
            }
            _ => {}
        }
    }

    /// As it is on the disk now, it has to stay until somebody changes it.
    fn acknowledge(&mut self, key: &WorkloadKey) {
        let record = self.hub.disk.workloads.get(key);
        let version = record.map(|r| r.version).or(self.hub.disk.meta.map(|meta| meta.version));
        let revision = record.map(|r| r.revision);
        self.truth.acked.insert(key.clone(), Acked { version: version.unwrap_or_default(), revision });
        self.truth.deletes_tried.remove(key);
    }

    pub fn note_tried(&mut self, request: &Request) {
        match request {
            Request::Delete { keys, .. } => self.truth.deletes_tried.extend(keys.iter().cloned()),
            Request::Apply(apply) if Apply::clone(apply).prune.is_some() => {
                let keys: Vec<_> = self.truth.acked.keys().cloned().collect();
                self.truth.deletes_tried.extend(keys);
            }
            _ => {}
        }
    }

    pub fn check_nothing_acknowledged_is_lost(&mut self) {
        let Some(core) = &self.hub.core else { return };
        let mut lost = None;
        for (key, acked) in &self.truth.acked {
            let kept = match (core.record(key), acked.revision) {
                (Some(record), Some(revision)) => {
                    record.version > acked.version
                        || record.version == acked.version && record.revision == revision
                }
                (Some(record), None) => record.version > acked.version,
                (None, Some(_)) => self.truth.deletes_tried.contains(key),
                (None, None) => true,
            };
            if !kept {
                lost = Some(format!("{key}: acknowledged {acked:?}"));
            }
        }
        if let Some(text) = lost {
            self.violate("p1_acknowledged_apply_survives", text);
        }
    }

    /// The hub takes each event in once, and says so when it passes over some.
    pub fn check_events_once(&mut self, writes: &[HubWrite]) {
        for write in writes {
            let HubWrite::Event(record) = write else { continue };
            let (event, Some(agent)) = (&record.event, &record.agent) else { continue };
            if event.boots == 0 {
                let lost = event.kind == EventKind::Lost && event.text.contains("never arrived");
                let excused = self.truth.rewound || self.plan.duplicates;
                self.demand(!lost || excused, "f32_events_neither_lost_nor_doubled", || {
                    format!("{agent}: {}", event.text)
                });
                continue;
            }
            let taken = self.truth.taken.entry((agent.clone(), event.boots)).or_default();
            *taken += 1;
            let (taken, sent) = (*taken, self.truth.events_of(agent, event.boots));
            let excused = self.truth.rewound || self.plan.duplicates;
            self.demand(taken <= sent || excused, "f32_events_neither_lost_nor_doubled", || {
                format!("{agent}: {taken} events of start {} are kept, {sent} were sent", event.boots)
            });
        }
    }

    // --- what the hub shows ---

    pub fn check_agent_view(&mut self, agent: &AgentId) {
        let now = self.hub_now();
        let Some(view) = self.hub.core.as_ref().and_then(|core| core.agent(now, agent)) else { return };
        if view.state == AgentState::Offline
            && let Some(epoch) = view.epoch
        {
            let will = self.truth.will_heard(&view.board);
            self.demand(will >= epoch, "f11_late_will_never_beats_the_next_session", || {
                format!("{agent} in session {epoch} is shown offline; the newest will was of {will}")
            });
        }
        if view.fresh {
            self.check_fresh(agent, &view);
        }
    }

    fn check_fresh(&mut self, agent: &AgentId, view: &AgentView) {
        let hello = self.truth.last_hello.get(agent).filter(|h| h.board == view.board);
        let echoed = hello.is_some_and(|hello| self.truth.was_echoed(&hello.nonce));
        self.demand(echoed, "p5_no_stale_status_shown_fresh", || {
            format!("{agent} is shown fresh; no board has ever echoed the present nonce")
        });
        let Some(epoch) = view.epoch else { return };
        let hole = self.truth.has_hole(&view.board, epoch);
        self.demand(!hole, "p5_no_stale_status_shown_fresh", || {
            format!("{agent} is shown fresh; a report of session {epoch} is missing")
        });
        let Some(b) = self.board_of(agent, view) else {
            return self.violate("p5_no_stale_status_shown_fresh", format!("{agent} is no board's"));
        };
        let since = self.now.saturating_sub(self.window());
        let alive = self.truth.session_alive_since(b, epoch, since);
        self.demand(alive, "f12_a_pulled_cable_shows_unknown", || {
            format!("{agent} is shown fresh; session {epoch} ended long ago")
        });
        self.check_instances(agent, b);
    }

    fn board_of(&self, agent: &AgentId, view: &AgentView) -> Option<usize> {
        self.boards_of(agent).find(|b| self.boards[*b].id == view.board)
    }

    fn check_instances(&mut self, agent: &AgentId, b: usize) {
        let now = self.hub_now();
        let since = self.now.saturating_sub(self.window());
        let Some(core) = &self.hub.core else { return };
        let filter = InstanceFilter { agent: Some(agent.clone()), ..InstanceFilter::default() };
        let wrong =
            core.instances(now, &filter).into_iter().filter(|view| view.fresh).find(|view| {
                match view.ready {
                    true => {
                        !self.truth.ran_since(b, &view.instance, view.revision, since)
                            || self.was_unready_throughout(b, &view.instance, since)
                    }
                    false => {
                        !self.has_probes(b, &view.instance)
                            && !self.truth.was_down_since(b, &view.instance, since)
                    }
                }
            });
        self.demand(wrong.is_none(), "p5_no_stale_status_shown_fresh", || {
            format!("{agent}: {wrong:?} has not been so for long")
        });
    }

    /// Now and then, everything that is shown.
    pub fn check_views(&mut self) {
        let now = self.hub_now();
        let Some(core) = &self.hub.core else { return };
        let agents: Vec<AgentId> =
            core.agents(now, &Default::default()).into_iter().map(|view| view.agent).collect();
        for agent in agents {
            self.check_agent_view(&agent);
        }
    }
}

enum Wanted<'a> {
    /// No verified document says.
    Unknown,
    Nothing,
    Desired(&'a Assignment),
    /// The document's revision fell back to this one.
    Good(&'a Assignment, &'a Assignment),
}
