//! One MQTT connection from CONNECT to its end: who waits for which acknowledgement, and when a
//! silent link is given up.
//!
//! rumqttc's event loop reconnects by itself when polled after an error, and forgets which message
//! an acknowledgement belongs to. So it is polled until its first error and then dropped, and the
//! tags of messages are kept here: its `Outgoing::Publish` events come in the order of requests.
//!
//! Three things run until the first of them ends: the poll (never cancelled half-way, or a flush
//! would be late), the forwarder of requests, and the deadline.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Filter, Packet, PubAckReason, Publish, PublishProperties, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::reason::end_reason;
use crate::session::EndReason;

/// Requests between the forwarder and rumqttc; the real queue is bounded before it.
const HANDOVER: usize = 4;
/// Messages that a broker may send before it acknowledges an agent's subscription; two are retained.
const EARLY_MAX: usize = 16;
/// A broker closes after a DISCONNECT; we need not wait for it long.
const GOODBYE_WAIT: Duration = Duration::from_secs(1);
/// Longer than any link lives.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// How one connection is made.
pub(super) struct Plan {
    pub options: MqttOptions,
    pub filters: Vec<String>,
    /// Keep messages back until the subscription is acknowledged, so that `Up` comes first.
    pub up_first: bool,
    pub connect_timeout: Duration,
    pub ack_timeout: Duration,
}

/// What the owner sends. The tag comes back with the acknowledgement.
pub(super) enum Request<T> {
    Publish(Box<ToSend<T>>),
    #[cfg_attr(not(feature = "agent"), allow(dead_code, reason = "a hub's bus is just dropped"))]
    Disconnect,
}

pub(super) struct ToSend<T> {
    pub tag: T,
    pub topic: String,
    pub payload: bytes::Bytes,
    pub retain: bool,
    pub properties: PublishProperties,
}

/// What the owner hears.
pub(super) enum Heard<T> {
    /// Accepted and subscribed. The largest packet that the broker takes.
    Up {
        packet_max: usize,
    },
    Message(Publish),
    Acked(T),
    Refused(T, String),
}

/// Where it is heard. Waiting in here leaves the link unread.
pub(super) trait Listener<T>: Send {
    fn hear(&mut self, heard: Heard<T>) -> impl Future<Output = ()> + Send;
}

/// Connect, subscribe and carry messages until the connection ends.
pub(super) async fn run<T: Send>(
    plan: Plan,
    requests: &mut mpsc::UnboundedReceiver<Request<T>>,
    listener: &mut impl Listener<T>,
) -> EndReason {
    let (client, events) = AsyncClient::new(plan.options.clone(), HANDOVER);
    let filters = plan.filters.iter().map(|f| Filter::new(f.clone(), QoS::AtLeastOnce));
    if client.try_subscribe_many(filters).is_err() {
        return EndReason::Protocol("a subscription that rumqttc refuses".into());
    }
    let wait = Waiting::new(Instant::now() + plan.connect_timeout, plan.ack_timeout);
    let early = if plan.up_first { Some(Vec::new()) } else { None };
    let pump = Pump { events, wait: &wait, inflight: HashMap::new(), early, packet_max: None };
    tokio::select! {
        reason = pump.run(listener) => reason,
        reason = forward(&client, requests, &wait) => reason,
    }
}

/// Hand requests over, in order. Ends only when there will be no more.
async fn forward<T>(
    client: &AsyncClient,
    requests: &mut mpsc::UnboundedReceiver<Request<T>>,
    wait: &Waiting<T>,
) -> EndReason {
    while let Some(request) = requests.recv().await {
        let Request::Publish(message) = request else {
            return leave(client, wait).await;
        };
        let ToSend { tag, topic, payload, retain, properties } = *message;
        wait.queued(tag);
        let sent = client.publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties).await;
        if sent.is_err() {
            return EndReason::Protocol("a topic that rumqttc refuses".into());
        }
    }
    // The owner is gone: this ends like a crash.
    EndReason::Lost("dropped".into())
}

