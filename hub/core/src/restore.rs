//! Is the hub's store older than the fleet, or another one? Then nothing is published to the agents
//! that say so, until an operator decides.

use contract::message::DesiredHead;
use contract::{AgentId, Lineage, Term, Version};

use crate::api::{Answer, Refusal, RequestId};
use crate::compose::Waits;
use crate::core::Core;
use crate::record::{AgentRecord, Meta};
use crate::session::Hold;

/// Enough to see what it is about.
const REFUSALS_MAX: usize = 20;

/// What an agent's report says about the hub's own store.
pub fn judge(meta: &Meta, record: &AgentRecord, applied: &DesiredHead) -> Option<Hold> {
    if applied.lineage != meta.lineage {
        return Some(Hold::Lineage(applied.lineage));
    }
    let published = record.digest.is_some();
    let newer = applied.generation.0 > meta.version.0
        || applied.term > meta.term
        // This store has published to the agent, but never so much.
        || published && applied.generation > record.generation;
    let fork = applied.generation == record.generation && record.digest.is_some_and(|d| d != applied.digest);
    (newer || fork).then_some(Hold::Floor(*applied))
}

impl Core {
    /// Jump above everything the fleet has seen, and publish again.
    pub(crate) fn on_accept_restore(&mut self, request: RequestId, lineage: Option<Lineage>) {
        let compiling = self.compiling_for_held();
        if !compiling.is_empty() {
            return self.out.answer(request, Answer::Refused { errors: compiling });
        }
        if let Some(lineage) = lineage.filter(|lineage| *lineage != self.world.meta.lineage) {
            let holds = self.held().filter(|(_, hold)| *hold == Hold::Lineage(lineage)).count();
            if holds == 0 {
                let reason = format!("no agent has reported the lineage {lineage}");
                let errors = vec![Refusal { workload: None, field: "lineage".into(), reason }];
                return self.out.answer(request, Answer::Refused { errors });
            }
            self.world.meta.lineage = lineage;
        }
        let (version, term) = self.highest_reported();
        let meta = &mut self.world.meta;
        meta.version = Version(meta.version.max(version).0.saturating_add(1));
        meta.term = Term(meta.term.max(term).0.saturating_add(1));
        self.committed = true;
        self.out.meta();
        self.release();
        self.announce();
        let version = self.world.meta.version;
        self.out.answer(request, Answer::Done { version });
    }

    /// What held boards are to run and is not compiled yet: their first document would lack it, and
    /// they would stop what they run of it until the next.
    fn compiling_for_held(&self) -> Vec<Refusal> {
        let held = self.held().filter_map(|(id, _)| self.world.agents.get_key_value(id));
        let pairs = held.flat_map(|(id, agent)| agent.works.iter().map(move |key| (id, agent, key)));
        let waiting = pairs.filter_map(|(id, agent, key)| {
            let work = self.world.works.get(key)?;
            let Err(Waits::Compile(engine)) = self.world.ready(&work.template, &agent.record) else {
                return None;
            };
            let reason = format!("is still being compiled for {id} ({engine}); accept once it is");
            Some(Refusal { workload: Some(key.clone()), field: String::new(), reason })
        });
        waiting.take(REFUSALS_MAX).collect()
    }

    fn held(&self) -> impl Iterator<Item = (&AgentId, Hold)> {
        self.world.agents.iter().filter_map(|(id, agent)| Some((id, agent.session.as_ref()?.hold?)))
    }

    fn highest_reported(&self) -> (Version, Term) {
        let lineage = self.world.meta.lineage;
        let sessions = self.world.agents.values().filter_map(|agent| agent.session.as_ref()?.applied);
        sessions
            .filter(|head| head.lineage == lineage)
            .fold((Version::default(), Term::default()), |(version, term), head| {
                (version.max(Version(head.generation.0)), term.max(head.term))
            })
    }

    /// Whoever is no longer in conflict gets a document of a new generation: the one that is known
    /// as published may be the one it forked from.
    fn release(&mut self) {
        let meta = self.world.meta;
        let held: Vec<AgentId> = self.held().map(|(id, _)| id.clone()).collect();
        for id in held {
            let Some(agent) = self.world.agents.get_mut(&id) else { continue };
            let Some(session) = agent.session.as_deref_mut() else { continue };
            let Some(applied) = session.applied.filter(|head| head.lineage == meta.lineage) else { continue };
            let mut record = agent.record.clone();
            record.digest = None;
            session.hold = judge(&meta, &record, &applied);
            session.refused = None;
            agent.record = record;
            self.out.agent(&id);
            self.queues.publish(&id, true);
            self.changed_agent(&id);
        }
    }
}
