//! The hub's seam: one bus to all agents. Outbound is a bounded queue; inbound is fair per agent
//! (`fair`): who floods loses his own messages, is named, and is then asked to report in full.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::AgentId;
use contract::limits::WIRE_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::PublishError;
use crate::fair::{FairLimits, FairQueue, FairStats};
use crate::session::check_size;
use crate::topic::{Kind, Topic};

/// Messages published and not yet taken by the broker: 256 × 240 KiB = 60 MiB at the very worst,
/// a few hundred KiB in practice.
pub const QUEUE_DEFAULT: usize = 256;
/// How long [`BusSender::publish`] waits for room. A broker that takes nothing for longer is down.
pub const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);

/// A message to one agent, or the announcement to all.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub topic: Topic,
    pub payload: Bytes,
    pub content_type: String,
    pub retain: bool,
    /// The broker throws it away when it could not deliver it for so long.
    pub expiry: Option<Duration>,
}

impl Outgoing {
    pub fn to_agent(agent: &AgentId, kind: Kind, payload: Bytes, content_type: &str) -> Outgoing {
        let retain = kind == Kind::Desired;
        let content_type = content_type.to_string();
        Outgoing { topic: Topic::agent(agent, kind), payload, content_type, retain, expiry: None }
    }
}

/// A message from one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    pub agent: AgentId,
    pub kind: Kind,
    pub payload: Bytes,
    /// Empty when the sender gave none.
    pub content_type: String,
    /// From before this connection of the bus.
    pub retained: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum BusEvent {
    /// The broker is there and the bus subscribed. What was published before is to be sent again.
    Up,
    Down {
        reason: String,
    },
    /// The broker refused a message of the hub's: a matter of its access rules, for a person.
    Unsent {
        topic: Topic,
        reason: String,
    },
    Message(Inbound),
    /// Messages of this agent were dropped here: ask it for a full report.
    Overflow {
        agent: AgentId,
    },
}

/// A place in the bounded outbound queue, free again when dropped.
#[derive(Debug)]
pub struct Slot(#[allow(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

/// What stands behind a bus.
pub trait BusLink: Send + Sync {
    /// Take the message, or refuse it at once; the slot is dropped when the message is done with.
    fn publish(&self, message: Outgoing, slot: Slot) -> Result<(), PublishError>;
    /// Cut an agent's sessions. `false` where a broker offers no such thing.
    fn kick(&self, agent: &AgentId) -> bool;
}

/// The bus as its maker hands it over.
pub struct AgentBus {
    pub sender: BusSender,
    pub events: BusEvents,
}

impl AgentBus {
    pub fn new(link: Arc<dyn BusLink>, inbound: Arc<FairQueue>, queue: usize) -> AgentBus {
        let slots = Arc::new(Semaphore::new(queue));
        AgentBus { sender: BusSender { link, slots }, events: BusEvents { inbound } }
    }

    pub async fn next(&mut self) -> Option<BusEvent> {
        self.events.next().await
    }
}

/// Publishes to agents. Cheap to clone; the bus ends when the last one is dropped.
#[derive(Clone)]
pub struct BusSender {
    link: Arc<dyn BusLink>,
    slots: Arc<Semaphore>,
}

impl BusSender {
    /// Queue a message, or refuse it at once: full, down, too large, or not the hub's to say.
    pub fn try_publish(&self, message: Outgoing) -> Result<(), PublishError> {
        check(&message)?;
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| PublishError::Full)?;
        self.link.publish(message, Slot(slot))
    }

    /// The same, waiting for room at most [`ROOM_WAIT_MAX`].
    pub async fn publish(&self, message: Outgoing) -> Result<(), PublishError> {
        check(&message)?;
        let room = Arc::clone(&self.slots).acquire_owned();
        let slot = tokio::time::timeout(ROOM_WAIT_MAX, room).await;
        let slot = slot.ok().and_then(Result::ok).ok_or(PublishError::Full)?;
        self.link.publish(message, Slot(slot))
    }

    /// Make the broker forget what it retains of an agent that is no more.
    pub async fn forget(&self, agent: &AgentId) -> Result<(), PublishError> {
        for kind in [Kind::Desired, Kind::Presence] {
            let mut empty = Outgoing::to_agent(agent, kind, Bytes::new(), "");
            empty.retain = true;
            self.publish(empty).await?;
        }
        Ok(())
    }

    /// Cut an agent's sessions; `false` over an external broker, which offers no such thing.
    pub fn kick(&self, agent: &AgentId) -> bool {
        self.link.kick(agent)
    }
}

/// The hub says its own topics, retains only what is meant to be, and clears what it retained.
fn check(message: &Outgoing) -> Result<(), PublishError> {
    let clears = message.retain && message.payload.is_empty();
    let (ours, may_retain) = match &message.topic {
        Topic::Hub => (true, true),
        Topic::Agent { kind, .. } => (!kind.from_agent() || clears, kind.may_retain()),
    };
    if !ours {
        return Err(PublishError::Direction(message.topic.to_string()));
    }
    if message.retain && !may_retain {
        return Err(PublishError::Retain(message.topic.to_string()));
    }
    check_size(&message.topic, message.payload.len(), WIRE_BYTES_MAX)
}

/// What agents say, and how the broker is.
pub struct BusEvents {
    inbound: Arc<FairQueue>,
}

impl BusEvents {
    /// The next event; `None` when the bus has ended. Safe to cancel.
    pub async fn next(&mut self) -> Option<BusEvent> {
        self.inbound.pop().await
    }

    /// What is already here, without waiting.
    pub fn try_next(&mut self) -> Option<BusEvent> {
        self.inbound.try_pop()
    }

    pub fn stats(&self) -> FairStats {
        self.inbound.stats()
    }

    /// The same, for somebody else than whoever takes the events.
    pub fn meter(&self) -> impl Fn() -> FairStats + Send + Sync + use<> {
        let inbound = Arc::clone(&self.inbound);
        move || inbound.stats()
    }
}

/// Limits of a bus, for whoever makes one.
#[derive(Debug, Clone)]
pub struct BusLimits {
    pub queue: usize,
    pub fair: FairLimits,
}

impl Default for BusLimits {
    fn default() -> BusLimits {
        BusLimits { queue: QUEUE_DEFAULT, fair: FairLimits::default() }
    }
}
