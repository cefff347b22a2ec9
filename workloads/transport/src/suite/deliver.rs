//! Promises about what arrives.

use contract::limits::WIRE_BYTES_MAX;

use super::rig::{end, next_inbound, next_message, presence, text};
use super::{Rig, agent, bytes, within};
use crate::fair::PRESENCE_BYTES_MAX;
use crate::{AgentBus, Inbound, Kind, Outgoing, PublishError, Session, SessionEvent, Topic};

/// More than any window, less than what any broker keeps for a client that reads.
const MANY: usize = 200;

fn to(name: &str, kind: Kind, text: &str) -> Outgoing {
    Outgoing::to_agent(&agent(name), kind, bytes(text), "text/plain")
}

fn announce(text: &str) -> Outgoing {
    Outgoing { topic: Topic::Hub, payload: bytes(text), content_type: "t".into(), retain: true, expiry: None }
}

/// While both ends stay connected every message arrives at least once, the first copies in order.
pub async fn at_least_once_and_in_order(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut session = rig.session(&agent("a"), "w").await;
    tokio::join!(agent_says_many(&mut session), hub_hears_many(&mut bus));
    let sender = bus.sender.clone();
    let hub_says = async {
        for n in 0..MANY {
            sender.publish(to("a", Kind::Hello, &n.to_string())).await.expect("the hub's message is taken");
        }
    };
    tokio::join!(hub_says, agent_hears_many(&mut session));
}

async fn agent_says_many(session: &mut Session) {
    let (mut next, mut acknowledged) = (0, Vec::new());
    let mut tokens = Vec::new();
    while acknowledged.len() < MANY {
        while next < MANY {
            match session.publish(Kind::Observed, bytes(&next.to_string()), "text/plain", false) {
                Ok(token) => tokens.push(token),
                Err(PublishError::Full) => break,
                Err(other) => panic!("{other}"),
            }
            next += 1;
        }
        match within("an acknowledgement", session.next()).await {
            Some(SessionEvent::Published(token)) => acknowledged.push(token),
            other => panic!("an acknowledgement expected, not {other:?}"),
        }
    }
    acknowledged.sort();
    assert_eq!(acknowledged, tokens, "each message is acknowledged, once");
}

async fn hub_hears_many(bus: &mut AgentBus) {
    let mut expected = 0;
    while expected < MANY {
        let message = next_inbound(bus).await;
        assert_eq!((message.agent, message.kind), (agent("a"), Kind::Observed));
        assert_eq!((message.content_type.as_str(), message.retained), ("text/plain", false));
        in_order(&text(&message.payload), &mut expected);
    }
}

async fn agent_hears_many(session: &mut Session) {
    let mut expected = 0;
    while expected < MANY {
        let (topic, text, retained) = next_message(session).await;
        assert_eq!((topic, retained), (Topic::agent(&agent("a"), Kind::Hello), false));
        in_order(&text, &mut expected);
    }
}

fn in_order(text: &str, expected: &mut usize) {
    let number: usize = text.parse().expect("a number");
    assert!(number <= *expected, "{number} before {expected}");
    *expected += usize::from(number == *expected);
}

/// Who connects gets the latest desired and the latest announcement, marked as from before; the hub
/// gets the latest presence.
pub async fn the_latest_retained_message_is_there_at_connect(mut rig: Rig) {
    let mut early = rig.session(&agent("early"), "w").await;
    for word in ["old", "new"] {
        presence(&early, word);
        let event = within("an acknowledgement", early.next()).await;
        assert!(matches!(event, Some(SessionEvent::Published(_))), "{event:?}");
    }
    let mut bus = rig.bus().await;
    while text(&next_inbound(&mut bus).await.payload) != "new" {}

    for message in
        [to("a", Kind::Desired, "1"), to("a", Kind::Desired, "2"), announce("term 1"), announce("term 2")]
    {
        bus.sender.publish(message).await.expect("the hub's message is taken");
    }
    // When another session has heard the last of them, the broker has it.
    while next_message(&mut early).await.1 != "term 2" {}

    let mut session = rig.session(&agent("a"), "w").await;
    let mut got = [next_message(&mut session).await, next_message(&mut session).await];
    got.sort();
    let desired = (Topic::agent(&agent("a"), Kind::Desired), "2".to_string(), true);
    assert_eq!(got, [(Topic::Hub, "term 2".to_string(), true), desired]);
}

