//! What is shown: each workload's status for the hub, the whole for `edge-agent status`, and a cheap
//! look for the simulator's invariants.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::message::DesiredHead;
use contract::run::Assignment;
use contract::status::{InstanceState, InstanceStatus, WorkloadStatus};
use contract::time::Millis;
use contract::{
    AgentId, Attempt, BoardId, Epoch, InstanceId, Lineage, Now, RevisionId, RunId, Term, WorkloadKey,
};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::fetch::{Artifacts, runnable};
use crate::instance::{Instance, Phase, Run, brief};
use crate::reconcile::{Availability, Wait};
use crate::record::{Role, Target, Workload};
use crate::session::Link;

/// Everything that the board can say without a hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    pub agent: AgentId,
    pub board: BoardId,
    pub agent_version: String,
    /// How often the agent has started.
    pub boots: u64,
    /// The agent's boottime clock: times in here become ages with it.
    pub now_ms: Millis,
    pub session: SessionView,
    /// The hub as it was last heard.
    pub hub: Option<HubView>,
    /// The document that is acted on.
    pub applied: Option<DesiredHead>,
    /// A document that was refused since, and why.
    pub refused: Option<String>,
    /// No verified document is here: what was found running stands in for it.
    pub provisional: bool,
    /// Events that wait for the hub.
    pub spooled: usize,
    /// Commands being worked on.
    pub commands: usize,
    pub workloads: BTreeMap<WorkloadKey, WorkloadView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum SessionView {
    /// The next attempt is at `next_ms` (boottime).
    Disconnected {
        next_ms: Millis,
        reason: Option<String>,
    },
    Connecting {
        epoch: Epoch,
    },
    /// The broker is there; `greeted` once the hub has answered.
    Connected {
        epoch: Epoch,
        since_ms: Millis,
        greeted: bool,
    },
    Closing,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HubView {
    pub lineage: Lineage,
    pub term: Term,
    pub artifacts: Option<String>,
    pub heartbeat_ms: Millis,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    pub status: WorkloadStatus,
    /// By slot: why it is not (yet) as it should be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<u32, String>,
}

/// The board in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub instances: usize,
    pub running: usize,
    /// The broker is there.
    pub connected: bool,
    /// The hub has answered.
    pub greeted: bool,
}

/// Enough to state invariants with; borrowed, built in one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct StateView<'a> {
    pub boots: u64,
    /// Of the session that is up.
    pub epoch: Option<Epoch>,
    /// Up, and the hub has answered.
    pub greeted: bool,
    pub applied: Option<DesiredHead>,
    pub refused: Option<&'a str>,
    pub provisional: bool,
    pub spooled: usize,
    /// Also those whose commit is still on its way.
    pub goods: BTreeMap<&'a WorkloadKey, &'a Assignment>,
    pub candidates: BTreeMap<&'a WorkloadKey, (RevisionId, Attempt)>,
    pub rejected: BTreeMap<&'a WorkloadKey, (RevisionId, Attempt)>,
    /// Runs that have not ended, with the revision they run.
    pub live: Vec<(InstanceId, RunId, Phase, Option<RevisionId>)>,
    /// A store fault ended everything.
    pub halted: bool,
}

impl Core {
    pub fn status(&self, now: Now) -> StatusView {
        let hub = self.session.hub.map(|(lineage, term)| HubView {
            lineage,
            term,
            artifacts: self.session.base_url.clone(),
            heartbeat_ms: self.heartbeat_ms(),
        });
        StatusView {
            agent: self.me.agent.clone(),
            board: self.me.board,
            agent_version: self.me.presence.agent_version.clone(),
            boots: self.me.boots,
            now_ms: now.boot_ms,
            session: self.session_view(),
            hub,
            applied: self.documents.applied,
            refused: self.documents.refused.clone(),
            provisional: !self.documents.is_verified(),
            spooled: self.spool.len(),
            commands: self.commands.len(),
            workloads: self.workload_views(),
        }
    }

    /// Cheap enough to be asked after every event.
    pub fn summary(&self) -> Summary {
        let instances = || self.workloads.values().flat_map(|w| w.slots.values());
        Summary {
            instances: instances().count(),
            running: instances().filter(|i| i.state == InstanceState::Running).count(),
            connected: matches!(self.session.link, Link::Up { .. }),
            greeted: self.session.greeted().is_some(),
        }
    }

