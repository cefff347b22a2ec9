//! The hub's own MQTT 5 broker, for fleets of up to ~20,000 agents on one machine: rmqtt as router
//! and session front-end, and nothing else of it. It keeps no sessions, no queues for the absent
//! and no files; what is retained lives in RAM, and the hub publishes it again after a start.
//! rmqtt may lose a message in a takeover; the state above this seam makes that harmless.
//!
//! ```text
//!  agents, guests ──TCP──▶ rmqtt ──publish ACL hook──▶ FairQueue ──▶ hub     (inbound)
//!                            ▲ └─▶ RetainStore
//!                            └──── SessionState::forwards ◀── queue ◀── hub  (outbound)
//! ```
//!
//! Who may do what is decided in `access`, by pure functions; `hooks` asks them.

mod access;
mod fitter;
mod hooks;
mod link;
mod pace;
mod port;
mod retain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::AgentId;
use rmqtt::context::ServerContext;
use rmqtt::net::Builder;
use rmqtt::server::MqttServer;
use rmqtt::types::{Message, QoS, Reason};
use tokio::task::JoinHandle;
use transport::bus::{AgentBus, BusLimits};
use transport::{FairQueue, Prefix};

use crate::hooks::Hub;
use crate::retain::RetainStore;

/// The user name of people who look: they hear everything below the prefix and say nothing. Not
/// a legal agent id, so that any board may have any name.
pub const OPERATOR: &str = "$operator";
/// The user name of a hub in another process.
pub const HUB: &str = "$hub";

/// The largest packet taken: a payload of `WIRE_BYTES_MAX` (240 KiB), its topic and properties.
pub const PACKET_BYTES_MAX: u32 = 256 << 10;
/// A client that takes nothing for so long is cut. Until then what is sent to it waits in memory.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After one and a half of it in silence a client is gone.
const KEEP_ALIVE_SECS_MAX: u16 = 7200;
/// Unacknowledged messages in either direction.
const INFLIGHT_MAX: u16 = 16;
/// How long `stop` waits for sessions to end.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Asked whether an agent's password is right.
pub type CheckToken = Arc<dyn Fn(&AgentId, &str) -> bool + Send + Sync>;

/// Asked which agent has shown its certificate to whoever relays from this address.
pub type Vouch = Arc<dyn Fn(&SocketAddr) -> Option<AgentId> + Send + Sync>;

#[derive(Clone)]
pub enum Access {
    /// User name = agent id, password = what the function accepts.
    Tokens(CheckToken),
    /// Anybody on this machine is who he says. Only when bound to loopback.
    OpenOnLoopback,
}

#[derive(Clone)]
pub struct BrokerConfig {
    /// Port 0: any free one, told by [`EmbeddedBroker::addr`].
    pub bind: SocketAddr,
    /// Required for any address but loopback: there is no encryption yet.
    pub allow_remote: bool,
    pub prefix: Prefix,
    pub access: Access,
    /// The password of [`OPERATOR`]; none, and nobody is let in as such.
    pub operator_token: Option<String>,
    /// The password of [`HUB`].
    pub hub_token: Option<String>,
    /// For agents that come through an encrypted port before this one: their password is their key.
    pub vouch: Option<Vouch>,
    pub limits: BrokerLimits,
}

