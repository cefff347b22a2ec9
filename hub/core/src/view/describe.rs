//! Everything about one workload: its spec with the defaults in, where it runs, where it does not
//! and why, and what happened lately.

use std::collections::BTreeMap;

use contract::quantity::{Bytes, Cpu, Duration};
use contract::run::{Container, NetworkAllowance, Probes, RunSpec};
use contract::spec::RestartPolicy;
use contract::time::Now;
use contract::{AgentId, Digest, RevisionId, Version, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::core::Core;
use crate::place::{self, Alike, Grouped};
use crate::view::{EventFilter, EventView, InstanceFilter, InstanceView, WorkloadView};
use crate::world::Work;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Describe {
    pub workload: WorkloadView,
    pub effective: EffectiveView,
    pub revisions: Vec<RevisionView>,
    pub instances: Vec<InstanceView>,
    pub more_instances: usize,
    /// Boards that do not run it, or would take no more of it, by reason.
    pub not_here: Vec<NotHere>,
    pub events: Vec<EventView>,
}

/// What holds, defaults included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EffectiveView {
    pub cpu: Cpu,
    pub memory: Bytes,
    pub pids: u32,
    pub storage: Bytes,
    pub network: NetworkAllowance,
    pub restart_policy: RestartPolicy,
    pub stop_signal: String,
    pub stop_grace: Duration,
    pub healthy_after: Duration,
    pub deadline: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Box<Probes>>,
    /// Of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Configs and Secrets that this revision uses, each as the content it has here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    pub revision: RevisionId,
    pub version: Version,
    pub image: String,
    pub image_digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NotHere {
    /// How many boards.
    pub count: usize,
    /// The first of them.
    pub agents: Vec<AgentId>,
    pub reason: String,
}

const INSTANCES_MAX: usize = 200;
const EVENTS_MAX: usize = 20;

impl Core {
    pub fn describe(&self, now: Now, key: &WorkloadKey) -> Option<Describe> {
        let work = self.world.works.get(key)?;
        let filter = InstanceFilter { workload: Some(key.clone()), ..InstanceFilter::default() };
        let (instances, more_instances) = cut(self.instances(now, &filter), INSTANCES_MAX);
        let not_here = self.not_here(work);
        let filter = EventFilter { workload: Some(key.clone()), agent: None, within: None };
        Some(Describe {
            workload: self.workload(key)?,
            effective: EffectiveView::of(&work.template.run),
            revisions: revisions(work),
            instances,
            more_instances,
            not_here,
            events: self.events(None, EVENTS_MAX, &filter),
        })
    }

    fn not_here(&self, work: &Work) -> Vec<NotHere> {
        let ask = work.ask();
        let lacking = |id: &AgentId| work.unplaced.agents.contains(id) || !work.unplaced.slots.is_empty();
        let mut grouped = Grouped::default();
        for (id, agent) in &self.world.agents {
            if work.placed.contains_key(id) && !lacking(id) {
                continue;
            }
            let board = self.world.board(work, id, agent);
            if let Err(why) = place::why_not(&ask, &board, !work.every_agent()) {
                grouped.add(id, &why);
            } else if let Some(full) = access::no_room(&self.world, work).filter(|_| work.every_agent()) {
                grouped.add(id, &place::WhyNot::Quota(full));
            }
        }
        let told = |alike: Alike| NotHere { count: alike.count, agents: alike.agents, reason: alike.reason };
        grouped.list().into_iter().map(told).collect()
    }
}

fn cut<T>(mut list: Vec<T>, max: usize) -> (Vec<T>, usize) {
    let more = list.len().saturating_sub(max);
    list.truncate(max);
    (list, more)
}

fn revisions(work: &Work) -> Vec<RevisionView> {
    let view = |old: &crate::record::RevisionRecord| RevisionView {
        revision: old.revision,
        version: old.version,
        image: old.manifest.spec.image.clone(),
        image_digest: old.image,
    };
    work.record.revisions.iter().map(view).collect()
}

impl EffectiveView {
    fn of(run: &RunSpec) -> EffectiveView {
        EffectiveView {
            cpu: Cpu { millis: run.limits.cpu_millis },
            memory: Bytes(run.limits.memory_bytes),
            pids: run.limits.pids,
            storage: Bytes(run.limits.storage_bytes),
            network: run.network.clone(),
            restart_policy: run.restart_policy,
            stop_signal: run.stop_signal.clone(),
            stop_grace: Duration { ms: run.stop_grace_ms },
            healthy_after: Duration { ms: run.healthy_after_ms },
            deadline: Duration { ms: run.health_deadline_ms },
            probes: run.probes.clone(),
            container: run.container.clone(),
            data: run.contents().iter().map(|data| (data.of.to_string(), data.digest)).collect(),
        }
    }
}
