//! What does the broker do with a message? Whatever brokers were seen to do (`plan::Broker`): it may
//! delay, drop, repeat, reorder, forget and hand out old things; it cannot forge a desired document.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use agent_core::api::{EffectId, Event, HubMessage, Outcome};
use contract::message::{Command, FromAgent, Hello, HubAnnounce, Presence};
use contract::time::Millis;
use contract::{AgentId, Epoch};

use crate::mutant::Mutant;
use crate::world::{ConnId, Ev, World};

/// What a hub sends; a document by its number.
#[derive(Debug, Clone)]
pub enum Down {
    Announce(HubAnnounce),
    Hello(Hello),
    Desired(usize),
    Command(Command),
}

#[derive(Debug, Default)]
pub struct Broker {
    pub up: bool,
    pub conns: BTreeMap<ConnId, Conn>,
    last_conn: ConnId,
    /// Newest last; a few older ones, for a broker that hands out stale ones.
    desired: BTreeMap<AgentId, VecDeque<usize>>,
    presence: BTreeMap<AgentId, VecDeque<Presence>>,
    announce: Option<HubAnnounce>,
    /// For a client that is away (only with `stale_queue`).
    queued: BTreeMap<usize, VecDeque<Down>>,
    /// Towards the hub, in order.
    last_up: BTreeMap<(AgentId, u8), Millis>,
    /// For the hub while it is away (only with `stale_queue`).
    queued_up: VecDeque<(AgentId, FromAgent)>,
}

/// One session, as both of its ends see it.
#[derive(Debug)]
pub struct Conn {
    pub b: usize,
    pub life: u64,
    pub epoch: Epoch,
    pub will: Presence,
    /// Nothing gets through any more, whether the ends know or not.
    pub cut: bool,
    pub at_broker: bool,
    pub at_agent: bool,
    /// Not yet acknowledged publishes.
    pub in_flight: BTreeSet<EffectId>,
    last_up: [Millis; 4],
    last_down: [Millis; 4],
}

const QUEUE_MAX: usize = 50;
const STALE_KEPT: usize = 4;

fn topic_up(message: &FromAgent) -> usize {
    match message {
        FromAgent::Presence(_) => 0,
        FromAgent::Observed(_) => 1,
        FromAgent::Events(_) => 2,
        FromAgent::Reply(_) => 3,
    }
}

fn topic_down(message: &Down) -> usize {
    match message {
        Down::Announce(_) => 0,
        Down::Hello(_) => 1,
        Down::Desired(_) => 2,
        Down::Command(_) => 3,
    }
}

fn remember<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    queue.push_back(item);
    if queue.len() > max {
        queue.pop_front();
    }
}

impl World {
    // --- sessions ---

    pub fn accepts(&mut self, b: usize, life: u64, id: EffectId, epoch: Epoch, will: Presence) {
        let reachable = self.boards[b].powered && self.boards[b].linked && self.broker.up;
        if !reachable || !self.is_life(b, life) {
            let outcome = Outcome::Fault("no broker".into());
            return self.after(1000, Ev::AgentEffectEnds { b, life, id, outcome });
        }
        self.take_over(b);
        self.broker.last_conn += 1;
        let conn = self.broker.last_conn;
        let wait = self.latency();
        let last_down = [self.now + wait; 4];
        let state = Conn {
            b,
            life,
            epoch,
            will,
            cut: false,
            at_broker: true,
            at_agent: true,
            in_flight: BTreeSet::new(),
            last_up: [0; 4],
            last_down,
        };
        self.broker.conns.insert(conn, state);
        self.after(wait, Ev::Connected { b, life, conn, id });
        self.hand_out_retained(b, conn);
    }

    /// The same client id again: the old session ends, its will is published.
    fn take_over(&mut self, b: usize) {
        let old: Vec<ConnId> =
            self.broker.conns.iter().filter(|(_, c)| c.b == b && c.at_broker).map(|(id, _)| *id).collect();
        for conn in old {
            if self.plan.broker.loses_on_takeover
                && let Some(old) = self.broker.conns.get_mut(&conn)
            {
                old.cut = true;
            }
            self.broker_loses(conn);
            self.after(1, Ev::AgentLoses { conn });
        }
    }

