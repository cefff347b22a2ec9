//! What happened, oldest first.

use contract::message::EventKind;
use contract::time::Millis;
use contract::{AgentId, InstanceId, Name, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::access::rights::Many;
use crate::core::Core;
use crate::record::EventRecord;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    pub seq: u64,
    /// The board's own clock if it has one, else when the hub heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    pub kind: EventKind,
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub workload: Option<WorkloadKey>,
    pub agent: Option<AgentId>,
    /// Of workloads, those in these namespaces; all when absent.
    pub within: Option<Many<Name>>,
}

impl EventFilter {
    fn wants(&self, event: &EventRecord) -> bool {
        let namespace = event.workload.as_ref().map(|key| &key.namespace);
        let within = |within: &Many<Name>| namespace.is_none_or(|namespace| within.has(namespace));
        self.within.as_ref().is_none_or(within)
            && (self.workload.is_none() || self.workload == event.workload)
            && (self.agent.is_none() || self.agent == event.agent)
    }
}

impl Core {
    /// With `after`: the oldest `limit` above it, to read on. Without: the newest `limit`.
    pub fn events(&self, after: Option<u64>, limit: usize, filter: &EventFilter) -> Vec<EventView> {
        let wanted = self.log.after(after.unwrap_or(0)).filter(|event| filter.wants(event));
        let mut events: Vec<&EventRecord> = match after {
            Some(_) => wanted.take(limit).collect(),
            None => wanted.rev().take(limit).collect(),
        };
        if after.is_none() {
            events.reverse();
        }
        events.into_iter().map(view).collect()
    }

    pub fn event(&self, seq: u64) -> Option<EventView> {
        self.log.after(seq.checked_sub(1)?).next().filter(|event| event.seq == seq).map(view)
    }

    /// The number of the newest event; 0 when there is none.
    pub fn newest_event(&self) -> u64 {
        self.log.newest()
    }
}

fn view(record: &EventRecord) -> EventView {
    EventView {
        seq: record.seq,
        wall_ms: record.event.wall_ms.or(record.wall_ms),
        agent: record.agent.clone(),
        workload: record.workload.clone(),
        instance: record.event.instance.clone(),
        kind: record.event.kind,
        text: record.event.text.clone(),
    }
}
