//! Promises about who may fill which queue.

use super::rig::text;
use super::{Rig, agent, bytes, fair_limits, within};
use crate::bus::BusLimits;
use crate::{AgentBus, BusEvent, Kind, PublishError, Session, SessionEvent};

/// With nobody answering, exactly as many messages are taken as the queue has places; when the link
/// lives again, all of them arrive and the places are free.
pub async fn the_publish_queue_is_bounded(mut rig: Rig) {
    let mut bus = rig.bus().await;
    let mut config = rig.config(&agent("a"), "w").await;
    config.limits.queue = 40;
    let mut session = rig.connected(config).await;
    rig.stall(&agent("a"));
    assert_eq!(fill(&session), 40);

    rig.resume(&agent("a"));
    for _ in 0..40 {
        let event = within("an acknowledgement", session.next()).await;
        assert!(matches!(event, Some(SessionEvent::Published(_))), "{event:?}");
    }
    assert_eq!(fill(&session), 40);
    let mut heard = 0;
    while heard < 80 {
        let event = within("the messages", bus.next()).await;
        heard += u32::from(matches!(event, Some(BusEvent::Message(_))));
    }
}

fn fill(session: &Session) -> usize {
    for taken in 0..1000 {
        match session.publish(Kind::Observed, bytes("x"), "t", false) {
            Ok(_) => {}
            Err(PublishError::Full) => return taken,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("a queue without end")
}

const FLOOD: usize = 500;
const ROOM: usize = 16;

/// One agent sends far more than the hub takes; another sends one message after all that. The
/// other's comes after at most one of the flood, and only the flooder is named as overflowing.
pub async fn a_flood_harms_only_its_sender(mut rig: Rig) {
    let limits = BusLimits { fair: fair_limits(ROOM), ..BusLimits::default() };
    let mut bus = rig.bus_with(limits).await;
    let mut flooder = rig.session(&agent("flood"), "w").await;
    let mut quiet = rig.session(&agent("quiet"), "w").await;
    flood(&mut flooder).await;
    arrived(&bus, FLOOD as u64).await;
    quiet.publish(Kind::Events, bytes("quiet"), "t", false).expect("events are taken");
    assert!(matches!(within("an acknowledgement", quiet.next()).await, Some(SessionEvent::Published(_))));
    arrived(&bus, FLOOD as u64 + 1).await;

    let events: Vec<String> = std::iter::from_fn(|| bus.events.try_next()).map(|e| word(&e)).collect();
    let place = events.iter().position(|e| e == "quiet").expect("the quiet agent is heard");
    assert!(place <= 2, "{events:?}");
    assert_eq!(events.iter().filter(|e| *e == "overflow flood").count(), 1, "{events:?}");
    assert_eq!(events[0], "overflow flood", "told before what is left");
    assert_eq!(events.len(), 2 + ROOM, "{events:?}");
    assert_eq!(events.last(), Some(&(FLOOD - 1).to_string()), "the newest is kept");
}

async fn flood(session: &mut Session) {
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < FLOOD {
        while sent < FLOOD && session.publish(Kind::Observed, bytes(&sent.to_string()), "t", false).is_ok() {
            sent += 1;
        }
        let event = within("an acknowledgement", session.next()).await;
        assert!(matches!(event, Some(SessionEvent::Published(_))), "{event:?}");
        acknowledged += 1;
    }
}

/// An acknowledgement says nothing about the hub, so its own count is asked.
async fn arrived(bus: &AgentBus, count: u64) {
    let all = async {
        while bus.events.stats().received < count {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    within("the messages at the hub", all).await;
}

fn word(event: &BusEvent) -> String {
    match event {
        BusEvent::Message(m) => text(&m.payload),
        BusEvent::Overflow { agent } => format!("overflow {agent}"),
        other => format!("{other:?}"),
    }
}