    fn hand_out_retained(&mut self, b: usize, conn: ConnId) {
        let agent = self.boards[b].agent.clone();
        if let Some(announce) = self.broker.announce {
            self.send_down(conn, Down::Announce(announce));
        }
        let kept = self.broker.desired.get(&agent).cloned().unwrap_or_default();
        if !kept.is_empty() && !self.rng.chance(self.plan.broker.retained_lost) {
            let stale = self.rng.chance(self.plan.broker.retained_stale);
            let n = if stale { self.rng.index(kept.len()) } else { kept.len() - 1 };
            self.send_down(conn, Down::Desired(kept[n]));
        }
        for message in self.broker.queued.remove(&b).unwrap_or_default() {
            self.send_down(conn, message);
        }
    }

    pub fn connected(&mut self, b: usize, life: u64, conn: ConnId, id: EffectId) {
        let open = self.broker.conns.get(&conn).is_some_and(|state| !state.cut && state.at_agent);
        let outcome = if open { Outcome::Done } else { Outcome::Fault("the session ended at once".into()) };
        if !self.is_life(b, life) {
            return;
        }
        if open && let Some(process) = &mut self.boards[b].process {
            process.conn = Some(conn);
        }
        self.trace(|| format!("a{b} connected: {outcome:?}"));
        self.agent_step(b, Event::Finished { id, outcome });
        if open && self.is_mutant(Mutant::RestartOnReconnect) {
            self.restart_something(b);
        }
    }

    /// The board's end of the session is over.
    pub fn agent_loses(&mut self, conn: ConnId) {
        let Some(state) = self.broker.conns.get_mut(&conn) else { return };
        if !std::mem::take(&mut state.at_agent) {
            return;
        }
        state.cut = true;
        let (b, life, epoch) = (state.b, state.life, state.epoch);
        let lost = std::mem::take(&mut state.in_flight);
        self.truth.session_over(b, life, epoch, self.now);
        self.tidy(conn);
        if !self.is_life(b, life) {
            return;
        }
        let Some(process) = self.boards[b].process.as_mut().filter(|p| p.conn == Some(conn)) else { return };
        process.conn = None;
        for id in lost {
            let outcome = Outcome::Fault("the session is gone".into());
            self.agent_step(b, Event::Finished { id, outcome });
        }
        self.trace(|| format!("a{b} disconnected"));
        self.agent_step(b, Event::Disconnected { epoch, reason: "gone".into(), refused: false });
        if self.is_mutant(Mutant::OutageStopsWork) {
            self.restart_something(b);
        }
    }

    /// The broker's end is over: the will is published.
    pub fn broker_loses(&mut self, conn: ConnId) {
        let Some(state) = self.broker.conns.get_mut(&conn) else { return };
        if !std::mem::take(&mut state.at_broker) {
            return;
        }
        let (b, will) = (state.b, state.will.clone());
        self.tidy(conn);
        let late = self.rng.chance(self.plan.broker.late_will);
        let wait = if late { self.rng.range(1_000, 300_000) } else { 1 };
        let agent = self.boards[b].agent.clone();
        self.after(wait, Ev::Will { agent, will: Box::new(will) });
    }

    /// A clean DISCONNECT: no will.
    pub fn goodbye(&mut self, conn: ConnId) {
        if let Some(state) = self.broker.conns.get_mut(&conn) {
            (state.at_broker, state.at_agent, state.cut) = (false, false, true);
            let (b, life, epoch) = (state.b, state.life, state.epoch);
            self.truth.session_over(b, life, epoch, self.now);
        }
        self.tidy(conn);
    }

    fn tidy(&mut self, conn: ConnId) {
        if self.broker.conns.get(&conn).is_some_and(|c| !c.at_agent && !c.at_broker) {
            // What is still on its way finds nobody.
            self.broker.conns.remove(&conn);
        }
    }

