//! What an operator writes about a workload (DESIGN §4 "Manifest"), exactly as given: absent stays
//! absent, so that a default that changes later does not change the revision of what was written.
//!
//! The doc comment of each field is its text in the JSON Schema and in `hub explain`. A field whose
//! feature is not built yet is parsed, and refused by name at admission.

mod bounds;
mod data;
mod env;
mod life;
mod place;
mod probe;
mod rollout;

use std::collections::BTreeMap;

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::DataName;
use crate::digest::{Digest, RevisionId};
use crate::id::{Name, WorkloadKey};
use crate::quantity::Duration;

pub use bounds::*;
pub use data::*;
pub use env::*;
pub use life::*;
pub use place::*;
pub use probe::*;
pub use rollout::*;

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
    /// The directory it starts in (oci); the image's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Its host name (oci); the workload's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Environment: text kept as it is written, '${agent.labels.x}' replaced on the way to each agent
    /// ('$${' for a literal '${'), or {secret, key} or {config, key}, of the same namespace.
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
    /// Who goes first where there is not room for all: -1000 to 1000, the higher before the lower. What
    /// has no place takes that of lower ones, which move or wait. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Limit and reservation in one; `describe` shows the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Ports of the board that only this container listens on (oci, network host): a workload whose port
    /// another one on the board has waits for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// What of the network the workload may use; nothing when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Directories and files inside the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Devices of the board (oci).
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
    /// Whether it lives: when this fails, the instance is stopped and started anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Whether it has come up: the other probes wait for it. When this fails, the instance is started anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Whether it can do its work now: while this fails it is not ready, and it is left alone.
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
    /// Those that are given, by the name of their field.
    pub fn probes(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        let fields = [
            ("livenessProbe", &self.liveness_probe),
            ("startupProbe", &self.startup_probe),
            ("readinessProbe", &self.readiness_probe),
        ];
        fields.into_iter().filter_map(|(name, probe)| Some((name, probe.as_ref()?)))
    }

    /// The canonical form: JSON with sorted keys and no spaces, absent fields absent.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        write_sorted(&serde_json::to_value(self).expect("a spec has only string keys"), &mut text);
        text
    }

    /// The revision's name. Computed by the hub alone, once, when a spec is applied; `image` is the
    /// artefact's digest and not its tag, so that a moved tag is a new revision. `replicas` and `priority`
    /// are left out: how many there are, and who yields, restarts nothing.
    ///
    /// `data` names the contents of the Configs and Secrets that it uses: another content is another
    /// revision, rolled out like any.
    pub fn revision<'a>(
        &self,
        image: &Digest,
        data: impl IntoIterator<Item = (&'a DataName, &'a Digest)>,
    ) -> RevisionId {
        let spec = WorkloadSpec { image: image.to_string(), replicas: None, priority: None, ..self.clone() };
        let mut text = spec.canonical();
        for (name, digest) in data {
            text += &format!("\n{name} {digest}");
        }
        RevisionId(Digest::of(text.as_bytes()))
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
