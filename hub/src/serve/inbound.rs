//! What comes from agents: bytes into messages, or a named rejection. Nothing unread reaches the core, and
//! nothing that the board's own key has not signed, if the board has joined: whoever runs the broker, or
//! holds another board's key, does not speak for it.

use contract::codec::{self, CodecError, Kind as Envelope};
use contract::message::{FromAgent, Reply};
use contract::signature::Verify;
use hub_core::api::Event;
use hub_core::refused::Why;
use hub_core::trust::Trust;
use transport::{BusEvent, Inbound, Kind, Topic};

/// Whose word is taken.
#[derive(Debug, Clone, Copy)]
pub struct Ears {
    /// Only what boards say that have joined. Otherwise the broker alone answers for the others: the
    /// embedded one asks them for a password, one on this machine is this machine's.
    pub joined_only: bool,
}

struct Wrong {
    why: Why,
    reason: String,
}

impl Ears {
    /// None for what says nothing: a cleared retained message.
    pub fn event(self, trust: &Trust, event: BusEvent) -> Option<Event> {
        match event {
            BusEvent::Up => Some(Event::BusUp),
            BusEvent::Down { reason } => Some(Event::BusDown { reason }),
            BusEvent::Overflow { agent } => Some(Event::Overflow { agent }),
            BusEvent::Unsent { topic, reason } => Some(unsent(&topic, &reason)),
            BusEvent::Message(message) if message.payload.is_empty() => None,
            BusEvent::Message(message) => Some(self.message(trust, message)),
        }
    }

    fn message(self, trust: &Trust, message: Inbound) -> Event {
        match self.decode(trust, &message) {
            Ok(decoded) => Event::Agent { agent: message.agent, message: decoded },
            Err(Wrong { why, reason }) => {
                let reason = format!("a message on '{}' {reason}", message.kind);
                Event::Rejected { agent: Some(message.agent), why, reason }
            }
        }
    }

    fn decode(self, trust: &Trust, message: &Inbound) -> Result<FromAgent, Wrong> {
        // What is large or packed is not unpacked for a stranger.
        let key = self.key(trust, message)?;
        let plain = codec::unpack(&message.payload, &message.content_type)?;
        let decoded = match &message.kind {
            Kind::Presence => FromAgent::Presence(codec::open(Envelope::Presence, &plain, key)?),
            Kind::Observed => FromAgent::Observed(codec::open(Envelope::Observed, &plain, key)?),
            Kind::Events => FromAgent::Events(codec::open(Envelope::Events, &plain, key)?),
            Kind::Reply(id) => {
                let reply: Reply = codec::open(Envelope::Reply, &plain, key)?;
                if reply.id != *id {
                    return Err(Wrong::new(Why::Misplaced, format!("carries the id '{}'", reply.id)));
                }
                FromAgent::Reply(reply)
            }
            Kind::Desired | Kind::Hello | Kind::Command(_) => {
                return Err(Wrong::new(Why::Misplaced, "is the hub's own to say"));
            }
        };
        Ok(decoded)
    }

    /// Which key has to have signed it.
    fn key<'a>(self, trust: &'a Trust, message: &Inbound) -> Result<Option<&'a dyn Verify>, Wrong> {
        let Some(identity) = trust.identities.get(&message.agent) else {
            return match self.joined_only {
                false => Ok(None),
                true => Err(Wrong::new(
                    Why::NotJoined,
                    "is of nobody who has joined, and this broker answers for nobody: edge-agent join",
                )),
            };
        };
        match &identity.public {
            Some(public) => Ok(Some(public)),
            None => Err(Wrong::new(
                Why::NotJoined,
                "cannot be checked: it joined with a hub that kept no keys; it may join again",
            )),
        }
    }
}

impl Wrong {
    fn new(why: Why, reason: impl Into<String>) -> Wrong {
        Wrong { why, reason: reason.into() }
    }
}

impl From<CodecError> for Wrong {
    fn from(e: CodecError) -> Wrong {
        let why = match e {
            CodecError::Unsigned => Why::Unsigned,
            CodecError::OtherKey { .. } | CodecError::BadSignature => Why::Forged,
            CodecError::Kind { .. } => Why::Misplaced,
            _ => Why::Damaged,
        };
        Wrong::new(why, e.to_string())
    }
}

/// A broker's access rules: told to the operator like any message that got lost.
fn unsent(topic: &Topic, reason: &str) -> Event {
    let agent = match topic {
        Topic::Agent { agent, .. } => Some(agent.clone()),
        Topic::Hub => None,
    };
    let reason = format!("the broker refused a message on '{topic}': {reason}");
    Event::Rejected { agent, why: Why::Misplaced, reason }
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