    /// The wire is cut; each end finds out in its own time.
    pub fn cut(&mut self, conn: ConnId, noticed_ms: Millis) {
        let Some(state) = self.broker.conns.get_mut(&conn) else { return };
        state.cut = true;
        let (b, life, epoch) = (state.b, state.life, state.epoch);
        self.truth.session_over(b, life, epoch, self.now);
        let (at_agent, at_broker) = (self.rng.below(noticed_ms + 1), self.rng.below(noticed_ms + 1));
        self.after(at_agent, Ev::AgentLoses { conn });
        self.after(at_broker, Ev::BrokerLoses { conn });
    }

    pub fn conns_of(&self, b: usize) -> Vec<ConnId> {
        self.broker.conns.iter().filter(|(_, c)| c.b == b).map(|(id, _)| *id).collect()
    }

    // --- from boards to the hub ---

    /// Put a message on the wire; false when there is no session.
    pub fn send_up(&mut self, b: usize, id: Option<EffectId>, message: FromAgent) -> bool {
        let Some(conn) = self.boards[b].process.as_ref().and_then(|p| p.conn) else { return false };
        let wait = self.latency();
        let (now, reorders) = (self.now, self.plan.broker.reorders);
        let Some(state) = self.broker.conns.get_mut(&conn) else { return false };
        let topic = if reorders { topic_up(&message) } else { 0 };
        let at = (now + wait).max(state.last_up[topic] + 1);
        state.last_up[topic] = at;
        let (life, cut) = (state.life, state.cut);
        self.truth.bytes(b, &message);
        if let Some(id) = id {
            state.in_flight.insert(id);
            if !cut {
                self.at(at + 1, Ev::AgentEffectEnds { b, life, id, outcome: Outcome::Done });
            }
        }
        self.at(at, Ev::ToBroker { conn, message });
        true
    }

    pub fn to_broker(&mut self, conn: ConnId, message: FromAgent) {
        let Some(state) = self.broker.conns.get(&conn) else { return };
        if state.cut || !self.broker.up || !state.at_broker {
            return;
        }
        let agent = self.boards[state.b].agent.clone();
        if !self.rng.chance(self.plan.broker.acks_then_drops) {
            self.route_up(agent, message);
        }
    }

    pub fn route_up(&mut self, agent: AgentId, message: FromAgent) {
        if !self.broker.up {
            return;
        }
        if let FromAgent::Presence(presence) = &message {
            let kept = self.broker.presence.entry(agent.clone()).or_default();
            remember(kept, presence.clone(), STALE_KEPT);
        }
        if !self.hub.bus {
            if self.plan.broker.stale_queue {
                remember(&mut self.broker.queued_up, (agent, message), QUEUE_MAX);
            }
            return;
        }
        if self.rng.chance(self.plan.broker.duplicates) {
            let wait = self.rng.below(60_000);
            let bus = self.hub.bus_session;
            self.after(wait, Ev::ToHub { bus, agent: agent.clone(), message: message.clone() });
        }
        self.towards_hub(agent, message);
    }

    fn towards_hub(&mut self, agent: AgentId, message: FromAgent) {
        let topic = if self.plan.broker.reorders { topic_up(&message) as u8 } else { 0 };
        let wait = self.latency();
        let last = self.broker.last_up.entry((agent.clone(), topic)).or_default();
        let at = (self.now + wait).max(*last + 1);
        *last = at;
        self.at(at, Ev::ToHub { bus: self.hub.bus_session, agent, message });
    }

    /// The hub subscribes: retained presences, and perhaps what was queued.
    pub fn hand_out_to_hub(&mut self) {
        let kept: Vec<_> = self.broker.presence.iter().map(|(a, p)| (a.clone(), p.clone())).collect();
        for (agent, kept) in kept {
            if self.rng.chance(self.plan.broker.retained_lost) {
                continue;
            }
            let stale = self.rng.chance(self.plan.broker.retained_stale);
            let n = if stale { self.rng.index(kept.len()) } else { kept.len() - 1 };
            self.towards_hub(agent, FromAgent::Presence(kept[n].clone()));
        }
        for (agent, message) in std::mem::take(&mut self.broker.queued_up) {
            self.towards_hub(agent, message);
        }
    }

    // --- from the hub to boards ---

