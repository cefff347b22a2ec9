//! How do decisions leave a step? One Persist with everything that changed, first; what depends on
//! it (or on an earlier one that is not durable yet) is marked `after` it.

use std::collections::BTreeSet;

use contract::{AgentId, DataId, Digest, WorkloadKey};

use crate::access::AccessKey;
use crate::api::{Answer, Effect, EffectId, Op, RequestId, Write};
use crate::record::EventRecord;
use crate::trust::TrustKey;
use crate::world::World;

#[derive(Debug, Default)]
pub struct Outbox {
    next_id: EffectId,
    /// Reserved for the Persist of this step.
    persist: EffectId,
    /// Persists that are not durable yet. They end in order, so the last says it all.
    pending: BTreeSet<EffectId>,
    touched: Touched,
    events: Vec<EventRecord>,
    events_below: Option<u64>,
    ops: Vec<(EffectId, Op, bool)>,
}

/// Whose record is written at the end of the step, once, as it is then.
#[derive(Debug, Default)]
struct Touched {
    meta: bool,
    workloads: BTreeSet<WorkloadKey>,
    placements: BTreeSet<(WorkloadKey, AgentId)>,
    agents: BTreeSet<AgentId>,
    artifacts: BTreeSet<Digest>,
    data: BTreeSet<DataId>,
    trust: BTreeSet<TrustKey>,
    access: BTreeSet<AccessKey>,
}

impl Outbox {
    pub fn begin(&mut self) {
        self.persist = self.id();
    }

    fn id(&mut self) -> EffectId {
        self.next_id += 1;
        self.next_id
    }

    pub fn meta(&mut self) {
        self.touched.meta = true;
    }

    pub fn workload(&mut self, key: &WorkloadKey) {
        self.touched.workloads.insert(key.clone());
    }

    pub fn placement(&mut self, key: &WorkloadKey, agent: &AgentId) {
        self.touched.placements.insert((key.clone(), agent.clone()));
    }

    pub fn agent(&mut self, agent: &AgentId) {
        self.touched.agents.insert(agent.clone());
    }

    pub fn artifact(&mut self, digest: Digest) {
        self.touched.artifacts.insert(digest);
    }

    pub fn data(&mut self, id: &DataId) {
        self.touched.data.insert(id.clone());
    }

    pub fn trust(&mut self, key: TrustKey) {
        self.touched.trust.insert(key);
    }

    pub fn access(&mut self, key: AccessKey) {
        self.touched.access.insert(key);
    }

    pub fn event(&mut self, record: EventRecord) {
        self.events.push(record);
    }

    pub fn events_below(&mut self, seq: u64) {
        self.events_below = Some(seq);
    }

    /// An effect that must not leave before everything decided so far is durable.
    pub fn after(&mut self, op: Op) -> EffectId {
        let id = self.id();
        self.ops.push((id, op, true));
        id
    }

    /// An effect that waits for nothing.
    pub fn now(&mut self, op: Op) -> EffectId {
        let id = self.id();
        self.ops.push((id, op, false));
        id
    }

    pub fn answer(&mut self, request: RequestId, answer: Answer) {
        self.after(Op::Answer { request, answer });
    }

    /// How much of this step's page is used up.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Placements written in this step, which bounds the size of its commit.
    pub fn placements(&self) -> usize {
        self.touched.placements.len()
    }

    /// Whether `id` was a Persist; it is forgotten.
    pub fn finished(&mut self, id: EffectId) -> bool {
        self.pending.remove(&id)
    }

    pub fn finish(&mut self, world: &World) -> Vec<Effect> {
        let writes = self.writes(world);
        let mut effects = Vec::with_capacity(self.ops.len() + 1);
        if !writes.is_empty() {
            self.pending.insert(self.persist);
            effects.push(Effect { id: self.persist, after: None, op: Op::Persist(writes) });
        }
        let durable = self.pending.last().copied();
        let ops = std::mem::take(&mut self.ops).into_iter();
        effects.extend(ops.map(|(id, op, waits)| Effect { id, after: durable.filter(|_| waits), op }));
        effects
    }

    fn writes(&mut self, world: &World) -> Vec<Write> {
        let touched = std::mem::take(&mut self.touched);
        let mut writes = Vec::new();
        if touched.meta {
            writes.push(Write::Meta(world.meta));
        }
        for key in touched.workloads {
            let record = world.works.get(&key).map(|work| Box::new((*work.record).clone()));
            writes.push(Write::Workload { key, record });
        }
        for (key, agent) in touched.placements {
            let placed = world.works.get(&key).and_then(|work| work.placed.get(&agent));
            let record = placed.map(|placed| placed.record.clone());
            writes.push(Write::Placement { key, agent, record });
        }
        for agent in touched.agents {
            let record = world.agents.get(&agent).map(|agent| Box::new(agent.record.clone()));
            writes.push(Write::Agent { agent, record });
        }
        for digest in touched.artifacts {
            let record = world.artifacts.get(&digest).map(|artifact| Box::new(artifact.clone()));
            writes.push(Write::Artifact { digest, record });
        }
        for id in touched.data {
            let record = world.data.get(&id).map(|record| Box::new(record.clone()));
            writes.push(Write::Data { id, record });
        }
        for key in touched.trust {
            let record = world.trust.record(&key).map(Box::new);
            writes.push(Write::Trust { key, record });
        }
        for key in touched.access {
            let record = world.access.record(&key).map(Box::new);
            writes.push(Write::Access { key, record });
        }
        writes.extend(self.events.drain(..).map(|event| Write::Event(Box::new(event))));
        writes.extend(self.events_below.take().map(Write::EventsBelow));
        writes
    }
}
