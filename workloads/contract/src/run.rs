//! What an agent is told to run: a spec with its defaults in, its artefact pinned and its
//! references resolved. The agent knows nothing of manifests.
//!
//! Readers ignore fields they do not know; a field that must not be ignored is named in the
//! assignment's `requires`, and an agent without that feature marks the one workload `unsupported`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::data::DataName;
use crate::digest::{Digest, RevisionId};
use crate::id::{InstanceId, Name, WorkloadKey};
use crate::spec::{NetworkMode, RestartPolicy, Runtime};
use crate::status::ProbeKind;
use crate::time::Millis;
use crate::version::Attempt;

/// One workload of an agent's document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub workload: WorkloadKey,
    pub revision: RevisionId,
    pub attempt: Attempt,
    /// The slots this agent runs; sorted, no slot twice, at most `SLOTS_PER_AGENT_MAX`.
    pub slots: Vec<u32>,
    pub run: RunSpec,
    /// Features without which this must not be run, such as `wasm`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub requires: BTreeSet<String>,
    /// Grows when an operator asks for a restart (`hub restart`); an instance started under a lower
    /// number is replaced. Not part of the revision: nothing about the spec changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Assignment {
    pub fn instances(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.slots.iter().map(|slot| InstanceId { workload: self.workload.clone(), slot: *slot })
    }
}

/// Everything a shim needs to know about the work itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    pub runtime: Runtime,
    pub artifact: ArtifactRef,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    pub limits: ResourceLimits,
    #[serde(default)]
    pub network: NetworkAllowance,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<RunMount>,
    pub restart_policy: RestartPolicy,
    /// A signal's name without SIG, such as `TERM`.
    pub stop_signal: String,
    pub stop_grace_ms: Millis,
    pub healthy_after_ms: Millis,
    /// A candidate not healthy by then is rejected, if there is a good revision to fall back to.
    pub health_deadline_ms: Millis,
    /// How it is found well or ill. Needs the feature `probes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Box<Probes>>,
    /// What only a container has; always there for `oci`, never for `wasm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Configs and Secrets, each pinned to one content. Needs the feature `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RunData>>,
}

impl RunSpec {
    /// What must be on the board before it starts, beside its artefact.
    pub fn contents(&self) -> &[DataRef] {
        self.data.as_deref().map_or(&[], |data| &data.objects)
    }
}

/// What of Configs and Secrets a run gets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunData {
    /// Sorted, each once.
    pub objects: Vec<DataRef>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, DataKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<DataMount>,
}

/// One content. Of a Config the bytes are fetched as they are; a Secret comes sealed to this board.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataRef {
    pub of: DataName,
    /// A Config's is of its bytes; a Secret's names its content, and says nothing about it.
    pub digest: Digest,
    /// As it lies at the hub.
    pub size_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKey {
    pub of: DataName,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataMount {
    pub of: DataName,
    /// One key as the file at `path`; none: a directory with all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Absolute, normalised, no `..`.
    pub path: String,
    pub mode: u32,
    /// uid and gid; none: the user that the container begins as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
}

/// At least one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct Probes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<RunProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<RunProbe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<RunProbe>,
}

impl Probes {
    pub fn get(&self, which: ProbeKind) -> Option<&RunProbe> {
        match which {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct RunProbe {
    pub ask: ProbeAsk,
    /// After the start of the run.
    pub initial_delay_ms: Millis,
    /// From one question to the next.
    pub period_ms: Millis,
    /// At most the period.
    pub timeout_ms: Millis,
    /// In a row; both at least 1.
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl RunProbe {
    /// How long its failures take at most until they count, from the start of the run.
    pub fn budget_ms(&self) -> Millis {
        self.initial_delay_ms
            .saturating_add(self.period_ms.saturating_mul(u64::from(self.failure_threshold)))
            .saturating_add(self.timeout_ms)
    }
}

/// What is asked, and of whom. A host is an address, never a name: whether a workload is well must not
/// depend on who answers names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ProbeAsk {
    /// Inside the container.
    Exec {
        command: Vec<String>,
    },
    Http {
        host: IpAddr,
        port: u16,
        path: String,
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
    Tcp {
        host: IpAddr,
        port: u16,
    },
}

/// For people: `GET http://127.0.0.1:8080/healthz`.
impl std::fmt::Display for ProbeAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProbeAsk::Exec { command } => write!(f, "exec {}", command.join(" ")),
            ProbeAsk::Http { host, port, path, .. } => {
                write!(f, "GET http://{}{path}", SocketAddr::new(*host, *port))
            }
            ProbeAsk::Tcp { host, port } => write!(f, "tcp {}", SocketAddr::new(*host, *port)),
        }
    }
}

/// What only a container has. Where it is silent, the image's own configuration holds: for `command` and
/// `args` too (a `command` takes the place of the image's entrypoint *and* of its arguments).
///
/// An agent that reports the feature `oci` honours every field that stands here without another feature.
/// A field added later gets a feature of its own, or old agents would leave it out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct Container {
    /// `user` or `user:group`, by number or by a name of the image's /etc/passwd and /etc/group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// The workload's name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only_root: bool,
    /// Capabilities beside the fourteen that Docker gives, such as `NET_ADMIN`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_capabilities: Vec<String>,
    /// Those of the fourteen that it does not get; `ALL` is all of them, and what is added stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_capabilities: Vec<String>,
    /// Needs the feature `devices`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<RunDevice>,
    /// Ports of the board that no other container of this document has. With the board's network there
    /// is nothing to set up: it listens on them itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct RunDevice {
    /// On the board; an instance waits for it by name.
    pub path: String,
    pub inside: String,
    /// Some of `r`, `w` and `m`.
    pub access: String,
}

/// The bytes to run and how to know that they are the right ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// What was pushed: names the artefact to people.
    pub source: Digest,
    /// What is fetched, verified and run: for WASM the code compiled for `engine`, for OCI the manifest
    /// for the board's platform. Configuration and layers are named in it by their digests and lie
    /// beside it, at the same address; this document is signed, so all of them are.
    pub digest: Digest,
    pub size_bytes: u64,
    /// The engine id the code was compiled for; none for OCI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

/// Enforced by the cgroup, and reserved for placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    pub pids: u32,
    pub storage_bytes: u64,
}

impl ResourceLimits {
    /// When a manifest names none: a quarter of the smallest board (256 MB, one core) each.
    pub const DEFAULT: ResourceLimits =
        ResourceLimits { cpu_millis: 500, memory_bytes: 64 << 20, pids: 64, storage_bytes: 64 << 20 };
    /// Below this a WASM shim itself does not fit (facts: shim ≈ 4 MiB + linear memory).
    pub const MEMORY_BYTES_MIN: u64 = 8 << 20;
    /// libcontainer cannot create with 1 (youki#3644).
    pub const PIDS_MIN: u32 = 2;
    /// The kernel's smallest quota is 1 ms of 100 ms.
    pub const CPU_MILLIS_MIN: u32 = 10;
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct NetworkAllowance {
    pub mode: NetworkMode,
    /// `host:port`, each the only places a WASM workload may connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMount {
    pub from: MountSource,
    /// Absolute, normalised, no `..`.
    pub path: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A directory of the board kept per instance: `<state>/volumes/<ns>.<workload>.<slot>/<name>`.
    Volume {
        name: Name,
        size_bytes: u64,
    },
    HostPath {
        path: String,
    },
    Tmpfs {
        size_bytes: u64,
    },
}
