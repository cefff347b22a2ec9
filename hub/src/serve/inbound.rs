//! What comes from agents: bytes into messages, or a named rejection. Nothing unread reaches the core.

use contract::codec::{self, CodecError, Kind as Envelope};
use contract::message::{FromAgent, Reply};
use hub_core::api::Event;
use transport::{BusEvent, Inbound, Kind, Topic};

/// None for what says nothing: a cleared retained message.
pub fn event(event: BusEvent) -> Option<Event> {
    match event {
        BusEvent::Up => Some(Event::BusUp),
        BusEvent::Down { reason } => Some(Event::BusDown { reason }),
        BusEvent::Overflow { agent } => Some(Event::Overflow { agent }),
        // A broker's access rules: told to the operator like any message that got lost.
        BusEvent::Unsent { topic, reason } => {
            let agent = match &topic {
                Topic::Agent { agent, .. } => Some(agent.clone()),
                Topic::Hub => None,
            };
            Some(Event::Rejected {
                agent,
                reason: format!("the broker refused a message on '{topic}': {reason}"),
            })
        }
        BusEvent::Message(message) if message.payload.is_empty() => None,
        BusEvent::Message(message) => Some(message_event(message)),
    }
}

fn message_event(message: Inbound) -> Event {
    match decode(&message) {
        Ok(decoded) => Event::Agent { agent: message.agent, message: decoded },
        Err(reason) => {
            let reason = format!("a message on '{}' {reason}", message.kind);
            Event::Rejected { agent: Some(message.agent), reason }
        }
    }
}

fn decode(message: &Inbound) -> Result<FromAgent, String> {
    let Inbound { payload, content_type, .. } = message;
    fn read<T: serde::de::DeserializeOwned>(
        kind: Envelope,
        bytes: &[u8],
        content_type: &str,
    ) -> Result<T, CodecError> {
        codec::decode(kind, bytes, content_type, None)
    }
    let decoded = match &message.kind {
        Kind::Presence => read(Envelope::Presence, payload, content_type).map(FromAgent::Presence),
        Kind::Observed => read(Envelope::Observed, payload, content_type).map(FromAgent::Observed),
        Kind::Events => read(Envelope::Events, payload, content_type).map(FromAgent::Events),
        Kind::Reply(id) => {
            let reply: Reply = read(Envelope::Reply, payload, content_type).map_err(|e| e.to_string())?;
            if reply.id != *id {
                return Err(format!("carries the id '{}'", reply.id));
            }
            Ok(FromAgent::Reply(reply))
        }
        Kind::Desired | Kind::Hello | Kind::Command(_) => return Err("is the hub's own to say".to_string()),
    };
    decoded.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use contract::Nonce;
    use contract::message::ReplyBody;

    fn inbound(kind: Kind, bytes: &[u8]) -> BusEvent {
        let (agent, payload) = ("a".parse().unwrap(), Bytes::copy_from_slice(bytes));
        BusEvent::Message(Inbound { agent, kind, payload, content_type: String::new(), retained: false })
    }

    #[test]
    fn garbage_is_named_and_a_foreign_reply_is_refused() {
        let rejected = |event| match super::event(event) {
            Some(Event::Rejected { agent: Some(_), reason }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(rejected(inbound(Kind::Observed, b"{")).contains("observed"));
        let reply =
            Reply { id: "x".parse().unwrap(), nonce: Nonce([0; 16]), seq: 0, body: ReplyBody::Accepted };
        let bytes = codec::seal(Envelope::Reply, &reply, None).unwrap();
        assert!(rejected(inbound(Kind::Reply("y".parse().unwrap()), &bytes)).contains("carries the id 'x'"));
        assert!(rejected(inbound(Kind::Observed, &bytes)).contains("Reply"));
        let fine = super::event(inbound(Kind::Reply("x".parse().unwrap()), &bytes));
        assert!(matches!(fine, Some(Event::Agent { message: FromAgent::Reply(_), .. })));
        assert_eq!(super::event(inbound(Kind::Presence, b"")), None);
    }
}
