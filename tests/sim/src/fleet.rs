//! What do operators do with boards, and what must hold of it? Taints, cordons, drains, labels, priorities
//! and boards that are too small for all. From a stream of chance of its own: the other worlds stay as they
//! are.

use std::collections::{BTreeMap, BTreeSet};

use contract::spec::{RestartPolicy, Workload};
use contract::time::Millis;
use contract::{AgentId, WorkloadKey};
use hub_core::api::{Request, Write};
use hub_core::fleet::{AgentChange, Drain, Nothing, Untaint};
use hub_core::record::PlacementRecord;
use hub_core::view::{AgentView, DrainState};

use crate::mutant::Mutant;
use crate::rng::Rng;
use crate::world::{Ev, World};

/// Every drain has an end, well before a healed world has to be at rest.
const DEADLINE_MS: Millis = 600_000;
/// What a workload of these worlds takes.
const MEMORY: u64 = contract::run::ResourceLimits::DEFAULT.memory_bytes;

/// Of a board that is too small for everything; twins are alike.
pub fn small(agent: &AgentId) -> u64 {
    let n: u64 = agent.as_str().bytes().map(u64::from).sum();
    MEMORY * (2 + n % 4)
}

impl World {
    /// One act, and the next one's time.
    pub fn tend_fleet(&mut self) {
        if self.healed {
            return;
        }
        let n = self.fleet_rng.index(self.boards.len());
        let agent = self.boards[n].agent.clone();
        let known = self.hub.disk.agents.contains_key(&agent);
        if let Some(change) = some_change(&mut self.fleet_rng).filter(|_| known) {
            self.request(Request::ChangeAgents { agents: vec![agent], change });
        }
        let wait = self.fleet_rng.range(1_000, self.plan.pause_ms);
        self.after(wait, Ev::Tend);
    }

    /// Priorities, where there is too little room for all.
    pub fn rank(&mut self, workload: &mut Workload) {
        if self.plan.tight && self.fleet_rng.chance(600) {
            workload.spec.priority = Some(self.fleet_rng.below(4) as i32 - 1);
        }
    }

    /// Whether it may move what runs: a cordon and most taints must not.
    pub fn moves_work(&self, request: &Request) -> bool {
        let Request::ChangeAgents { change, .. } = request else { return true };
        match change {
            AgentChange::Cordon(_) => false,
            AgentChange::Taint(taints) => taints.iter().any(|t| t.effect == contract::TaintEffect::NoExecute),
            _ => true,
        }
    }

    // --- what must hold ---

    /// It leaves a board that is drained, or makes room there for something of a higher priority.
    pub fn is_sent_away(&self, key: &WorkloadKey, agent: &AgentId, writes: &[Write]) -> bool {
        let drained = self.hub.disk.agents.get(agent).is_some_and(|record| record.is_draining());
        let priority = |key: &WorkloadKey| {
            let record = self.hub.disk.workloads.get(key);
            record.map_or(0, |record| record.manifest.spec.priority.unwrap_or(0))
        };
        let above = |write: &Write| match write {
            Write::Placement { key: other, agent: at, record: Some(_) } => {
                at == agent && priority(other) > priority(key)
            }
            _ => false,
        };
        drained || writes.iter().any(above)
    }

    /// The boards that are to run something more than before these writes. (What had run to its end and
    /// runs again, because its board says so, may stay: nobody asked the hub.)
    pub fn newly_given(&self, writes: &[Write]) -> BTreeSet<AgentId> {
        let live = |record: &PlacementRecord| -> BTreeSet<u32> {
            record.slots.iter().filter(|slot| !record.ended.contains(slot)).copied().collect()
        };
        let given = writes.iter().filter_map(|write| match write {
            Write::Placement { key, agent, record: Some(record) } => {
                let before = self.hub.disk.placements.get(&(key.clone(), agent.clone()));
                let before = before.map(live).unwrap_or_default();
                (!live(record).is_subset(&before)).then(|| agent.clone())
            }
            _ => None,
        });
        given.collect()
    }

    /// What is durable fits: no board is given more than it has. (What may have run to its end needs
    /// nothing any more, and only its board knows whether it has.)
    pub fn check_capacity(&mut self, given: &BTreeSet<AgentId>) {
        if !self.plan.tight {
            return;
        }
        let mut full: BTreeMap<&AgentId, u64> = given.iter().map(|agent| (agent, 0)).collect();
        for ((key, agent), placed) in &self.hub.disk.placements {
            let stays = self.hub.disk.workloads.get(key).is_some_and(|record| {
                record.manifest.spec.restart_policy.unwrap_or_default() == RestartPolicy::Always
            });
            if let Some(sum) = full.get_mut(agent).filter(|_| stays) {
                *sum += placed.slots.len() as u64 * MEMORY;
            }
        }
        let over = full.into_iter().find(|(agent, sum)| *sum > small(agent));
        let over = over.map(|(agent, sum)| (agent.clone(), sum));
        self.demand(over.is_none(), "placed_within_capacity", || format!("{over:?} bytes are given"));
    }

    pub fn drain_has_ended(&self, view: &AgentView) -> Result<(), String> {
        match &view.drain {
            Some(drain) if drain.state != DrainState::Drained => {
                Err(format!("its drain has not ended: {drain:?}"))
            }
            _ => Ok(()),
        }
    }

    // --- planted bugs ---

    /// What reaches the hub; the world knows what was meant.
    pub fn tamper_with_request(&self, request: Request) -> Request {
        let Request::ChangeAgents { agents, change } = request else { return request };
        let change = match change {
            AgentChange::Taint(mut taints) if self.is_mutant(Mutant::TaintSendsAway) => {
                taints.iter_mut().for_each(|taint| taint.effect = contract::TaintEffect::NoExecute);
                AgentChange::Taint(taints)
            }
            same => same,
        };
        Request::ChangeAgents { agents, change }
    }
}

fn some_change(rng: &mut Rng) -> Option<AgentChange> {
    let taint =
        |effect: &str| AgentChange::Taint(vec![format!("old:{effect}").parse().expect("a legal taint")]);
    Some(match rng.below(10) {
        0 => AgentChange::Cordon(Nothing {}),
        1 | 2 => AgentChange::Uncordon(Nothing {}),
        3 => taint("NoSchedule"),
        4 => taint("NoExecute"),
        5 => taint("PreferNoSchedule"),
        6 => AgentChange::Untaint(vec![Untaint { key: "old".into(), effect: None }]),
        7 => {
            let value = ["a", "b"][rng.index(2)].to_string();
            let value = rng.chance(500).then_some(value);
            AgentChange::Label(BTreeMap::from([("line".to_string(), value)]))
        }
        _ => AgentChange::Drain(Drain { deadline_ms: Some(rng.range(10_000, DEADLINE_MS)) }),
    })
}
