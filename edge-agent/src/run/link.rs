//! The session as the core sees it: one CONNECT, messages out by effect, messages in decoded.
//!
//! What leaves is signed with the board's key, if it has joined. Signatures are checked here, of all that is said in the hub's name, before the core sees it; a message
//! that cannot be read is told to the core as `Rejected`, with the reason an operator will be shown.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use agent_core::api::{EffectId, Event, HubMessage, Outcome};
use bytes::Bytes;
use contract::codec::{self, CodecError, Encoded};
use contract::message::{Command, Desired, FromAgent, Hello, HubAnnounce, Presence, Reply};
use contract::signature::{Sign, Verify};
use contract::{AgentId, BoardId, Epoch, limits};
use ed25519_dalek::VerifyingKey;
use transport::session::SessionEvent;
use transport::{
    Connector, Credentials, Endpoint, Kind, Prefix, PublishError, Session, SessionConfig, Token, Topic, Will,
};

use crate::identity::Trust;
use crate::identity::trust::Verdict;

/// Messages that may wait for a PUBACK before replies of commands are held back; the core's own
/// messages may fill the rest of the session's queue.
const REPLIES_BELOW: usize = 32;

pub struct LinkConfig {
    pub connector: Connector,
    pub to: To,
    pub prefix: Prefix,
    pub agent: AgentId,
    pub board: BoardId,
    pub keep_alive: Duration,
    /// The hub's pinned key.
    pub hub_key: VerifyingKey,
}

impl LinkConfig {
    /// What a board that has joined says is signed with its own key; one beside its hub has none.
    fn signer(&self) -> Option<&dyn Sign> {
        match &self.to {
            To::Plain(..) => None,
            To::Joined(trust) => Some(trust.signer()),
        }
    }
}

/// To which broker, and as whom.
pub enum To {
    /// In plain, on this machine.
    Plain(Endpoint, Option<Credentials>),
    /// With the identity that the hub gave.
    Joined(Rc<Trust>),
}

pub struct Link {
    config: LinkConfig,
    session: Option<Live>,
    /// The hub is asked why the broker refused us; until then its CONNECT has not ended.
    asking: Option<Asking>,
}

struct Asking {
    id: EffectId,
    epoch: Epoch,
    will: Presence,
    verdict: Pin<Box<dyn Future<Output = Verdict>>>,
}

struct Live {
    session: Session,
    epoch: Epoch,
    /// The effect that opened it, until it is known how that went.
    connecting: Option<EffectId>,
    /// For the second time, with a new certificate.
    again: bool,
    unacknowledged: BTreeMap<Token, Option<EffectId>>,
    /// Said at the end, by the broker or by us.
    will: Presence,
}

impl Link {
    pub fn new(config: LinkConfig) -> Link {
        Link { config, session: None, asking: None }
    }

    pub fn connect(&mut self, id: EffectId, epoch: Epoch, will: &Presence) -> Vec<Event> {
        self.asking = None;
        self.open(id, epoch, will, false)
    }

    /// `again`: the certificate was renewed for it, so a second refusal is one.
    fn open(&mut self, id: EffectId, epoch: Epoch, will: &Presence, again: bool) -> Vec<Event> {
        let last = match codec::encode(codec::Kind::Presence, will, self.config.signer()) {
            Ok(Encoded { bytes, content_type }) => {
                Will { payload: bytes.into(), content_type: content_type.into() }
            }
            Err(why) => return vec![finished(id, Outcome::Fault(why.to_string()))],
        };
        let LinkConfig { to, agent, board, .. } = &self.config;
        let (endpoint, credentials, tls) = match to {
            To::Plain(endpoint, credentials) => (endpoint.clone(), credentials.clone(), None),
            To::Joined(trust) => match trust.way() {
                Ok(way) => (way.endpoint, Some(way.credentials), Some(way.tls)),
                Err(why) => return vec![finished(id, Outcome::Fault(why))],
            },
        };
        let mut config = SessionConfig::new(endpoint, agent.clone(), last);
        config.prefix = self.config.prefix.clone();
        // Two boards with one id live side by side and are seen, instead of pushing each other out.
        config.client_id = format!("{agent}.{}", &board.to_string()[..8]);
        config.credentials = credentials;
        config.tls = tls;
        config.keep_alive = self.config.keep_alive;
        let ended = self.drop_session("replaced by a new session");
        let session = self.config.connector.connect(config);
        let unacknowledged = BTreeMap::new();
        self.session =
            Some(Live { session, epoch, connecting: Some(id), again, unacknowledged, will: will.clone() });
        ended
    }

    /// Cuts what is left of a session; its unacknowledged messages are faults.
    fn drop_session(&mut self, why: &str) -> Vec<Event> {
        let Some(live) = self.session.take() else { return Vec::new() };
        let effects = live.connecting.into_iter().chain(live.unacknowledged.into_values().flatten());
        effects.map(|id| finished(id, Outcome::Fault(why.to_string()))).collect()
    }

    pub fn disconnect(&mut self) {
        if let Some(live) = &self.session {
            live.session.disconnect();
        }
    }

    /// The same words as the will, said by ourselves, and the end of the session.
    pub fn say_goodbye(&mut self) {
        if let Some(live) = &self.session {
            let last = FromAgent::Presence(live.will.clone());
            let _ = self.send(None, &last);
        }
        self.disconnect();
    }

    pub fn is_up(&self) -> bool {
        self.session.as_ref().is_some_and(|live| live.connecting.is_none())
    }

    /// Whether a reply may be added without crowding out what the core has to say.
    pub fn has_room(&self) -> bool {
        self.session.as_ref().is_none_or(|live| live.unacknowledged.len() < REPLIES_BELOW)
    }

