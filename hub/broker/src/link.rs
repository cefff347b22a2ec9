//! The hub's bus within the broker's process: what the hub publishes goes straight to the router,
//! one message after the other, so that their order holds.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use contract::AgentId;
use rmqtt::codec::types::Publish as CodecPublish;
use rmqtt::codec::v5::PublishProperties;
use rmqtt::context::ServerContext;
use rmqtt::session::SessionState;
use rmqtt::types::{From, Id, Publish, QoS, Reason, TopicName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use transport::bus::{BusLink, Slot};
use transport::{FairQueue, Outgoing, PublishError};

use crate::end_sessions;
use crate::hooks::Hub;

enum Command {
    Publish(Box<Outgoing>, Slot),
    Kick(AgentId),
}

pub struct EmbeddedLink {
    /// Bounded by the slots; a kick is bounded by whoever asks for it, and is done at once.
    commands: mpsc::UnboundedSender<Command>,
    hub: Arc<Hub>,
    inbound: Arc<FairQueue>,
    task: JoinHandle<()>,
}

impl EmbeddedLink {
    pub fn start(scx: ServerContext, hub: Arc<Hub>, inbound: Arc<FairQueue>) -> EmbeddedLink {
        let (commands, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(obey(scx, Arc::clone(&hub), receiver));
        EmbeddedLink { commands, hub, inbound, task }
    }
}

impl BusLink for EmbeddedLink {
    fn publish(&self, message: Outgoing, slot: Slot) -> Result<(), PublishError> {
        if !self.hub.is_attached(&self.inbound) {
            return Err(PublishError::Down);
        }
        self.commands.send(Command::Publish(Box::new(message), slot)).map_err(|_| PublishError::Down)
    }

    fn kick(&self, agent: &AgentId) -> bool {
        self.commands.send(Command::Kick(agent.clone())).is_ok()
    }
}

impl Drop for EmbeddedLink {
    fn drop(&mut self) {
        self.task.abort();
        self.hub.detach_if(&self.inbound);
        self.inbound.close();
    }
}

async fn obey(scx: ServerContext, hub: Arc<Hub>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let id = Id::new(scx.node.id(), 0, None, None, "$hub".into(), Some("$hub".into()));
    while let Some(command) = commands.recv().await {
        match command {
            Command::Publish(message, slot) => {
                let Outgoing { topic, payload, content_type, retain, expiry } = *message;
                let printed = topic.print(hub.prefix());
                let publish = publish(printed.into(), payload, content_type, retain, expiry);
                let from = From::from_system(id.clone());
                if let Err(e) = SessionState::forwards(&scx, from, publish, false, expiry).await {
                    hub.unsent(topic, format!("{e:#}"));
                }
                drop(slot);
            }
            Command::Kick(agent) => {
                let theirs = |id: &Id| hub.is_agent(id, &agent);
                end_sessions(&scx, theirs, &Reason::ConnectKicked(true)).await;
            }
        }
    }
}

/// A message as the router takes it.
pub fn publish(
    topic: TopicName,
    payload: Bytes,
    content_type: String,
    retain: bool,
    expiry: Option<Duration>,
) -> Publish {
    let secs = expiry.map(|e| u32::try_from(e.as_secs().max(1)).unwrap_or(u32::MAX));
    let properties = PublishProperties {
        message_expiry_interval: secs.and_then(NonZeroU32::new),
        content_type: (!content_type.is_empty()).then(|| content_type.into()),
        ..PublishProperties::default()
    };
    let inner = CodecPublish {
        dup: false,
        retain,
        qos: QoS::AtLeastOnce,
        topic,
        packet_id: None,
        payload,
        properties: Some(properties),
    };
    Publish::new(Box::new(inner), None, None, Some(now_millis()))
}

/// rmqtt counts a message's expiry from this, by the same clock.
fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
