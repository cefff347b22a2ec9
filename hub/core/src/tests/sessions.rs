//! Presence, nonces, floors, duplicates, gaps, heartbeats, events.

use contract::message::*;
use contract::{BoardId, Epoch};

use super::bed::*;
use super::board::*;
use crate::api::*;
use crate::view::AgentState;

fn state(bed: &Bed, name: &str) -> AgentState {
    bed.core.agent(bed.at(), &id(name)).unwrap().state
}

/// Another board that was given the same id.
fn twin_of(a: &Board) -> Board {
    let mut twin = Board { desired: None, ..a.clone() };
    (twin.presence.board, twin.presence.epoch.boots) = (BoardId([99; 16]), 50);
    twin
}

fn hellos(bed: &mut Bed) -> Vec<Hello> {
    let hello = |op: Op| match op {
        Op::PublishHello { hello, .. } => Some(*hello),
        _ => None,
    };
    bed.take().into_iter().filter_map(hello).collect()
}

#[test]
fn a_board_that_says_hello_becomes_fresh_and_gets_its_document() {
    let mut bed = Bed::new();
    let mut a = Board::new("a");
    bed.message(&a.id, FromAgent::Presence(a.presence.clone()));
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert!(a.desired.is_some(), "an empty document: what is not in it is to stop");
    assert_eq!(bed.durable.agents[&id("a")].boots, 1);
}

#[test]
fn nothing_is_written_when_nothing_is_new() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let before = bed.durable.clone();
    a.heartbeat(&mut bed, 0);
    a.leave(&mut bed);
    a.reconnect(&mut bed);
    a.full(&mut bed);
    assert_eq!(bed.durable, before);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn a_late_will_does_not_beat_the_session_that_followed() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let will = Presence { online: false, ..a.presence.clone() };
    a.reconnect(&mut bed);
    bed.message(&a.id, FromAgent::Presence(will));
    assert_eq!(state(&bed, "a"), AgentState::Online);
    a.leave(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Offline);
    let online = FromAgent::Presence(a.presence.clone());
    bed.message(&a.id, online);
    assert_eq!(state(&bed, "a"), AgentState::Offline, "the presence came after its own will");
}

#[test]
fn a_will_of_a_living_session_is_seen_through() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    a.leave(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Offline);
    bed.take();
    let old = a.nonce;
    a.heartbeat(&mut bed, 0);
    assert_eq!((state(&bed, "a"), a.nonce), (AgentState::Offline, old), "that may have come late");
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert_ne!(a.nonce, old);
    // One that is gone is asked once.
    a.leave(&mut bed);
    bed.take();
    for _ in 0..5 {
        a.heartbeat(&mut bed, 0);
    }
    assert_eq!(hellos(&mut bed).len(), 1);
    bed.pass(3_600_000);
    assert_eq!((hellos(&mut bed).len(), state(&bed, "a")), (0, AgentState::Offline));
}

#[test]
fn only_the_present_nonce_makes_fresh() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let old = a.nonce;
    bed.send(Event::BusDown { reason: "pulled".into() });
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    bed.send(Event::BusUp);
    a.heartbeat(&mut bed, 0);
    assert_eq!((state(&bed, "a"), a.nonce), (AgentState::Unknown, old));
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert_ne!(a.nonce, old);
}