    pub fn route_down(&mut self, agent: Option<AgentId>, message: Down) {
        match (&agent, &message) {
            (_, Down::Announce(announce)) => self.broker.announce = Some(*announce),
            (Some(agent), Down::Desired(n)) => {
                let kept = self.broker.desired.entry(agent.clone()).or_default();
                remember(kept, *n, STALE_KEPT);
            }
            _ => {}
        }
        if self.rng.chance(self.plan.broker.acks_then_drops) {
            return;
        }
        let mine = |w: &World, b: usize| agent.as_ref().is_none_or(|a| w.boards[b].agent == *a);
        let open = self.broker.conns.iter().filter(|(_, c)| c.at_broker && mine(self, c.b));
        let conns: Vec<(ConnId, usize)> = open.map(|(id, c)| (*id, c.b)).collect();
        let mut reached = BTreeSet::new();
        for (conn, b) in conns {
            reached.insert(b);
            self.send_down(conn, message.clone());
        }
        if self.plan.broker.stale_queue && agent.is_some() {
            for b in 0..self.boards.len() {
                if mine(self, b) && !reached.contains(&b) {
                    remember(self.broker.queued.entry(b).or_default(), message.clone(), QUEUE_MAX);
                }
            }
        }
    }

    fn send_down(&mut self, conn: ConnId, message: Down) {
        let wait = self.latency();
        let (now, reorders) = (self.now, self.plan.broker.reorders);
        let again = self.rng.chance(self.plan.broker.duplicates);
        let Some(state) = self.broker.conns.get_mut(&conn) else { return };
        let topic = if reorders { topic_down(&message) } else { 0 };
        let at = (now + wait).max(state.last_down[topic] + 1);
        state.last_down[topic] = at;
        if again {
            let wait = self.rng.below(60_000);
            self.at(at + wait, Ev::ToAgent { conn, message: message.clone() });
        }
        self.at(at, Ev::ToAgent { conn, message });
    }

    pub fn to_agent(&mut self, conn: ConnId, message: Down) {
        let Some(state) = self.broker.conns.get(&conn) else { return };
        let (b, life) = (state.b, state.life);
        if state.cut || !state.at_agent || !self.is_life(b, life) {
            return;
        }
        self.truth.bytes_down(b, &message, &self.documents);
        let event = match message {
            Down::Announce(announce) => HubMessage::Announce(announce),
            Down::Hello(hello) => HubMessage::Hello(hello),
            Down::Command(command) => HubMessage::Command(command),
            Down::Desired(n) => {
                let document = Box::new(self.documents[n].as_ref().clone());
                let signed = (n as u64).to_le_bytes().as_slice().into();
                self.tamper_with_document(b, HubMessage::Desired { document, signed })
            }
        };
        self.trace(|| format!("a{b} <- {}", crate::trace::down(&event)));
        self.agent_step(b, Event::Hub(event));
    }

    // --- the broker itself ---

    pub fn broker_dies(&mut self) {
        self.broker.up = false;
        self.trace(|| "the broker died".into());
        let conns: Vec<ConnId> = self.broker.conns.keys().copied().collect();
        for conn in conns {
            if let Some(state) = self.broker.conns.get_mut(&conn) {
                (state.cut, state.at_broker) = (true, false);
                let (b, life, epoch) = (state.b, state.life, state.epoch);
                self.truth.session_over(b, life, epoch, self.now);
            }
            let wait = self.rng.below(5_000);
            self.after(wait, Ev::AgentLoses { conn });
        }
        self.bus_lost("the broker is gone");
        if self.plan.broker.forgets {
            (self.broker.desired, self.broker.presence, self.broker.announce) = Default::default();
        }
        (self.broker.queued, self.broker.queued_up) = Default::default();
    }

    pub fn broker_starts(&mut self) {
        if self.broker.up {
            return;
        }
        self.broker.up = true;
        self.trace(|| "the broker is up".into());
        let life = self.hub.life;
        let wait = self.rng.range(10, 2_000);
        self.after(wait, Ev::BusUp { life });
    }

    pub fn forget_retained(&mut self, agent: &AgentId) {
        self.broker.desired.remove(agent);
        self.broker.presence.remove(agent);
    }
}
