//! A workload and how far it is.

use contract::spec::{Runtime, Workload};
use contract::time::Millis;
use contract::{Attempt, Digest, Name, RevisionId, Version, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::labels::Query;
use crate::rollout::{Target, Targets};
use crate::world::Work;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadView {
    pub key: WorkloadKey,
    pub revision: RevisionId,
    pub attempt: Attempt,
    pub runtime: Runtime,
    /// As written.
    pub image: String,
    pub image_digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    #[serde(default)]
    pub every_agent: bool,
    /// Its resource version.
    pub version: Version,
    pub targets: Targets,
    pub steady: bool,
    /// One line for people.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_wall_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_wall_ms: Option<Millis>,
    pub manifest: Workload,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadList {
    pub version: Version,
    pub items: Vec<WorkloadView>,
}

impl Core {
    pub fn workloads(&self, namespace: Option<&Name>, selector: &Query) -> WorkloadList {
        let wanted = |key: &WorkloadKey, work: &Work| {
            namespace.is_none_or(|ns| *ns == key.namespace)
                && selector.matches(&work.record.manifest.metadata.labels)
        };
        let items = self.world.works.iter().filter(|(key, work)| wanted(key, work));
        let items = items.map(|(key, work)| self.workload_view(key, work)).collect();
        WorkloadList { version: self.world.meta.version, items }
    }

    pub fn workload(&self, key: &WorkloadKey) -> Option<WorkloadView> {
        Some(self.workload_view(key, self.world.works.get(key)?))
    }

    fn workload_view(&self, key: &WorkloadKey, work: &Work) -> WorkloadView {
        let (targets, worst) = self.targets(key, work);
        let record = &work.record;
        WorkloadView {
            key: key.clone(),
            revision: record.revision,
            attempt: record.attempt,
            runtime: record.runtime,
            image: record.manifest.spec.image.clone(),
            image_digest: record.image,
            replicas: record.manifest.spec.replicas,
            every_agent: work.every_agent(),
            version: record.version,
            steady: targets.is_steady(),
            message: message(&targets, worst),
            targets,
            created_wall_ms: record.created_wall_ms,
            applied_wall_ms: record.applied_wall_ms,
            manifest: record.manifest.clone(),
        }
    }
}

fn message(targets: &Targets, worst: Option<Target>) -> String {
    if targets.total == 0 {
        return "no agent matches its placement".to_string();
    }
    let mut text = format!("{} of {} steady", targets.steady, targets.total);
    if targets.offline > 0 {
        text += &format!(", {} offline, will follow", targets.offline);
    }
    match worst.and_then(|target| target.reason) {
        Some(reason) => format!("{text}; {reason}"),
        None => text,
    }
}
