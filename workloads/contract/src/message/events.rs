//! What happened on a board, told once, kept until the hub has it.

use serde::{Deserialize, Serialize};

use crate::id::{BoardId, InstanceId};
use crate::time::Millis;
use crate::version::Epoch;

/// On `agents/<a>/events`: consecutive events, the first with number `first_seq`. Numbers never
/// restart (they are durable), so a resend is recognised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Events {
    pub board: BoardId,
    pub epoch: Epoch,
    pub first_seq: u64,
    /// The agent's boottime clock when it was sent.
    pub now_ms: Millis,
    pub events: Vec<AgentEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEvent {
    /// The agent's boottime clock; meaningful only within `boots`.
    pub at_ms: Millis,
    /// The agent start it happened in.
    pub boots: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    pub kind: EventKind,
    /// One line for people.
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    AgentStarted,
    Started,
    Exited,
    OutOfMemory,
    BackingOff,
    BecameGood,
    FellBack,
    Refused,
    Unsupported,
    StartFailed,
    FetchFailed,
    Stopped,
    Adopted,
    Stray,
    StoreSetAside,
    DiskFull,
    Duplicate,
    /// A probe failed as often as it may: the instance is started anew, or not ready.
    ProbeFailed,
    /// An instance that was not ready is.
    Ready,
    /// Of the hub: it made room for a higher priority.
    Evicted,
    /// `text` says how many events were dropped.
    Lost,
}

/// Low goes first when the spool is full; Lost is never dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventPriority {
    Low,
    High,
}

impl EventKind {
    pub fn priority(self) -> EventPriority {
        use EventKind::*;
        match self {
            Started | Stopped | Adopted | BackingOff | Exited | ProbeFailed | Ready => EventPriority::Low,
            _ => EventPriority::High,
        }
    }
}
