//! A board: whether it is there, what it can do and what is taken of it.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::Capacity;
use contract::time::{Millis, Now};
use contract::{AgentId, BoardId, Epoch, Generation};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::labels::Query;
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
    pub labels: BTreeMap<String, String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen_wall_ms: Option<Millis>,
}

impl Core {
    pub fn agents(&self, now: Now, selector: &Query) -> Vec<AgentView> {
        let wanted = self.world.agents.iter().filter(|(_, a)| selector.matches(&a.record.labels));
        wanted.map(|(id, agent)| self.agent_view(now, id, agent)).collect()
    }

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

    fn agent_view(&self, now: Now, id: &AgentId, agent: &Agent) -> AgentView {
        let (record, session) = (&agent.record, agent.session.as_deref());
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
            features: record.features.clone(),
            arch: record.arch.clone(),
            capacity: capacity(&record.capacity),
            allocated: allocated(agent),
            engines: record.engines.clone(),
            version: record.agent_version.clone(),
            age_ms: session.and_then(|s| s.report_age(now)),
            workloads: agent.works.len(),
            problems: self.problems(agent),
            first_seen_wall_ms: record.first_seen_wall_ms,
        }
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
        storage_bytes: None,
        instances: Some(agent.used.instances),
    }
}