/// After `forget` nothing of an agent is retained.
pub async fn a_forgotten_agent_leaves_nothing(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut witness = rig.session(&agent("a"), "w").await;
    bus.sender.publish(to("a", Kind::Desired, "1")).await.expect("desired is taken");
    presence(&witness, "here");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "here");
    assert_eq!(next_message(&mut witness).await.1, "1");

    bus.sender.forget(&agent("a")).await.expect("forgotten");
    bus.sender.publish(to("a", Kind::Hello, "after")).await.expect("hello is taken");
    assert_eq!(next_message(&mut witness).await.1, "after", "an empty message is no message");

    let mut config = rig.config(&agent("a"), "w").await;
    config.client_id = "a.second".into();
    let mut session = rig.connected(config).await;
    bus.sender.publish(to("a", Kind::Hello, "marker")).await.expect("hello is taken");
    assert_eq!(next_message(&mut session).await.1, "marker");
}

/// A command for an agent that is away is lost, not delivered later.
pub async fn a_command_never_waits_for_an_absent_agent(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let first = rig.session(&agent("a"), "gone").await;
    presence(&first, "here");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "here");
    rig.cut(&agent("a"));
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "gone");
    let command = Kind::Command("c1".parse().expect("a name"));
    // Once a witness has heard what was said after it, the broker is done with the command.
    let mut witness = rig.session(&agent("witness"), "gone").await;
    bus.sender.publish(to("a", command.clone(), "too early")).await.expect("the command is taken");
    bus.sender.publish(to("witness", Kind::Hello, "after it")).await.expect("hello is taken");
    assert_eq!(next_message(&mut witness).await.1, "after it");

    let mut session = rig.session(&agent("a"), "gone").await;
    bus.sender.publish(to("a", command.clone(), "in time")).await.expect("the command is taken");
    let got = next_message(&mut session).await;
    assert_eq!(got, (Topic::agent(&agent("a"), command), "in time".to_string(), false));
    let reply = Kind::Reply("c1".parse().expect("a name"));
    session.publish(reply.clone(), bytes("done"), "t", false).expect("the reply is taken");
    let Inbound { agent: from, kind, .. } = next_inbound(&mut bus).await;
    assert_eq!((from, kind), (agent("a"), reply));
}

/// No agent hears what is meant for another.
pub async fn agents_hear_only_their_own(mut rig: Rig) {
    let bus = rig.bus().await;
    let mut a = rig.session(&agent("a"), "w").await;
    let mut b = rig.session(&agent("ab"), "w").await;
    for (name, word) in [("a", "for a"), ("ab", "for ab"), ("a", "again a")] {
        bus.sender.publish(to(name, Kind::Hello, word)).await.expect("hello is taken");
    }
    bus.sender.publish(announce("for all")).await.expect("the announcement is taken");
    for word in ["for a", "again a", "for all"] {
        assert_eq!(next_message(&mut a).await.1, word);
    }
    for word in ["for ab", "for all"] {
        assert_eq!(next_message(&mut b).await.1, word);
    }
}

/// The largest message passes both ways; a larger one is refused where it is published.
pub async fn oversize_is_refused_and_harms_nothing(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut session = rig.session(&agent("a"), "w").await;
    let (most, more) = ("x".repeat(WIRE_BYTES_MAX), "x".repeat(WIRE_BYTES_MAX + 1));
    let refused = session.publish(Kind::Observed, bytes(&more), "t", false);
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    let presence = "x".repeat(PRESENCE_BYTES_MAX + 1);
    let refused = session.publish(Kind::Presence, bytes(&presence), "t", true);
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
    let refused = bus.sender.publish(to("a", Kind::Desired, &more)).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");

    session.publish(Kind::Observed, bytes(&most), "t", false).expect("the largest is taken");
    assert_eq!(next_inbound(&mut bus).await.payload.len(), WIRE_BYTES_MAX);
    bus.sender.publish(to("a", Kind::Desired, &most)).await.expect("the largest is taken");
    assert_eq!(next_message(&mut session).await.1.len(), WIRE_BYTES_MAX);

    let config = rig.config(&agent("b"), &presence).await;
    assert!(end(&mut rig.connector().connect(config)).await.1, "a will that is too large");
}
