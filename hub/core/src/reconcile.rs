//! Which placements follow from the workloads and the fleet? By key (workload, agent), from a dirty
//! set; looking at everything gives the same answer, only later.

use std::collections::{BTreeMap, BTreeSet};

use contract::{AgentId, WorkloadKey};

use crate::compose::Waits;
use crate::core::Core;
use crate::place::{self, Board};
use crate::record::PlacementRecord;
use crate::world::{Agent, Placed, Work};

/// What has to be looked at. The least key goes first, so that the order of events does not show.
#[derive(Debug, Default)]
pub struct Dirty {
    keys: BTreeMap<WorkloadKey, Scope>,
    /// Begun, and not through all its agents: goes on before any other, so that it does not show
    /// either where a step ended. (Room that it freed goes to the best, not to the first freed.)
    begun: Option<WorkloadKey>,
}

#[derive(Debug, Default)]
struct Scope {
    /// All agents from here on.
    from: Option<From>,
    some: BTreeSet<AgentId>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    Start,
    Above(AgentId),
}

impl Dirty {
    pub fn all(&mut self, key: &WorkloadKey) {
        self.keys.insert(key.clone(), Scope { from: Some(From::Start), some: BTreeSet::new() });
    }

    pub fn agent(&mut self, key: &WorkloadKey, agent: &AgentId) {
        let scope = self.keys.entry(key.clone()).or_default();
        if scope.from != Some(From::Start) {
            scope.some.insert(agent.clone());
        }
    }

    fn pop(&mut self) -> Option<(WorkloadKey, Scope)> {
        let begun = self.begun.take().and_then(|key| self.keys.remove_entry(&key));
        begun.or_else(|| self.keys.pop_first())
    }

    fn go_on(&mut self, key: &WorkloadKey, scope: Scope) {
        self.begun = Some(key.clone());
        self.keys.insert(key.clone(), scope);
    }

