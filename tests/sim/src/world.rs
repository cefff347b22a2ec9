//! What is there, and what happens next? One queue of events on one virtual clock; every node is
//! stepped by it and by nothing else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use agent_core::api as agent;
use contract::message::{Desired, FromAgent, Presence};
use contract::status::Exit;
use contract::time::Millis;
use contract::{AgentId, InstanceId, RunId};
use hub_core::api as hub;

use crate::board::Board;
use crate::broker::{Broker, Down};
use crate::hub::Hub;
use crate::mutant::Mutant;
use crate::plan::Plan;
use crate::rng::Rng;
use crate::script::{Act, Operator};
use crate::truth::{Candidate, Truth};

pub type ConnId = u64;

/// Numbers of boards are indices into `World::boards`; `life` is one process, `power` one boot.
#[derive(Debug)]
pub enum Ev {
    AgentStarts { b: usize, power: u64 },
    AgentWakes { b: usize, life: u64, at: Millis },
    AgentEffectEnds { b: usize, life: u64, id: agent::EffectId, outcome: agent::Outcome },
    AgentPersists { b: usize, life: u64 },
    Fetched { b: usize, life: u64, id: agent::EffectId, digest: contract::Digest, spoiled: bool },
    RunUp { b: usize, power: u64, life: u64, id: agent::EffectId, instance: InstanceId, run: RunId },
    RunEnds { b: usize, power: u64, instance: InstanceId, run: RunId, exit: Exit, stop: Option<(u64, u64)> },
    Felled { b: usize, power: u64, candidate: Candidate },
    Accepts { b: usize, life: u64, id: agent::EffectId, epoch: contract::Epoch, will: Box<Presence> },
    Connected { b: usize, life: u64, conn: ConnId, id: agent::EffectId },
    ToBroker { conn: ConnId, message: FromAgent },
    ToAgent { conn: ConnId, message: Down },
    AgentLoses { conn: ConnId },
    BrokerLoses { conn: ConnId },
    Will { agent: AgentId, will: Box<Presence> },
    ToHub { bus: u64, agent: AgentId, message: FromAgent },
    HubStarts,
    HubWakes { life: u64, at: Millis },
    HubEffectEnds { life: u64, id: hub::EffectId, outcome: hub::Outcome },
    HubPersists { life: u64 },
    Asks { b: usize, life: u64, key: crate::probes::Key, number: u64 },
    BusUp { life: u64 },
    BrokerStarts,
    Chaos,
    Tend,
    Act(Act),
}

struct Entry {
    at: Millis,
    order: u64,
    ev: Ev,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.order == other.order
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub invariant: &'static str,
    pub text: String,
    pub at: Millis,
}

pub struct World {
    pub seed: u64,
    pub plan: Plan,
    pub mutant: Option<Mutant>,
    pub now: Millis,
    pub rng: Rng,
    pub probe_rng: Rng,
    /// The same, for Configs.
    pub data_rng: Rng,
    /// Of what operators do with boards.
    pub fleet_rng: Rng,
    pub boards: Vec<Board>,
    pub hub: Hub,
    pub broker: Broker,
    pub operator: Operator,
    pub truth: Truth,
    /// Every document that was ever published; its signed bytes are its number.
    pub documents: Vec<Arc<Desired>>,
    pub failure: Option<Failure>,
    pub healed: bool,
    pub healed_at: Millis,
    pub events: u64,
    /// Events at this very moment: a world that does not move on is a busy loop.
    at_once: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    order: u64,
    trace: Option<Vec<String>>,
}

const AT_ONCE_MAX: u64 = 50_000;

impl World {
    pub fn new(seed: u64, plan: Plan, mutant: Option<Mutant>, traced: bool) -> World {
        let mut world = World {
            seed,
            mutant,
            now: 0,
            rng: Rng::new(seed),
            probe_rng: Rng::new(seed ^ 0x91_0be5),
            data_rng: Rng::new(seed ^ 0xda_7a),
            fleet_rng: Rng::new(seed ^ 0xf1ee7),
            boards: Vec::new(),
            hub: Hub::default(),
            broker: Broker::default(),
            operator: Operator::default(),
            truth: Truth::default(),
            documents: Vec::new(),
            failure: None,
            healed: false,
            healed_at: 0,
            events: 0,
            at_once: 0,
            queue: BinaryHeap::new(),
            order: 0,
            trace: traced.then(Vec::new),
            plan,
        };
        world.begin();
        world
    }

