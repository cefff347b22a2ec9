//! What do operators see? Read-only pictures of the core, as the HTTP API sends them. An age stands
//! beside what is old, and what is not fresh is 'unknown (last known …)'.

mod agent;
mod artifact;
mod describe;
mod event;
mod fleet;
mod instance;
mod numbers;
mod status;
mod workload;

pub use agent::{AgentState, AgentView, DrainState, DrainView, Room};
pub use artifact::{ArtifactView, CompiledView};
pub use describe::{Describe, EffectiveView, NotHere, RevisionView};
pub use event::{EventFilter, EventView};
pub use fleet::{AgentFilter, AgentPage, FIELDS, FieldError, FieldQuery, FleetGroup, FleetView};
pub use instance::{InstanceFilter, InstanceView};
pub use numbers::{NamespaceNumbers, Numbers};
pub use status::{AgentCounts, BrokerView, StatusView};
pub use workload::{WorkloadList, WorkloadView};

pub use crate::rollout::{TargetState, Targets};

/// Of what is not known to be so now.
fn unknown(last: &str) -> String {
    if last.is_empty() { "unknown".to_string() } else { format!("unknown (last known {last})") }
}
