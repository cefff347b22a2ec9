//! The agent's seam: what one MQTT session is. One [`Session`] is one CONNECT, never more: when it
//! ends, the caller decides when to try again, with a new epoch in a new will.
//!
//! Sessions are clean (`clean_start`, expiry 0). Desired and the hub's announcement are retained
//! and resent by the hub; a command must never wait for an agent that is away; and what an agent
//! has to say it keeps itself until the hub acknowledges it. A broker's memory of us could only
//! deliver late what is known better by then.
//!
//! ```text
//! connect ─▶ (Connected ─▶ Message | Published | Unsent …)? ─▶ Disconnected ─▶ end
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use contract::AgentId;
use contract::limits::WIRE_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::fair::PRESENCE_BYTES_MAX;
use crate::topic::{Kind, Prefix, Topic};
use crate::{Credentials, Endpoint, PublishError, memory};

/// Unacknowledged messages in both directions on the wire: 16 × 240 KiB is the most that a broken
/// link can hold. More brings nothing: one round trip carries sixteen.
pub const INFLIGHT_MAX: u16 = 16;
/// A ping is ~125 bytes with headers; 144 a day are 18 KiB of the 100 KiB that an idle day may cost.
pub const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(600);
/// Shorter, and rumqttc panics.
pub const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);

/// How to connect, and as whom.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    pub endpoint: Endpoint,
    pub prefix: Prefix,
    pub agent: AgentId,
    /// The agent's id, or that and `.<more>`: two boards with one id then live side by side and are
    /// seen. Two sessions with one client id push each other out.
    pub client_id: String,
    pub credentials: Option<Credentials>,
    /// For an encrypted endpoint.
    #[cfg(feature = "tls")]
    pub tls: Option<crate::Tls>,
    pub keep_alive: Duration,
    pub will: Will,
    pub limits: SessionLimits,
}

impl SessionConfig {
    pub fn new(endpoint: Endpoint, agent: AgentId, will: Will) -> SessionConfig {
        let client_id = agent.to_string();
        SessionConfig {
            endpoint,
            prefix: Prefix::default(),
            agent,
            client_id,
            credentials: None,
            #[cfg(feature = "tls")]
            tls: None,
            keep_alive: KEEP_ALIVE_DEFAULT,
            will,
            limits: SessionLimits::default(),
        }
    }
}

/// What the broker says on the agent's presence topic, retained, when the link breaks. Like any
/// presence at most [`PRESENCE_BYTES_MAX`].
#[derive(Debug, Clone)]
pub struct Will {
    pub payload: Bytes,
    pub content_type: String,
}

/// Every queue and wait of a session has an end.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Largest payload, both ways.
    pub payload_max: usize,
    /// Messages published whose acknowledgement was not taken yet; one more is refused at once.
    pub queue: usize,
    /// Events that the caller has not taken yet; past it the link is left unread.
    pub events: usize,
    /// From the first packet to the acknowledged subscription.
    pub connect_timeout: Duration,
    /// With something unanswered and nothing heard for longer, the link is given up. The largest
    /// message takes 60 s at 32 kbit/s.
    pub ack_timeout: Duration,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits {
            payload_max: WIRE_BYTES_MAX,
            queue: 64,
            events: 64,
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(60),
        }
    }
}

/// Names one published message of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// Connected *and subscribed*: an answer to what is published now will arrive. Always the first
    /// event of a session that came to be.
    Connected,
    Message {
        topic: Topic,
        payload: Bytes,
        /// Empty when the sender gave none.
        content_type: String,
        /// From before this session.
        retained: bool,
    },
    /// The broker has it. That says nothing about the hub.
    Published(Token),
    /// The broker refused it; the session goes on.
    Unsent { token: Token, reason: String },
    /// The last event.
    Disconnected {
        reason: EndReason,
        /// The broker does not want us as we are: trying again soon is useless.
        refused: bool,
    },
}

/// Why a session ended, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    #[error("no broker there: {0}")]
    Unreachable(String),
    #[error("the broker refused us: {0}")]
    Refused(String),
    #[error("the broker asks to come later: {0}")]
    Later(String),
    #[error("another session with the same client id took over")]
    TakenOver,
    #[error("the broker ended the session: {0}")]
    Ended(String),
    #[error("the link broke: {0}")]
    Lost(String),
    #[error("the broker did not answer for {0:?}")]
    Silent(Duration),
    #[error("the broker broke the protocol: {0}")]
    Protocol(String),
    #[error("disconnected as asked")]
    Clean,
}

impl SessionEvent {
    pub fn disconnected(reason: EndReason) -> SessionEvent {
        let refused = matches!(reason, EndReason::Refused(_));
        SessionEvent::Disconnected { reason, refused }
    }
}

/// A message on its way. The slot it holds is one place of the bounded queue, free again when the
/// message is dropped: acknowledged, refused, or lost with its session.
pub(crate) struct Publish {
    pub token: Token,
    pub topic: Topic,
    pub payload: Bytes,
    pub content_type: String,
    pub retain: bool,
    pub slot: OwnedSemaphorePermit,
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} ({} bytes)", self.token, self.topic, self.payload.len())
    }
}

