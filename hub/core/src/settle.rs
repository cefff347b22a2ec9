//! How does a decision about one (workload, agent) become a record, a charge and a document?

use std::collections::BTreeSet;

use contract::{AgentId, WorkloadKey};

use crate::compose::Waits;
use crate::core::Core;
use crate::record::PlacementRecord;
use crate::world::{Agent, Placed, Work};

impl Core {
    pub(crate) fn pair<'a>(&'a self, key: &WorkloadKey, id: &'a AgentId) -> Option<(&'a Work, &'a Agent)> {
        Some((self.world.works.get(key)?, self.world.agents.get(id)?))
    }

    /// Make it so: these slots of the workload on this agent, in the newest revision that is ready.
    pub(crate) fn settle(&mut self, key: &WorkloadKey, id: &AgentId, slots: BTreeSet<u32>) {
        let Some((work, agent)) = self.pair(key, id) else { return };
        let before = work.placed.get(id);
        if slots.is_empty() && before.is_none() {
            return;
        }
        let placed = (!slots.is_empty()).then(|| {
            let n = slots.len();
            let (mut record, waits) = self.advance(work, agent, before.map(|p| &p.record), slots);
            let same = before.filter(|old| work.is_present(&old.record) && work.is_present(&record));
            let ended = same.map_or(&[][..], |old| &old.record.ended).iter().copied();
            record.ended = ended.filter(|slot| record.slots.contains(slot)).collect();
            let charge = work.template.price.of(n, record.ended.len());
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
            let (gone, every) = (placed.is_none(), work.every_agent());
            let freed = self.world.set_placed(key, id, placed);
            if gone && every {
                self.dirty_namespace(&key.namespace);
            }
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
            ended: Vec::new(),
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
