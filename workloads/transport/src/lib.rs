//! How hub and agents reach each other over MQTT 5, carrying opaque payloads. Two seams: an agent's
//! [`Session`] (one object is one CONNECT) and the hub's [`AgentBus`]. Behind them stand rumqttc
//! (features `agent`, `bus`), the in-memory [`memory::Broker`] and the hub's embedded broker; the
//! module `suite` (feature `suite`) holds what all of them promise.
//!
//! What is promised is the weakest that any broker was seen to do: at least once while both ends
//! stay connected, in order per agent within one session, the latest retained message at connect.
//! A PUBACK says nothing about the hub. Correctness therefore rests on the state above this crate.

pub mod bus;
pub mod endpoint;
pub mod fair;
pub mod memory;
#[cfg(any(feature = "agent", feature = "bus"))]
pub mod mqtt;
pub mod session;
#[cfg(feature = "suite")]
pub mod suite;
#[cfg(feature = "tls")]
pub mod tls;
pub mod topic;

pub use bus::{AgentBus, BusEvent, BusEvents, BusLimits, BusSender, Inbound, Outgoing};
pub use endpoint::{Credentials, Endpoint, EndpointError};
pub use fair::{FairLimits, FairQueue, FairStats};
pub use session::{Connector, EndReason, Session, SessionConfig, SessionEvent, SessionLimits, Token, Will};
#[cfg(feature = "tls")]
pub use tls::{Floor, Own, Tls, TlsError, Trusted};
pub use topic::{Kind, Prefix, Topic, TopicError};

/// Why a message was not taken. Nothing of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("{size} bytes for '{topic}'; at most {max} are taken")]
    TooLarge { topic: String, size: usize, max: usize },
    #[error("'{0}' is not published from this side")]
    Direction(String),
    #[error("'{0}' is never retained")]
    Retain(String),
    #[error("the queue is full")]
    Full,
    #[error("not connected")]
    Down,
}
