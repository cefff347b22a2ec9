//! What can a client do that is not ours, or not what it says? Plain rumqttc on one side, the hub
//! on the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::AgentId;
use contract::limits::WIRE_BYTES_MAX;
use hub_broker::{Access, BrokerConfig, BrokerError, BrokerLimits, EmbeddedBroker, HUB, OPERATOR};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, Filter, LastWill, Packet, PubAckReason, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use transport::bus::{AgentBus, BusLimits};
use transport::suite::within;
use transport::{BusEvent, Kind, Outgoing, Topic};

const TOKEN: &str = "agents";
const OPERATORS: &str = "operators";

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn tokens() -> Access {
    // As a hub does: each agent its own.
    Access::Tokens(Arc::new(|agent: &AgentId, given: &str| given == format!("{TOKEN} {agent}")))
}

async fn start() -> (EmbeddedBroker, AgentBus) {
    let mut config = BrokerConfig::new(loopback(), tokens());
    config.operator_token = Some(OPERATORS.into());
    let broker = EmbeddedBroker::start(config).await.expect("the broker starts");
    let mut bus = broker.bus(BusLimits::default());
    assert_eq!(bus.next().await, Some(BusEvent::Up));
    (broker, bus)
}

/// A client of anybody's making.
struct Client {
    client: AsyncClient,
    events: EventLoop,
}

fn options(broker: &EmbeddedBroker, user: &str, client_id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", broker.addr().port());
    let password = if user == OPERATOR { OPERATORS.to_string() } else { format!("{TOKEN} {user}") };
    options.set_credentials(user, password).set_outgoing_inflight_upper_limit(16);
    options.set_max_packet_size(Some(1 << 20));
    options
}