/// Say goodbye when everything is acknowledged; the pump sees it on its way. Who is not yet let in
/// just goes.
async fn leave<T>(client: &AsyncClient, wait: &Waiting<T>) -> EndReason {
    if wait.connecting() {
        return EndReason::Clean;
    }
    loop {
        let idle = wait.idle.notified();
        if wait.is_idle() {
            break;
        }
        idle.await;
    }
    let _ = client.disconnect().await;
    std::future::pending().await
}

/// What we wait for, shared by forwarder and pump.
struct Waiting<T> {
    state: Mutex<WaitState<T>>,
    ack_timeout: Duration,
    /// The deadline may have come nearer.
    changed: Notify,
    idle: Notify,
}

struct WaitState<T> {
    /// Handed to rumqttc, not yet on the wire.
    queued: VecDeque<T>,
    inflight: usize,
    pinged: bool,
    /// Until the subscription is acknowledged.
    connect_by: Option<Instant>,
    /// Since when there has been something to wait for.
    since: Option<Instant>,
    heard: Instant,
}

impl<T> Waiting<T> {
    fn new(connect_by: Instant, ack_timeout: Duration) -> Waiting<T> {
        let state = WaitState {
            queued: VecDeque::new(),
            inflight: 0,
            pinged: false,
            connect_by: Some(connect_by),
            since: None,
            heard: Instant::now(),
        };
        Waiting { state: Mutex::new(state), ack_timeout, changed: Notify::new(), idle: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, WaitState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut WaitState<T>)) {
        let mut state = self.lock();
        change(&mut state);
        let waits = state.pinged || state.outstanding() > 0;
        state.since = if waits { state.since.or_else(|| Some(Instant::now())) } else { None };
        if state.outstanding() == 0 {
            self.idle.notify_one();
        }
    }

    fn queued(&self, tag: T) {
        self.update(|s| s.queued.push_back(tag));
        self.changed.notify_one();
    }

    fn is_idle(&self) -> bool {
        self.lock().outstanding() == 0
    }

    /// While anything comes from the broker the link lives: a slow uplink may take long over one
    /// large message, and only silence counts.
    fn deadline(&self) -> Instant {
        let state = self.lock();
        let silent = state.since.map(|since| since.max(state.heard) + self.ack_timeout);
        state.connect_by.or(silent).unwrap_or_else(|| Instant::now() + FOREVER)
    }

    fn connecting(&self) -> bool {
        self.lock().connect_by.is_some()
    }
}

impl<T> WaitState<T> {
    fn outstanding(&self) -> usize {
        self.queued.len() + self.inflight
    }
}

struct Pump<'w, T> {
    events: EventLoop,
    wait: &'w Waiting<T>,
    inflight: HashMap<u16, T>,
    /// Messages kept back until the subscription is acknowledged; `None` after it.
    early: Option<Vec<Publish>>,
    packet_max: Option<usize>,
}