impl BrokerConfig {
    pub fn new(bind: SocketAddr, access: Access) -> BrokerConfig {
        BrokerConfig {
            bind,
            allow_remote: false,
            prefix: Prefix::default(),
            access,
            operator_token: None,
            hub_token: None,
            vouch: None,
            limits: BrokerLimits::default(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct BrokerLimits {
    /// One more is asked to come later. 20 KB each.
    pub sessions: usize,
    /// Retained messages: a desired and a presence for each agent, and for those that are away.
    pub retained: usize,
    pub retained_bytes: usize,
    /// Messages waiting for one agent; the oldest are dropped. 60 MiB if all were of the largest.
    pub agent_queue: usize,
    /// Messages waiting for one guest or another hub.
    pub guest_queue: usize,
}

impl Default for BrokerLimits {
    fn default() -> BrokerLimits {
        BrokerLimits {
            sessions: 50_000,
            retained: 200_000,
            retained_bytes: 256 << 20,
            agent_queue: 256,
            guest_queue: 20_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{0} is not on this machine; an unencrypted broker elsewhere must be allowed by name")]
    Remote(SocketAddr),
    #[error("a broker that lets in anybody binds to loopback only, not to {0}")]
    OpenToAll(SocketAddr),
    #[error("cannot listen on {addr}: {reason}")]
    Bind { addr: SocketAddr, reason: String },
}

/// For the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BrokerStats {
    pub connections: usize,
    pub sessions: usize,
    pub retained: usize,
    pub retained_bytes: usize,
    /// Not retained, because a limit was reached.
    pub retained_refused: u64,
    /// Connections, subscriptions and messages refused by the access rules.
    pub refused: u64,
    /// Messages to a client that were dropped: its queue was full, or it went.
    pub dropped: u64,
}

/// A running broker. Dropped, it stops listening; [`EmbeddedBroker::stop`] also ends the sessions.
pub struct EmbeddedBroker {
    addr: SocketAddr,
    scx: ServerContext,
    hub: Arc<Hub>,
    retain: RetainStore,
    listener: JoinHandle<()>,
}

impl EmbeddedBroker {
    /// Bind and serve. Within a tokio runtime, on which all sessions then run.
    pub async fn start(config: BrokerConfig) -> Result<EmbeddedBroker, BrokerError> {
        check(&config)?;
        let (listener, addr) = listen(&config).await?;
        let retain = RetainStore::new(config.limits.retained, config.limits.retained_bytes);
        let scx = ServerContext::new()
            // It refuses CONNECTs on a loaded machine, just when agents come back.
            .busy_check_enable(false)
            .mqtt_max_sessions(isize::try_from(config.limits.sessions).unwrap_or(isize::MAX))
            .build()
            .await;
        *scx.extends.retain_mut().await = Box::new(retain.clone());
        *scx.extends.fitter_mgr_mut().await = Box::new(fitter::Fitters::new(&config));
        let hub = Arc::new(Hub::new(config, scx.clone(), retain.clone()));
        hooks::register(&hub, &scx).await;
        let server = MqttServer::new(scx.clone()).listener_by_id(listener, 1).build();
        // `start()` would end the process on an error.
        let served = Arc::clone(&hub);
        let listener = tokio::spawn(async move {
            let end = server.run().await;
            served.down(&format!("the embedded broker ended: {end:?}"));
        });
        Ok(EmbeddedBroker { addr, scx, hub, retain, listener })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The hub's bus, in this process. A second one takes the place of the first, which ends.
    pub fn bus(&self, limits: BusLimits) -> AgentBus {
        let inbound = Arc::new(FairQueue::new(limits.fair));
        self.hub.attach(Arc::clone(&inbound));
        let link = link::EmbeddedLink::start(self.scx.clone(), Arc::clone(&self.hub), Arc::clone(&inbound));
        AgentBus::new(Arc::new(link), inbound, limits.queue)
    }

    pub fn stats(&self) -> BrokerStats {
        self.meter()()
    }

    /// The same, for somebody who does not own the broker.
    pub fn meter(&self) -> impl Fn() -> BrokerStats + Send + Sync + use<> {
        let (scx, hub, retain) = (self.scx.clone(), Arc::clone(&self.hub), self.retain.clone());
        let count = |n: isize| usize::try_from(n).unwrap_or(0);
        move || {
            let (retained, retained_bytes, retained_refused) = retain.stats();
            BrokerStats {
                connections: count(scx.connections.count()),
                sessions: count(scx.sessions.count()),
                retained,
                retained_bytes,
                retained_refused,
                refused: hub.refused(),
                dropped: hub.dropped(),
            }
        }
    }

    /// Stop listening, end all sessions, and wait for that at most [`STOP_WAIT`].
    pub async fn stop(self) {
        // First of all, or the hub would hear every agent's will.
        self.hub.detach();
        self.listener.abort();
        end_sessions(&self.scx, |_| true, &Reason::ConnectRemoteClose).await;
        let ended = async {
            while self.scx.connections.count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(STOP_WAIT, ended).await;
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.listener.abort();
        self.hub.detach();
        self.hub.forget_context();
    }
}

/// Send every session for which `which(client id, user name)` holds away.
async fn end_sessions(scx: &ServerContext, which: impl Fn(&rmqtt::types::Id) -> bool, reason: &Reason) {
    let shared = scx.extends.shared().await;
    for entry in shared.iter().filter(|entry| which(&entry.id())) {
        if let Some(tx) = entry.tx() {
            // Fails when the session has ended, as it should.
            let _ = tx.unbounded_send(Message::Closed(reason.clone()));
        }
    }
}

fn check(config: &BrokerConfig) -> Result<(), BrokerError> {
    if config.bind.ip().is_loopback() {
        return Ok(());
    }
    if matches!(config.access, Access::OpenOnLoopback) {
        return Err(BrokerError::OpenToAll(config.bind));
    }
    if !config.allow_remote {
        return Err(BrokerError::Remote(config.bind));
    }
    Ok(())
}

async fn listen(config: &BrokerConfig) -> Result<(rmqtt::net::Listener, SocketAddr), BrokerError> {
    let failed = |reason: String| BrokerError::Bind { addr: config.bind, reason };
    let place = port::reserve(config.bind).map_err(|e| failed(e.to_string()))?;
    let listener = Builder::new()
        .name("agents")
        .laddr(place.addr)
        .nodelay(true)
        .reuseaddr(Some(true))
        .reuseport(place.shared.then_some(true))
        .backlog(1024)
        .max_connections(config.limits.sessions)
        .max_packet_size(PACKET_BYTES_MAX)
        // With it a client without a user name would pass by the hook.
        .allow_anonymous(false)
        .allow_zero_keepalive(false)
        .max_keepalive(KEEP_ALIVE_SECS_MAX)
        .max_inflight(std::num::NonZeroU16::new(INFLIGHT_MAX).unwrap_or(std::num::NonZeroU16::MIN))
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .send_timeout(SEND_TIMEOUT)
        .max_clientid_len(200)
        .max_qos_allowed(QoS::AtLeastOnce)
        .max_subscriptions(32)
        .max_topic_aliases(0)
        // A message stays valid, and is not sent again within a session: MQTT 5 forbids both.
        .message_expiry_interval(Duration::ZERO)
        .message_retry_interval(Duration::ZERO)
        .bind()
        .and_then(|bound| bound.tcp())
        .map_err(|e| failed(format!("{e:#}")))?;
    Ok((listener, place.addr))
}
