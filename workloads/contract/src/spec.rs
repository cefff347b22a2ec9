//! What an operator writes about a workload (DESIGN §4 "Manifest"), exactly as given: absent stays
//! absent, so that a default that changes later does not change the revision of what was written.
//!
//! The doc comment of each field is its text in the JSON Schema and in `hub explain`. A field whose
//! feature is not built yet is parsed, and refused by name at admission.

use std::collections::BTreeMap;

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, RevisionId};
use crate::id::{Name, WorkloadKey};
use crate::quantity::{Bytes, Cpu, Duration};

/// A workload: what runs, where, how many of it, and within which limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Workload {
    /// Names the workload.
    pub metadata: Metadata,
    /// What should be.
    pub spec: WorkloadSpec,
}

impl Workload {
    pub fn key(&self) -> WorkloadKey {
        WorkloadKey { namespace: self.metadata.namespace.clone(), name: self.metadata.name.clone() }
    }
}

/// The namespace of a manifest that names none.
pub fn default_namespace() -> Name {
    "default".parse().expect("a legal name")
}

/// Names an object and labels it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Metadata {
    /// The object's name within its namespace: 1 to 63 of a-z, 0-9 and '-'.
    pub name: Name,
    /// The namespace; 'default' when absent.
    #[serde(default = "default_namespace")]
    pub namespace: Name,
    /// Labels to select this object by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Free text that tools keep with the object; never interpreted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What should run. Exactly one of `replicas` and `everyAgent` says how many.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct WorkloadSpec {
    /// The artefact: name:tag in the hub's own registry, host/repo:tag elsewhere, or …@sha256:…. A tag
    /// is resolved to its digest when applied.
    pub image: String,
    /// wasm or oci; the artefact tells, so it may be left out. A mismatch is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Replaces the image's entrypoint (oci).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Arguments, each kept as it is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment: text kept as it is written, '${agent.labels.x}' replaced on the way to each agent
    /// ('$${' for a literal '${'), or {secret, key} or {config, key}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// One instance on every agent that the placement selects.
    #[serde(default, skip_serializing_if = "is_false")]
    pub every_agent: bool,
    /// How many instances over the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Which agents may run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Limit and reservation in one; `describe` shows the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Ports reserved on the board.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What of the network the workload may use; nothing when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directories and files inside the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Devices of the board.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceMount>,
    /// Who the workload is to the kernel (oci).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Always, OnFailure or Never; always with exponential back-off. Default Always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// How to stop it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Restarts the instance when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Holds the other probes back until it succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Makes the instance not ready while it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// How a new revision reaches the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// What happens when an agent is not heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnect: Option<Disconnect>,
    /// At most one instance, fenced by a lease.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exclusive: bool,
    /// A cron line: run as a job at these times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// A job: how many successful ends complete it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completions: Option<u32>,
    /// A job: how long it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Starts only once these are as the condition says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// Changes replicas by load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl WorkloadSpec {
    /// The canonical form: JSON with sorted keys and no spaces, absent fields absent.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_sorted(&serde_json::to_value(self).expect("a spec has only string keys"), &mut text);
        text
    }

    /// The revision's name. Computed by the hub alone, once, when a spec is applied; `image` is the
    /// artefact's digest and not its tag, so that a moved tag is a new revision. `replicas` is left
    /// out: scaling restarts nothing.
    pub fn revision(&self, image: &Digest) -> RevisionId {
        let spec = WorkloadSpec { image: image.to_string(), replicas: None, ..self.clone() };
        RevisionId(Digest::of(spec.canonical().as_bytes()))
    }
}

/// Sorts by hand: whether serde_json's own map sorts depends on a feature that any crate of a build
/// may switch on, and a revision's name must not.
fn write_sorted(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            text.push('{');
            for (n, (key, value)) in keys.into_iter().enumerate() {
                text.push_str(if n > 0 { "," } else { "" });
                text.push_str(&serde_json::Value::from(key.as_str()).to_string());
                text.push(':');
                write_sorted(value, text);
            }
            text.push('}');
        }
        serde_json::Value::Array(items) => {
            text.push('[');
            for (n, item) in items.iter().enumerate() {
                text.push_str(if n > 0 { "," } else { "" });
                write_sorted(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum Runtime {
    Wasm,
    Oci,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum EnvValue {
    /// Text as written.
    Text(String),
    /// A key of a Secret.
    Secret(SecretKey),
    /// A key of a Config.
    Config(ConfigKey),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct SecretKey {
    pub secret: Name,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct ConfigKey {
    pub config: Name,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Placement {
    /// Only agents with these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Spread the instances evenly over the values of this label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<String>,
    /// Only agents of this architecture; the artefact tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Terms an agent must, or had better, fulfil.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<serde_json::Value>,
    /// Taints of agents that do not keep the workload away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<serde_json::Value>,
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

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Resources {
    /// Share of a core: 250m, 1, 1.5. Default 500m as a limit, which reserves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory: 64Mi. Default 64Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processes and threads. Default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Disk for the writable layer and the volumes without a size. Default 64Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Port {
    /// A name for the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port inside the workload.
    pub port: u16,
    /// The port on the board, reserved for this workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Network {
    /// none, host or private. Default none; host when `connect` or `listen` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,
    /// The only places a WASM workload may connect to: host:port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    /// The only ports a WASM workload may listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum NetworkMode {
    #[default]
    None,
    Host,
    Private,
}

/// Exactly one of volume, hostPath, tmpfs, config and secret says what is mounted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Mount {
    /// A directory on the board that outlives instances and revisions, named within the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// A path of the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Memory of this size, gone with the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Bytes>,
    /// A Config, as a file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Name>,
    /// A Secret, as a file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Name>,
    /// Where the workload sees it: an absolute path.
    pub path: String,
    /// The volume's size; `resources.storage` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Refuses writes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct DeviceMount {
    /// The device on the board.
    pub path: String,
    /// Its path inside; the same when absent.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// r, w, rw, with m for mknod. Default rw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Security {
    /// user or user:group, by number or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The root file system refuses writes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only_root: bool,
    /// Changes to the usual set of capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// All capabilities and devices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Capabilities {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

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

/// Exactly one of exec, httpGet and tcp says what is asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Probe {
    /// A command inside the workload; exit code 0 is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// An HTTP GET; 200 to 399 is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A TCP connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_delay: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct HttpGet {
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct TcpProbe {
    pub port: u16,
}

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
    /// How many may be down at once, counted by a label.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
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
