//! What can a broker that lies do to a session? End it, and have that told; nothing else.

use std::net::Ipv4Addr;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skerry_transport::suite::{agent, within};
use skerry_transport::{
    Connector, EndReason, Endpoint, Kind, PublishError, Session, SessionConfig, SessionEvent, Topic, Will,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const CONNACK: &[u8] = &[0x20, 3, 0, 0, 0];
const SUBACK: &[u8] = &[0x90, 7, 0, 1, 0, 1, 1, 1, 1];

fn config(port: u16) -> SessionConfig {
    let endpoint = Endpoint::parse(&format!("mqtt://127.0.0.1:{port}"), false).expect("an endpoint");
    let will = Will { payload: Bytes::from_static(b"gone"), content_type: "t".into() };
    SessionConfig::new(endpoint, agent("press"), will)
}

/// A broker that answers CONNECT with `first` and `second`, and closes. It does not wait for more
/// from its client: after nonsense nothing may come.
async fn against(first: &[u8], second: &[u8]) -> Session {
    talk(first, second, true).await
}

async fn talk(first: &[u8], second: &[u8], close: bool) -> Session {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let answer = [first, second].concat();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut heard = [0; 1024];
        let _ = stream.read(&mut heard).await;
        let _ = stream.write_all(&answer).await;
        if close {
            let _ = stream.shutdown().await;
        }
        // Until the client closes, or the kernel would throw away what it has not read.
        while matches!(stream.read(&mut heard).await, Ok(1..)) {}
    });
    Connector::Mqtt.connect(config(port))
}

async fn events(mut session: Session) -> Vec<SessionEvent> {
    let mut events = Vec::new();
    while let Some(event) = within("an event or the end", session.next()).await {
        events.push(event);
    }
    events
}

async fn end(session: Session) -> (EndReason, bool) {
    match events(session).await.pop() {
        Some(SessionEvent::Disconnected { reason, refused }) => (reason, refused),
        other => panic!("ended by {other:?}"),
    }
}

#[tokio::test]
async fn refusals_are_told_from_what_passes_by_itself() {
    for (code, refused) in
        [(0x87, true), (0x86, true), (0x85, true), (0x8a, true), (0x88, false), (0x89, false), (0x9f, false)]
    {
        let (reason, told) = end(against(&[0x20, 3, 0, code, 0], &[]).await).await;
        assert_eq!(told, refused, "{code:#x}: {reason}");
    }
    let suback = [0x90, 7, 0, 1, 0, 1, 0x87, 1, 1];
    let events = events(against(CONNACK, &suback).await).await;
    assert!(matches!(&events[..], [SessionEvent::Disconnected { refused: true, .. }]), "{events:?}");
}

#[tokio::test]
async fn broken_connections_are_told_by_their_moment() {
    let (reason, refused) = end(against(&[], &[]).await).await;
    assert!(matches!(reason, EndReason::Unreachable(_)) && !refused, "{reason}");
    let (reason, refused) = end(against(CONNACK, SUBACK).await).await;
    assert!(matches!(reason, EndReason::Lost(_)) && !refused, "{reason}");
    let taken_over = [SUBACK, &[0xe0, 2, 0x8e, 0]].concat();
    assert_eq!(end(against(CONNACK, &taken_over).await).await, (EndReason::TakenOver, false));
    let shutting_down = [SUBACK, &[0xe0, 2, 0x8b, 0]].concat();
    let (reason, refused) = end(against(CONNACK, &shutting_down).await).await;
    assert!(matches!(reason, EndReason::Ended(_)) && !refused, "{reason}");

    let port = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        listener.local_addr().expect("bound").port()
    };
    let (reason, refused) = end(Connector::Mqtt.connect(config(port))).await;
    assert!(matches!(reason, EndReason::Unreachable(_)) && !refused, "{reason}");
}

#[tokio::test]
async fn messages_before_the_subscription_wait_for_connected_and_a_flood_ends_it() {
    let message = publish("skerry/v1/hub", b"early");
    let answer = [&message[..], SUBACK, &publish("skerry/v1/hub", b"late")].concat();
    let events = events(against(CONNACK, &answer).await).await;
    let words: Vec<String> = events.iter().map(word).collect();
    assert_eq!(words[..3], ["connected", "hub early", "hub late"], "{words:?}");

    let flood = [message.repeat(17), SUBACK.to_vec()].concat();
    let (reason, _) = end(against(CONNACK, &flood).await).await;
    assert!(matches!(reason, EndReason::Protocol(_)), "{reason}");
}

