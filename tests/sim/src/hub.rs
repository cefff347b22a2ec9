//! How does a shell treat the hub's core? As the agent's is treated: ordered commits, `after`, one end
//! for each effect. Its store can be restored from an old copy, or deleted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use contract::message::{Desired, FromAgent, Observed, ObservedBody};
use contract::time::{Millis, Now};
use contract::{AgentId, DataId, Digest, Lineage, WorkloadKey};
use hub_core::api::{Answer, Effect, EffectId, Event, HubFacts, Op, Outcome, Request, Write};
use hub_core::record::{
    AgentRecord, ArtifactRecord, DataRecord, EventRecord, Meta, PlacementRecord, WorkloadRecord,
};
use hub_core::view::AgentState;
use hub_core::{Config, Core};

use crate::board::ENGINE;
use crate::broker::Down;
use crate::mutant::Mutant;
use crate::runtime::Behaviour;
use crate::world::{Ev, World};

#[derive(Debug, Clone, Default)]
pub struct Store {
    pub meta: Option<Meta>,
    pub workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    pub placements: BTreeMap<(WorkloadKey, AgentId), PlacementRecord>,
    pub agents: BTreeMap<AgentId, AgentRecord>,
    pub artifacts: BTreeMap<Digest, ArtifactRecord>,
    pub data: BTreeMap<DataId, DataRecord>,
    pub events: BTreeMap<u64, EventRecord>,
}

#[derive(Default)]
pub struct Hub {
    pub core: Option<Core>,
    pub life: u64,
    pub disk: Store,
    pub copies: Vec<Store>,
    persists: VecDeque<(EffectId, Vec<Write>)>,
    durable: EffectId,
    held: Vec<Effect>,
    pub bus: bool,
    pub bus_session: u64,
    woken_at: Option<Millis>,
    pub stalled_until: Millis,
    requests: u64,
    window: (Millis, u32),
    pub commits: u64,
}

/// Effects of the hub in ten seconds, for twenty agents.
const EFFECTS_MAX: u32 = 40_000;

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl Store {
    fn write(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Meta(meta) => self.meta = Some(meta),
                Write::Workload { key, record } => put(&mut self.workloads, key, record.map(|r| *r)),
                Write::Placement { key, agent, record } => put(&mut self.placements, (key, agent), record),
                Write::Agent { agent, record } => put(&mut self.agents, agent, record.map(|r| *r)),
                Write::Artifact { digest, record } => put(&mut self.artifacts, digest, record.map(|r| *r)),
                Write::Data { id, record } => put(&mut self.data, id, record.map(|r| *r)),
                // No board joins here: who may speak is decided before what is said.
                Write::Trust { .. } => {}
                // Nor is anybody asked who asks.
                Write::Access { .. } => {}
                Write::Event(event) => drop(self.events.insert(event.seq, *event)),
                Write::EventsBelow(seq) => self.events.retain(|s, _| *s >= seq),
            }
        }
    }
}

impl World {
    pub fn hub_now(&self) -> Now {
        Now { boot_ms: self.now + 1_000, wall_ms: Some(1_790_000_000_000 + self.now) }
    }

    // --- births and deaths ---

    pub fn hub_starts(&mut self) {
        if self.hub.core.is_some() {
            return;
        }
        let (lineage, nonce_seed) = (Lineage(self.rng.bytes16()), self.rng.bytes16());
        let disk = &self.hub.disk;
        let facts = HubFacts {
            meta: disk.meta,
            lineage,
            nonce_seed,
            workloads: disk.workloads.clone(),
            placements: disk.placements.clone(),
            agents: disk.agents.clone(),
            artifacts: disk.artifacts.clone(),
            data: disk.data.clone(),
            trust: Default::default(),
            access: Default::default(),
            events: disk.events.values().cloned().collect(),
            engines: vec![ENGINE.into()],
            artifacts_url: "http://hub:8080".into(),
            heartbeat_ms: self.plan.heartbeat_ms,
            announce_window_ms: 30_000,
        };
        self.hub.life += 1;
        (self.hub.persists, self.hub.held) = Default::default();
        (self.hub.durable, self.hub.woken_at) = (0, None);
        self.hub.core = Some(Core::new(Config::default()));
        self.trace(|| "the hub starts".into());
        self.truth.hub_begins(&self.hub.disk.agents);
        self.hub_step(Event::Boot(Box::new(facts)));
        self.check_nothing_acknowledged_is_lost();
        if self.plan.broker.embedded {
            self.broker_starts();
        } else {
            let (life, wait) = (self.hub.life, self.rng.range(20, 2_000));
            self.after(wait, Ev::BusUp { life });
        }
    }

