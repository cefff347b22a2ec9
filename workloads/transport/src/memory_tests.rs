//! What the in-memory broker does beyond the promises of the suite: its order, and its switches.

use super::*;
use crate::session::Token;
use crate::{BusEvent, Endpoint};

fn config(agent: &str) -> SessionConfig {
    let will = Will { payload: Bytes::from_static(b"gone"), content_type: "t".into() };
    SessionConfig::new(Endpoint::parse("mqtt://127.0.0.1:1", false).unwrap(), agent.parse().unwrap(), will)
}

fn publish(session: &Session, kind: Kind, text: &'static str) -> Result<Token, PublishError> {
    let retain = kind == Kind::Presence;
    session.publish(kind, Bytes::from_static(text.as_bytes()), "t", retain)
}

fn word(event: Option<BusEvent>) -> String {
    match event {
        Some(BusEvent::Message(m)) => {
            let mark = if m.retained { " retained" } else { "" };
            format!("{}/{} {}{mark}", m.agent, m.kind, String::from_utf8_lossy(&m.payload))
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn everything_happens_within_the_call() {
    let broker = Broker::new();
    let mut bus = broker.bus(BusLimits::default());
    let mut session = broker.connect(config("a"));
    assert_eq!(bus.events.try_next(), Some(BusEvent::Up));
    assert_eq!(session.try_next(), Some(SessionEvent::Connected));
    let token = publish(&session, Kind::Observed, "1").unwrap();
    assert_eq!(session.try_next(), Some(SessionEvent::Published(token)));
    assert_eq!(word(bus.events.try_next()), "a/observed 1");
    session.disconnect();
    assert_eq!(session.try_next(), Some(SessionEvent::disconnected(EndReason::Clean)));
    assert_eq!(bus.events.try_next(), None, "a goodbye withdraws the will");
    assert_eq!(publish(&session, Kind::Observed, "2"), Err(PublishError::Down));
}

#[test]
fn a_session_that_is_dropped_leaves_its_will() {
    let broker = Broker::new();
    let mut bus = broker.bus(BusLimits::default());
    drop(broker.connect(config("a")));
    assert_eq!(bus.events.try_next(), Some(BusEvent::Up));
    assert_eq!(word(bus.events.try_next()), "a/presence gone");
    let presence = Topic::agent(&"a".parse().unwrap(), Kind::Presence);
    assert_eq!(broker.retained(&presence).as_deref(), Some(&b"gone"[..]));
}

#[test]
fn a_new_bus_ends_the_old_one_and_hears_what_is_retained() {
    let broker = Broker::new();
    let mut old = broker.bus(BusLimits::default());
    let session = broker.connect(config("a"));
    publish(&session, Kind::Presence, "here").unwrap();
    let mut new = broker.bus(BusLimits::default());
    let to_a = Outgoing::to_agent(&"a".parse().unwrap(), Kind::Hello, Bytes::from_static(b"x"), "t");
    assert_eq!(old.sender.try_publish(to_a), Err(PublishError::Down));
    assert_eq!(new.events.try_next(), Some(BusEvent::Up));
    assert_eq!(word(new.events.try_next()), "a/presence here retained");
    assert_eq!(old.events.try_next(), Some(BusEvent::Up));
    assert_eq!(word(old.events.try_next()), "a/presence here");
}

#[test]
fn stopped_and_refused_are_told_apart() {
    let broker = Broker::new();
    let agent: AgentId = "a".parse().unwrap();
    broker.refuse(&agent, true);
    let mut session = broker.connect(config("a"));
    assert!(matches!(session.try_next(), Some(SessionEvent::Disconnected { refused: true, .. })));
    broker.refuse(&agent, false);
    broker.stop();
    let mut session = broker.connect(config("a"));
    assert!(matches!(session.try_next(), Some(SessionEvent::Disconnected { refused: false, .. })));
    broker.start();
    let mut session = broker.connect(config("a"));
    assert_eq!(session.try_next(), Some(SessionEvent::Connected));
}

#[test]
fn only_what_is_ours_to_say() {
    let broker = Broker::new();
    let bus = broker.bus(BusLimits::default());
    let session = broker.connect(config("a"));
    assert!(matches!(publish(&session, Kind::Desired, "x"), Err(PublishError::Direction(_))));
    let retained = session.publish(Kind::Observed, Bytes::new(), "t", true);
    assert!(matches!(retained, Err(PublishError::Retain(_))));
    let agent: AgentId = "a".parse().unwrap();
    let wrong = Outgoing::to_agent(&agent, Kind::Observed, Bytes::from_static(b"x"), "t");
    assert!(matches!(bus.sender.try_publish(wrong), Err(PublishError::Direction(_))));
    let mut wrong = Outgoing::to_agent(&agent, Kind::Hello, Bytes::from_static(b"x"), "t");
    wrong.retain = true;
    assert!(matches!(bus.sender.try_publish(wrong), Err(PublishError::Retain(_))));
}
