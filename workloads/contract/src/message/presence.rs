//! Who an agent is and whether it is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::BoardId;
use crate::version::Epoch;

/// Retained on `agents/<a>/presence`. The last will is the same with `online: false`; both carry
/// the epoch, so that a will that comes late never beats the session that followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    pub board: BoardId,
    pub epoch: Epoch,
    pub online: bool,
    pub contract_version: u32,
    /// The agent's own version, such as `0.1.0`.
    pub agent_version: String,
    /// What it can do, such as `wasm`, `tmpfs-mounts`; compared with an assignment's `requires`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub features: BTreeSet<String>,
    /// Engine ids whose compiled code it loads, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<String>,
    /// `x86_64`, `aarch64`, `riscv64`, `arm` or `armv7`, `armv6`: which images it runs follows from it
    /// (`Platform::of_board`).
    pub arch: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub capacity: Capacity,
}

/// What the board can give to workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    pub storage_bytes: u64,
}