impl<T> Pump<'_, T> {
    async fn run(mut self, listener: &mut impl Listener<T>) -> EndReason {
        loop {
            let step = match self.next().await {
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return self.goodbye().await,
                Ok(event) => self.on_event(event, listener).await,
                Err(reason) => return self.last_words(listener).await.unwrap_or(reason),
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    async fn on_event(&mut self, event: Event, listener: &mut impl Listener<T>) -> Result<(), EndReason> {
        match event {
            Event::Incoming(packet) => self.on_incoming(packet, listener).await,
            Event::Outgoing(outgoing) => self.on_outgoing(&outgoing),
        }
    }

    /// rumqttc tells an error before the packets that came with it: a refused subscription, say, and
    /// the end of the stream. What ends the session by itself is the better reason.
    async fn last_words(&mut self, listener: &mut impl Listener<T>) -> Option<EndReason> {
        while let Some(event) = self.events.state.events.pop_front() {
            if let Err(reason) = self.on_event(event, listener).await {
                return Some(reason);
            }
        }
        None
    }

    async fn next(&mut self) -> Result<Event, EndReason> {
        let wait = self.wait;
        let connected = self.packet_max.is_some();
        let mut poll = pin!(self.events.poll());
        loop {
            tokio::select! {
                event = &mut poll => return event.map_err(|e| end_reason(e, connected)),
                () = tokio::time::sleep_until(wait.deadline()) => return Err(silence(wait, connected)),
                () = wait.changed.notified() => {}
            }
        }
    }

    fn on_outgoing(&mut self, outgoing: &Outgoing) -> Result<(), EndReason> {
        match outgoing {
            Outgoing::Publish(id) => {
                let mut tag = None;
                self.wait.update(|s| {
                    tag = s.queued.pop_front();
                    s.inflight += usize::from(tag.is_some());
                });
                let tag = tag.ok_or_else(|| EndReason::Protocol("a message nobody sent".into()))?;
                self.inflight.insert(*id, tag);
            }
            Outgoing::PingReq => self.wait.update(|s| s.pinged = true),
            _ => {}
        }
        Ok(())
    }

    async fn on_incoming(
        &mut self,
        packet: Packet,
        listener: &mut impl Listener<T>,
    ) -> Result<(), EndReason> {
        self.wait.update(|s| {
            s.heard = Instant::now();
            s.pinged = false;
        });
        match packet {
            Packet::ConnAck(ack) => self.packet_max = Some(packet_max(&ack)),
            Packet::SubAck(ack) => return self.on_subscribed(&ack, listener).await,
            Packet::Publish(publish) => return self.on_message(publish, listener).await,
            Packet::PubAck(ack) => {
                let Some(tag) = self.inflight.remove(&ack.pkid) else { return Ok(()) };
                self.wait.update(|s| s.inflight -= 1);
                listener.hear(acked(tag, ack.reason)).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn on_subscribed(
        &mut self,
        ack: &SubAck,
        listener: &mut impl Listener<T>,
    ) -> Result<(), EndReason> {
        let refused = ack.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)));
        if let Some(code) = refused {
            return Err(EndReason::Refused(format!("a subscription: {code:?}")));
        }
        if !self.wait.connecting() {
            return Err(EndReason::Protocol("a second SUBACK".into()));
        }
        let early = self.early.take().unwrap_or_default();
        self.wait.update(|s| s.connect_by = None);
        let packet_max = self.packet_max.unwrap_or(usize::MAX);
        listener.hear(Heard::Up { packet_max }).await;
        for publish in early {
            listener.hear(Heard::Message(publish)).await;
        }
        Ok(())
    }

    async fn on_message(
        &mut self,
        publish: Publish,
        listener: &mut impl Listener<T>,
    ) -> Result<(), EndReason> {
        match &mut self.early {
            None => listener.hear(Heard::Message(publish)).await,
            Some(early) if early.len() < EARLY_MAX => early.push(publish),
            Some(_) => return Err(EndReason::Protocol("a flood before SUBACK".into())),
        }
        Ok(())
    }

    /// DISCONNECT is on the wire. Reading on until the broker closes keeps the kernel from resetting
    /// the connection, by which the broker would lose our goodbye and publish the will.
    async fn goodbye(mut self) -> EndReason {
        let closed = async { while self.events.poll().await.is_ok() {} };
        let _ = tokio::time::timeout(GOODBYE_WAIT, closed).await;
        EndReason::Clean
    }
}

fn silence<T>(wait: &Waiting<T>, connected: bool) -> EndReason {
    match (wait.connecting(), connected) {
        (true, false) => EndReason::Unreachable("no answer to CONNECT".into()),
        (true, true) => EndReason::Unreachable("no answer to SUBSCRIBE".into()),
        (false, _) => EndReason::Silent(wait.ack_timeout),
    }
}

fn packet_max(ack: &ConnAck) -> usize {
    let max = ack.properties.as_ref().and_then(|p| p.max_packet_size);
    max.map_or(usize::MAX, |max| max as usize)
}

fn acked<T>(tag: T, reason: PubAckReason) -> Heard<T> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Heard::Acked(tag),
        refused => Heard::Refused(tag, format!("{refused:?}")),
    }
}
