//! Where a workload may run.

use std::collections::BTreeMap;

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::taint::TaintEffect;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Placement {
    /// Only agents with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Spread the instances evenly over the values of this label, as far as there is room; agents
    /// without it count as one value more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// Only agents of this architecture (amd64, arm64, arm, riscv64, …); what an image or a module runs
    /// on is known without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Terms an agent must, or had better, fulfil.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints of agents that do not keep the workload away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Affinity {
    /// At least one of these must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Selector>,
    /// Agents for which more of these hold go first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred: Vec<Preference>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Preference {
    /// What this counts beside the others: 1 to 100. Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Which agents are preferred.
    pub selector: Selector,
}

/// As in Kubernetes: what is left out holds for all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Toleration {
    /// The taint's key; every key when absent, with operator Exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Equal compares the value, Exists takes any. Default Equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    /// The taint's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; all three when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum TolerationOperator {
    Equal,
    Exists,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Selector {
    /// Each label must have this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Each expression must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Expression>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Expression {
    pub key: String,
    pub operator: Operator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}
