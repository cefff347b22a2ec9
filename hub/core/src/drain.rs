//! How is an agent emptied? Replicas move one by one, as far as their workload's disruption budget allows
//! and where another agent has room; `everyAgent` workloads stop when nothing else has to leave first. What
//! it waits for is said. At the deadline it waits for nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use contract::status::InstanceState;
use contract::taint::{DRAINING, TaintEffect};
use contract::time::{Millis, Now};
use contract::{AgentId, InstanceId, WorkloadKey};

use crate::core::Core;
use crate::place;
use crate::world::{Agent, Work};

#[derive(Debug, Default)]
pub struct Drains(BTreeMap<AgentId, Deadline>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deadline {
    None,
    /// On the hub's clock.
    At(Millis),
    Over,
}

/// What becomes of a slot on an agent that is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Move(AgentId),
    /// It has no place, and its time is over.
    Drop,
    Wait(Waits),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// So many of its workload are down, and no more may be: one of them.
    Budget {
        max: u32,
        down: InstanceId,
    },
    Room,
    /// `everyAgent`: what has to leave before it.
    Others,
}

/// Without a budget of its own a workload gives one instance at a time.
const UNAVAILABLE_MAX: u32 = 1;

impl Drains {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn next(&self) -> Option<Millis> {
        let times = self.0.values().filter_map(|deadline| match deadline {
            Deadline::At(at) => Some(*at),
            _ => None,
        });
        times.min()
    }

    pub fn forget(&mut self, id: &AgentId) {
        self.0.remove(id);
    }

    fn is_over(&self, id: &AgentId) -> bool {
        self.0.get(id) == Some(&Deadline::Over)
    }
}

/// How much of a workload is down, by group.
struct Down {
    max: u32,
    by_group: BTreeMap<Option<String>, (u32, InstanceId)>,
}

impl Core {
    /// The agent's record says whether it is drained, and by when.
    pub(crate) fn watch_drain(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.world.agents.get(id) else { return self.drains.forget(id) };
        let Some(drain) = agent.record.operator.as_ref().and_then(|o| o.drain) else {
            return self.drains.forget(id);
        };
        let gone = match (drain.since_wall_ms, now.wall_ms) {
            (Some(since), Some(wall)) => wall.saturating_sub(since),
            // Nobody knows how long it has been; then all of it lies ahead.
            _ => 0,
        };
        let left = drain.deadline_ms.map(|ms| now.boot_ms.saturating_add(ms.saturating_sub(gone)));
        self.drains.0.insert(id.clone(), left.map_or(Deadline::None, Deadline::At));
        self.look_at_works(id);
    }

    fn look_at_works(&mut self, id: &AgentId) {
        if let Some(agent) = self.world.agents.get(id) {
            agent.works.iter().for_each(|key| self.changes.workload(key));
        }
        self.changes.agent(id);
    }

    pub(crate) fn end_drain_waits(&mut self, now: Now) {
        let due = |deadline: &Deadline| matches!(deadline, Deadline::At(at) if *at <= now.boot_ms);
        let over: Vec<AgentId> =
            self.drains.0.iter().filter(|(_, deadline)| due(deadline)).map(|(id, _)| id.clone()).collect();
        for id in over {
            self.drains.0.insert(id.clone(), Deadline::Over);
            self.look_at_works(&id);
        }
    }

    /// Workloads that look different than before may free a slot, or a place for one.
    pub(crate) fn pump_drains(&mut self) {
        let moved = self.changes.take_moved();
        if self.drains.is_empty() {
            return;
        }
        for key in moved {
            self.drain_work(&key);
        }
    }

    fn drain_work(&mut self, key: &WorkloadKey) {
        let Some(work) = self.world.works.get(key) else { return };
        let from: Vec<AgentId> =
            self.drains.0.keys().filter(|id| work.placed.contains_key(*id)).cloned().collect();
        let mut stuck = false;
        if !from.is_empty() && leaves(work) {
            let mut down = self.down(key, work);
            for id in &from {
                stuck |= self.drain_from(key, id, &mut down);
            }
        }
        self.world.set_moving(key, stuck);
    }

    /// Returns whether something waits for room.
    fn drain_from(&mut self, key: &WorkloadKey, id: &AgentId, down: &mut Down) -> bool {
        let placed = self.world.works.get(key).and_then(|work| work.placed.get(id));
        let Some(slots) = placed.map(|placed| placed.record.slots.clone()) else { return false };
        let mut stuck = false;
        for slot in slots {
            let step = self.drain_step(key, id, slot, down);
            if let Step::Wait(waits) = &step {
                stuck |= *waits == Waits::Room;
                continue;
            }
            let to = if let Step::Move(to) = step { Some(to) } else { None };
            self.note_down(key, id, to.as_ref(), slot, down);
            self.move_slot(key, id, slot, to);
            // What has to stop last looks again.
            self.look_at_works(id);
        }
        stuck
    }

    fn drain_step(&self, key: &WorkloadKey, id: &AgentId, slot: u32, down: &Down) -> Step {
        let Some((work, agent)) = self.pair(key, id) else { return Step::Drop };
        let over = self.drains.is_over(id);
        if work.every_agent() {
            let first = |other: &&WorkloadKey| {
                self.world.works.get(other).is_some_and(|work| !work.every_agent() && leaves(work))
            };
            let waits = !over && agent.works.iter().any(|other| first(&other));
            return if waits { Step::Wait(Waits::Others) } else { Step::Drop };
        }
        if !over && !self.is_surely_down(key, agent, slot) {
            let group = down.group(work, agent);
            if let Some((n, instance)) = down.by_group.get(&group)
                && *n >= down.max
            {
                return Step::Wait(Waits::Budget { max: down.max, down: instance.clone() });
            }
        }
        match self.place_for(work, id) {
            Some(to) => Step::Move(to),
            None if over => Step::Drop,
            None => Step::Wait(Waits::Room),
        }
    }