    pub fn state(&self) -> StateView<'_> {
        let candidate = |key, target: &Target| {
            let candidate = (target.assignment.revision, target.assignment.attempt);
            (target.role == Role::Candidate).then_some((key, candidate))
        };
        let records = || self.workloads.iter().map(|(key, w)| (key, &w.record));
        StateView {
            boots: self.me.boots,
            epoch: self.session.epoch(),
            greeted: self.session.greeted().is_some(),
            applied: self.documents.applied,
            refused: self.documents.refused.as_deref(),
            provisional: !self.documents.is_verified(),
            spooled: self.spool.len(),
            goods: records().filter_map(|(key, r)| Some((key, r.good.as_deref()?))).collect(),
            candidates: self
                .workloads
                .iter()
                .filter_map(|(key, w)| candidate(key, w.target.as_ref()?))
                .collect(),
            rejected: records()
                .filter_map(|(key, r)| r.rejected.as_ref().map(|r| (key, (r.revision, r.attempt))))
                .collect(),
            live: self.live(),
            halted: self.is_halted(),
        }
    }

    fn live(&self) -> Vec<(InstanceId, RunId, Phase, Option<RevisionId>)> {
        let mut live = Vec::new();
        for (key, workload) in &self.workloads {
            for (slot, instance) in &workload.slots {
                let id = InstanceId { workload: key.clone(), slot: *slot };
                let runs = instance.runs.iter().filter(|(_, run)| run.phase != Phase::Ended);
                let revision = |run: &Run| run.assignment.as_ref().map(|a| a.revision);
                live.extend(runs.map(|(number, run)| (id.clone(), *number, run.phase, revision(run))));
            }
        }
        live
    }

    fn session_view(&self) -> SessionView {
        match self.session.link {
            Link::Down { at_ms } => {
                SessionView::Disconnected { next_ms: at_ms, reason: self.session.last_error.clone() }
            }
            Link::Connecting { epoch, .. } => SessionView::Connecting { epoch },
            Link::Up { epoch, since_ms } => {
                SessionView::Connected { epoch, since_ms, greeted: self.session.greeting.is_some() }
            }
            Link::Closing { .. } => SessionView::Closing,
        }
    }

    fn workload_views(&self) -> BTreeMap<WorkloadKey, WorkloadView> {
        let view = |(key, workload): (&WorkloadKey, &Workload)| {
            let spared = &workload.spared;
            let reason = |i: &Instance| i.bucket.wait().map(|wait| wait.reason()).or(spared.clone());
            let waiting = workload.slots.iter().filter_map(|(slot, i)| Some((*slot, reason(i)?))).collect();
            Some((key.clone(), WorkloadView { status: self.workload_status(key)?, waiting }))
        };
        self.workloads.iter().filter_map(view).collect()
    }

    /// Why what is good runs in place of what should; a change of it is told.
    pub(crate) fn note_spared(&mut self) {
        let hub_known = self.session.base_url.is_some();
        for (key, workload) in &mut self.workloads {
            let spared = workload.target.as_ref().and_then(|t| spared(t, &self.artifacts, hub_known));
            if workload.spared != spared {
                workload.spared = spared;
                self.reporter.mark(key);
            }
        }
    }

    /// What the hub is told of a workload; none when there is nothing of it.
    pub(crate) fn workload_status(&self, key: &WorkloadKey) -> Option<WorkloadStatus> {
        let workload = self.workloads.get(key)?;
        if workload.desired.is_none() && workload.slots.is_empty() {
            return None;
        }
        let target = workload.target.as_ref();
        let candidate = target.filter(|t| t.role == Role::Candidate);
        // An instance without a run is one of what would be started.
        let wanted = target.map(|target| runnable(target, &self.artifacts));
        let instances = workload.slots.iter();
        Some(WorkloadStatus {
            good: workload.record.good.as_ref().map(|good| good.revision),
            candidate: candidate.map(|t| (t.assignment.revision, t.assignment.attempt)),
            rejected: workload.record.rejected.clone(),
            unsupported: target.and_then(|t| t.unsupported.clone()),
            waiting: workload.spared.clone(),
            instances: instances.filter_map(|(slot, i)| Some((*slot, instance_status(i, wanted)?))).collect(),
        })
    }
}

fn spared(target: &Target, artifacts: &Artifacts, hub_known: bool) -> Option<String> {
    if Arc::ptr_eq(runnable(target, artifacts), &target.assignment) {
        return None;
    }
    let reason = match artifacts.availability(&target.assignment.run, hub_known) {
        Availability::Ready => return None,
        Availability::Fetching => Wait::Fetching.reason(),
        Availability::Waiting { reason, .. } => reason,
    };
    let revision = target.assignment.revision.short();
    Some(brief(&format!("revision {revision} is not here yet: {reason}")))
}

/// Of the run that lives; of what should run, where none does. None for a run that says nothing of
/// itself and is not wanted either.
fn instance_status(instance: &Instance, wanted: Option<&Arc<Assignment>>) -> Option<InstanceStatus> {
    let live = instance.live();
    let lives = live.and_then(|(_, run)| run.assignment.as_ref());
    let ended = instance.runs.values().rev().find_map(|run| run.assignment.as_ref());
    let assignment = lives.or(wanted).or(ended)?;
    // What runs is, unchanged, what a later attempt asks for.
    let same = wanted.filter(|wanted| wanted.revision == assignment.revision);
    let attempt = same.map_or(assignment.attempt, |wanted| wanted.attempt);
    let running = live.map(|(_, run)| run).filter(|_| instance.state == InstanceState::Running);
    let note = instance.note.as_ref();
    Some(InstanceStatus {
        revision: assignment.revision,
        attempt,
        state: instance.state.clone(),
        ready: running.is_some_and(Run::is_ready),
        unready: running.and_then(|run| run.unready().cloned()),
        healthy: running.is_some_and(|run| run.healthy),
        since_ms: instance.since_ms,
        restarts: note.filter(|n| n.revision == assignment.revision).map_or(0, |n| n.restarts),
        probe_restarts: note.filter(|n| n.revision == assignment.revision).map_or(0, |n| n.by_probe),
        run: live.map(|(id, _)| id),
        pid: live.and_then(|(_, run)| run.pid),
        last_exit: note.and_then(|n| n.last_exit.clone()),
    })
}
