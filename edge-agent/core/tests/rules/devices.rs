//! What waits for a device, what it takes with it when it goes, and whom that does not concern.

use contract::run::{Assignment, Container, RunDevice};
use contract::status::InstanceState;

use crate::board::Board;
use crate::hub::*;

const PLC: &str = "/dev/plc";

fn with_device(name: &str, n: u8, path: &str) -> Assignment {
    let mut made = assignment(name, n, &[0]);
    let device = RunDevice { path: path.into(), inside: path.into(), access: "rw".into() };
    made.run.container = Some(Container { devices: vec![device], ..Container::default() });
    made
}

fn waits_for(board: &Board, path: &str) -> bool {
    let reason = format!("waiting for device {path}");
    board.status("a", 0).state == InstanceState::Waiting { reason }
}

#[test]
fn what_needs_a_device_waits_for_it_by_name_and_starts_when_it_comes() {
    let mut board = Board::running(document(1, [with_device("a", 1, PLC), assignment("b", 2, &[0])]));
    assert!(waits_for(&board, PLC), "{:?}", board.status("a", 0).state);
    assert!(board.live_run(&instance("b", 0)).is_some());
    board.plug("/dev/other", Some(9));
    board.settle();
    assert_eq!(board.starts(), 1);
    board.plug(PLC, Some(1));
    board.settle();
    assert!(board.live_run(&instance("a", 0)).is_some());
    // Nobody asks about what nothing needs any more.
    board.desired(document(2, [assignment("b", 2, &[0])]));
    board.settle();
    assert!(board.watched.is_empty());
}

#[test]
fn a_device_that_goes_takes_its_user_along_and_nobody_else() {
    let mut board = Board::new();
    board.devices.insert(PLC.into(), 1);
    board.devices.insert("/dev/cam".into(), 2);
    board.boot();
    board.settle();
    board.greet(1);
    board.desired(document(1, [with_device("a", 1, PLC), with_device("b", 2, "/dev/cam")]));
    board.settle();
    let (first, other) = (board.live_run(&instance("a", 0)), board.live_run(&instance("b", 0)));
    assert!(first.is_some() && other.is_some());
    board.plug(PLC, None);
    board.settle();
    assert!(waits_for(&board, PLC));
    assert_eq!(board.status("a", 0).restarts, 0, "that was not its failure");
    assert!(board.events().iter().any(|e| e.text.contains("device /dev/plc is gone")));
    board.plug(PLC, Some(1));
    board.settle();
    let second = board.live_run(&instance("a", 0));
    assert!(second.is_some() && second != first);
    // Unplugged and plugged in between two looks: another node under the same name.
    board.plug(PLC, Some(3));
    board.settle();
    let third = board.live_run(&instance("a", 0));
    assert!(third.is_some() && third != second);
    assert_eq!(board.live_run(&instance("b", 0)), other);
}

/// What runs goes on until what replaces it has what it needs.
#[test]
fn a_new_revision_that_needs_what_is_not_there_stops_nothing() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    let before = board.live_run(&instance("a", 0));
    board.desired(document(2, [with_device("a", 2, PLC)]));
    board.advance(1000);
    assert_eq!(board.live_run(&instance("a", 0)), before);
    board.plug(PLC, Some(1));
    board.advance(1000);
    assert_ne!(board.live_run(&instance("a", 0)), before);
    assert_eq!(board.status("a", 0).revision, revision(2));
}

/// A board that knows nothing of its devices yet takes nothing down for that.
#[test]
fn an_adopted_user_of_a_device_runs_on() {
    let mut board = Board::new();
    board.devices.insert(PLC.into(), 1);
    board.boot();
    board.settle();
    board.greet(1);
    board.desired(document(1, [with_device("a", 1, PLC)]));
    board.settle();
    let first = board.live_run(&instance("a", 0));
    board.crash();
    board.settle();
    assert_eq!(board.live_run(&instance("a", 0)), first);
}

/// The deadline of a trial is for what was tried: it begins with the first start.
#[test]
fn no_deadline_runs_while_a_new_revision_waits_for_its_device() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    let before = board.live_run(&instance("a", 0));
    let next = with_device("a", 2, PLC);
    let deadline = next.run.health_deadline_ms;
    board.desired(document(2, [next]));
    board.advance(3 * deadline);
    assert_eq!(board.live_run(&instance("a", 0)), before, "the good one runs on, and nothing was rejected");
    board.plug(PLC, Some(1));
    board.advance(5000);
    assert_eq!(board.status("a", 0).revision, revision(2));
    board.advance(deadline);
    assert_eq!(board.status("a", 0).revision, revision(2), "it had its whole time, and became good");
}

/// Nothing would run there until the device came back, and the one before needs none.
#[test]
fn a_trial_whose_device_goes_and_stays_away_falls_back_at_its_deadline() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.plug(PLC, Some(1));
    let mut next = with_device("a", 2, PLC);
    next.run.healthy_after_ms = 10_000;
    let deadline = next.run.health_deadline_ms;
    board.desired(document(2, [next]));
    board.plug(PLC, Some(1));
    board.advance(1000);
    assert_eq!(board.status("a", 0).revision, revision(2));
    board.plug(PLC, None);
    board.advance(deadline / 2);
    assert!(waits_for(&board, PLC), "{:?}", board.status("a", 0));
    board.advance(deadline);
    assert_eq!(board.status("a", 0).revision, revision(1));
    assert!(board.live_run(&instance("a", 0)).is_some());
}