    pub fn forget(&mut self, key: &WorkloadKey) {
        self.keys.remove(key);
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Core {
    /// Everything that an agent's facts may change.
    pub(crate) fn dirty_agent(&mut self, id: &AgentId) {
        for (key, work) in &self.world.works {
            let concerned =
                work.every_agent() || work.placed.contains_key(id) || self.world.starving.contains(key);
            if concerned {
                self.queues.dirty.agent(key, id);
            }
        }
        self.queues.publish(id, false);
    }

    /// Room appeared on an agent: whoever waits for room looks again.
    pub(crate) fn dirty_starving(&mut self, id: &AgentId) {
        for key in &self.world.starving {
            let Some(work) = self.world.works.get(key) else { continue };
            if !work.every_agent() || work.unplaced.agents.contains(id) {
                self.queues.dirty.agent(key, id);
            }
        }
    }

    /// Look at dirty keys until none is left, or the step is full.
    pub(crate) fn reconcile(&mut self) {
        let mut looks = 0;
        while looks < self.config.reconcile_max && self.out.placements() < self.config.page_max {
            let Some((key, scope)) = self.queues.dirty.pop() else { return };
            let Some(work) = self.world.works.get(&key) else { continue };
            looks += match (work.every_agent(), scope.from) {
                (true, Some(from)) => self.every_from(&key, from, scope.some),
                (true, None) => self.every_some(&key, scope.some),
                (false, Some(_)) => self.replicas_all(&key),
                (false, None) => self.replicas_some(&key, &scope.some),
            };
        }
    }

    /// A chunk of all agents; the rest goes back into the dirty set.
    fn every_from(&mut self, key: &WorkloadKey, from: From, some: BTreeSet<AgentId>) -> usize {
        use std::ops::Bound;
        if from == From::Start {
            // A workload that had replicas before it was everyAgent.
            self.world.set_unplaced(key, |u| u.slots.clear());
        }
        let bound = match &from {
            From::Start => Bound::Unbounded,
            From::Above(agent) => Bound::Excluded(agent.clone()),
        };
        let all = self.world.agents.range((bound, Bound::Unbounded)).map(|(id, _)| id);
        let chunk: Vec<AgentId> = all.take(self.config.page_max).cloned().collect();
        if chunk.len() == self.config.page_max {
            let from = chunk.last().cloned().map(From::Above);
            self.queues.dirty.go_on(key, Scope { from, some });
        } else if !some.is_empty() {
            self.queues.dirty.go_on(key, Scope { from: None, some });
        }
        chunk.iter().for_each(|id| self.every_one(key, id));
        chunk.len()
    }

    fn every_some(&mut self, key: &WorkloadKey, some: BTreeSet<AgentId>) -> usize {
        let mut some = some.into_iter();
        let chunk: Vec<AgentId> = some.by_ref().take(self.config.page_max).collect();
        let rest: BTreeSet<AgentId> = some.collect();
        if !rest.is_empty() {
            self.queues.dirty.go_on(key, Scope { from: None, some: rest });
        }
        chunk.iter().for_each(|id| self.every_one(key, id));
        chunk.len()
    }

    fn every_one(&mut self, key: &WorkloadKey, id: &AgentId) {
        let Some((work, agent)) = self.pair(key, id) else { return };
        let (ask, board) = (work.ask(), self.world.board(work, id, agent));
        let place = place::every(&ask, &board);
        let unplaced = place.as_ref().is_err_and(|why| !matches!(why, place::WhyNot::Selector(_)));
        let slots = if place.is_ok() { BTreeSet::from([0]) } else { BTreeSet::new() };
        if unplaced != work.unplaced.agents.contains(id) {
            self.world.set_unplaced(key, |u| {
                if unplaced {
                    u.agents.insert(id.clone())
                } else {
                    u.agents.remove(id)
                };
            });
            self.changes.workload(key);
        }
        self.settle(key, id, slots);
    }

    fn replicas_all(&mut self, key: &WorkloadKey) -> usize {
        let Some(work) = self.world.works.get(key) else { return 0 };
        let boards: Vec<Board<'_>> =
            self.world.agents.iter().map(|(id, agent)| self.world.board(work, id, agent)).collect();
        let looks = boards.len();
        let placing = place::replicas(&work.ask(), &boards, work.replicas());
        let gone: Vec<AgentId> =
            work.placed.keys().filter(|id| !placing.slots.contains_key(*id)).cloned().collect();
        self.note_unplaced(key, placing.unplaced);
        gone.iter().for_each(|id| self.settle(key, id, BTreeSet::new()));
        for (id, slots) in placing.slots {
            self.settle(key, &id, slots);
        }
        looks
    }

    /// Only these boards changed. If none of them loses a slot, all that can follow is that they
    /// take slots which had no place.
    fn replicas_some(&mut self, key: &WorkloadKey, some: &BTreeSet<AgentId>) -> usize {
        let Some(work) = self.world.works.get(key) else { return 0 };
        let agents = some.iter().filter_map(|id| self.world.agents.get_key_value(id));
        let boards: Vec<Board<'_>> = agents.map(|(id, agent)| self.world.board(work, id, agent)).collect();
        let ask = work.ask();
        let mut slots: Vec<BTreeSet<u32>> =
            boards.iter().map(|board| place::kept(&ask, board, work.replicas())).collect();
        let before = |board: &Board<'_>| board.own.map_or(0, |(slots, _)| slots.len());
        if boards.iter().zip(&slots).any(|(board, slots)| slots.len() < before(board)) {
            return self.replicas_all(key);
        }
        let unplaced = place::fill(&ask, &boards, &mut slots, work.unplaced.slots.clone());
        let placed = boards.iter().map(|board| board.agent.clone()).zip(slots);
        let placed: Vec<(AgentId, BTreeSet<u32>)> = placed.collect();
        self.note_unplaced(key, unplaced);
        let looks = placed.len();
        for (id, slots) in placed {
            self.settle(key, &id, slots);
        }
        looks
    }

    fn note_unplaced(&mut self, key: &WorkloadKey, slots: Vec<u32>) {
        if self.world.works.get(key).is_some_and(|work| work.unplaced.slots != slots) {
            self.world.set_unplaced(key, |u| u.slots = slots);
            self.changes.workload(key);
        }
        // A workload that was everyAgent before it had replicas.
        self.world.set_unplaced(key, |u| u.agents.clear());
    }

    fn pair<'a>(&'a self, key: &WorkloadKey, id: &'a AgentId) -> Option<(&'a Work, &'a Agent)> {
        Some((self.world.works.get(key)?, self.world.agents.get(id)?))
    }

    /// Make it so: these slots of the workload on this agent, in the newest revision that is ready.
    fn settle(&mut self, key: &WorkloadKey, id: &AgentId, slots: BTreeSet<u32>) {
        let Some((work, agent)) = self.pair(key, id) else { return };
        let before = work.placed.get(id);
        if slots.is_empty() && before.is_none() {
            return;
        }
        let placed = (!slots.is_empty()).then(|| {
            let charge = work.template.price.of(slots.len());
            let (record, waits) = self.advance(work, agent, before.map(|p| &p.record), slots);
            (Placed { record, charge }, waits)
        });
        let (placed, waits) = placed.unzip();
        let (placed, waits): (Option<Placed>, Option<Waits>) = (placed, waits.flatten());
        let image = work.record.image;
        match waits {
            Some(Waits::Compile(engine)) => self.compiles.want(image, &engine),
            Some(Waits::Fetch { platform, .. }) => self.fetches.want(image, platform),
            _ => {}
        }
        let Some((work, _)) = self.pair(key, id) else { return };
        let before = work.placed.get(id);
        let same_record = before.map(|p| &p.record) == placed.as_ref().map(|p| &p.record);
        if before != placed.as_ref() {
            let ports = work.ports_on(id);
            let freed = self.world.set_placed(key, id, placed);
            let left = self.pair(key, id).map_or(BTreeSet::new(), |(work, _)| work.ports_on(id));
            if freed || !ports.is_subset(&left) {
                self.dirty_starving(id);
            }
            self.changes.agent(id);
            self.changes.workload(key);
        }
        if !same_record {
            self.out.placement(key, id);
        }
        // Even an equal record may compose differently now: labels, or newly compiled code.
        self.queues.publish(id, false);
    }

    /// The record for these slots: the present revision, unless it is not ready here and an earlier
    /// one, which the agent has, still is.
    fn advance(
        &self,
        work: &Work,
        agent: &Agent,
        before: Option<&PlacementRecord>,
        slots: BTreeSet<u32>,
    ) -> (PlacementRecord, Option<Waits>) {
        let record = &work.record;
        let wanted = PlacementRecord {
            slots,
            revision: record.revision,
            attempt: record.attempt,
            restarts: record.restarts,
        };
        let Err(waits) = self.world.ready(&work.template, &agent.record) else { return (wanted, None) };
        let earlier = before.filter(|old| old.revision != record.revision);
        let usable = earlier.filter(|old| {
            let template = work.template(old.revision);
            template.is_some_and(|t| self.world.ready(&t, &agent.record).is_ok())
        });
        let kept = usable.map(|old| PlacementRecord { slots: wanted.slots.clone(), ..old.clone() });
        (kept.unwrap_or(wanted), Some(waits))
    }
}