impl Client {
    async fn connect(options: MqttOptions) -> Result<Client, ConnectReturnCode> {
        let (client, mut events) = AsyncClient::new(options, 10);
        match within("CONNACK", events.poll()).await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Ok(Client { client, events }),
            Err(ConnectionError::ConnectionRefused(code)) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    async fn of(broker: &EmbeddedBroker, user: &str) -> Client {
        Client::connect(options(broker, user, user)).await.expect("let in")
    }

    async fn packet(&mut self) -> Packet {
        loop {
            match within("a packet", self.events.poll()).await {
                Ok(Event::Incoming(packet)) => return packet,
                Ok(Event::Outgoing(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }

    async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) -> PubAckReason {
        let payload = Bytes::copy_from_slice(payload);
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.expect("a legal topic");
        loop {
            if let Packet::PubAck(ack) = self.packet().await {
                return ack.reason;
            }
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) -> SubscribeReasonCode {
        self.client.subscribe_many([Filter::new(filter, qos)]).await.expect("a legal filter");
        loop {
            if let Packet::SubAck(ack) = self.packet().await {
                return ack.return_codes[0];
            }
        }
    }
}

async fn heard(bus: &mut AgentBus) -> (String, String) {
    match within("a message at the hub", bus.next()).await {
        Some(BusEvent::Message(m)) => {
            (format!("{}/{}", m.agent, m.kind), String::from_utf8_lossy(&m.payload).into_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_foreign_topic_is_refused_and_the_session_lives() {
    let (broker, mut bus) = start().await;
    let mut client = Client::of(&broker, "press").await;
    for topic in [
        "skerry/v1/agents/lathe/observed",
        "skerry/v1/agents/lathe/presence",
        "skerry/v1/agents/press/desired",
        "skerry/v1/agents/press/hello",
        "skerry/v1/hub",
        "skerry/v2/agents/press/observed",
        "anything",
    ] {
        assert_eq!(client.publish(topic, false, b"x").await, PubAckReason::NotAuthorized, "{topic}");
    }
    let own = "skerry/v1/agents/press/observed";
    assert_eq!(client.publish(own, true, b"x").await, PubAckReason::NotAuthorized, "retained");
    let large = vec![b'x'; WIRE_BYTES_MAX + 1];
    assert_eq!(client.publish(own, false, &large).await, PubAckReason::NotAuthorized, "too large");
    assert_eq!(client.publish(own, false, b"mine").await, PubAckReason::Success);
    assert_eq!(heard(&mut bus).await, ("press/observed".into(), "mine".into()), "and nothing before it");
    assert_eq!(broker.stats().refused, 9);
    assert_eq!(broker.stats().retained, 0);
}

#[tokio::test]
async fn a_foreign_subscription_is_refused() {
    let (broker, _bus) = start().await;
    let mut client = Client::of(&broker, "press").await;
    for filter in
        ["#", "skerry/v1/#", "skerry/v1/agents/+/desired", "skerry/v1/agents/lathe/desired", "$SYS/#"]
    {
        let code = client.subscribe(filter, QoS::AtLeastOnce).await;
        assert_eq!(code, SubscribeReasonCode::NotAuthorized, "{filter}");
    }
    let own = "skerry/v1/agents/press/desired";
    assert_eq!(client.subscribe(own, QoS::AtMostOnce).await, SubscribeReasonCode::NotAuthorized);
    let granted = client.subscribe(own, QoS::ExactlyOnce).await;
    assert_eq!(granted, SubscribeReasonCode::Success(QoS::AtLeastOnce));
}

#[tokio::test]
async fn a_foreign_will_is_refused_at_connect() {
    let (broker, mut bus) = start().await;
    for (topic, retain) in [
        ("skerry/v1/agents/lathe/presence", true),
        ("skerry/v1/agents/press/observed", false),
        ("skerry/v1/agents/press/presence", false),
        ("skerry/v1/hub", true),
    ] {
        let mut options = options(&broker, "press", "press");
        options.set_last_will(LastWill::new(topic, "forged", QoS::AtLeastOnce, retain, None));
        let refused = Client::connect(options).await.err();
        assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized), "{topic}");
    }
    let mut honest = Client::of(&broker, "lathe").await;
    honest.publish("skerry/v1/agents/lathe/events", false, b"marker").await;
    assert_eq!(heard(&mut bus).await.1, "marker", "no will was heard");
}

#[tokio::test]
async fn a_wrong_name_or_password_is_refused() {
    let (broker, _bus) = start().await;
    let mut cases = vec![
        options(&broker, "press", "lathe"),
        options(&broker, "press", "lathe.b1"),
        options(&broker, "Press", "Press"),
        // No hub but this one was given a token.
        options(&broker, HUB, "hub"),
    ];
    for password in ["", "agents", "agents lathe", OPERATORS] {
        let mut wrong = options(&broker, "press", "press");
        wrong.set_credentials("press", password);
        cases.push(wrong);
    }
    let mut wrong = options(&broker, OPERATOR, "x");
    wrong.set_credentials(OPERATOR, format!("{TOKEN} {OPERATOR}"));
    cases.push(wrong);
    let mut nobody = MqttOptions::new("press", "127.0.0.1", broker.addr().port());
    nobody.set_outgoing_inflight_upper_limit(16);
    cases.push(nobody);
    for options in cases {
        let case = format!("{} as {:?}", options.client_id(), options.credentials());
        let refused = Client::connect(options).await.err();
        assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized), "{case}");
    }
}

#[tokio::test]
async fn an_operator_hears_everything_and_says_nothing() {
    let (broker, bus) = start().await;
    let press: AgentId = "press".parse().expect("an agent id");
    let desired = Outgoing::to_agent(&press, Kind::Desired, Bytes::from_static(b"document"), "t");
    bus.sender.publish(desired).await.expect("desired is taken");
    let mut agent = Client::of(&broker, "press").await;
    // With the broker's answer to this, the document is retained.
    agent.publish("skerry/v1/agents/press/presence", true, b"here").await;

    let mut operator = Client::connect(options(&broker, OPERATOR, "my-laptop")).await.expect("let in");
    assert_eq!(operator.subscribe("#", QoS::AtLeastOnce).await, SubscribeReasonCode::NotAuthorized);
    let granted = operator.subscribe("skerry/v1/#", QoS::AtMostOnce).await;
    assert_eq!(granted, SubscribeReasonCode::Success(QoS::AtMostOnce));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Packet::Publish(p) = operator.packet().await {
            seen.push(String::from_utf8_lossy(&p.payload).into_owned());
        }
    }
    seen.sort();
    assert_eq!(seen, ["document", "here"]);
    agent.publish("skerry/v1/agents/press/events", false, b"live").await;
    while !matches!(operator.packet().await, Packet::Publish(p) if &p.payload[..] == b"live") {}
    let said = operator.publish("skerry/v1/agents/press/events", false, b"x").await;
    assert_eq!(said, PubAckReason::NotAuthorized);
}

#[tokio::test]
async fn an_operator_cannot_push_out_an_agent() {
    let (broker, mut bus) = start().await;
    let mut agent = Client::of(&broker, "press").await;
    let refused = Client::connect(options(&broker, OPERATOR, "press")).await.err();
    assert_eq!(refused, Some(ConnectReturnCode::NotAuthorized));
    agent.publish("skerry/v1/agents/press/events", false, b"alive").await;
    assert_eq!(heard(&mut bus).await.1, "alive");
    // The other way round the agent comes in.
    let _guest = Client::connect(options(&broker, OPERATOR, "lathe")).await.expect("let in");
    let mut lathe = Client::of(&broker, "lathe").await;
    lathe.publish("skerry/v1/agents/lathe/events", false, b"in").await;
    assert_eq!(heard(&mut bus).await.1, "in");
}

/// MQTT allows both; the broker has its own longest, and says so to those who can hear it.
#[tokio::test]
async fn a_client_without_pings_is_let_in_and_told_the_longest() {
    let (broker, _bus) = start().await;
    const SERVER_KEEP_ALIVE: &[u8] = &[0x13, 0x1c, 0x20]; // 7200
    for (level, keep_alive) in [(4u8, 0u16), (4, u16::MAX), (5, 0), (5, u16::MAX)] {
        let [high, low] = keep_alive.to_be_bytes();
        let properties: &[u8] = if level == 5 { &[0] } else { &[] };
        let text =
            |text: &str| [&[0, u8::try_from(text.len()).expect("short")][..], text.as_bytes()].concat();
        let who = [text("x"), text(OPERATOR), text(OPERATORS)].concat();
        let body = [&text("MQTT"), &[level, 0xc2, high, low][..], properties, &who].concat();
        let connect = [&[0x10, u8::try_from(body.len()).expect("short")][..], &body].concat();
        let mut stream = TcpStream::connect(broker.addr()).await.expect("a connection");
        stream.write_all(&connect).await.expect("written");
        let mut answer = [0; 64];
        let n = within("CONNACK", stream.read(&mut answer)).await.expect("read");
        assert_eq!((answer[0], answer[3]), (0x20, 0), "level {level}, keep-alive {keep_alive}: let in");
        let told = answer[..n].windows(3).any(|w| w == SERVER_KEEP_ALIVE);
        assert_eq!(told, level == 5, "level {level}, keep-alive {keep_alive}");
    }
}

/// Bytes of no protocol, and of a broken one, harm only their own connection.
#[tokio::test]
async fn garbage_ends_only_its_own_connection() {
    let (broker, mut bus) = start().await;
    let mut agent = Client::of(&broker, "press").await;
    let connect = b"\x10\x1f\0\x04MQTT\x05\xc2\0\x3c\0\0\x05press\0\x05press\0\x04nope";
    let oversize = [&b"\x30\xff\xff\xff\x7f"[..], &[0; 64][..]].concat();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 300][..], &[0; 300][..], &connect[..], &oversize]
    {
        let mut stream = TcpStream::connect(broker.addr()).await.expect("a connection");
        stream.write_all(garbage).await.expect("written");
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within("the broker closes", stream.read_to_end(&mut answer)).await;
    }
    agent.publish("skerry/v1/agents/press/events", false, b"alive").await;
    assert_eq!(heard(&mut bus).await.1, "alive");
}

#[tokio::test]
async fn a_broker_without_passwords_stays_on_this_machine() {
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let open = EmbeddedBroker::start(BrokerConfig::new(everywhere, Access::OpenOnLoopback)).await;
    assert!(matches!(open, Err(BrokerError::OpenToAll(_))));
    let remote = EmbeddedBroker::start(BrokerConfig::new(everywhere, tokens())).await;
    assert!(matches!(remote, Err(BrokerError::Remote(_))));

    let open = EmbeddedBroker::start(BrokerConfig::new(loopback(), Access::OpenOnLoopback)).await;
    let broker = open.expect("the broker starts");
    let mut bus = broker.bus(BusLimits::default());
    assert_eq!(bus.next().await, Some(BusEvent::Up));
    let mut nameless = MqttOptions::new("press", "127.0.0.1", broker.addr().port());
    nameless.set_outgoing_inflight_upper_limit(16);
    let mut client = Client::connect(nameless).await.expect("let in");
    let foreign = client.publish("skerry/v1/agents/lathe/events", false, b"x").await;
    assert_eq!(foreign, PubAckReason::NotAuthorized, "even here everybody speaks for himself");
    client.publish("skerry/v1/agents/press/events", false, b"mine").await;
    assert_eq!(heard(&mut bus).await.0, "press/events");
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let (broker, _bus) = start().await;
    let again = EmbeddedBroker::start(BrokerConfig::new(broker.addr(), tokens())).await;
    match again {
        Err(BrokerError::Bind { addr, .. }) => assert_eq!(addr, broker.addr()),
        other => panic!("{:?}", other.map(|b| b.addr())),
    }
}

/// Stopping ends the sessions and frees the port; the hub hears `Down`, not everybody's will; what
/// was retained is gone with it.
#[tokio::test]
async fn stopping_is_complete_and_can_be_followed_by_a_start() {
    let (broker, mut bus) = start().await;
    let mut options = options(&broker, "press", "press");
    let own = "skerry/v1/agents/press/presence";
    options.set_last_will(LastWill::new(own, "gone", QoS::AtLeastOnce, true, None));
    let mut client = Client::connect(options).await.expect("let in");
    client.publish(own, true, b"here").await;
    assert_eq!(heard(&mut bus).await.1, "here");
    let addr = broker.addr();
    broker.stop().await;
    let end = async { while client.events.poll().await.is_ok() {} };
    within("the session ends", end).await;
    assert!(matches!(bus.next().await, Some(BusEvent::Down { .. })));
    assert_eq!(bus.next().await, None);
    let hello = Outgoing {
        topic: Topic::Hub,
        payload: Bytes::from_static(b"x"),
        content_type: String::new(),
        retain: true,
        expiry: None,
    };
    assert_eq!(bus.sender.try_publish(hello), Err(transport::PublishError::Down));

    let broker = EmbeddedBroker::start(BrokerConfig::new(addr, tokens())).await.expect("the port is free");
    assert_eq!(broker.stats().retained, 0);
}

/// What waits for a client that does not read is bounded, the newest is kept, and nobody else waits.
#[tokio::test]
async fn a_stalled_agent_has_a_bounded_queue() {
    const SENT: usize = 500;
    let (broker, bus) = start().await;
    let cable = transport::suite::Proxy::start(broker.addr().port()).await;
    let mut options = MqttOptions::new("press", "127.0.0.1", cable.endpoint().port());
    options.set_credentials("press", format!("{TOKEN} press")).set_outgoing_inflight_upper_limit(16);
    let mut stalled = Client::connect(options).await.expect("let in");
    stalled.subscribe("skerry/v1/agents/press/hello", QoS::AtLeastOnce).await;
    let mut other = Client::of(&broker, "lathe").await;
    other.subscribe("skerry/v1/agents/lathe/hello", QoS::AtLeastOnce).await;

    cable.stall();
    for n in 0..SENT {
        bus.sender.publish(hello("press", &n.to_string())).await.expect("the hub is not held up");
    }
    bus.sender.publish(hello("lathe", "at once")).await.expect("the hub is not held up");
    while !matches!(other.packet().await, Packet::Publish(p) if &p.payload[..] == b"at once") {}
    let room = BrokerLimits::default().agent_queue + 16;
    let bounded = async {
        while broker.stats().dropped != (SENT - room) as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the rest is dropped", bounded).await;
    cable.resume();
    let newest = (SENT - 1).to_string();
    while !matches!(stalled.packet().await, Packet::Publish(p) if p.payload[..] == *newest.as_bytes()) {}
}

fn hello(name: &str, text: &str) -> Outgoing {
    let agent: AgentId = name.parse().expect("an agent id");
    Outgoing::to_agent(&agent, Kind::Hello, Bytes::copy_from_slice(text.as_bytes()), "t")
}
