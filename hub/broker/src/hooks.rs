//! Where rmqtt asks: may this client come, hear, say? What it may say reaches the hub from here,
//! after the check and before the PUBACK; wills, which rmqtt does not check, were checked at CONNECT.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use contract::AgentId;
use rmqtt::codec::v5::SubscribeAckReason;
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ClientId, ConnectInfo, From, FromType, Id, LastWill, Publish, PublishAclResult, QoS, Retain,
    Subscribe, SubscribeAclResult,
};
use transport::{FairQueue, Inbound, Kind, Prefix, Topic};

use crate::access::{self, Refusal, Role, Said, WillSeen};
use crate::pace::Pace;
use crate::retain::RetainStore;
use crate::{Access, BrokerConfig};

/// What the hooks and the hub's bus share.
pub struct Hub {
    config: BrokerConfig,
    retain: RetainStore,
    inbound: Mutex<Option<Arc<FairQueue>>>,
    /// Taken away at the end: the context holds the hooks, and these hold it.
    scx: Mutex<Option<ServerContext>>,
    refused: AtomicU64,
    dropped: AtomicU64,
    pace: Pace<Connection>,
}

/// A client id and when it came: the next connection of the same client is another.
type Connection = (ClientId, i64);

fn key(id: &Id) -> Connection {
    (id.client_id.clone(), id.create_time)
}

pub async fn register(hub: &Arc<Hub>, scx: &ServerContext) {
    let register = scx.extends.hook_mgr().register();
    for asked in [
        Type::ClientAuthenticate,
        Type::ClientSubscribeCheckAcl,
        Type::MessagePublishCheckAcl,
        Type::MessagePublish,
        Type::MessageDropped,
        Type::ClientDisconnected,
    ] {
        register.add(asked, Box::new(Ask(Arc::clone(hub)))).await;
    }
    register.start().await;
}

struct Ask(Arc<Hub>);

#[async_trait]
#[allow(elided_lifetimes_in_paths, reason = "the trait elides it too, and async_trait tells them apart")]
impl Handler for Ask {
    async fn hook(&self, parameter: &Parameter, given: Option<HookResult>) -> ReturnType {
        let hub = &self.0;
        match parameter {
            Parameter::ClientAuthenticate(info) => {
                (false, Some(HookResult::AuthResult(hub.on_connect(info).await)))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                (false, Some(HookResult::SubscribeAclResult(hub.on_subscribe(session, subscribe))))
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                if let Some(wait) = hub.pace.take(key(&session.id), publish.payload.len(), Instant::now()) {
                    // In the session's own task: its connection is read no further meanwhile.
                    tokio::time::sleep(wait).await;
                }
                (false, Some(HookResult::PublishAclResult(hub.on_publish(session, publish))))
            }
            Parameter::MessagePublish(Some(session), from, publish)
                if matches!(from.typ(), FromType::LastWill) =>
            {
                hub.on_will(session, publish);
                (true, given)
            }
            Parameter::ClientDisconnected(session, _) => {
                hub.pace.forget(&key(&session.id));
                (true, given)
            }
            Parameter::MessageDropped(Some(_), ..) => {
                hub.dropped.fetch_add(1, Ordering::Relaxed);
                (true, given)
            }
            _ => (true, given),
        }
    }
}

impl Hub {
    pub fn new(config: BrokerConfig, scx: ServerContext, retain: RetainStore) -> Hub {
        Hub {
            config,
            retain,
            inbound: Mutex::default(),
            scx: Mutex::new(Some(scx)),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            pace: Pace::default(),
        }
    }

