//! An agent's session over TCP: one task from CONNECT to the end of the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{LastWill, LastWillProperties, PublishProperties};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use super::engine::{Heard, Listener, Plan, Request, ToSend, run};
use super::{PUBLISH_OVERHEAD_BYTES, options};
use crate::PublishError;
use crate::session::{
    INFLIGHT_MAX, Publish, Session, SessionConfig, SessionEvent, SessionLink, Token, Told, check_size,
};
use crate::topic::{Kind, Prefix, Topic, agent_filters};

/// Comes back with the acknowledgement; the slot is free when it does.
struct Tag {
    token: Token,
    slot: OwnedSemaphorePermit,
}

/// The packet limit of the broker while connected, 0 before and after.
type Up = Arc<AtomicUsize>;

/// Begin to connect. Within a tokio runtime.
pub(crate) fn connect(config: SessionConfig) -> Session {
    let (requests, mut receiver) = mpsc::unbounded_channel();
    let (events, queue) = mpsc::channel(config.limits.events.max(1));
    let up = Up::default();
    let plan = plan(&config);
    let mut ears = Ears { prefix: config.prefix.clone(), events: events.clone(), up: Arc::clone(&up) };
    let task = tokio::spawn(async move {
        let reason = run(plan, &mut receiver, &mut ears).await;
        ears.up.store(0, Ordering::Release);
        // Free the slots of what was never sent before the end is told.
        drop(receiver);
        let _ = events.send(SessionEvent::disconnected(reason).into()).await;
    });
    let link = Link { prefix: config.prefix.clone(), requests, up, task };
    Session::new(&config, Box::new(link), queue)
}

fn plan(config: &SessionConfig) -> Plan {
    let limits = &config.limits;
    let mut options = options(
        &config.endpoint,
        &config.client_id,
        config.credentials.as_ref(),
        config.keep_alive,
        limits.connect_timeout,
        INFLIGHT_MAX,
        config.tls.as_ref(),
    );
    let topic = Topic::agent(&config.agent, Kind::Presence).print(&config.prefix);
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: Some(config.will.content_type.clone()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let payload = config.will.payload.to_vec();
    options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true, Some(properties)));
    Plan {
        options,
        filters: agent_filters(&config.prefix, &config.agent).to_vec(),
        up_first: true,
        connect_timeout: limits.connect_timeout,
        ack_timeout: limits.ack_timeout,
    }
}

struct Ears {
    prefix: Prefix,
    events: mpsc::Sender<Told>,
    up: Up,
}

impl Listener<Tag> for Ears {
    async fn hear(&mut self, heard: Heard<Tag>) {
        let told = match heard {
            Heard::Up { packet_max } => {
                self.up.store(packet_max, Ordering::Release);
                Some(SessionEvent::Connected.into())
            }
            Heard::Message(publish) => message(&self.prefix, publish).map(Told::from),
            Heard::Acked(Tag { token, slot }) => {
                Some(Told { event: SessionEvent::Published(token), slot: Some(slot) })
            }
            Heard::Refused(Tag { token, slot }, reason) => {
                Some(Told { event: SessionEvent::Unsent { token, reason }, slot: Some(slot) })
            }
        };
        if let Some(told) = told {
            // The owner may be gone; then the task is about to be aborted.
            let _ = self.events.send(told).await;
        }
    }
}

/// What is not one of our topics, or empty (a cleared retained message), is nothing to us.
fn message(prefix: &Prefix, publish: rumqttc::v5::mqttbytes::v5::Publish) -> Option<SessionEvent> {
    let topic = Topic::parse(prefix, std::str::from_utf8(&publish.topic).ok()?).ok()?;
    let content_type = publish.properties.and_then(|p| p.content_type).unwrap_or_default();
    let (payload, retained) = (publish.payload, publish.retain);
    (!payload.is_empty()).then_some(SessionEvent::Message { topic, payload, content_type, retained })
}

struct Link {
    prefix: Prefix,
    requests: mpsc::UnboundedSender<Request<Tag>>,
    up: Up,
    task: JoinHandle<()>,
}

impl SessionLink for Link {
    fn publish(&self, message: Publish) -> Result<(), PublishError> {
        let packet_max = self.up.load(Ordering::Acquire);
        if packet_max == 0 {
            return Err(PublishError::Down);
        }
        let Publish { token, topic, payload, content_type, retain, slot } = message;
        let printed = topic.print(&self.prefix);
        let around = printed.len() + content_type.len() + PUBLISH_OVERHEAD_BYTES;
        check_size(&topic, payload.len(), packet_max.saturating_sub(around))?;
        let properties = PublishProperties { content_type: Some(content_type), ..Default::default() };
        let tag = Tag { token, slot };
        let message = Box::new(ToSend { tag, topic: printed, payload, retain, properties });
        self.requests.send(Request::Publish(message)).map_err(|_| PublishError::Down)
    }

    fn disconnect(&self) {
        self.up.store(0, Ordering::Release);
        // Fails when the session has ended, as it should.
        let _ = self.requests.send(Request::Disconnect);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}