#[test]
fn a_board_that_lost_its_store_jumps_above_the_floor() {
    let mut bed = Bed::new();
    let mut a = Board::new("a");
    a.presence.epoch.boots = 7;
    a.connect(&mut bed);
    a.presence.epoch = Epoch { boots: 2, session: 1 };
    a.connect(&mut bed);
    assert_eq!(a.presence.epoch.boots, 8);
    assert_eq!(bed.durable.agents[&a.id].boots, 8);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn two_live_boards_with_one_id_are_shown_and_neither_flaps() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let b = twin_of(&a);
    bed.message(&b.id, FromAgent::Presence(b.presence.clone()));
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Duplicate);
    assert_eq!(bed.durable.agents[&a.id].board, a.presence.board);
    assert_eq!(bed.core.events(None, 10, &Default::default())[0].kind, EventKind::Duplicate);
    bed.message(&b.id, FromAgent::Presence(b.presence.clone()));
    a.converse(&mut bed);
    assert_eq!(hellos(&mut bed), [], "the newcomer is not spoken to");
    bed.pass(60_000);
    assert_eq!(bed.durable.agents[&a.id].board, a.presence.board);
    b.leave(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn a_twin_whose_will_was_lost_is_forgotten() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let b = twin_of(&a);
    for _ in 0..4 {
        bed.message(&b.id, FromAgent::Presence(b.presence.clone()));
        a.converse(&mut bed);
        assert_eq!(state(&bed, "a"), AgentState::Duplicate);
        bed.pass(15 * 60_000);
        a.heartbeat(&mut bed, 0);
    }
    bed.pass(10 * 60_000);
    a.heartbeat(&mut bed, 0);
    assert_eq!(state(&bed, "a"), AgentState::Duplicate);
    bed.pass(15 * 60_000);
    a.heartbeat(&mut bed, 0);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    let told = bed.durable.events.values().filter(|e| e.event.kind == EventKind::Duplicate).count();
    assert_eq!(told, 1, "and it was told once");
}

/// The known one was silent for a moment: its twin took the id over, and then went away.
#[test]
fn the_survivor_of_two_boards_is_heard_without_reconnecting() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let mut b = twin_of(&a);
    bed.message(&b.id, FromAgent::Presence(b.presence.clone()));
    bed.take();
    bed.pass(crate::duplicate::CHALLENGE_MS);
    b.converse(&mut bed);
    assert_eq!(bed.durable.agents[&a.id].board, b.presence.board);
    bed.take();
    // Both live: what the first says goes on is enough to see that.
    let mut living = a.clone();
    living.heartbeat(&mut bed, 0);
    living.converse(&mut bed);
    b.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Duplicate);
    // Of a board that is gone something may come late; it touches nothing.
    living.leave(&mut bed);
    a.heartbeat(&mut bed, 0);
    bed.pass(60_000);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    b.leave(&mut bed);
    a.heartbeat(&mut bed, 0);
    a.converse(&mut bed);
    assert_eq!(bed.durable.agents[&a.id].board, a.presence.board);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn a_silent_board_is_replaced_by_the_one_that_took_its_id() {
    let mut bed = Bed::new();
    let a = fleet(&mut bed, &["a"]).remove(0);
    let mut b = Board { desired: None, ..a.clone() };
    b.presence.board = BoardId([99; 16]);
    bed.message(&b.id, FromAgent::Presence(b.presence.clone()));
    bed.take();
    bed.pass(crate::duplicate::CHALLENGE_MS);
    // Its counter says nothing beside the other board's: it has to get above it.
    b.converse(&mut bed);
    assert_eq!(bed.durable.agents[&b.id].board, b.presence.board);
    assert!(b.presence.epoch.boots > a.presence.epoch.boots);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert!(b.desired.is_some());
}

#[test]
fn a_hole_is_asked_for_until_it_is_filled_ever_more_slowly() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    a.seq += 1;
    let changes = a.observed(ObservedBody::Changes { workloads: Default::default() });
    bed.message(&a.id, FromAgent::Observed(changes));
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    let asked = hellos(&mut bed);
    assert_eq!(asked.iter().map(|h| h.want).collect::<Vec<_>>(), [Want::Full]);
    bed.pass(3_600_000);
    let again = hellos(&mut bed);
    assert!((8..25).contains(&again.len()), "{} in an hour", again.len());
    a.full(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    a.converse(&mut bed);
    bed.pass(600_000);
    assert_eq!(hellos(&mut bed), []);
}

