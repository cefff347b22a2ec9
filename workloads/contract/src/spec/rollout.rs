//! How a workload changes over the fleet, and what happens to those not heard of.

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Selector;
use crate::id::Name;
use crate::quantity::Duration;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Rollout {
    /// The steps of the rollout; the last one is everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batches: Vec<Batch>,
    /// How much of a batch must succeed, like 95%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<String>,
    /// How long an instance must run and be ready to count as healthy. Default 3s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_after: Option<Duration>,
    /// On a board: a new revision not healthy by then falls back to the last good one. Default 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// rollback or pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// How many instances may be down at once when operators drain boards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Batch {
    /// A number of agents, or a percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Disruption {
    /// Count by the values of this label of the agents; over the whole fleet when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// How many; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Disconnect {
    /// How long unheard until the agent counts as lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_after: Option<Duration>,
    /// Start replacements elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// A duration after which the board itself stops it, or never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<String>,
    /// keepOriginal or keepReplacement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_return: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Dependency {
    pub workload: Name,
    /// started, healthy or completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Autoscale {
    pub min: u32,
    pub max: u32,
    /// cpu, memory, or the name of the instance's own metric.
    pub metric: String,
    /// The value aimed at, like 70%.
    pub target: String,
}
