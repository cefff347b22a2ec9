//! What an agent saw: the state of each workload and instance, and how an instance ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::RevisionId;
use crate::id::{RunId, WorkloadKey};
use crate::time::Millis;
use crate::version::Attempt;

/// One workload on one agent. Times are the agent's boottime; a report carries the agent's `now`
/// so that the reader can turn them into ages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// The last revision that became healthy here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<RevisionId>,
    /// The revision being tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<(RevisionId, Attempt)>,
    /// The newest revision that fell back, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
    /// This agent cannot run it at all: the missing feature, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
    /// Why the document's revision does not run yet though another one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// By slot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<u32, InstanceStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub revision: RevisionId,
    pub attempt: Attempt,
    pub reason: String,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    pub revision: RevisionId,
    pub attempt: Attempt,
    pub state: InstanceState,
    /// Running, and its probes, if it has any, say that it can do its work.
    pub ready: bool,
    /// Running and not ready: which probe says so, and the last failure that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready: Option<String>,
    /// Ready for the spec's `healthyAfter` without a break.
    pub healthy: bool,
    /// When it entered this state, on the agent's boottime clock.
    pub since_ms: Millis,
    /// Starts after the first, since the revision was assigned.
    pub restarts: u32,
    /// How many ends of them were a probe's doing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub probe_restarts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// How the run before this one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Which question a probe answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// Has it come up? The others wait for it.
    Startup,
    /// Does it live? If not, it is started anew.
    Liveness,
    /// Can it do its work now?
    Readiness,
}

impl ProbeKind {
    pub const ALL: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];
}

impl std::fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ProbeKind::Startup => "startup probe",
            ProbeKind::Liveness => "liveness probe",
            ProbeKind::Readiness => "readiness probe",
        })
    }
}

/// Where an instance is in its life:
///
/// ```text
/// Waiting ─▶ Fetching ─▶ Starting ─▶ Running ─▶ Stopping ─▶ (gone)
///    ▲                       │          │
///    └────── Backoff ◀───────┴──────────┤
///                     Completed/Failed ◀┘   (restartPolicy says: no more)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum InstanceState {
    /// Not started, and why: it says what it is waiting for.
    Waiting {
        reason: String,
    },
    Fetching,
    Starting,
    Running,
    Stopping,
    /// Restarts at `until_ms` (the agent's boottime).
    Backoff {
        until_ms: Millis,
    },
    /// Ended well and is not to be restarted.
    Completed,
    /// Ended badly and is not to be restarted.
    Failed,
}

impl InstanceState {
    /// One word for tables.
    pub fn name(&self) -> &'static str {
        match self {
            InstanceState::Waiting { .. } => "Waiting",
            InstanceState::Fetching => "Fetching",
            InstanceState::Starting => "Starting",
            InstanceState::Running => "Running",
            InstanceState::Stopping => "Stopping",
            InstanceState::Backoff { .. } => "Backoff",
            InstanceState::Completed => "Completed",
            InstanceState::Failed => "Failed",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum Exit {
    /// It returned this code.
    Code { code: i32 },
    /// A WASM trap, in words.
    Trap { message: String },
    /// Killed by this signal.
    Signal { signal: i32 },
    /// The kernel killed it at its memory limit.
    OutOfMemory { limit_bytes: u64 },
    /// A probe failed as often as it may: the agent stopped it.
    ProbeFailed { probe: ProbeKind, message: String },
    /// It never ran: what could not be done, and why.
    StartFailed { message: String },
    /// The board lost power or rebooted under it.
    Rebooted,
    /// There is no exit record; what the cgroup told.
    Unknown { evidence: String },
}

impl Exit {
    pub fn is_success(&self) -> bool {
        matches!(self, Exit::Code { code: 0 })
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code { code } => write!(f, "exit code {code}"),
            Exit::Trap { message } => write!(f, "trap: {message}"),
            Exit::Signal { signal } => write!(f, "killed by signal {signal}"),
            Exit::OutOfMemory { limit_bytes } => {
                write!(f, "out of memory (limit {})", crate::quantity::Bytes(*limit_bytes))
            }
            Exit::ProbeFailed { probe, message } => write!(f, "{probe} failed: {message}"),
            Exit::StartFailed { message } => write!(f, "could not start: {message}"),
            Exit::Rebooted => f.write_str("the board rebooted"),
            Exit::Unknown { evidence } => write!(f, "exit unknown: {evidence}"),
        }
    }
}

/// All workloads of an agent.
pub type Workloads = BTreeMap<WorkloadKey, WorkloadStatus>;