    async fn on_connect(&self, info: &ConnectInfo) -> AuthResult {
        let verdict = match self.identify(info) {
            Ok(role) => self.not_taking_over(info, role).await,
            Err(refusal) => Err(refusal),
        };
        match verdict {
            Ok(()) => AuthResult::Allow(false, None),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                AuthResult::NotAuthorized
            }
        }
    }

    fn identify(&self, info: &ConnectInfo) -> Result<Role, Refusal> {
        let role = access::role(info.username().map(|n| &**n), info.client_id(), self.open())?;
        match self.vouched(info.id()) {
            Some(agent) if role == Role::Agent(agent.clone()) => {}
            Some(_) => return Err("the certificate is another agent's"),
            None => self.check_password(&role, info.password().map_or(&[], |p| &p[..]))?,
        }
        if let Some(will) = info.last_will() {
            let seen = match &will {
                LastWill::V3(w) => WillSeen { topic: &w.topic, retain: w.retain, payload: &w.message },
                LastWill::V5(w) => WillSeen { topic: &w.topic, retain: w.retain, payload: &w.message },
            };
            access::may_leave(&self.config.prefix, &role, &seen)?;
        }
        Ok(role)
    }

    fn vouched(&self, id: &Id) -> Option<AgentId> {
        (self.config.vouch.as_ref()?)(id.remote_addr.as_ref()?)
    }

    fn check_password(&self, role: &Role, given: &[u8]) -> Result<(), Refusal> {
        let Access::Tokens(check) = &self.config.access else { return Ok(()) };
        let is =
            |right: &Option<String>| right.as_ref().is_some_and(|r| access::same_secret(given, r.as_bytes()));
        let right = match role {
            Role::Operator => is(&self.config.operator_token),
            Role::Hub => is(&self.config.hub_token),
            Role::Agent(agent) => std::str::from_utf8(given).is_ok_and(|given| check(agent, given)),
        };
        if right { Ok(()) } else { Err("wrong password") }
    }

    /// Who only looks must not push out an agent by choosing its client id.
    async fn not_taking_over(&self, info: &ConnectInfo, role: Role) -> Result<(), Refusal> {
        let scx = self.lock_scx().clone();
        let (Some(scx), false) = (scx, matches!(role, Role::Agent(_))) else { return Ok(()) };
        let entry = scx.extends.shared().await.entry(info.id().clone());
        match entry.session() {
            Some(session) if self.role(&session.id) != Ok(role) => Err("the client id is another's"),
            _ => Ok(()),
        }
    }

    fn on_subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let role = self.role(&session.id);
        let allowed = role.as_ref().map_err(|r| *r).and_then(|role| {
            // What goes to a stalled QoS 0 subscriber is not bounded by its queue.
            if matches!(role, Role::Agent(_)) && subscribe.opts.qos() == QoS::AtMostOnce {
                return Err("agents subscribe with QoS 1");
            }
            access::may_subscribe(&self.config.prefix, role, &subscribe.topic_filter)
        });
        match allowed {
            Ok(()) => SubscribeAclResult::new_success(subscribe.opts.qos(), None),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
            }
        }
    }

    fn on_publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        let said = Said { topic: &publish.topic, retain: publish.retain, size: publish.payload.len() };
        let allowed =
            self.role(&session.id).and_then(|role| access::may_publish(&self.config.prefix, &role, &said));
        match allowed {
            Ok(topic) => {
                self.hear(topic, publish, From::from_custom(session.id.clone()));
                PublishAclResult::allow()
            }
            Err(refusal) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                PublishAclResult::rejected(false, Some(refusal.into()))
            }
        }
    }

    fn on_will(&self, session: &Session, publish: &Publish) {
        if let Ok(Role::Agent(agent)) = self.role(&session.id) {
            let topic = Topic::Agent { agent, kind: Kind::Presence };
            self.hear(topic, publish, From::from_lastwill(session.id.clone()));
        }
    }

    /// To the hub, if there is one and it is an agent that speaks. What is retained is so before a
    /// hub can attach: it hears each presence live or from the store, and none falls between.
    fn hear(&self, topic: Topic, publish: &Publish, from: From) {
        let own = self.lock();
        if publish.retain {
            self.retain.put(&publish.topic, Retain { msg_id: None, from, publish: publish.clone() });
        }
        if let (Some(inbound), Some(message)) = (&*own, inbound(topic, publish, false)) {
            inbound.push(message);
        }
    }

    /// From now on this queue hears the agents, first what is retained of them. Nothing is heard
    /// while that is copied, or an old presence would come after a new one.
    pub fn attach(&self, inbound: Arc<FairQueue>) {
        let mut own = self.lock();
        inbound.up();
        self.replay_presences(&inbound);
        if let Some(old) = own.replace(inbound) {
            old.close();
        }
    }

    pub fn is_attached(&self, inbound: &Arc<FairQueue>) -> bool {
        self.lock().as_ref().is_some_and(|own| Arc::ptr_eq(own, inbound))
    }

    pub fn detach(&self) {
        if let Some(inbound) = self.lock().take() {
            inbound.down("the embedded broker stopped".into());
            inbound.close();
        }
    }

    pub fn detach_if(&self, inbound: &Arc<FairQueue>) {
        self.lock().take_if(|own| Arc::ptr_eq(own, inbound));
    }

    pub fn down(&self, reason: &str) {
        if let Some(inbound) = &*self.lock() {
            inbound.down(reason.to_string());
        }
    }

    pub fn unsent(&self, topic: Topic, reason: String) {
        if let Some(inbound) = &*self.lock() {
            inbound.unsent(topic, reason);
        }
    }

    /// What a bus over the network would get as retained.
    fn replay_presences(&self, to: &FairQueue) {
        let prefix = &self.config.prefix;
        let presence = |topic: &str| Topic::parse(prefix, topic).ok().filter(is_presence);
        for (topic, publish) in self.retain.select(|topic| presence(topic).is_some()) {
            if let Some(message) = presence(&topic).and_then(|topic| inbound(topic, &publish, true)) {
                to.push(message);
            }
        }
    }

    pub fn is_agent(&self, id: &Id, agent: &AgentId) -> bool {
        matches!(self.role(id), Ok(Role::Agent(own)) if own == *agent)
    }

    pub fn prefix(&self) -> &Prefix {
        &self.config.prefix
    }

    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn forget_context(&self) {
        self.lock_scx().take();
    }

    fn role(&self, id: &Id) -> Result<Role, Refusal> {
        access::role(id.username.as_deref(), &id.client_id, self.open())
    }

    fn open(&self) -> bool {
        matches!(self.config.access, Access::OpenOnLoopback)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<FairQueue>>> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_scx(&self) -> MutexGuard<'_, Option<ServerContext>> {
        self.scx.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_presence(topic: &Topic) -> bool {
    matches!(topic, Topic::Agent { kind: Kind::Presence, .. })
}

/// Empty is a cleared retained message, and nothing to the hub.
fn inbound(topic: Topic, publish: &Publish, retained: bool) -> Option<Inbound> {
    let Topic::Agent { agent, kind } = topic else { return None };
    let content_type = publish.properties.as_ref().and_then(|p| p.content_type.as_ref());
    let content_type = content_type.map(ToString::to_string).unwrap_or_default();
    let payload = publish.payload.clone();
    let taken = kind.from_agent() && !payload.is_empty();
    taken.then_some(Inbound { agent, kind, payload, content_type, retained })
}