    pub fn at(&mut self, at: Millis, ev: Ev) {
        self.order += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), order: self.order, ev }));
    }

    pub fn after(&mut self, wait: Millis, ev: Ev) {
        self.at(self.now + wait, ev);
    }

    pub fn is_mutant(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn trace(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let (s, ms) = (self.now / 1000, self.now % 1000);
            trace.push(format!("{s:>6}.{ms:03} {}", text()));
        }
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default()
    }

    /// The first broken promise counts; what follows from it says nothing.
    pub fn violate(&mut self, invariant: &'static str, text: String) {
        if self.failure.is_none() {
            self.trace(|| format!("VIOLATED {invariant}: {text}"));
            self.failure = Some(Failure { invariant, text, at: self.now });
        }
    }

    pub fn demand(&mut self, holds: bool, invariant: &'static str, text: impl FnOnce() -> String) {
        if !holds {
            self.violate(invariant, text());
        }
    }

    /// Let everything happen up to `until`, or to the first broken promise.
    pub fn run_until(&mut self, until: Millis) {
        while self.failure.is_none() {
            let due = self.queue.peek().is_some_and(|Reverse(entry)| entry.at <= until);
            let Some(Reverse(entry)) = due.then(|| self.queue.pop()).flatten() else { break };
            self.at_once = if entry.at == self.now { self.at_once + 1 } else { 0 };
            self.now = entry.at;
            self.events += 1;
            if self.at_once > AT_ONCE_MAX {
                return self.violate("no_busy_loop", format!("{:?} again and again", entry.ev));
            }
            self.happen(entry.ev);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::AgentStarts { b, power } => self.agent_starts(b, power),
            Ev::AgentWakes { b, life, at } => self.agent_wakes(b, life, at),
            Ev::AgentEffectEnds { b, life, id, outcome } => self.agent_effect_ends(b, life, id, outcome),
            Ev::AgentPersists { b, life } => self.agent_persists(b, life),
            Ev::Fetched { b, life, id, digest, spoiled } => self.fetched(b, life, id, digest, spoiled),
            Ev::RunUp { b, power, life, id, instance, run } => self.run_up(b, power, life, id, instance, run),
            Ev::RunEnds { b, power, instance, run, exit, stop } => {
                self.run_ends(b, power, instance, run, exit, stop)
            }
            Ev::Felled { b, power, candidate } => self.felled(b, power, candidate),
            Ev::Accepts { b, life, id, epoch, will } => self.accepts(b, life, id, epoch, *will),
            Ev::Connected { b, life, conn, id } => self.connected(b, life, conn, id),
            Ev::ToBroker { conn, message } => self.to_broker(conn, message),
            Ev::ToAgent { conn, message } => self.to_agent(conn, message),
            Ev::AgentLoses { conn } => self.agent_loses(conn),
            Ev::BrokerLoses { conn } => self.broker_loses(conn),
            Ev::Will { agent, will } => self.route_up(agent, FromAgent::Presence(*will)),
            Ev::ToHub { bus, agent, message } => self.to_hub(bus, agent, message),
            Ev::HubStarts => self.hub_starts(),
            Ev::HubWakes { life, at } => self.hub_wakes(life, at),
            Ev::HubEffectEnds { life, id, outcome } => self.hub_effect_ends(life, id, outcome),
            Ev::HubPersists { life } => self.hub_persists(life),
            Ev::Asks { b, life, key, number } => self.asks(b, life, key, number),
            Ev::BusUp { life } => self.bus_up(life),
            Ev::BrokerStarts => self.broker_starts(),
            Ev::Chaos => self.chaos(),
            Ev::Tend => self.tend_fleet(),
            Ev::Act(act) => self.act(act),
        }
    }

    pub fn latency(&mut self) -> Millis {
        let max = self.plan.broker.delay_max_ms.max(2);
        self.rng.range(1, max)
    }

    /// Boards by the id under which they live.
    pub fn boards_of(&self, agent: &AgentId) -> impl Iterator<Item = usize> + '_ {
        let agent = agent.clone();
        (0..self.boards.len()).filter(move |b| self.boards[*b].agent == agent)
    }
}

/// Counts by name, for summaries.
pub type Tally = BTreeMap<&'static str, u64>;