#[test]
fn a_heartbeat_with_another_state_asks_for_everything() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    a.workloads.clear();
    a.heartbeat(&mut bed, 0);
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn silence_for_two_and_a_half_heartbeats_is_not_fresh() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.pass(HEARTBEAT_MS * 2);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    bed.pass(HEARTBEAT_MS / 2);
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn after_a_hub_start_everything_is_unknown_until_told() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let term = bed.durable.meta.unwrap().term;
    bed.restart();
    assert_eq!(bed.durable.meta.unwrap().term, term.next());
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    bed.take();
    bed.message(&a.id, FromAgent::Presence(a.presence.clone()));
    assert_eq!(state(&bed, "a"), AgentState::Unknown);
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

#[test]
fn a_report_makes_up_for_a_lost_presence() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.restart();
    bed.take();
    a.heartbeat(&mut bed, 0);
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
}

/// Seed 412: the store was deleted, the broker had lost the presence, and the agent stayed connected.
#[test]
fn a_report_of_a_board_that_nobody_knows_makes_it_introduce_itself() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    let mut bed = Bed::new();
    a.desired = None;
    a.heartbeat(&mut bed, 0);
    assert!(bed.core.agent(bed.at(), &id("a")).is_none(), "a report does not say what the board can do");
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert_eq!(bed.durable.agents[&a.id].engines, a.presence.engines);
}

/// Seed 10274: it lost its store, was greeted under the same number of starts by a hub that had just
/// started; then the will of its last session before came.
#[test]
fn a_will_from_before_the_store_was_lost_does_not_silence_the_board() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    (0..3).for_each(|_| a.reconnect(&mut bed));
    let before = a.clone();
    bed.restart();
    bed.take();
    a.desired = None;
    a.presence.epoch.session = 1;
    a.connect(&mut bed);
    assert_eq!((state(&bed, "a"), a.presence.epoch.session), (AgentState::Online, 1));
    before.leave(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Offline);
    a.heartbeat(&mut bed, 0);
    a.converse(&mut bed);
    assert_eq!(state(&bed, "a"), AgentState::Online);
    assert!(a.presence.epoch.boots > before.presence.epoch.boots);
}

#[test]
fn a_document_from_the_brokers_memory_is_covered_by_the_present_one() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.take();
    let says = |a: &mut Board, refused: Option<&str>| {
        let state = Observed::state_digest(&a.workloads);
        let report = a.observed(ObservedBody::Heartbeat { state, spooled: 0 });
        FromAgent::Observed(Observed { refused: refused.map(str::to_string), ..report })
    };
    let message = says(&mut a, Some("generation 0 is older"));
    bed.message(&a.id, message);
    let documents =
        |bed: &mut Bed| bed.take().iter().filter(|op| matches!(op, Op::PublishDesired { .. })).count();
    assert_eq!(documents(&mut bed), 0, "it may pass by itself");
    bed.pass(10_000);
    assert_eq!(documents(&mut bed), 1);
    let message = says(&mut a, None);
    bed.message(&a.id, message);
    bed.pass(600_000);
    assert_eq!(documents(&mut bed), 0, "the agent took its word back");
}

#[test]
fn events_are_acknowledged_when_durable_and_taken_once() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.take();
    let batch = a.batch(1, 40);
    bed.message(&a.id, FromAgent::Events(batch.clone()));
    let acked = hellos(&mut bed);
    assert_eq!(acked.last().unwrap().acked.event_seq, 1 << 32 | 40);
    bed.message(&a.id, FromAgent::Events(batch));
    assert_eq!(bed.durable.events.len(), 40);
    // A hole is asked for, at most a minute apart; when it stays it is told and passed over.
    let mut asked = 0;
    while bed.durable.events.len() == 40 && asked < 20 {
        bed.message(&a.id, FromAgent::Events(a.batch(43, 1)));
        bed.take();
        bed.pass(60_000);
        let hellos = hellos(&mut bed);
        assert!(hellos.iter().all(|hello| hello.acked.event_seq >= 1 << 32 | 40));
        asked += hellos.len();
    }
    assert!((10..14).contains(&asked), "{asked}");
    let texts: Vec<String> = bed.durable.events.values().map(|e| e.event.text.clone()).collect();
    assert_eq!(texts[40..], ["2 events of the agent never arrived", "e43"]);
    // One that the agent itself tells of is none to ask for.
    let mut lost = a.batch(50, 2);
    lost.events[0].kind = EventKind::Lost;
    bed.message(&a.id, FromAgent::Events(lost));
    assert_eq!(bed.durable.agents[&a.id].event_seq, 1 << 32 | 51);
    a.heartbeat(&mut bed, 1);
    assert_eq!(hellos(&mut bed).last().unwrap().acked.event_seq, 1 << 32 | 51);
    a.heartbeat(&mut bed, 1);
    assert_eq!(hellos(&mut bed), [], "nothing new to acknowledge, and it was just done");
}