    /// The process ends; its last commit is fully there, or not at all.
    pub fn hub_dies(&mut self) {
        if self.hub.core.take().is_none() {
            return;
        }
        self.trace(|| "the hub died".into());
        if let Some((_, writes)) = self.hub.persists.pop_front()
            && self.rng.chance(500)
        {
            self.hub.disk.write(writes);
        }
        self.hub.bus = false;
        self.hub.bus_session += 1;
        self.operator.pending.clear();
        self.truth.hub_died();
        if self.plan.broker.embedded {
            self.broker_dies();
        }
    }

    pub fn bus_up(&mut self, life: u64) {
        if self.hub.life != life || self.hub.core.is_none() || self.hub.bus || !self.broker.up {
            return;
        }
        self.hub.bus = true;
        self.hub.bus_session += 1;
        self.trace(|| "the hub's bus is up".into());
        self.hub_step(Event::BusUp);
        self.hand_out_to_hub();
    }

    pub fn bus_lost(&mut self, reason: &str) {
        if std::mem::take(&mut self.hub.bus) {
            self.hub.bus_session += 1;
            self.trace(|| "the hub's bus is down".into());
            self.hub_step(Event::BusDown { reason: reason.into() });
        }
    }

    // --- the loop ---

    pub fn hub_wakes(&mut self, life: u64, at: Millis) {
        if self.hub.life != life || self.hub.woken_at != Some(at) {
            return;
        }
        self.hub.woken_at = None;
        let now = self.hub_now().boot_ms;
        let due = self.hub.core.as_ref().and_then(Core::next_wake).is_some_and(|at| at <= now);
        if due {
            self.hub_step(Event::Wake);
        } else {
            self.set_hub_alarm();
        }
    }

    pub fn hub_effect_ends(&mut self, life: u64, id: EffectId, outcome: Outcome) {
        if self.hub.life == life {
            self.hub_step(Event::Finished { id, outcome });
        }
    }

    pub fn hub_step(&mut self, event: Event) {
        if self.failure.is_some() {
            return;
        }
        let now = self.hub_now();
        let Some(core) = &mut self.hub.core else { return };
        let effects = core.step(now, event);
        if self.now - self.hub.window.0 > 10_000 {
            self.hub.window = (self.now, 0);
        }
        self.hub.window.1 += effects.len() as u32;
        let count = self.hub.window.1;
        self.demand(count < EFFECTS_MAX, "no_busy_loop", || format!("hub: {count} effects in ten seconds"));
        let life = self.hub.life;
        for effect in effects {
            self.check_hub_decision(&effect);
            let early = self.is_mutant(Mutant::AnswerBeforePersist) && matches!(effect.op, Op::Answer { .. });
            if early || effect.after.is_none_or(|k| k <= self.hub.durable) {
                self.hub_performs(life, effect);
            } else {
                self.hub.held.push(effect);
            }
        }
        self.set_hub_alarm();
        self.note_quiet();
    }

    /// Nothing is left over of what may have moved work.
    fn note_quiet(&mut self) {
        let now = self.hub_now().boot_ms;
        let next = self.hub.core.as_ref().and_then(Core::next_wake);
        if self.hub_is_idle() && next.is_none_or(|at| at > now) {
            self.truth.hub_is_quiet();
        }
    }

    fn set_hub_alarm(&mut self) {
        let boot = self.hub_now().boot_ms;
        let at = self.hub.core.as_ref().and_then(Core::next_wake);
        let at = at.map(|at| self.now + at.saturating_sub(boot));
        if at != self.hub.woken_at {
            self.hub.woken_at = at;
            let life = self.hub.life;
            if let Some(at) = at {
                self.at(at, Ev::HubWakes { life, at });
            }
        }
    }

    // --- the store ---

    fn hub_sync(&mut self, life: u64) {
        let wait = self.rng.range(1, self.plan.sync_ms.max(2));
        let at = (self.now + wait).max(self.hub.stalled_until);
        self.at(at, Ev::HubPersists { life });
    }

