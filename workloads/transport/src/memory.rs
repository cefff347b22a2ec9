//! Both seams without a network: a broker inside the process, for tests of the shells. It acts when
//! it is called and at no other time: no task, no clock, so a test sees one order of events.
//!
//! Links can be cut, stalled and refused by hand. It is kinder than real brokers only in that: what
//! those lose on their own accord the simulator's model broker loses, not this one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use contract::AgentId;
use tokio::sync::mpsc;

use crate::PublishError;
use crate::bus::{AgentBus, BusLimits, BusLink, Inbound, Outgoing, Slot};
use crate::fair::FairQueue;
use crate::session::{EndReason, Publish, Session, SessionConfig, SessionEvent, SessionLink, Told, Will};
use crate::topic::{Kind, Topic, owns_client_id};

/// What waits for a stalled or slow session; past it messages to it are dropped, as brokers do.
const HELD_MAX: usize = 1000;

/// A broker in this process. Clones are the same broker.
#[derive(Clone, Default)]
pub struct Broker(Arc<Mutex<State>>);

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        write!(f, "memory::Broker({} sessions, {} retained)", state.peers.len(), state.retained.len())
    }
}

#[derive(Default)]
struct State {
    last_id: u64,
    peers: BTreeMap<u64, Peer>,
    retained: BTreeMap<Topic, (Bytes, String)>,
    bus: Option<Arc<FairQueue>>,
    bus_cut: bool,
    stopped: bool,
    refused: BTreeSet<AgentId>,
}

/// One connected session, seen from the broker.
struct Peer {
    agent: AgentId,
    client_id: String,
    will: Will,
    payload_max: usize,
    events: mpsc::Sender<Told>,
    /// Room in `events` that messages leave for answers and for the end.
    reserve: usize,
    stalled: bool,
    held_up: VecDeque<Publish>,
    held_down: VecDeque<SessionEvent>,
    leaving: bool,
}

impl Broker {
    pub fn new() -> Broker {
        Broker::default()
    }

    /// The hub's end. A second bus takes the place of the first, which ends.
    pub fn bus(&self, limits: BusLimits) -> AgentBus {
        let inbound = Arc::new(FairQueue::new(limits.fair));
        let mut state = self.lock();
        if let Some(old) = state.bus.replace(Arc::clone(&inbound)) {
            old.close();
        }
        if !state.bus_cut && !state.stopped {
            state.bus_up();
        }
        drop(state);
        let link = Arc::new(HubEnd { broker: self.clone(), inbound: Arc::clone(&inbound) });
        AgentBus::new(link, inbound, limits.queue)
    }

    /// An agent's end.
    pub fn connect(&self, config: SessionConfig) -> Session {
        let reserve = config.limits.queue + 4;
        let (events, receiver) = mpsc::channel(HELD_MAX + reserve);
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        let link = Box::new(AgentEnd { id, broker: self.clone() });
        let session = Session::new(&config, link, receiver);
        match state.refusal(&config) {
            Some(reason) => say(&events, SessionEvent::disconnected(reason)),
            None => state.admit(id, config, events, reserve),
        }
        session
    }

    /// Break the agent's links. The will is published.
    pub fn cut(&self, agent: &AgentId) {
        self.lock().end_all(agent, &EndReason::Lost("cut".into()));
    }

    /// Hold everything to and from the agent, as a link that went silent does.
    pub fn stall(&self, agent: &AgentId) {
        self.lock().peers.values_mut().filter(|p| p.agent == *agent).for_each(|p| p.stalled = true);
    }

    /// Let what was held flow.
    pub fn resume(&self, agent: &AgentId) {
        self.lock().resume(agent);
    }

    /// Break the hub's link; agents notice nothing.
    pub fn cut_bus(&self) {
        let mut state = self.lock();
        state.bus_cut = true;
        state.bus_down("cut");
    }

    pub fn restore_bus(&self) {
        let mut state = self.lock();
        state.bus_cut = false;
        state.bus_up();
    }

    /// The broker is gone: every link breaks, and connecting fails.
    pub fn stop(&self) {
        self.lock().stop();
    }

