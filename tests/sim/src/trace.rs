//! How is a world told? One short line for each message.

use agent_core::api::HubMessage;
use contract::message::{FromAgent, ObservedBody};

pub fn up(message: &FromAgent) -> String {
    match message {
        FromAgent::Presence(p) => {
            format!("presence {} online {} board {}", p.epoch, p.online, short(&p.board))
        }
        FromAgent::Observed(o) => {
            let body = match &o.body {
                ObservedBody::Full { workloads } => format!("full of {}", workloads.len()),
                ObservedBody::Changes { workloads } => format!("changes of {}", workloads.len()),
                ObservedBody::Heartbeat { spooled, .. } => format!("heartbeat, {spooled} spooled"),
            };
            let applied = o.applied.map(|head| (head.term.0, head.generation.0));
            let nonce = o.nonce.map(|n| short(&n));
            format!("report {}#{} nonce {nonce:?} applied {applied:?} {body}", o.epoch, o.seq)
        }
        FromAgent::Events(e) => {
            let (boots, n) = (e.first_seq >> 32, e.first_seq & 0xffff_ffff);
            let texts: Vec<&str> = e.events.iter().map(|e| &*e.text).collect();
            format!("events {boots}:{n}+{} {texts:?}", e.events.len())
        }
        FromAgent::Reply(r) => format!("reply {:?}", r.body),
    }
}

pub fn down(message: &HubMessage) -> String {
    match message {
        HubMessage::Announce(a) => format!("announce term {}", a.term),
        HubMessage::Hello(h) => format!(
            "hello for {} epoch {} nonce {} floor {} acked {}#{} events {} want {:?}",
            short(&h.board),
            h.epoch,
            short(&h.nonce),
            h.epoch_floor,
            h.acked.epoch,
            h.acked.observed_seq,
            h.acked.event_seq & 0xffff_ffff,
            h.want
        ),
        HubMessage::Desired { document, .. } => format!(
            "desired term {} generation {} of {}",
            document.term,
            document.generation,
            document.assignments.len()
        ),
        HubMessage::Command(_) => "command".into(),
    }
}

fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(6).collect()
}
