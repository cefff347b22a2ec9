//! One pair under test: how to get its sessions and its bus, and where to cut.

use std::any::Any;
use std::collections::HashMap;

use bytes::Bytes;
use contract::AgentId;

use super::{Mosquitto, Proxy, within};
use crate::bus::BusLimits;
use crate::fair::FairLimits;
use crate::mqtt::bus::BusConfig;
use crate::{
    AgentBus, BusEvent, Connector, Credentials, Endpoint, Inbound, Kind, Session, SessionConfig,
    SessionEvent, Topic, Will, memory,
};

type MakeBus = Box<dyn FnMut(BusLimits) -> AgentBus + Send>;

/// A broker of some kind, with a cable between it and each agent.
pub struct Rig {
    connector: Connector,
    make_bus: MakeBus,
    cables: Cables,
    bus_cable: Option<Proxy>,
    /// The password of agents, where the broker asks for one.
    password: Option<String>,
    /// Lives as long as the rig: the broker's process.
    _broker: Box<dyn Any + Send>,
}

enum Cables {
    Memory(memory::Broker),
    Wires { port: u16, wires: HashMap<AgentId, Proxy> },
}

impl Rig {
    pub fn memory() -> Rig {
        let broker = memory::Broker::new();
        let hub = broker.clone();
        Rig {
            connector: Connector::Memory(broker.clone()),
            make_bus: Box::new(move |limits| hub.bus(limits)),
            cables: Cables::Memory(broker),
            bus_cable: None,
            password: None,
            _broker: Box::new(()),
        }
    }

    /// Debian's broker on a free port.
    pub async fn mosquitto() -> Rig {
        let broker = Mosquitto::start().await;
        let port = broker.port();
        Rig::wired(port, None, None, Box::new(broker)).await
    }

    /// Any broker on this machine: agents and bus over TCP. `hub` are the bus's credentials.
    pub async fn wired(
        port: u16,
        hub: Option<Credentials>,
        password: Option<String>,
        broker: Box<dyn Any + Send>,
    ) -> Rig {
        let cable = Proxy::start(port).await;
        let mut config = BusConfig::new(cable.endpoint(), "hub");
        config.credentials = hub;
        let make_bus =
            Box::new(move |limits| crate::mqtt::bus::connect(BusConfig { limits, ..config.clone() }));
        let mut rig = Rig::in_process(port, make_bus, password, broker);
        rig.bus_cable = Some(cable);
        rig
    }

    /// Agents over TCP, the bus inside the broker's process.
    pub fn in_process(
        port: u16,
        make_bus: MakeBus,
        password: Option<String>,
        broker: Box<dyn Any + Send>,
    ) -> Rig {
        Rig {
            connector: Connector::Mqtt,
            make_bus,
            cables: Cables::Wires { port, wires: HashMap::new() },
            bus_cable: None,
            password,
            _broker: broker,
        }
    }

    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// A bus that is up.
    pub async fn bus(&mut self) -> AgentBus {
        self.bus_with(BusLimits { fair: fair_limits(100_000), ..BusLimits::default() }).await
    }

    pub async fn bus_with(&mut self, limits: BusLimits) -> AgentBus {
        let mut bus = (self.make_bus)(limits);
        let up = within("the bus is up", bus.next()).await;
        assert_eq!(up, Some(BusEvent::Up));
        bus
    }

    /// How `agent` would connect, through its own cable.
    pub async fn config(&mut self, agent: &AgentId, will: &str) -> SessionConfig {
        let endpoint = match &mut self.cables {
            Cables::Memory(_) => Endpoint::parse("mqtt://127.0.0.1:1", false).expect("an endpoint"),
            Cables::Wires { port, wires } => {
                if !wires.contains_key(agent) {
                    wires.insert(agent.clone(), Proxy::start(*port).await);
                }
                wires[agent].endpoint()
            }
        };
        let will = Will { payload: bytes(will), content_type: "will/type".into() };
        let mut config = SessionConfig::new(endpoint, agent.clone(), will);
        config.credentials =
            self.password.clone().map(|password| Credentials { username: agent.to_string(), password });
        config
    }

    /// A session that is connected.
    pub async fn session(&mut self, agent: &AgentId, will: &str) -> Session {
        let config = self.config(agent, will).await;
        self.connected(config).await
    }

    pub async fn connected(&self, config: SessionConfig) -> Session {
        let mut session = self.connector.connect(config);
        assert_eq!(within("connected", session.next()).await, Some(SessionEvent::Connected));
        session
    }

    pub fn cut(&self, agent: &AgentId) {
        match &self.cables {
            Cables::Memory(broker) => broker.cut(agent),
            Cables::Wires { wires, .. } => wires[agent].cut(),
        }
    }

    pub fn stall(&self, agent: &AgentId) {
        match &self.cables {
            Cables::Memory(broker) => broker.stall(agent),
            Cables::Wires { wires, .. } => wires[agent].stall(),
        }
    }

    pub fn resume(&self, agent: &AgentId) {
        match &self.cables {
            Cables::Memory(broker) => broker.resume(agent),
            Cables::Wires { wires, .. } => wires[agent].resume(),
        }
    }

    /// Break the bus's link and keep it broken.
    pub fn cut_bus(&self) {
        match (&self.cables, &self.bus_cable) {
            (Cables::Memory(broker), _) => broker.cut_bus(),
            (_, Some(cable)) => cable.unplug(),
            _ => panic!("the bus of this pair has no cable"),
        }
    }

    pub fn restore_bus(&self) {
        match (&self.cables, &self.bus_cable) {
            (Cables::Memory(broker), _) => broker.restore_bus(),
            (_, Some(cable)) => cable.plug(),
            _ => panic!("the bus of this pair has no cable"),
        }
    }
}

pub fn agent(name: &str) -> AgentId {
    name.parse().expect("an agent id")
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Room for `per_agent` messages of each agent.
pub fn fair_limits(per_agent: usize) -> FairLimits {
    FairLimits { per_agent, per_agent_bytes: 64 << 20, ..FairLimits::default() }
}

/// What hub and agents say in these tests: text.
pub(super) fn text(payload: &Bytes) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

/// The next message on the bus; anything else fails the test.
pub(super) async fn next_inbound(bus: &mut AgentBus) -> Inbound {
    match within("a message on the bus", bus.next()).await {
        Some(BusEvent::Message(message)) => message,
        other => panic!("a message expected, not {other:?}"),
    }
}

/// The next message of a session, other events apart.
pub(super) async fn next_message(session: &mut Session) -> (Topic, String, bool) {
    loop {
        match within("a message for the agent", session.next()).await {
            Some(SessionEvent::Message { topic, payload, retained, .. }) => {
                return (topic, text(&payload), retained);
            }
            Some(SessionEvent::Published(_)) => {}
            other => panic!("a message expected, not {other:?}"),
        }
    }
}

/// How the session ends, messages apart.
pub(super) async fn end(session: &mut Session) -> (crate::EndReason, bool) {
    loop {
        match within("the end of the session", session.next()).await {
            Some(SessionEvent::Disconnected { reason, refused }) => {
                assert_eq!(within("nothing after the end", session.next()).await, None);
                return (reason, refused);
            }
            Some(_) => {}
            None => panic!("ended without saying so"),
        }
    }
}

pub(super) fn presence(session: &Session, word: &str) {
    session.publish(Kind::Presence, bytes(word), "text/plain", true).expect("presence is taken");
}