#[tokio::test]
async fn foreign_topics_and_empty_messages_are_nothing() {
    let mut answer = SUBACK.to_vec();
    for topic in ["", "x", "skerry/v2/hub", "skerry/v1/agents/+/desired", "skerry/v1/agents/press/desired/x"]
    {
        answer.extend(publish(topic, b"x"));
    }
    answer.extend(publish("skerry/v1/hub", b""));
    answer.extend(publish("skerry/v1/hub", b"real"));
    let words: Vec<String> = events(against(CONNACK, &answer).await).await.iter().map(word).collect();
    assert_eq!(words[..2], ["connected", "hub real"], "{words:?}");
}

/// The broker's own limit holds for us, and exceeding it does not end the session.
#[tokio::test]
async fn the_brokers_packet_limit_is_kept() {
    let connack = [0x20, 8, 0, 0, 5, 0x27, 0, 0, 4, 0];
    let mut session = talk(&connack, SUBACK, false).await;
    assert_eq!(within("connected", session.next()).await, Some(SessionEvent::Connected));
    let large = session.publish(Kind::Events, Bytes::from(vec![b'x'; 1000]), "t", false);
    assert!(matches!(large, Err(PublishError::TooLarge { .. })), "{large:?}");
    session.publish(Kind::Events, Bytes::from(vec![b'x'; 800]), "t", false).expect("this fits");
}

fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let size = 2 + topic.len() + 1 + payload.len();
    let mut packet = vec![0x30, size as u8, 0, topic.len() as u8];
    packet.extend(topic.as_bytes());
    packet.push(0);
    packet.extend(payload);
    packet
}

fn word(event: &SessionEvent) -> String {
    match event {
        SessionEvent::Connected => "connected".into(),
        SessionEvent::Message { topic: Topic::Hub, payload, .. } => {
            format!("hub {}", String::from_utf8_lossy(payload))
        }
        other => format!("{other:?}"),
    }
}

/// Packets of every type, legal to begin with.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(CONNACK.to_vec()),
        Just(SUBACK.to_vec()),
        Just(vec![0x20, 0x0b, 0, 0, 8, 0x21, 0, 16, 0x27, 0, 4, 0, 0]),
        Just(vec![0x32, 12, 0, 4, b'a', b'b', b'c', b'd', 0, 7, 3, 0x23, 0, 1]),
        Just(vec![0x40, 2, 0, 1]),
        Just(vec![0x40, 8, 0, 1, 0x87, 4, 0x1f, 0, 1, b'x']),
        Just(vec![0x50, 2, 0, 1]),
        Just(vec![0x62, 2, 0, 1]),
        Just(vec![0x70, 2, 0, 1]),
        Just(vec![0xb0, 4, 0, 1, 0, 0]),
        Just(vec![0xd0, 0]),
        Just(vec![0xe0, 7, 0x8e, 5, 0x1f, 0, 2, b'a', b'b']),
        Just(vec![0xf0, 2, 0, 0]),
        Just(vec![0x10, 0]),
        Just(publish("skerry/v1/agents/press/desired", b"x")),
        prop::collection::vec(any::<u8>(), 0..20),
    ]
}

/// Legal packets with some bytes changed, taken out or put in.
fn nonsense() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3);
    (prop::collection::vec(packet(), 1..5), prop::collection::vec(change, 0..6)).prop_map(
        |(packets, changes)| {
            let mut bytes = packets.concat();
            for (at, byte, how) in changes {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, byte),
                }
            }
            bytes
        },
    )
}

/// Whatever comes at whatever moment: no panic (in an agent it would be a crash), and an end.
#[test]
fn nonsense_ends_a_session_and_nothing_more() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    let parts = (nonsense(), nonsense(), any::<bool>(), any::<bool>());
    let checked = runner.run(&parts, |(first, second, connack, suback)| {
        let first = if connack { CONNACK.to_vec() } else { first };
        let second = if suback { [SUBACK, &second].concat() } else { second };
        runtime.block_on(async {
            let events = events(against(&first, &second).await).await;
            assert!(matches!(events.last(), Some(SessionEvent::Disconnected { .. })), "{events:?}");
            let connected = events.iter().filter(|e| **e == SessionEvent::Connected).count();
            assert!(connected <= 1 && (connected == 0 || events[0] == SessionEvent::Connected), "{events:?}");
        });
        Ok(())
    });
    checked.expect("no nonsense does more");
}
