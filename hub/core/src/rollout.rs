//! How far is a workload? A target is one (agent, slot); it is steady when a fresh report shows the
//! present revision healthy, under the newest document.

use contract::quantity::Duration;
use contract::status::InstanceState;
use contract::{AgentId, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::compose::Waits;
use crate::core::Core;
use crate::record::PlacementRecord;
use crate::session::{Hold, Session};
use crate::world::{Agent, Work};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetState {
    Steady,
    Progressing,
    Failing,
    /// Its agent is not heard of; it will follow.
    Offline,
    /// Not told to run it yet, and why.
    Waiting,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub state: TargetState,
    pub reason: Option<String>,
}

/// All targets of a workload, counted, with the first reason of each kind that has one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Targets {
    pub total: u32,
    pub steady: u32,
    pub progressing: u32,
    pub failing: u32,
    pub offline: u32,
    pub waiting: u32,
    /// Of these, the ones that a fresh report shows ready, in whatever revision.
    #[serde(default)]
    pub ready: u32,
}

fn target(state: TargetState, reason: impl Into<String>) -> Target {
    let reason = reason.into();
    Target { state, reason: (!reason.is_empty()).then_some(reason) }
}

impl Core {
    pub(crate) fn target(
        &self,
        key: &WorkloadKey,
        work: &Work,
        id: &AgentId,
        placed: &PlacementRecord,
        slot: u32,
    ) -> Target {
        let Some(agent) = self.world.agents.get(id) else {
            return target(TargetState::Waiting, "the agent is gone");
        };
        let online = agent.session.as_deref().filter(|s| s.online && self.world.bus_up);
        let Some(session) = online else { return target(TargetState::Offline, "") };
        if let Err(waits) = self.world.ready(&work.template, &agent.record) {
            let state = match waits {
                Waits::Failed(_) | Waits::Fetch { failed: Some(_), .. } => TargetState::Failing,
                Waits::Compile(_) | Waits::Fetch { .. } | Waits::Other(_) => TargetState::Waiting,
            };
            return target(state, waits.to_string());
        }
        if let Some(hold) = session.hold {
            return target(TargetState::Waiting, held(hold));
        }
        if !session.is_fresh() {
            return target(TargetState::Progressing, "waiting for a fresh report");
        }
        self.reported(key, work, id, agent, session, placed, slot)
    }

    #[allow(clippy::too_many_arguments)] // all of one pair, looked up by the only caller
    fn reported(
        &self,
        key: &WorkloadKey,
        work: &Work,
        id: &AgentId,
        agent: &Agent,
        session: &Session,
        placed: &PlacementRecord,
        slot: u32,
    ) -> Target {
        let (revision, attempt) = (work.record.revision, work.record.attempt);
        let seen = session.seen.get(key);
        if let Some(feature) = seen.and_then(|s| s.unsupported.as_deref()) {
            return target(TargetState::Failing, format!("not supported by the agent: {feature}"));
        }
        if let Some(rejected) = seen.and_then(|s| s.rejects(revision, attempt)) {
            let text = format!("revision {} fell back: {}", revision.short(), rejected.reason);
            return target(TargetState::Failing, text);
        }
        let settled = !self.queues.publish.contains_key(id)
            && self.queues.dirty.is_empty()
            && placed.revision == revision
            && session.applied.is_some_and(|head| {
                head.generation == agent.record.generation && Some(head.digest) == agent.record.digest
            });
        if let Some(refused) = session.refused.as_deref().filter(|_| !settled) {
            return target(TargetState::Failing, format!("the agent refused its document: {refused}"));
        }
        if !settled {
            return target(TargetState::Progressing, "the document is on its way");
        }
        let Some(instance) = seen.and_then(|s| s.instance(slot)) else {
            return target(TargetState::Progressing, "not started yet");
        };
        if (instance.revision, instance.attempt) != (revision, attempt) {
            let why = seen.and_then(|s| s.waiting.as_deref()).map_or(String::new(), |why| format!(": {why}"));
            return target(TargetState::Progressing, format!("still the revision before{why}"));
        }
        let exit = || instance.last_exit.as_ref().map_or(String::new(), |exit| exit.to_string());
        match &instance.state {
            InstanceState::Completed => target(TargetState::Steady, ""),
            _ if instance.healthy => target(TargetState::Steady, ""),
            InstanceState::Backoff { .. } | InstanceState::Failed => target(TargetState::Failing, exit()),
            InstanceState::Waiting { reason } => target(TargetState::Progressing, reason.clone()),
            InstanceState::Running if let Some(why) = &instance.unready => {
                target(TargetState::Progressing, format!("running, not ready: {why}"))
            }
            InstanceState::Running => {
                let after = Duration { ms: work.template.run.healthy_after_ms };
                target(TargetState::Progressing, format!("running, healthy once it has run for {after}"))
            }
            state => target(TargetState::Progressing, state.name()),
        }
    }

    fn is_ready(&self, key: &WorkloadKey, id: &AgentId, slot: u32) -> bool {
        let agent = self.world.agents.get(id).filter(|agent| self.world.is_fresh(agent));
        let session = agent.and_then(|agent| agent.session.as_deref());
        let seen = session.and_then(|session| session.seen.get(key));
        seen.and_then(|seen| seen.instance(slot)).is_some_and(|instance| instance.ready)
    }

    pub(crate) fn targets(&self, key: &WorkloadKey, work: &Work) -> (Targets, Option<Target>) {
        let mut sum = Targets::default();
        let mut worst: Option<Target> = None;
        let unplaced = work.unplaced.slots.len() + work.unplaced.agents.len();
        if unplaced > 0 {
            (sum.total, sum.waiting) = (unplaced as u32, unplaced as u32);
            let reason = format!("{unplaced} without a place: describe says why");
            worst = Some(target(TargetState::Waiting, reason));
        }
        for (id, placed) in &work.placed {
            for slot in &placed.record.slots {
                let target = self.target(key, work, id, &placed.record, *slot);
                sum.count(target.state);
                sum.ready += u32::from(self.is_ready(key, id, *slot));
                if rank(Some(&target)) > rank(worst.as_ref()) {
                    let reason = target.reason.map(|reason| format!("agent {id}: {reason}"));
                    worst = Some(Target { state: target.state, reason });
                }
            }
        }
        (sum, worst)
    }
}

fn rank(target: Option<&Target>) -> u8 {
    match target.map(|t| t.state) {
        None | Some(TargetState::Steady) => 0,
        Some(TargetState::Offline) => 1,
        Some(TargetState::Progressing) => 2,
        Some(TargetState::Waiting) => 3,
        Some(TargetState::Failing) => 4,
    }
}

pub(crate) fn held(hold: Hold) -> String {
    match hold {
        Hold::Floor(head) => format!(
            "it has seen generation {} of term {}, more than this hub's store knows: hub restore accept",
            head.generation, head.term
        ),
        Hold::Lineage(lineage) => {
            format!("it belongs to the hub store of lineage {lineage}: hub restore accept --lineage")
        }
    }
}

impl Targets {
    fn count(&mut self, state: TargetState) {
        self.total += 1;
        let part = match state {
            TargetState::Steady => &mut self.steady,
            TargetState::Progressing => &mut self.progressing,
            TargetState::Failing => &mut self.failing,
            TargetState::Offline => &mut self.offline,
            TargetState::Waiting => &mut self.waiting,
        };
        *part += 1;
    }

    pub fn is_steady(&self) -> bool {
        self.steady == self.total
    }
}