    pub fn hub_persists(&mut self, life: u64) {
        if self.hub.life != life || self.hub.core.is_none() {
            return;
        }
        let Some((id, writes)) = self.hub.persists.pop_front() else { return };
        if self.rng.chance(self.plan.sync_faults) {
            self.trace(|| "the hub's store fails".into());
            if self.rng.chance(500) {
                self.hub.disk.write(writes);
            }
            self.hub.persists.clear();
            self.hub_step(Event::Finished { id, outcome: Outcome::Fault("the disk is broken".into()) });
            self.hub_dies();
            let wait = self.rng.range(200, 5_000);
            return self.after(wait, Ev::HubStarts);
        }
        self.check_events_once(&writes);
        let given = self.newly_given(&writes);
        self.hub.disk.write(writes.clone());
        self.check_capacity(&given);
        if !self.hub.persists.is_empty() {
            self.hub_sync(life);
        }
        self.hub.durable = id;
        self.hub_step(Event::Finished { id, outcome: Outcome::Done });
        let durable = self.hub.durable;
        let held = std::mem::take(&mut self.hub.held);
        let (free, held): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|e| e.after.is_none_or(|k| k <= durable));
        self.hub.held = held;
        for effect in free {
            if self.hub.life == life && self.hub.core.is_some() {
                self.hub_performs(life, effect);
            }
        }
    }

    pub fn hub_is_idle(&self) -> bool {
        self.hub.persists.is_empty() && self.hub.held.is_empty()
    }

    // --- effects ---

    fn hub_performs(&mut self, life: u64, effect: Effect) {
        let id = effect.id;
        match effect.op {
            Op::Persist(writes) => {
                self.hub.commits += 1;
                self.hub.persists.push_back((id, writes));
                if self.hub.persists.len() == 1 {
                    self.hub_sync(life);
                }
                return;
            }
            Op::Answer { request, answer } => self.answered(request, answer),
            Op::Relay { .. } | Op::Changed(_) => {}
            Op::PublishDesired { agent, document } => {
                self.check_document(&agent, &document);
                self.truth.published(&agent, &document);
                self.trace(|| {
                    let (term, generation) = (document.term, document.generation);
                    format!("hub publishes {agent} term {term} generation {generation}")
                });
                let n = self.keep_document(*document);
                return self.hub_sends(life, id, Some(agent), Down::Desired(n));
            }
            Op::PublishHello { agent, hello } => {
                self.check_hello(&agent, &hello);
                if hello.epoch_floor <= hello.epoch.boots {
                    self.truth.greeted(&agent, &hello);
                }
                return self.hub_sends(life, id, Some(agent), Down::Hello(*hello));
            }
            Op::PublishAnnounce(announce) => {
                return self.hub_sends(life, id, None, Down::Announce(announce));
            }
            Op::ClearAgent { agent } => self.forget_retained(&agent),
            Op::PublishCommand { agent, command } => {
                return self.hub_sends(life, id, Some(agent), Down::Command(*command));
            }
            Op::Compile { source, engine } => return self.compile(life, id, source, &engine),
            Op::Fetch { .. } => unreachable!("no world names another registry"),
        }
        self.after(1, Ev::HubEffectEnds { life, id, outcome: Outcome::Done });
    }

    fn keep_document(&mut self, document: Desired) -> usize {
        if self.documents.last().is_some_and(|last| **last == document) {
            return self.documents.len() - 1;
        }
        self.documents.push(Arc::new(document));
        self.documents.len() - 1
    }

    fn hub_sends(&mut self, life: u64, id: EffectId, agent: Option<AgentId>, message: Down) {
        if !self.hub.bus {
            let outcome = Outcome::Fault("no bus".into());
            return self.after(1, Ev::HubEffectEnds { life, id, outcome });
        }
        let wait = self.latency();
        self.after(wait, Ev::HubEffectEnds { life, id, outcome: Outcome::Done });
        self.route_down(agent, message);
    }

    fn compile(&mut self, life: u64, id: EffectId, source: Digest, engine: &str) {
        let wait = self.rng.range(200, 8_000);
        let outcome = match self.operator.behaviour(&source) {
            Behaviour::DoesNotCompile => Outcome::Refused("it is no module".into()),
            _ if self.rng.chance(self.plan.fetch_faults / 4) => Outcome::Fault("the worker died".into()),
            _ => {
                let digest = Digest::of(format!("{source} for {engine}").as_bytes());
                Outcome::Compiled { digest, size_bytes: 1_000 }
            }
        };
        self.after(wait, Ev::HubEffectEnds { life, id, outcome });
    }

    // --- requests ---

    pub fn request(&mut self, request: Request) {
        if self.hub.core.is_none() {
            return;
        }
        self.hub.requests += 1;
        let id = self.hub.requests;
        if self.moves_work(&request) {
            self.truth.cause();
        }
        self.trace(|| format!("operator: {}", crate::script::told(&request)));
        self.note_tried(&request);
        self.operator.pending.insert(id, request.clone());
        let request = self.tamper_with_request(request);
        self.hub_step(Event::Request { id, request });
    }

    fn answered(&mut self, id: u64, answer: Answer) {
        let Some(request) = self.operator.pending.remove(&id) else { return };
        match &answer {
            Answer::Refused { errors } | Answer::Conflict { errors } | Answer::NotFound { errors } => {
                self.trace(|| format!("refused: {errors:?}"));
            }
            _ => {}
        }
        self.check_answer(&request, &answer);
    }

    // --- from agents ---

    pub fn to_hub(&mut self, bus: u64, agent: AgentId, message: FromAgent) {
        let known = bus == self.hub.bus_session || self.plan.broker.stale_queue;
        if !known || !self.hub.bus || self.hub.core.is_none() {
            return;
        }
        self.trace(|| format!("hub <- {agent} {}", crate::trace::up(&message)));
        self.truth.heard(&message);
        if let FromAgent::Presence(presence) = &message {
            self.truth.board_told(&agent, presence);
        }
        let again = match &message {
            FromAgent::Events(_) if self.is_mutant(Mutant::EventsTakenTwice) => Some(message.clone()),
            _ => None,
        };
        let message = self.tamper_with_report(&agent, message);
        self.hub_step(Event::Agent { agent: agent.clone(), message });
        if let Some(FromAgent::Events(mut batch)) = again {
            batch.first_seq += batch.events.len() as u64;
            self.hub_step(Event::Agent { agent: agent.clone(), message: FromAgent::Events(batch) });
        }
        self.check_agent_view(&agent);
        if self.is_mutant(Mutant::PublishesInConflict) {
            self.publish_in_conflict(&agent);
        }
    }

    // --- planted bugs ---

    fn tamper_with_report(&mut self, agent: &AgentId, mut message: FromAgent) -> FromAgent {
        let Some(mutant) = self.mutant else { return message };
        let view = self.hub.core.as_ref().and_then(|core| core.agent(self.hub_now(), agent));
        match (&mut message, mutant) {
            (FromAgent::Presence(p), Mutant::WillWithoutEpoch) if !p.online => {
                p.epoch = view.and_then(|v| v.epoch).unwrap_or(p.epoch);
            }
            (FromAgent::Presence(p), Mutant::BoardsLookLarger) => p.capacity.memory_bytes *= 4,
            (FromAgent::Observed(o), Mutant::StaleNonceIsCurrent) if o.nonce.is_some() => {
                let hello = self.truth.last_hello.get(agent);
                o.nonce = hello.map(|hello| hello.nonce).or(o.nonce);
            }
            (FromAgent::Observed(o), Mutant::BoardsMerged) => {
                let hello = self.truth.last_hello.get(agent).filter(|h| h.board != o.board).cloned();
                if let Some(hello) = hello {
                    (o.board, o.epoch, o.nonce) = (hello.board, hello.epoch, Some(hello.nonce));
                    o.seq = self.truth.next_seq(&hello.board.clone());
                }
            }
            // What a report lost on its way stays lost: nothing compares the whole.
            (FromAgent::Observed(o), Mutant::DigestIgnored) => match &mut o.body {
                ObservedBody::Heartbeat { .. } => {
                    o.body = ObservedBody::Changes { workloads: BTreeMap::new() };
                }
                ObservedBody::Changes { workloads } => drop(workloads.pop_last()),
                ObservedBody::Full { .. } => {}
            },
            (FromAgent::Observed(o), Mutant::GapIgnored) => self.close_gap(agent, o),
            _ => {}
        }
        message
    }

    fn close_gap(&mut self, agent: &AgentId, report: &mut Observed) {
        report.seq = self.truth.renumber(agent, report.epoch, report.seq);
    }

    fn publish_in_conflict(&mut self, agent: &AgentId) {
        let view = self.hub.core.as_ref().and_then(|core| core.agent(self.hub_now(), agent));
        let held = view.is_some_and(|v| v.state == AgentState::FloorConflict);
        let last = self.documents.iter().rev().find(|d| d.agent == *agent);
        if let (true, Some(document)) = (held, last.cloned()) {
            let document = Box::new(document.as_ref().clone());
            let effect = Effect {
                id: u64::MAX,
                after: None,
                op: Op::PublishDesired { agent: agent.clone(), document },
            };
            self.check_hub_decision(&effect);
            self.hub_performs(self.hub.life, effect);
        }
    }
}