    /// It is back, without what it retained, as one without a disk.
    pub fn start(&self) {
        let mut state = self.lock();
        state.stopped = false;
        if !state.bus_cut {
            state.bus_up();
        }
    }

    /// Refuse an agent's credentials from now on, or accept them again.
    pub fn refuse(&self, agent: &AgentId, refuse: bool) {
        let mut state = self.lock();
        let _ = if refuse { state.refused.insert(agent.clone()) } else { state.refused.remove(agent) };
    }

    /// What a retained topic holds.
    pub fn retained(&self, topic: &Topic) -> Option<Bytes> {
        self.lock().retained.get(topic).map(|(payload, _)| payload.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refusal(&self, config: &SessionConfig) -> Option<EndReason> {
        if self.stopped {
            return Some(EndReason::Unreachable("stopped".into()));
        }
        if self.refused.contains(&config.agent) || !owns_client_id(&config.agent, &config.client_id) {
            return Some(EndReason::Refused("not authorised".into()));
        }
        None
    }

    fn admit(&mut self, id: u64, config: SessionConfig, events: mpsc::Sender<Told>, reserve: usize) {
        let same: Vec<u64> =
            self.peers.iter().filter(|(_, p)| p.client_id == config.client_id).map(|(id, _)| *id).collect();
        for old in same {
            self.end(old, &EndReason::TakenOver);
        }
        say(&events, SessionEvent::Connected);
        let desired = Topic::agent(&config.agent, Kind::Desired);
        let mut peer = Peer {
            agent: config.agent,
            client_id: config.client_id,
            will: config.will,
            payload_max: config.limits.payload_max,
            events,
            reserve,
            stalled: false,
            held_up: VecDeque::new(),
            held_down: VecDeque::new(),
            leaving: false,
        };
        for topic in [Topic::Hub, desired] {
            if let Some((payload, content_type)) = self.retained.get(&topic) {
                peer.deliver(&topic, payload, content_type, true);
            }
        }
        self.peers.insert(id, peer);
    }

    /// Without a goodbye: the will is published.
    fn end(&mut self, id: u64, reason: &EndReason) {
        let Some(peer) = self.peers.remove(&id) else { return };
        say(&peer.events, SessionEvent::disconnected(reason.clone()));
        let presence = Topic::agent(&peer.agent, Kind::Presence);
        self.route(presence, peer.will.payload, peer.will.content_type, true);
    }

    fn end_all(&mut self, agent: &AgentId, reason: &EndReason) -> bool {
        let ids: Vec<u64> = self.peers.iter().filter(|(_, p)| p.agent == *agent).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.end(*id, reason));
        !ids.is_empty()
    }

    fn stop(&mut self) {
        self.stopped = true;
        for peer in std::mem::take(&mut self.peers).into_values() {
            say(&peer.events, SessionEvent::disconnected(EndReason::Lost("the broker stopped".into())));
        }
        self.retained.clear();
        self.bus_down("stopped");
    }

    fn resume(&mut self, agent: &AgentId) {
        let ids: Vec<u64> = self.peers.iter().filter(|(_, p)| p.agent == *agent).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            peer.stalled = false;
            let (up, leaving) = (std::mem::take(&mut peer.held_up), peer.leaving);
            for event in std::mem::take(&mut peer.held_down) {
                peer.pass(event);
            }
            for message in up {
                self.take(id, message);
            }
            if leaving {
                self.leave(id);
            }
        }
    }

    /// A session's message has reached the broker.
    fn take(&mut self, id: u64, message: Publish) {
        let Publish { token, topic, payload, content_type, retain, slot } = message;
        self.route(topic, payload, content_type, retain);
        if let Some(peer) = self.peers.get(&id) {
            say(&peer.events, Told { event: SessionEvent::Published(token), slot: Some(slot) });
        }
    }

    fn leave(&mut self, id: u64) {
        if let Some(peer) = self.peers.remove(&id) {
            say(&peer.events, SessionEvent::disconnected(EndReason::Clean));
        }
    }

    /// From an agent to the hub.
    fn route(&mut self, topic: Topic, payload: Bytes, content_type: String, retain: bool) {
        if retain {
            self.retain(&topic, &payload, &content_type);
        }
        let Topic::Agent { agent, kind } = topic else { return };
        if let (Some(bus), false) = (&self.bus, self.bus_cut || payload.is_empty()) {
            bus.push(Inbound { agent, kind, payload, content_type, retained: false });
        }
    }