    /// It does nothing where it is, so that it loses nothing by leaving. What is not known to be so (after
    /// the hub's own start, say) counts as up.
    fn is_surely_down(&self, key: &WorkloadKey, agent: &Agent, slot: u32) -> bool {
        let Some(session) = agent.session.as_deref().filter(|_| self.world.bus_up) else { return false };
        !session.online || self.world.is_fresh(agent) && !self.is_up(key, agent, slot)
    }

    /// Known to serve, in whatever revision, or to have done what it was for.
    fn is_up(&self, key: &WorkloadKey, agent: &Agent, slot: u32) -> bool {
        let session = agent.session.as_deref().filter(|_| self.world.is_fresh(agent));
        let instance = session.and_then(|session| session.seen.get(key)?.instance(slot));
        instance.is_some_and(|i| i.healthy || i.state == InstanceState::Completed)
    }

    fn down(&self, key: &WorkloadKey, work: &Work) -> Down {
        let budget = work.record.manifest.spec.rollout.as_ref().and_then(|r| r.disruption.as_ref());
        let max = budget.and_then(|b| b.max_unavailable).unwrap_or(UNAVAILABLE_MAX);
        let mut down = Down { max, by_group: BTreeMap::new() };
        if budget.is_none_or(|b| b.group_by.is_none()) {
            for slot in &work.unplaced.slots {
                down.note(None, InstanceId { workload: key.clone(), slot: *slot });
            }
        }
        for (id, placed) in &work.placed {
            let Some(agent) = self.world.agents.get(id) else { continue };
            for slot in &placed.record.slots {
                if !self.is_up(key, agent, *slot) {
                    let group = down.group(work, agent);
                    down.note(group, InstanceId { workload: key.clone(), slot: *slot });
                }
            }
        }
        down
    }

    /// A slot that moves is down until it is healthy in its new place.
    fn note_down(&self, key: &WorkloadKey, id: &AgentId, to: Option<&AgentId>, slot: u32, down: &mut Down) {
        let Some(work) = self.world.works.get(key) else { return };
        let agents = [Some(id), to].into_iter().flatten().filter_map(|id| self.world.agents.get(id));
        let groups: BTreeSet<Option<String>> = agents.map(|agent| down.group(work, agent)).collect();
        for group in groups {
            down.note(group, InstanceId { workload: key.clone(), slot });
        }
    }

    fn move_slot(&mut self, key: &WorkloadKey, id: &AgentId, slot: u32, to: Option<AgentId>) {
        let slots_on = |core: &Core, id: &AgentId| {
            let placed = core.world.works.get(key).and_then(|work| work.placed.get(id));
            placed.map_or(BTreeSet::new(), |placed| placed.record.slots.clone())
        };
        let every = self.world.works.get(key).is_some_and(Work::every_agent);
        let mut left = slots_on(self, id);
        left.remove(&slot);
        self.settle(key, id, left);
        match to {
            Some(to) => {
                let mut slots = slots_on(self, &to);
                slots.insert(slot);
                self.settle(key, &to, slots);
            }
            None if !every => {
                let mut left = self.world.works.get(key).map_or(Vec::new(), |w| w.unplaced.slots.clone());
                left.push(slot);
                left.sort_unstable();
                self.note_unplaced(key, left);
                self.queues.dirty.all(key);
            }
            None => {}
        }
    }

    /// What must still leave an agent that is drained, and what each waits for.
    pub(crate) fn drain_waits(&self, id: &AgentId, agent: &Agent) -> Vec<(InstanceId, Option<Waits>)> {
        let mut waits = Vec::new();
        for key in &agent.works {
            let Some(work) = self.world.works.get(key).filter(|work| leaves(work)) else { continue };
            let Some(placed) = work.placed.get(id) else { continue };
            let down = self.down(key, work);
            for slot in &placed.record.slots {
                let step = self.drain_step(key, id, *slot, &down);
                let wait = if let Step::Wait(wait) = step { Some(wait) } else { None };
                waits.push((InstanceId { workload: key.clone(), slot: *slot }, wait));
            }
        }
        waits
    }

    /// Until it is drained by force.
    pub(crate) fn drain_left_ms(&self, now: Now, id: &AgentId) -> Option<Millis> {
        match self.drains.0.get(id)? {
            Deadline::At(at) => Some(at.saturating_sub(now.boot_ms)),
            Deadline::Over => Some(0),
            Deadline::None => None,
        }
    }
}

/// Whether a drain is for it.
fn leaves(work: &Work) -> bool {
    !work.ask().tolerates(DRAINING, "", TaintEffect::NoExecute)
}

impl Down {
    fn group(&self, work: &Work, agent: &Agent) -> Option<String> {
        let budget = work.record.manifest.spec.rollout.as_ref().and_then(|r| r.disruption.as_ref());
        place::group(budget.and_then(|b| b.group_by.as_deref()), &agent.record).map(str::to_string)
    }

    fn note(&mut self, group: Option<String>, instance: InstanceId) {
        self.by_group.entry(group).or_insert((0, instance)).0 += 1;
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Waits::Budget { max, down } => write!(f, "waits for {down}: at most {max} may be down at once"),
            Waits::Room => f.write_str("waits for another agent with room for it"),
            Waits::Others => f.write_str("stops when the others have left"),
        }
    }
}