#[test]
fn a_mass_reconnect_leaves_in_pages() {
    let config = crate::Config { page_max: 20, ..Default::default() };
    let mut bed = Bed::with(config, Store::default());
    let names: Vec<String> = (0..100).map(|n| format!("a{n}")).collect();
    let mut boards: Vec<Board> = names.iter().map(|name| Board::new(name)).collect();
    boards.iter_mut().for_each(|board| board.connect(&mut bed));
    bed.auto = false;
    bed.step(Event::BusUp);
    assert!(bed.core.next_wake().is_some_and(|at| at <= bed.now));
    bed.settle();
    bed.auto = true;
    boards.iter_mut().for_each(|board| board.converse(&mut bed));
    assert_eq!(bed.core.status().agents.online, 100);
}

#[test]
fn a_failed_commit_ends_everything() {
    let mut bed = Bed::new();
    fleet(&mut bed, &["a"]);
    bed.auto = false;
    bed.push_unfinished("app:1");
    let (persist, _) = bed.pending.pop_front().unwrap();
    bed.take();
    bed.step(Event::Finished { id: persist, outcome: Outcome::Fault("disk".into()) });
    bed.step(Event::BusUp);
    assert_eq!((bed.take(), bed.core.next_wake()), (vec![], None));
}

#[test]
fn a_newer_contract_is_refused_by_name() {
    let mut bed = Bed::new();
    let mut a = Board::new("a");
    a.presence.contract_version += 1;
    a.connect(&mut bed);
    let reason = bed.core.status().last_rejected.unwrap();
    assert!(reason.contains("agent a") && reason.contains("contract version 2"), "{reason}");
}

#[test]
fn odd_labels_are_left_out_and_said() {
    let mut bed = Bed::new();
    let mut a = Board::labelled("a", &[("line", "a"), ("bad key", "x"), ("x", "sp ace")]);
    a.connect(&mut bed);
    let view = bed.core.agent(bed.at(), &a.id).unwrap();
    assert_eq!(view.labels, labels(&[("line", "a")]));
    assert!(view.problems[0].contains("2 of its 3 labels"), "{:?}", view.problems);
}

#[test]
fn a_late_report_of_the_session_before_changes_nothing() {
    let mut bed = Bed::new();
    bed.push("app:1");
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    bed.apply(vec![every("w", "app:1")]);
    a.converse(&mut bed);
    let mut late = a.clone();
    let workloads = [(key("ns/w"), None)].into();
    let late = late.observed(ObservedBody::Changes { workloads });
    a.reconnect(&mut bed);
    bed.message(&a.id, FromAgent::Observed(Observed { seq: 99, ..late.clone() }));
    bed.message(&a.id, FromAgent::Observed(late));
    let shown = bed.core.instances(bed.at(), &Default::default());
    assert_eq!((shown[0].state.as_str(), shown[0].fresh), ("Running", true));
    let other = Observed {
        board: BoardId([77; 16]),
        ..a.observed(ObservedBody::Full { workloads: Default::default() })
    };
    bed.message(&a.id, FromAgent::Observed(other));
    let shown = bed.core.instances(bed.at(), &Default::default());
    assert_eq!(shown[0].state, "Running", "nor does one of another board");
}
