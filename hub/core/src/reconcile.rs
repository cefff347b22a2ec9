//! Which placements follow from the workloads and the fleet? By key (workload, agent), from a dirty
//! set; looking at everything gives the same answer, only later.

use std::collections::{BTreeMap, BTreeSet};

use contract::{AgentId, WorkloadKey};

use crate::access;
use crate::core::Core;
use crate::dirty::{From, Scope};
use crate::place::{self, Board, Groups};
use crate::world::{Agent, Work};

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

    /// Somebody may yield now who did not before.
    pub(crate) fn dirty_all_starving(&mut self) {
        for key in &self.world.starving {
            self.queues.dirty.all(key);
        }
    }

    /// Look at dirty keys until none is left, or the step is full.
    pub(crate) fn reconcile(&mut self) {
        let mut looks = 0;
        while looks < self.config.reconcile_max && self.out.placements() < self.config.page_max {
            let Some((key, scope)) = self.queues.dirty.pop() else { return };
            let Some(work) = self.world.works.get(&key) else { continue };
            if work.moving {
                // Something may have become of the room that a drained slot waits for.
                self.changes.workload(&key);
            }
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
        let was_here = work.placed.contains_key(id);
        let mut why = place::every(&ask, &board).err();
        if !was_here && why.as_ref().is_none_or(place::WhyNot::is_of_room) {
            // Nobody yields for what its namespace has no room for.
            why = access::no_room(&self.world, work).map(place::WhyNot::Quota).or(why);
        }
        let of_room = why.as_ref().is_some_and(place::WhyNot::is_of_room);
        let meant = why.as_ref().is_none_or(|why| !why.is_not_meant());
        let is_here = why.is_none() || of_room && self.make_room(key, id);
        let unplaced = meant && !is_here;
        let slots = if is_here { BTreeSet::from([0]) } else { BTreeSet::new() };
        let Some((work, _)) = self.pair(key, id) else { return };
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
        let (replicas, ask) = (work.replicas(), work.ask());
        let mut taken = BTreeSet::new();
        let mut slots: BTreeMap<AgentId, BTreeSet<u32>> = BTreeMap::new();
        for id in work.placed.keys() {
            let Some(agent) = self.world.agents.get(id) else { continue };
            let mut kept = place::kept(&ask, &self.world.board(work, id, agent), replicas);
            kept.retain(|slot| taken.insert(*slot));
            slots.insert(id.clone(), kept);
        }
        let wanted: Vec<u32> = (0..replicas).filter(|slot| !taken.contains(slot)).collect();
        let mut looks = slots.len() + 1;
        let left = match self.emptiest(work, &slots, wanted.len()) {
            Some(ids) => {
                for (id, slot) in ids.into_iter().zip(wanted) {
                    slots.entry(id).or_default().insert(slot);
                }
                Vec::new()
            }
            None => {
                looks += self.world.agents.len();
                self.among_all(work, &mut slots, wanted)
            }
        };
        for (id, slots) in slots {
            self.settle(key, &id, slots);
        }
        self.note_unplaced(key, left);
        self.displace_for(key, None);
        looks
    }

    /// The boards for so many slots, where none of the fleet need be compared with another: the first
    /// that take one, from the emptiest up. What `fill` would choose, without looking at every board.
    fn emptiest(
        &self,
        work: &Work,
        kept: &BTreeMap<AgentId, BTreeSet<u32>>,
        n: usize,
    ) -> Option<Vec<AgentId>> {
        let ask = work.ask();
        if n > 0 && (ask.has_taste() || kept.values().any(BTreeSet::is_empty)) {
            return None;
        }
        let boards = self.world.by_load.iter().filter_map(|(_, id)| self.world.agents.get_key_value(id));
        let ready = boards.filter(|(id, agent)| place::takes_first(&ask, &self.world.board(work, id, agent)));
        let found: Vec<AgentId> = ready.take(n).map(|(id, _)| id.clone()).collect();
        (found.len() == n).then_some(found)
    }

    /// Hand slots out over the whole fleet. Returns those that have no place.
    fn among_all(
        &self,
        work: &Work,
        slots: &mut BTreeMap<AgentId, BTreeSet<u32>>,
        wanted: Vec<u32>,
    ) -> Vec<u32> {
        let ask = work.ask();
        let boards: Vec<Board<'_>> =
            self.world.agents.iter().map(|(id, agent)| self.world.board(work, id, agent)).collect();
        let has: Vec<usize> = boards.iter().map(|b| slots.get(b.agent).map_or(0, BTreeSet::len)).collect();
        let groups = self.groups(work, |id| slots.get(id).map_or(0, BTreeSet::len));
        let placing = place::fill(&ask, &boards, &has, &groups, wanted);
        for (n, slot) in placing.given {
            slots.entry(boards[n].agent.clone()).or_default().insert(slot);
        }
        placing.left
    }

    /// Slots by group, where each placed board has so many.
    fn groups(&self, work: &Work, has: impl Fn(&AgentId) -> usize) -> Groups {
        let mut groups = Groups::default();
        let spread = work.ask().spread();
        for id in work.placed.keys() {
            if let Some(agent) = self.world.agents.get(id) {
                groups.add(place::group(spread, &agent.record), has(id));
            }
        }
        groups
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
        let before = |board: &Board<'_>| board.own.map_or(0, |own| own.slots.len());
        if boards.iter().zip(&slots).any(|(board, slots)| slots.len() < before(board)) {
            return self.replicas_all(key);
        }
        let has: Vec<usize> = slots.iter().map(BTreeSet::len).collect();
        let groups = self.groups(work, |id| work.placed.get(id).map_or(0, |p| p.record.slots.len()));
        let placing = place::fill(&ask, &boards, &has, &groups, work.unplaced.slots.clone());
        for (n, slot) in placing.given {
            slots[n].insert(slot);
        }
        let placed = boards.iter().map(|board| board.agent.clone()).zip(slots);
        let placed: Vec<(AgentId, BTreeSet<u32>)> = placed.collect();
        let looks = placed.len();
        for (id, slots) in placed {
            self.settle(key, &id, slots);
        }
        self.note_unplaced(key, placing.left);
        self.displace_for(key, Some(some));
        looks
    }

    pub(crate) fn note_unplaced(&mut self, key: &WorkloadKey, slots: Vec<u32>) {
        if self.world.works.get(key).is_some_and(|work| work.unplaced.slots != slots) {
            self.world.set_unplaced(key, |u| u.slots = slots);
            self.changes.workload(key);
        }
        // A workload that was everyAgent before it had replicas.
        self.world.set_unplaced(key, |u| u.agents.clear());
    }

    /// A place for one slot that leaves `from`, if there is one.
    pub(crate) fn place_for(&self, work: &Work, from: &AgentId) -> Option<AgentId> {
        let ask = work.ask();
        if !ask.has_taste() {
            let mut boards =
                self.world.by_load.iter().filter_map(|(_, id)| self.world.agents.get_key_value(id));
            let first = |(id, agent): &(&AgentId, &Agent)| {
                place::takes_first(&ask, &self.world.board(work, id, agent))
            };
            if let Some((id, _)) = boards.find(first) {
                return Some(id.clone());
            }
        }
        let others = self.world.agents.iter().filter(|(id, _)| *id != from);
        let boards: Vec<Board<'_>> = others.map(|(id, agent)| self.world.board(work, id, agent)).collect();
        let has: Vec<usize> = boards.iter().map(|b| b.own.map_or(0, |own| own.slots.len())).collect();
        let count = |id: &AgentId| work.placed.get(id).map_or(0, |p| p.record.slots.len());
        let groups = self.groups(work, |id| count(id) - usize::from(id == from));
        let given = place::fill(&ask, &boards, &has, &groups, vec![0]).given;
        given.first().map(|(n, _)| boards[*n].agent.clone())
    }
}
