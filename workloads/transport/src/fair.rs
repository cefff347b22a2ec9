//! How one agent's flood is kept from the others: a bounded queue for each agent, served in turn.
//!
//! An agent that overflows loses its own oldest messages, never its latest presence and never
//! anything of another agent. The loss is told as one `Overflow` before what is left, and once more
//! when the queue has run dry, if more was lost after the first: the report that the hub asked for
//! may have been among it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use contract::AgentId;
use tokio::sync::Notify;

use crate::bus::{BusEvent, Inbound};
use crate::topic::{Kind, Topic};

/// A presence (labels, engines, capacity) is a few hundred bytes; it is kept outside the limits
/// below, so it must not be large.
pub const PRESENCE_BYTES_MAX: usize = 16 << 10;
/// Refusals of the broker kept until they are taken; they all have one cause.
const UNSENT_MAX: usize = 8;
/// What a queued message costs besides its payload.
const OVERHEAD_BYTES: usize = 200;

#[derive(Debug, Clone)]
pub struct FairLimits {
    /// Messages of one agent, its presence apart.
    pub per_agent: usize,
    /// Two of the largest messages.
    pub per_agent_bytes: usize,
    /// Of all agents together. Where it is reached, the newest message is the one that is lost.
    pub total_bytes: usize,
    /// Agents with something queued.
    pub agents: usize,
}

impl Default for FairLimits {
    fn default() -> FairLimits {
        FairLimits { per_agent: 64, per_agent_bytes: 512 << 10, total_bytes: 128 << 20, agents: 200_000 }
    }
}

/// For the metrics, and for tests that wait for an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FairStats {
    pub received: u64,
    pub delivered: u64,
    /// Dropped and told as `Overflow`.
    pub dropped: u64,
    /// Presences that a newer one of the same agent replaced before they were taken.
    pub replaced: u64,
    /// Dropped untold: too many agents at once. Their heartbeats show it.
    pub untold: u64,
    pub queued_bytes: usize,
}

#[derive(Default)]
struct Lane {
    messages: VecDeque<Inbound>,
    bytes: usize,
    /// Something was dropped and not told yet.
    gap: bool,
    /// An overflow was told since the lane was last empty.
    told: bool,
}

#[derive(Default)]
struct State {
    lanes: HashMap<AgentId, Lane>,
    /// Agents with something to deliver, each once, the next first.
    turns: VecDeque<AgentId>,
    /// At most `Down, Up`: an older pair says nothing that the newer does not.
    link: VecDeque<BusEvent>,
    unsent: VecDeque<BusEvent>,
    closed: bool,
    stats: FairStats,
}

pub struct FairQueue {
    limits: FairLimits,
    state: Mutex<State>,
    arrived: Notify,
}

impl FairQueue {
    pub fn new(limits: FairLimits) -> FairQueue {
        FairQueue { limits, state: Mutex::default(), arrived: Notify::new() }
    }

    /// Never waits and never fails: what does not fit is dropped and told.
    pub fn push(&self, message: Inbound) {
        let mut state = self.lock();
        state.stats.received += 1;
        if !state.lanes.contains_key(&message.agent) {
            if state.lanes.len() >= self.limits.agents {
                state.stats.untold += 1;
                return;
            }
            state.turns.push_back(message.agent.clone());
        }
        state.push(message, &self.limits);
        drop(state);
        self.arrived.notify_one();
    }

    pub fn up(&self) {
        let mut state = self.lock();
        if state.link.back() != Some(&BusEvent::Up) {
            state.link.push_back(BusEvent::Up);
        }
        drop(state);
        self.arrived.notify_one();
    }

    pub fn down(&self, reason: String) {
        let mut state = self.lock();
        state.link.clear();
        state.link.push_back(BusEvent::Down { reason });
        drop(state);
        self.arrived.notify_one();
    }

