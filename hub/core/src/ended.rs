//! What has run to its end, and is not to be restarted, needs no room any more.

use contract::spec::RestartPolicy;
use contract::status::InstanceState;
use contract::{AgentId, WorkloadKey};

use crate::core::Core;
use crate::record::PlacementRecord;
use crate::world::{Agent, Placed, Work};

impl Core {
    /// It holds another document: what it said before may be about this one.
    pub(crate) fn note_all_ended(&mut self, id: &AgentId) {
        let works = self.world.agents.get(id).map_or(Vec::new(), |agent| agent.works.clone());
        works.iter().for_each(|key| self.note_ended(id, key));
    }

    /// An agent told something new about a workload.
    pub(crate) fn note_ended(&mut self, id: &AgentId, key: &WorkloadKey) {
        let Some((work, agent)) = self.pair(key, id) else { return };
        if work.template.run.restart_policy == RestartPolicy::Always {
            return;
        }
        let Some(placed) = work.placed.get(id).filter(|p| work.is_present(&p.record)) else { return };
        let ended = ended(work, agent, placed, !self.queues.publish.contains_key(id));
        if ended == placed.record.ended {
            return;
        }
        // Said of what is there; so it is booked, and nobody is asked whether there is room.
        let charge = work.template.price.of(placed.record.slots.len(), ended.len());
        let placed = Placed { record: PlacementRecord { ended, ..placed.record.clone() }, charge };
        self.out.placement(key, id);
        if self.world.set_placed(key, id, Some(placed)) {
            self.dirty_starving(id);
        }
        self.changes.agent(id);
    }
}

/// The slots that are at their end. One that was stays so while the agent does not say otherwise: what
/// it says between two documents is about the one before.
fn ended(work: &Work, agent: &Agent, placed: &Placed, sent: bool) -> Vec<u32> {
    let Some(session) = agent.session.as_deref() else { return placed.record.ended.clone() };
    let record = &agent.record;
    let current = sent
        && session
            .applied
            .is_some_and(|head| head.generation == record.generation && Some(head.digest) == record.digest);
    let seen = session.seen.get(&work.template.key);
    let is_ended = |slot: &u32| {
        let instance = seen.and_then(|seen| seen.instance(*slot));
        let Some(instance) = instance else { return placed.record.ended.contains(slot) };
        let over = matches!(instance.state, InstanceState::Completed | InstanceState::Failed);
        over && (instance.revision, instance.attempt) == (work.record.revision, work.record.attempt)
            && (current || placed.record.ended.contains(slot))
    };
    placed.record.slots.iter().copied().filter(is_ended).collect()
}
