//! Promises about how sessions and the bus begin and end.

use super::rig::{end, next_inbound, next_message, presence, text};
use super::{Rig, agent, bytes, within};
use crate::{BusEvent, EndReason, Kind, Outgoing, PublishError, SessionEvent};

/// The broker speaks for an agent whose link broke, in the words of its CONNECT.
pub async fn a_will_follows_a_cut_and_carries_what_connect_gave(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut session = rig.session(&agent("a"), "gone, epoch 7").await;
    presence(&session, "here, epoch 7");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "here, epoch 7");

    rig.cut(&agent("a"));
    let will = next_inbound(&mut bus).await;
    assert_eq!((will.agent, will.kind), (agent("a"), Kind::Presence));
    assert_eq!((text(&will.payload).as_str(), will.content_type.as_str()), ("gone, epoch 7", "will/type"));
    let (reason, refused) = end(&mut session).await;
    assert!(matches!(reason, EndReason::Lost(_)) && !refused, "{reason}");
    let late = session.publish(Kind::Events, bytes("late"), "t", false);
    assert_eq!(late, Err(PublishError::Down));
}

/// Who leaves with a goodbye has the last word himself, and what he published before is sent.
pub async fn a_goodbye_withdraws_the_will(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut session = rig.session(&agent("a"), "will").await;
    session.publish(Kind::Events, bytes("last words"), "t", false).expect("events are taken");
    presence(&session, "offline");
    session.disconnect();
    assert_eq!(end(&mut session).await, (EndReason::Clean, false));
    for word in ["last words", "offline"] {
        assert_eq!(text(&next_inbound(&mut bus).await.payload), word);
    }
    // Were there a will, it would be before this.
    let next = rig.session(&agent("b"), "will").await;
    presence(&next, "online");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "online");
}

/// Of two sessions with one client id the later one lives. The will of the older may come late,
/// even after the presence of the later: the hub compares epochs.
pub async fn a_takeover_ends_the_older_session_only(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut old = rig.session(&agent("a"), "old gone").await;
    presence(&old, "old here");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "old here");
    let mut new = rig.session(&agent("a"), "new gone").await;
    presence(&new, "new here");
    let (reason, refused) = end(&mut old).await;
    assert!(!matches!(reason, EndReason::Clean) && !refused, "{reason}");

    // Of two presences not yet taken only the later is kept.
    let first = text(&next_inbound(&mut bus).await.payload);
    if first == "old gone" {
        assert_eq!(text(&next_inbound(&mut bus).await.payload), "new here");
    } else {
        assert_eq!(first, "new here");
    }
    let hello = Outgoing::to_agent(&agent("a"), Kind::Hello, bytes("hello"), "t");
    bus.sender.publish(hello).await.expect("hello is taken");
    assert_eq!(next_message(&mut new).await.1, "hello");
}

/// Two boards with one agent id and their own client ids are both heard and both reached.
pub async fn two_client_ids_of_one_agent_live_side_by_side(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut sessions = Vec::new();
    for board in ["a.b1", "a.b2"] {
        let mut config = rig.config(&agent("a"), "w").await;
        config.client_id = board.into();
        sessions.push(rig.connected(config).await);
    }
    for (n, session) in sessions.iter().enumerate() {
        session.publish(Kind::Events, bytes(&n.to_string()), "t", false).expect("events are taken");
        assert_eq!(text(&next_inbound(&mut bus).await.payload), n.to_string());
    }
    let hello = Outgoing::to_agent(&agent("a"), Kind::Hello, bytes("both"), "t");
    bus.sender.publish(hello).await.expect("hello is taken");
    for session in &mut sessions {
        assert_eq!(next_message(session).await.1, "both");
    }
}

/// One object is one CONNECT; the next one works, and brings what is retained.
pub async fn a_cut_session_can_be_followed_by_another(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let desired = Outgoing::to_agent(&agent("a"), Kind::Desired, bytes("1"), "t");
    bus.sender.publish(desired).await.expect("desired is taken");
    for round in 0..3 {
        let word = format!("round {round}");
        let mut session = rig.session(&agent("a"), "gone").await;
        assert_eq!(next_message(&mut session).await.1, "1");
        session.publish(Kind::Observed, bytes(&word), "t", false).expect("observed is taken");
        while text(&next_inbound(&mut bus).await.payload) != word {}
        rig.cut(&agent("a"));
        end(&mut session).await;
    }
}

/// A broken link of the bus is told, refuses what is published meanwhile, and heals by itself; then
/// the presences come again. Agents notice nothing.
pub async fn a_cut_bus_says_so_and_recovers(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut session = rig.session(&agent("a"), "gone").await;
    presence(&session, "here");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "here");

    rig.cut_bus();
    let down = within("the bus says that it is down", bus.next()).await;
    assert!(matches!(down, Some(BusEvent::Down { .. })), "{down:?}");
    let hello = Outgoing::to_agent(&agent("a"), Kind::Hello, bytes("hello"), "t");
    assert_eq!(bus.sender.try_publish(hello.clone()), Err(PublishError::Down));

    rig.restore_bus();
    loop {
        match within("the bus is up again", bus.next()).await {
            Some(BusEvent::Up) => break,
            Some(BusEvent::Down { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    let again = next_inbound(&mut bus).await;
    assert_eq!((text(&again.payload).as_str(), again.retained), ("here", true));
    bus.sender.publish(hello).await.expect("hello is taken");
    assert_eq!(next_message(&mut session).await.1, "hello");
}

/// The hub can cut an agent off; its will follows.
pub async fn a_kicked_agent_is_gone(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut session = rig.session(&agent("a"), "gone").await;
    let mut other = rig.session(&agent("b"), "gone").await;
    presence(&session, "here");
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "here");
    assert!(bus.sender.kick(&agent("a")));
    assert!(!end(&mut session).await.1);
    assert_eq!(text(&next_inbound(&mut bus).await.payload), "gone");
    let hello = Outgoing::to_agent(&agent("b"), Kind::Hello, bytes("hello"), "t");
    bus.sender.publish(hello).await.expect("hello is taken");
    assert_eq!(next_message(&mut other).await.1, "hello");
}

/// A link that went silent without closing is given up when something stays unanswered.
pub async fn a_silent_link_is_given_up(mut rig: Rig) {
    let _bus = rig.bus().await;
    let mut config = rig.config(&agent("a"), "w").await;
    config.limits.ack_timeout = std::time::Duration::from_millis(500);
    let mut session = rig.connected(config.clone()).await;
    rig.stall(&agent("a"));
    session.publish(Kind::Observed, bytes("1"), "t", false).expect("observed is taken");
    let reason = end(&mut session).await.0;
    assert_eq!(reason, EndReason::Silent(config.limits.ack_timeout));

    config.limits.connect_timeout = std::time::Duration::from_millis(1500);
    let mut session = rig.connector().connect(config);
    let (reason, refused) = end(&mut session).await;
    assert!(matches!(reason, EndReason::Unreachable(_)) && !refused, "{reason}");
}

/// Leaving is possible at any time, and always told.
pub async fn a_session_can_be_left_while_it_connects(mut rig: Rig) {
    let config = rig.config(&agent("a"), "w").await;
    rig.stall(&agent("a"));
    let mut session = rig.connector().connect(config);
    assert_eq!(session.publish(Kind::Events, bytes("x"), "t", false), Err(PublishError::Down));
    session.disconnect();
    let event = within("the end", session.next()).await;
    assert_eq!(event, Some(SessionEvent::Disconnected { reason: EndReason::Clean, refused: false }));
}
