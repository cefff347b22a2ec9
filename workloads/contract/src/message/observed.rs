//! What an agent reports about its work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{BoardId, Nonce, WorkloadKey};
use crate::message::DesiredHead;
use crate::status::{WorkloadStatus, Workloads};
use crate::time::Millis;
use crate::version::Epoch;

/// On `agents/<a>/observed`. `seq` counts from 1 in each epoch; a hole makes the hub ask for a full
/// report, so a lost message costs one, and a lost last message shows at the next heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    pub board: BoardId,
    pub epoch: Epoch,
    pub seq: u64,
    /// Of the hello it answers; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
    /// The agent's boottime clock when it was sent: times in here become ages with it.
    pub now_ms: Millis,
    /// The document it holds durably and acts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<DesiredHead>,
    /// A document it refused since, and why (fork, older, other lineage): named to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    pub body: ObservedBody,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ObservedBody {
    /// Everything; what is not in it is not there.
    Full { workloads: Workloads },
    /// What changed since `seq - 1`; `None` is gone.
    Changes { workloads: BTreeMap<WorkloadKey, Option<WorkloadStatus>> },
    /// Nothing changed. `state` is [`state_digest`] over the whole; another value at the hub means
    /// that something was lost. `spooled` events wait for an acknowledgement.
    Heartbeat { state: Digest, spooled: u32 },
}

/// The digest both sides compare. Over the statuses only, not over times of the report itself.
pub fn state_digest(workloads: &Workloads) -> Digest {
    Digest::of(&serde_json::to_vec(workloads).expect("a status has only string keys"))
}

impl Observed {
    pub fn state_digest(workloads: &Workloads) -> Digest {
        state_digest(workloads)
    }
}
