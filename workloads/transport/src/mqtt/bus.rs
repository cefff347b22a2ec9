//! The hub's bus over an external broker: one connection after the other, with growing pauses.
//!
//! While it is down publishing is refused, and what was queued is forgotten: at `Up` the hub sends
//! everything again that still matters, and asks every agent where it stands.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contract::AgentId;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::engine::{Heard, Listener, Plan, Request, ToSend, run};
use super::{PUBLISH_OVERHEAD_BYTES, options};
use crate::bus::{AgentBus, BusLimits, BusLink, Inbound, Outgoing, Slot};
use crate::fair::FairQueue;
use crate::session::check_size;
use crate::topic::{Prefix, Topic, hub_filters};
use crate::{Credentials, Endpoint, PublishError, Tls};

/// The hub's window: at 20 ms to a broker elsewhere 64 carry 3,200 messages a second.
const INFLIGHT_MAX: u16 = 64;
/// Pauses between attempts double from here…
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// …to here, each cut by up to a half at random: hubs that lost one broker do not return as one.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How to reach an external broker.
#[derive(Debug, Clone)]
pub struct BusConfig {
    pub endpoint: Endpoint,
    pub prefix: Prefix,
    /// Two hubs with one client id push each other out.
    pub client_id: String,
    pub credentials: Option<Credentials>,
    /// For an encrypted endpoint.
    pub tls: Option<Tls>,
    pub keep_alive: Duration,
    pub connect_timeout: Duration,
    /// With something unanswered and nothing heard for longer, the link is given up.
    pub ack_timeout: Duration,
    pub limits: BusLimits,
}

impl BusConfig {
    pub fn new(endpoint: Endpoint, client_id: &str) -> BusConfig {
        BusConfig {
            endpoint,
            prefix: Prefix::default(),
            client_id: client_id.to_string(),
            credentials: None,
            tls: None,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(20),
            limits: BusLimits::default(),
        }
    }
}

/// Begin to connect, and go on until the bus is dropped. Within a tokio runtime.
pub fn connect(config: BusConfig) -> AgentBus {
    let inbound = Arc::new(FairQueue::new(config.limits.fair.clone()));
    let (requests, receiver) = mpsc::unbounded_channel();
    let up = Arc::new(AtomicUsize::new(0));
    let queue = config.limits.queue;
    let prefix = config.prefix.clone();
    let ears = Ears { prefix: prefix.clone(), inbound: Arc::clone(&inbound), up: Arc::clone(&up) };
    let task = tokio::spawn(keep_up(config, receiver, ears));
    let link = Link { prefix, requests, up, task, inbound: Arc::clone(&inbound) };
    AgentBus::new(Arc::new(link), inbound, queue)
}

/// Comes back with the acknowledgement; the slot is free when it does.
struct Tag {
    topic: Topic,
    _slot: Slot,
}

async fn keep_up(config: BusConfig, mut requests: mpsc::UnboundedReceiver<Request<Tag>>, mut ears: Ears) {
    let mut attempt = 0;
    loop {
        while requests.try_recv().is_ok() {}
        let reason = run(plan(&config), &mut requests, &mut ears).await;
        if ears.up.swap(0, Ordering::AcqRel) != 0 {
            attempt = 0;
        }
        ears.inbound.down(reason.to_string());
        while requests.try_recv().is_ok() {}
        if requests.is_closed() {
            return;
        }
        tokio::time::sleep(pause(attempt)).await;
        attempt += 1;
    }
}

fn pause(attempt: u32) -> Duration {
    let full = PAUSE_MIN.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
    // Each `RandomState` is seeded anew; that is all the chance that is needed here.
    let chance = RandomState::new().hash_one(attempt) % 1000;
    full.mul_f64(1.0 - chance as f64 / 2000.0)
}

fn plan(config: &BusConfig) -> Plan {
    let options = options(
        &config.endpoint,
        &config.client_id,
        config.credentials.as_ref(),
        config.keep_alive,
        config.connect_timeout,
        INFLIGHT_MAX,
        config.tls.as_ref(),
    );
    Plan {
        options,
        filters: hub_filters(&config.prefix).to_vec(),
        // Every retained presence may come before the acknowledgement; the fair queue tells `Up`
        // first anyway.
        up_first: false,
        connect_timeout: config.connect_timeout,
        ack_timeout: config.ack_timeout,
    }
}

struct Ears {
    prefix: Prefix,
    inbound: Arc<FairQueue>,
    up: Arc<AtomicUsize>,
}

impl Listener<Tag> for Ears {
    /// Never waits, so that the link is always read: a broker drops for all what its one subscriber
    /// does not take.
    async fn hear(&mut self, heard: Heard<Tag>) {
        match heard {
            Heard::Up { packet_max } => {
                self.up.store(packet_max, Ordering::Release);
                self.inbound.up();
            }
            Heard::Message(publish) => {
                if let Some(message) = inbound(&self.prefix, publish) {
                    self.inbound.push(message);
                }
            }
            Heard::Acked(_) => {}
            Heard::Refused(tag, reason) => self.inbound.unsent(tag.topic, reason),
        }
    }
}

/// What is not an agent's to say, or empty (a cleared retained message), is nothing to us.
fn inbound(prefix: &Prefix, publish: Publish) -> Option<Inbound> {
    let topic = Topic::parse(prefix, std::str::from_utf8(&publish.topic).ok()?).ok()?;
    let Topic::Agent { agent, kind } = topic else { return None };
    let content_type = publish.properties.and_then(|p| p.content_type).unwrap_or_default();
    let (payload, retained) = (publish.payload, publish.retain);
    let taken = kind.from_agent() && !payload.is_empty();
    taken.then_some(Inbound { agent, kind, payload, content_type, retained })
}

struct Link {
    prefix: Prefix,
    requests: mpsc::UnboundedSender<Request<Tag>>,
    up: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    inbound: Arc<FairQueue>,
}

impl BusLink for Link {
    fn publish(&self, message: Outgoing, slot: Slot) -> Result<(), PublishError> {
        let packet_max = self.up.load(Ordering::Acquire);
        if packet_max == 0 {
            return Err(PublishError::Down);
        }
        let Outgoing { topic, payload, content_type, retain, expiry } = message;
        let printed = topic.print(&self.prefix);
        let around = printed.len() + content_type.len() + PUBLISH_OVERHEAD_BYTES;
        check_size(&topic, payload.len(), packet_max.saturating_sub(around))?;
        let properties = PublishProperties {
            content_type: Some(content_type),
            message_expiry_interval: expiry.map(|e| e.as_secs().clamp(1, u32::MAX.into()) as u32),
            ..Default::default()
        };
        let tag = Tag { topic, _slot: slot };
        let message = Box::new(ToSend { tag, topic: printed, payload, retain, properties });
        self.requests.send(Request::Publish(message)).map_err(|_| PublishError::Down)
    }

    fn kick(&self, _: &AgentId) -> bool {
        false
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.inbound.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_differ() {
        for attempt in 0..40 {
            let full = PAUSE_MIN.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
            let pauses: Vec<Duration> = (0..50).map(|_| pause(attempt)).collect();
            assert!(pauses.iter().all(|p| *p <= full && *p >= full / 2), "{attempt}");
            assert!(pauses.iter().any(|p| *p != pauses[0]), "{attempt}");
        }
    }
}