    fn retain(&mut self, topic: &Topic, payload: &Bytes, content_type: &str) {
        if payload.is_empty() {
            self.retained.remove(topic);
        } else {
            self.retained.insert(topic.clone(), (payload.clone(), content_type.to_string()));
        }
    }

    fn bus_up(&self) {
        let Some(bus) = &self.bus else { return };
        bus.up();
        for (topic, (payload, content_type)) in &self.retained {
            if let Topic::Agent { agent, kind: Kind::Presence } = topic {
                let (agent, payload, content_type) = (agent.clone(), payload.clone(), content_type.clone());
                bus.push(Inbound { agent, kind: Kind::Presence, payload, content_type, retained: true });
            }
        }
    }

    fn bus_down(&self, reason: &str) {
        if let Some(bus) = &self.bus {
            bus.down(reason.to_string());
        }
    }
}

impl Peer {
    fn deliver(&mut self, topic: &Topic, payload: &Bytes, content_type: &str, retained: bool) {
        if payload.is_empty() || payload.len() > self.payload_max {
            return;
        }
        let (topic, payload, content_type) = (topic.clone(), payload.clone(), content_type.to_string());
        self.pass(SessionEvent::Message { topic, payload, content_type, retained });
    }

    fn pass(&mut self, event: SessionEvent) {
        if !self.stalled {
            if self.events.capacity() > self.reserve {
                say(&self.events, event);
            }
        } else if self.held_down.len() < HELD_MAX {
            self.held_down.push_back(event);
        }
    }
}

/// The reserve keeps room for every answer; a session dropped by its owner needs none.
fn say(events: &mpsc::Sender<Told>, event: impl Into<Told>) {
    let _ = events.try_send(event.into());
}

struct AgentEnd {
    id: u64,
    broker: Broker,
}

impl SessionLink for AgentEnd {
    fn publish(&self, message: Publish) -> Result<(), PublishError> {
        let mut state = self.broker.lock();
        let peer = state.peers.get_mut(&self.id).ok_or(PublishError::Down)?;
        if peer.stalled {
            peer.held_up.push_back(message);
        } else {
            state.take(self.id, message);
        }
        Ok(())
    }

    fn disconnect(&self) {
        let mut state = self.broker.lock();
        match state.peers.get_mut(&self.id) {
            Some(peer) if peer.stalled => peer.leaving = true,
            _ => state.leave(self.id),
        }
    }
}

impl Drop for AgentEnd {
    fn drop(&mut self) {
        self.broker.lock().end(self.id, &EndReason::Lost("dropped".into()));
    }
}

struct HubEnd {
    broker: Broker,
    inbound: Arc<FairQueue>,
}

impl BusLink for HubEnd {
    fn publish(&self, message: Outgoing, slot: Slot) -> Result<(), PublishError> {
        let mut state = self.broker.lock();
        let ours = state.bus.as_ref().is_some_and(|bus| Arc::ptr_eq(bus, &self.inbound));
        if !ours || state.bus_cut || state.stopped {
            return Err(PublishError::Down);
        }
        let Outgoing { topic, payload, content_type, retain, expiry: _ } = message;
        if retain {
            state.retain(&topic, &payload, &content_type);
        }
        for peer in state.peers.values_mut() {
            let addressed = match &topic {
                Topic::Hub => true,
                Topic::Agent { agent, kind } => *agent == peer.agent && !kind.from_agent(),
            };
            if addressed {
                peer.deliver(&topic, &payload, &content_type, false);
            }
        }
        drop(slot);
        Ok(())
    }

    fn kick(&self, agent: &AgentId) -> bool {
        self.broker.lock().end_all(agent, &EndReason::Ended("kicked by the hub".into()))
    }
}

impl Drop for HubEnd {
    fn drop(&mut self) {
        let mut state = self.broker.lock();
        if state.bus.as_ref().is_some_and(|bus| Arc::ptr_eq(bus, &self.inbound)) {
            state.bus = None;
        }
        self.inbound.close();
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
