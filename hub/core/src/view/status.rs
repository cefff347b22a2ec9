//! The hub itself.

use std::collections::BTreeMap;

use contract::{AgentId, Lineage, Term, Version};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::refused::Why;
use crate::view::AgentState;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    pub lineage: Lineage,
    pub term: Term,
    pub version: Version,
    pub broker: BrokerView,
    pub agents: AgentCounts,
    pub workloads: usize,
    /// Messages of agents that could not be used, and the last reason.
    pub rejected: u64,
    /// The same by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<Why, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rejected: Option<String>,
    /// Of the hub's public key; filled in by the shell, as is all below.
    #[serde(default)]
    pub fingerprint: String,
    #[serde(default)]
    pub hub_version: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BrokerView {
    pub up: bool,
    /// Why it was down last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `embedded` or `external`, and where: filled in by the shell.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub url: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AgentCounts {
    pub total: u32,
    pub online: u32,
    pub offline: u32,
    pub unknown: u32,
    pub duplicate: u32,
    pub floor_conflict: u32,
    pub other_lineage: u32,
}

impl Core {
    pub fn status(&self) -> StatusView {
        let mut agents = AgentCounts::default();
        self.world.agents.values().for_each(|agent| agents.count(self.agent_state(agent)));
        let named =
            |agent: &Option<AgentId>| agent.as_ref().map_or(String::new(), |id| format!("agent {id}: "));
        StatusView {
            lineage: self.world.meta.lineage,
            term: self.world.meta.term,
            version: self.world.meta.version,
            broker: BrokerView {
                up: self.world.bus_up,
                reason: self.bus_reason.clone(),
                ..BrokerView::default()
            },
            agents,
            workloads: self.world.works.len(),
            rejected: self.refusals.sum(),
            refused: self.refusals.total(),
            last_rejected: self.last_rejected.as_ref().map(|(id, why)| format!("{}{why}", named(id))),
            fingerprint: String::new(),
            hub_version: String::new(),
        }
    }
}

impl AgentCounts {
    fn count(&mut self, state: AgentState) {
        self.total += 1;
        let part = match state {
            AgentState::Online => &mut self.online,
            AgentState::Offline => &mut self.offline,
            AgentState::Unknown => &mut self.unknown,
            AgentState::Duplicate => &mut self.duplicate,
            AgentState::FloorConflict => &mut self.floor_conflict,
            AgentState::OtherLineage => &mut self.other_lineage,
        };
        *part += 1;
    }
}