/// An event on its way to the owner. The slot of an acknowledged message is free only when its
/// acknowledgement is taken, so that untaken acknowledgements are bounded too.
#[derive(Debug)]
pub(crate) struct Told {
    pub event: SessionEvent,
    #[allow(dead_code, reason = "held, never read")]
    pub slot: Option<OwnedSemaphorePermit>,
}

impl From<SessionEvent> for Told {
    fn from(event: SessionEvent) -> Told {
        Told { event, slot: None }
    }
}

/// What stands behind a session. Dropping it cuts the link without a goodbye.
pub(crate) trait SessionLink: Send + Sync {
    fn publish(&self, message: Publish) -> Result<(), PublishError>;
    fn disconnect(&self);
}

/// One CONNECT and what follows. Dropped without [`Session::disconnect`] it ends like a crash: the
/// broker publishes the will.
pub struct Session {
    agent: AgentId,
    payload_max: usize,
    slots: Arc<Semaphore>,
    tokens: AtomicU64,
    link: Box<dyn SessionLink>,
    events: mpsc::Receiver<Told>,
}

impl Session {
    pub(crate) fn new(
        config: &SessionConfig,
        link: Box<dyn SessionLink>,
        events: mpsc::Receiver<Told>,
    ) -> Session {
        Session {
            agent: config.agent.clone(),
            payload_max: config.limits.payload_max,
            slots: Arc::new(Semaphore::new(config.limits.queue)),
            tokens: AtomicU64::new(1),
            link,
            events,
        }
    }

    /// One that ended before it began.
    fn ended(config: &SessionConfig, reason: EndReason) -> Session {
        let (events, queue) = mpsc::channel(1);
        let _ = events.try_send(SessionEvent::disconnected(reason).into());
        Session::new(config, Box::new(Nowhere), queue)
    }

    /// Queue a message on one of the agent's own topics. Never waits: a full queue refuses.
    pub fn publish(
        &self,
        kind: Kind,
        payload: Bytes,
        content_type: &str,
        retain: bool,
    ) -> Result<Token, PublishError> {
        let topic = Topic::agent(&self.agent, kind.clone());
        if !kind.from_agent() {
            return Err(PublishError::Direction(topic.to_string()));
        }
        if retain && !kind.may_retain() {
            return Err(PublishError::Retain(topic.to_string()));
        }
        let presence = kind == Kind::Presence;
        let max = if presence { self.payload_max.min(PRESENCE_BYTES_MAX) } else { self.payload_max };
        check_size(&topic, payload.len(), max)?;
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| PublishError::Full)?;
        let token = Token(self.tokens.fetch_add(1, Ordering::Relaxed));
        let content_type = content_type.to_string();
        self.link.publish(Publish { token, topic, payload, content_type, retain, slot })?;
        Ok(token)
    }

    /// The next event; `None` after the last. Safe to cancel.
    pub async fn next(&mut self) -> Option<SessionEvent> {
        self.events.recv().await.map(|told| told.event)
    }

    /// What has already happened, without waiting.
    pub fn try_next(&mut self) -> Option<SessionEvent> {
        self.events.try_recv().ok().map(|told| told.event)
    }

    /// Say goodbye once everything published before is acknowledged, and withdraw the will; publish
    /// the offline presence first. `Disconnected` follows within the acknowledgement time-out.
    pub fn disconnect(&self) {
        self.link.disconnect();
    }
}

/// The link of a session that never was.
struct Nowhere;

impl SessionLink for Nowhere {
    fn publish(&self, _: Publish) -> Result<(), PublishError> {
        Err(PublishError::Down)
    }

    fn disconnect(&self) {}
}

pub(crate) fn check_size(topic: &Topic, size: usize, max: usize) -> Result<(), PublishError> {
    if size > max {
        return Err(PublishError::TooLarge { topic: topic.to_string(), size, max });
    }
    Ok(())
}

/// How an agent's shell gets its sessions.
#[derive(Debug, Clone)]
pub enum Connector {
    /// Over TCP, to the endpoint of the configuration.
    #[cfg(feature = "agent")]
    Mqtt,
    /// Inside this process; the endpoint is ignored.
    Memory(memory::Broker),
}

impl Connector {
    /// Begin to connect; how it went is told by the session's events. Within a tokio runtime.
    pub fn connect(&self, config: SessionConfig) -> Session {
        let will = config.will.payload.len();
        if will == 0 || will > PRESENCE_BYTES_MAX {
            let reason = format!("a will of {will} bytes; 1 to {PRESENCE_BYTES_MAX} are taken");
            return Session::ended(&config, EndReason::Refused(reason));
        }
        match self {
            // Never plain where encrypted was asked for.
            #[cfg(feature = "agent")]
            Connector::Mqtt if config.endpoint.is_tls() && config.tls.is_none() => {
                Session::ended(&config, EndReason::Refused("there is no certificate to come with".into()))
            }
            #[cfg(feature = "agent")]
            Connector::Mqtt => crate::mqtt::session::connect(config),
            Connector::Memory(broker) => broker.connect(config),
        }
    }
}
