//! A board: whether it is there, what it can do and what is taken of it.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::Capacity;
use contract::time::{Millis, Now};
use contract::{AgentId, BoardId, Epoch, Generation, Taint};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::refused::RefusedView;
use crate::rollout::held;
use crate::session::Hold;
use crate::world::Agent;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AgentState {
    Online,
    Offline,
    /// Not heard of since the hub's start, or it has not answered lately.
    Unknown,
    /// Another live board uses its id.
    Duplicate,
    /// It has seen more than the hub's store: nothing is published to it.
    FloorConflict,
    /// It belongs to another hub's store.
    OtherLineage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Room {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DrainState {
    /// Something has to move or stop yet.
    Draining,
    /// Nothing is meant to run here, and its agent has not reported it as stopped.
    Stopping,
    Drained,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DrainView {
    pub state: DrainState,
    /// Instances that must leave yet.
    pub left: usize,
    /// What the first of them wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// Until it waits for nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_in_ms: Option<Millis>,
}

/// Of a drain's reasons.
const WAITS_MAX: usize = 5;

impl AgentState {
    pub fn name(self) -> &'static str {
        match self {
            AgentState::Online => "online",
            AgentState::Offline => "offline",
            AgentState::Unknown => "unknown",
            AgentState::Duplicate => "duplicate",
            AgentState::FloorConflict => "floor-conflict",
            AgentState::OtherLineage => "other-lineage",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentView {
    pub agent: AgentId,
    pub board: BoardId,
    pub state: AgentState,
    pub fresh: bool,
    /// How long it has been online or offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Of the document that it holds durably, as it last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Generation>,
    /// Of the newest document published to it.
    pub current: Generation,
    /// Those of the agent, and over them those of operators.
    pub labels: BTreeMap<String, String>,
    /// Labels that operators gave.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operator_labels: BTreeMap<String, String>,
    /// What the agent itself says where an operator says something else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub covered_labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Nothing new comes here.
    #[serde(default)]
    pub cordoned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
    pub features: BTreeSet<String>,
    pub arch: String,
    pub capacity: Room,
    pub allocated: Room,
    pub engines: Vec<String>,
    pub version: String,
    /// How old its newest report is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<Millis>,
    pub workloads: usize,
    /// What is wrong with it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Messages in its name that were not taken since the hub's start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_wall_ms: Option<Millis>,
}

impl Core {
    pub fn agent(&self, now: Now, id: &AgentId) -> Option<AgentView> {
        Some(self.agent_view(now, id, self.world.agents.get(id)?))
    }

    pub(crate) fn agent_state(&self, agent: &Agent) -> AgentState {
        let Some(session) = agent.session.as_deref() else { return AgentState::Unknown };
        match session.hold {
            _ if session.duplicate.is_some() && session.online => AgentState::Duplicate,
            Some(Hold::Floor(_)) => AgentState::FloorConflict,
            Some(Hold::Lineage(_)) => AgentState::OtherLineage,
            None if self.world.is_fresh(agent) => AgentState::Online,
            None if !session.online && self.world.bus_up => AgentState::Offline,
            None => AgentState::Unknown,
        }
    }

    pub(crate) fn agent_view(&self, now: Now, id: &AgentId, agent: &Agent) -> AgentView {
        let (record, session) = (&agent.record, agent.session.as_deref());
        let operator = record.operator.as_deref().cloned().unwrap_or_default();
        AgentView {
            agent: id.clone(),
            board: record.board,
            state: self.agent_state(agent),
            fresh: self.world.is_fresh(agent),
            since_ms: session.map(|s| now.boot_ms.saturating_sub(s.since_ms)),
            epoch: session.map(|s| s.epoch),
            applied: session.and_then(|s| s.applied).map(|head| head.generation),
            current: record.generation,
            labels: record.labels.clone(),
            operator_labels: operator.labels,
            covered_labels: operator.covered,
            taints: operator.taints,
            cordoned: operator.cordoned,
            drain: operator.drain.map(|_| self.drain_view(now, id, agent)),
            features: record.features.clone(),
            arch: record.arch.clone(),
            capacity: capacity(&record.capacity),
            allocated: allocated(agent),
            engines: record.engines.clone(),
            version: record.agent_version.clone(),
            age_ms: session.and_then(|s| s.report_age(now)),
            workloads: agent.works.len(),
            problems: self.problems(agent),
            refused: self.refusals.of(now.boot_ms, id),
            first_seen_wall_ms: record.first_seen_wall_ms,
        }
    }

    fn drain_view(&self, now: Now, id: &AgentId, agent: &Agent) -> DrainView {
        let left = self.drain_waits(id, agent);
        let named =
            left.iter().filter_map(|(instance, waits)| Some(format!("{instance} {}", waits.as_ref()?)));
        let state = match left.is_empty() {
            false => DrainState::Draining,
            true if self.is_stopping(id, agent) => DrainState::Stopping,
            true => DrainState::Drained,
        };
        let waits = named.take(WAITS_MAX).collect();
        DrainView { state, left: left.len(), waits, deadline_in_ms: self.drain_left_ms(now, id) }
    }

    /// It told of instances that are not meant to be there, or has not heard yet that they are not.
    fn is_stopping(&self, id: &AgentId, agent: &Agent) -> bool {
        let Some(session) = agent.session.as_deref().filter(|s| s.online) else { return false };
        let unheard = session.applied.is_none_or(|head| head.generation != agent.record.generation);
        let left = |key| agent.works.binary_search(key).is_err();
        let runs = session.seen.iter().any(|(key, seen)| left(key) && !seen.instances.is_empty());
        runs || (unheard && agent.heard) || self.queues.publish.contains_key(id)
    }

    fn problems(&self, agent: &Agent) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(engine) = self.world.engine(&agent.record)
            && !engine.is_empty()
        {
            problems.push(format!("no compile worker serves its engine {engine}"));
        }
        let Some(session) = agent.session.as_deref() else { return problems };
        problems.extend(session.hold.map(held));
        if let Some(other) = session.duplicate.map(|twin| twin.board) {
            problems.push(format!("board {other} uses this id as well; this is board {}", session.board));
        }
        problems.extend(session.refused.as_deref().map(|r| format!("it refused its document: {r}")));
        problems.extend(session.problem.as_deref().map(str::to_string));
        if session.overdue && session.online {
            problems.push("its heartbeat is overdue".to_string());
        }
        problems
    }
}

fn capacity(capacity: &Capacity) -> Room {
    Room {
        cpu_millis: capacity.cpu_millis.into(),
        memory_bytes: capacity.memory_bytes,
        storage_bytes: Some(capacity.storage_bytes),
        instances: None,
    }
}

fn allocated(agent: &Agent) -> Room {
    Room {
        cpu_millis: agent.used.cpu_millis,
        memory_bytes: agent.used.memory_bytes,
        storage_bytes: Some(agent.used.storage_bytes),
        instances: Some(agent.used.instances),
    }
}