    pub fn unsent(&self, topic: Topic, reason: String) {
        let mut state = self.lock();
        if state.unsent.len() < UNSENT_MAX {
            state.unsent.push_back(BusEvent::Unsent { topic, reason });
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// What is queued is still delivered, then the stream ends.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
    }

    pub fn try_pop(&self) -> Option<BusEvent> {
        self.lock().pop()
    }

    /// For one reader. Cancelling loses nothing.
    pub async fn pop(&self) -> Option<BusEvent> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.lock();
                if let Some(event) = state.pop() {
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    pub fn stats(&self) -> FairStats {
        self.lock().stats
    }

    /// No code below panics between two consistent states, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cost(message: &Inbound) -> usize {
    message.payload.len() + message.content_type.len() + OVERHEAD_BYTES
}

impl State {
    fn push(&mut self, message: Inbound, limits: &FairLimits) {
        let lane = self.lanes.entry(message.agent.clone()).or_default();
        let total_before = self.stats.queued_bytes - lane.bytes;
        let stats = &mut self.stats;
        if message.kind == Kind::Presence {
            lane.push_presence(message, stats);
        } else {
            lane.push(message, limits, limits.total_bytes.saturating_sub(total_before), stats);
        }
        stats.queued_bytes = total_before + lane.bytes;
    }

    fn pop(&mut self) -> Option<BusEvent> {
        if let Some(event) = self.link.pop_front().or_else(|| self.unsent.pop_front()) {
            return Some(event);
        }
        let agent = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&agent)?;
        let before = lane.bytes;
        let event = lane.pop(&agent);
        self.stats.queued_bytes -= before - lane.bytes;
        self.stats.delivered += u64::from(matches!(event, Some(BusEvent::Message(_))));
        let overflow = matches!(event, Some(BusEvent::Overflow { .. }));
        if lane.messages.is_empty() && !lane.gap {
            self.lanes.remove(&agent);
        } else if overflow {
            // Telling it cost nobody a turn.
            self.turns.push_front(agent);
        } else {
            self.turns.push_back(agent);
        }
        event
    }
}

impl Lane {
    /// The latest wins, at its own place in the order.
    fn push_presence(&mut self, message: Inbound, stats: &mut FairStats) {
        if message.payload.len() > PRESENCE_BYTES_MAX {
            return self.drop_one(stats);
        }
        if let Some(at) = self.messages.iter().position(|m| m.kind == Kind::Presence) {
            self.remove(at);
            stats.replaced += 1;
        }
        self.append(message);
    }

    fn push(&mut self, message: Inbound, limits: &FairLimits, room: usize, stats: &mut FairStats) {
        let size = cost(&message);
        if size > limits.per_agent_bytes || self.bytes + size > room {
            return self.drop_one(stats);
        }
        while self.is_full(size, limits) {
            let Some(oldest) = self.messages.iter().position(|m| m.kind != Kind::Presence) else { break };
            self.remove(oldest);
            self.drop_one(stats);
        }
        self.append(message);
    }

    fn is_full(&self, size: usize, limits: &FairLimits) -> bool {
        let presence = self.messages.iter().find(|m| m.kind == Kind::Presence);
        let messages = self.messages.len() - usize::from(presence.is_some());
        let bytes = self.bytes - presence.map_or(0, cost);
        messages >= limits.per_agent || bytes + size > limits.per_agent_bytes
    }

    fn append(&mut self, message: Inbound) {
        self.bytes += cost(&message);
        self.messages.push_back(message);
    }

    fn remove(&mut self, at: usize) {
        if let Some(message) = self.messages.remove(at) {
            self.bytes -= cost(&message);
        }
    }

    fn drop_one(&mut self, stats: &mut FairStats) {
        self.gap = true;
        stats.dropped += 1;
    }

    fn pop(&mut self, agent: &AgentId) -> Option<BusEvent> {
        if self.gap && (!self.told || self.messages.is_empty()) {
            self.gap = false;
            self.told = true;
            return Some(BusEvent::Overflow { agent: agent.clone() });
        }
        let message = self.messages.pop_front()?;
        self.bytes -= cost(&message);
        Some(BusEvent::Message(message))
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