    /// `Done` follows at PUBACK; an event comes back at once when it could not be queued.
    pub fn publish(&mut self, id: EffectId, message: &FromAgent) -> Option<Event> {
        self.send(Some(id), message).err().map(|why| finished(id, Outcome::Fault(why)))
    }

    /// A reply of a command that is being served; lost with its session, as the hub knows.
    pub fn reply(&mut self, reply: Reply) {
        let _ = self.send(None, &FromAgent::Reply(reply));
    }

    fn send(&mut self, id: Option<EffectId>, message: &FromAgent) -> Result<(), String> {
        let live = self.session.as_mut().ok_or("not connected")?;
        let key = self.config.signer();
        let (kind, encoded, retain) = match message {
            FromAgent::Presence(m) => (Kind::Presence, codec::encode(codec::Kind::Presence, m, key), true),
            FromAgent::Observed(m) => (Kind::Observed, codec::encode(codec::Kind::Observed, m, key), false),
            FromAgent::Events(m) => (Kind::Events, codec::encode(codec::Kind::Events, m, key), false),
            FromAgent::Reply(m) => {
                (Kind::Reply(m.id.clone()), codec::encode(codec::Kind::Reply, m, key), false)
            }
        };
        let Encoded { bytes, content_type } = encoded.map_err(|why| why.to_string())?;
        let sent = live.session.publish(kind, bytes.into(), content_type, retain);
        let token = sent.map_err(|why: PublishError| why.to_string())?;
        live.unacknowledged.insert(token, id);
        Ok(())
    }

    /// The next events of the session; never returns without one. Safe to cancel.
    pub async fn next(&mut self) -> Vec<Event> {
        if let Some(asking) = &mut self.asking {
            let verdict = (&mut asking.verdict).await;
            return self.on_verdict(verdict);
        }
        let Some(live) = &mut self.session else { return std::future::pending().await };
        match live.session.next().await {
            Some(event) => self.on_event(event),
            None => self.drop_session("the session ended"),
        }
    }

    fn on_event(&mut self, event: SessionEvent) -> Vec<Event> {
        let Some(live) = &mut self.session else { return Vec::new() };
        match event {
            SessionEvent::Connected => {
                live.connecting.take().map(|id| finished(id, Outcome::Done)).into_iter().collect()
            }
            SessionEvent::Published(token) => live
                .unacknowledged
                .remove(&token)
                .flatten()
                .map(|id| finished(id, Outcome::Done))
                .into_iter()
                .collect(),
            SessionEvent::Unsent { token, reason } => {
                let id = live.unacknowledged.remove(&token).flatten();
                id.map(|id| finished(id, Outcome::Fault(reason))).into_iter().collect()
            }
            SessionEvent::Message { topic, payload, content_type, .. } => {
                vec![self.read(&topic, payload, &content_type)]
            }
            SessionEvent::Disconnected { reason, refused } => {
                self.on_disconnected(&reason.to_string(), refused)
            }
        }
    }

    fn on_disconnected(&mut self, reason: &str, refused: bool) -> Vec<Event> {
        let Some(live) = &mut self.session else { return Vec::new() };
        let epoch = live.epoch;
        if let Some(id) = live.connecting.take() {
            let (again, will) = (live.again, live.will.clone());
            self.session = None;
            if let To::Joined(trust) = &self.config.to {
                match refused {
                    true if !again => {
                        let trust = Rc::clone(trust);
                        let verdict = Box::pin(async move { trust.ask().await });
                        self.asking = Some(Asking { id, epoch, will, verdict });
                        return Vec::new();
                    }
                    true => {}
                    false => trust.elsewhere(),
                }
            }
            let reason = reason.to_string();
            let outcome = if refused { Outcome::Refused(reason) } else { Outcome::Fault(reason) };
            return vec![finished(id, outcome)];
        }
        let mut events = self.drop_session(reason);
        events.push(Event::Disconnected { epoch, reason: reason.to_string(), refused });
        events
    }

    fn on_verdict(&mut self, verdict: Verdict) -> Vec<Event> {
        let Some(Asking { id, epoch, will, .. }) = self.asking.take() else { return Vec::new() };
        match verdict {
            Verdict::Renewed => self.open(id, epoch, &will, true),
            Verdict::Refused(why) => vec![finished(id, Outcome::Refused(limits::clip(&why)))],
        }
    }

    fn read(&self, topic: &Topic, payload: Bytes, content_type: &str) -> Event {
        let read = self.decode(topic, &payload, content_type);
        read.map(Event::Hub).unwrap_or_else(|why| {
            let reason = limits::clip(&format!("message {why}"));
            Event::Rejected { topic: topic.to_string(), reason }
        })
    }

    fn decode(&self, topic: &Topic, payload: &[u8], content_type: &str) -> Result<HubMessage, CodecError> {
        let plain = codec::unpack(payload, content_type)?;
        let key: Option<&dyn Verify> = Some(&self.config.hub_key);
        let kind = match topic {
            Topic::Hub => {
                return codec::open::<HubAnnounce>(codec::Kind::Announce, &plain, key)
                    .map(HubMessage::Announce);
            }
            Topic::Agent { kind, .. } => kind,
        };
        match kind {
            Kind::Desired => {
                let document = codec::open::<Desired>(codec::Kind::Desired, &plain, key)?;
                Ok(HubMessage::Desired { document: Box::new(document), signed: Arc::from(plain) })
            }
            Kind::Command(_) => {
                codec::open::<Command>(codec::Kind::Command, &plain, key).map(HubMessage::Command)
            }
            // The session subscribes to nothing else of ours.
            _ => codec::open::<Hello>(codec::Kind::Hello, &plain, key).map(HubMessage::Hello),
        }
    }
}

fn finished(id: EffectId, outcome: Outcome) -> Event {
    Event::Finished { id, outcome }
}
