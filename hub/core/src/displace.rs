//! Who makes room for a higher priority? Only lower ones, only where nothing else helps, and each is told.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use contract::message::EventKind;
use contract::{AgentId, InstanceId, WorkloadKey};

use crate::core::Core;
use crate::place::{self, Board, Lower, Plan};
use crate::world::{Agent, Work};

/// Named in the answer to an apply; the events name all.
pub const NAMED_MAX: usize = 10;

impl Core {
    /// Give slots that have no place those of lower priority, on `some` boards or on any.
    pub(crate) fn displace_for(&mut self, key: &WorkloadKey, some: Option<&BTreeSet<AgentId>>) {
        let Some(work) = self.world.works.get(key) else { return };
        if work.unplaced.slots.is_empty() || !self.world.has_lower(work.priority()) {
            return;
        }
        let plan = |id: &AgentId| Some(Reverse((self.eviction(key, id, true)?, id.clone())));
        let mut plans: BinaryHeap<Reverse<(Plan, AgentId)>> = match some {
            Some(some) => some.iter().filter_map(plan).collect(),
            None => self.world.agents.keys().filter_map(plan).collect(),
        };
        let mut left = work.unplaced.slots.clone();
        while !left.is_empty() {
            let Some(Reverse((plan, id))) = plans.pop() else { break };
            self.evict(key, &id, plan);
            let slot = left.remove(0);
            let has = self.world.works.get(key).and_then(|work| work.placed.get(&id));
            let mut slots = has.map_or(BTreeSet::new(), |placed| placed.record.slots.clone());
            slots.insert(slot);
            self.settle(key, &id, slots);
            let next = self.eviction(key, &id, true);
            plans.extend(next.map(|plan| Reverse((plan, id))));
        }
        self.note_unplaced(key, left);
    }

    /// The same for slot 0 of an `everyAgent` workload on one board.
    pub(crate) fn make_room(&mut self, key: &WorkloadKey, id: &AgentId) -> bool {
        let lower = self.world.works.get(key).is_some_and(|work| self.world.has_lower(work.priority()));
        let Some(plan) = self.eviction(key, id, false).filter(|_| lower) else { return false };
        self.evict(key, id, plan);
        true
    }

    fn eviction(&self, key: &WorkloadKey, id: &AgentId, replicas: bool) -> Option<Plan> {
        let (work, agent) = self.pair(key, id)?;
        let ports: BTreeSet<u16> = work.template.ports().iter().copied().collect();
        let lower = self.lower(work, id, agent, &ports);
        if lower.is_empty() {
            return None;
        }
        let equal = |other: &Work| other.priority() >= work.priority();
        let taken = self.world.taken(work, id, agent, equal);
        let board = Board { taken, ..self.world.board(work, id, agent) };
        let has = if replicas { board.own.map_or(0, |own| own.slots.len()) } else { 0 };
        place::evict(&work.ask(), &board, has, &lower)
    }

    fn lower<'a>(
        &'a self,
        work: &Work,
        id: &AgentId,
        agent: &'a Agent,
        ports: &BTreeSet<u16>,
    ) -> Vec<Lower<'a>> {
        let lower = agent.works.iter().filter_map(|key| {
            let other = self.world.works.get(key).filter(|other| other.priority() < work.priority())?;
            let placed = other.placed.get(id)?;
            Some(Lower {
                key,
                priority: other.priority(),
                slots: &placed.record.slots,
                ended: &placed.record.ended,
                price: other.template.price,
                charge: placed.charge,
                has_port: !ports.is_empty() && !other.ports_on(id).is_disjoint(ports),
            })
        });
        lower.collect()
    }

    fn evict(&mut self, key: &WorkloadKey, id: &AgentId, plan: Plan) {
        let priority = self.world.works.get(key).map_or(0, Work::priority);
        for (victim, slot) in plan.victims {
            let Some(work) = self.world.works.get(&victim) else { continue };
            let Some(placed) = work.placed.get(id) else { continue };
            let mut slots = placed.record.slots.clone();
            slots.remove(&slot);
            let (every, below) = (work.every_agent(), work.priority());
            self.world.set_unplaced(&victim, |unplaced| {
                if every {
                    unplaced.agents.insert(id.clone());
                } else {
                    unplaced.slots.push(slot);
                    unplaced.slots.sort_unstable();
                }
            });
            self.settle(&victim, id, slots);
            if every {
                self.queues.dirty.agent(&victim, id);
            } else {
                self.queues.dirty.all(&victim);
            }
            let instance = InstanceId { workload: victim, slot };
            let text = format!("makes room for {key}, of priority {priority} over its {below}");
            self.displaced += 1;
            if self.displaced_named.len() < NAMED_MAX {
                self.displaced_named.push(format!("{instance} on {id} {text}"));
            }
            self.instance_event(id, instance, EventKind::Evicted, text);
        }
    }
}
