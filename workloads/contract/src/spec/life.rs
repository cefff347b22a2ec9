//! How an instance is restarted and stopped.

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Duration;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Stop {
    /// The signal asked with first. Default TERM. A WASM workload ends at once on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// How long until KILL. Default 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Duration>,
}
