//! The field's stories (FIELD.md), each played on one board: what runs, and what falls back.

use agent_core::api::*;
use contract::message::EventKind;
use contract::run::{DataRef, RunData};
use contract::status::InstanceState;
use contract::{Attempt, Term};

use crate::board::{Board, Fate};
use crate::hub::*;

#[test]
fn f13_a_reconnect_restarts_nothing() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1]), assignment("b", 2, &[0])]));
    assert_eq!(board.starts(), 3);
    let before = board.live();
    for nonce in 2..6 {
        board.disconnect();
        board.advance(5000);
        board.reconnect(nonce);
        board.desired(document(1, [assignment("a", 1, &[0, 1]), assignment("b", 2, &[0])]));
        // The same content under a newer generation and term changes nothing either.
        let mut newer = document(u64::from(nonce), [assignment("a", 1, &[0, 1]), assignment("b", 2, &[0])]);
        newer.term = Term(u64::from(nonce));
        board.desired(newer);
        board.settle();
    }
    assert_eq!((board.starts(), board.stops()), (3, 0));
    assert_eq!(board.live(), before);
}

#[test]
fn f13_an_agent_crash_adopts_everything() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1])]));
    board.advance(10_000);
    let (starts, before) = (board.starts(), board.live());
    board.crash();
    board.settle();
    assert_eq!((board.starts(), board.stops()), (starts, 0));
    assert_eq!(board.live(), before);
    assert!(board.status("a", 0).healthy, "age counts from the guest's start, not from the adoption");
}

#[test]
fn f15_a_deletion_made_while_away_is_applied() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0]), assignment("b", 2, &[0])]));
    board.advance(10_000);
    board.disconnect();
    board.advance(100_000);
    assert_eq!(board.live().len(), 2, "an outage deletes nothing");
    board.reconnect(2);
    board.desired(document(2, [assignment("b", 2, &[0])]));
    board.settle();
    assert_eq!(board.live(), [("plant/b/0".to_string(), revision(2))]);
    assert_eq!(board.runs.len(), 1, "what was stopped is cleared");
    assert!(!board.disk.records.contains_key(&key("a")), "its record is gone");
    assert!(!board.notes.contains_key(&instance("a", 0)));
    assert!(!board.artifacts.contains(&artifact(1)), "its artefact is gone");
    assert!(!board.believed.contains_key(&key("a")), "the hub was told");
}

#[test]
fn f20_a_newer_document_supersedes_one_that_is_stuck() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.network = false;
    board.desired(document(2, [assignment("a", 2, &[0])]));
    board.advance(3_600_000);
    assert_eq!(board.live()[0].1, revision(1), "the old one runs until the new one is here");
    let fetches = board.count(|op| matches!(op, Op::Fetch { .. }));
    assert!((10..40).contains(&fetches), "transport errors are retried for ever, ever slower: {fetches}");
    let waiting = &board.core.status(board.clock()).workloads[&key("a")].waiting;
    assert!(waiting[&0].contains("no route to host"), "{waiting:?}");
    assert_eq!(board.believed[&key("a")].waiting.as_ref(), waiting.get(&0), "the hub is told as well");
    board.network = true;
    board.desired(document(3, [assignment("a", 3, &[0])]));
    board.settle();
    assert_eq!(board.live()[0].1, revision(3));
    assert_eq!(board.core.status(board.clock()).workloads[&key("a")].status.rejected, None);
}

#[test]
fn f20_fetching_resumes_at_once_when_the_hub_is_heard_again() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.network = false;
    board.desired(document(2, [assignment("a", 2, &[0])]));
    board.advance(1_000_000);
    board.disconnect();
    board.network = true;
    board.reconnect(2);
    assert_eq!(board.live()[0].1, revision(2));
}

#[test]
fn f21_a_power_cut_in_mid_deploy_never_makes_the_unproven_revision_good() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.desired(document(2, [assignment("a", 2, &[0])]));
    board.settle();
    board.advance(1000);
    board.power_cut();
    board.settle();
    let record = &board.disk.records[&key("a")];
    assert_eq!(record.good.as_ref().unwrap().revision, revision(1));
    assert_eq!(record.candidate, Some((revision(2), Attempt(1))));
    assert_eq!(board.live()[0].1, revision(2), "the candidate is tried again");
    board.fates.insert(revision(2), Fate::Exit(trap()));
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.advance(20_000);
    assert_eq!(board.live()[0].1, revision(1), "and falls back");
    board.power_cut();
    board.settle();
    assert_eq!(board.live()[0].1, revision(1), "also after a boot");
}

#[test]
fn the_last_known_good_starts_before_the_network_and_before_the_disk() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0]), assignment("b", 2, &[0, 1])]));
    board.advance(5000);
    board.broker = false;
    board.network = false;
    board.power_cut();
    board.settle_but_disk();
    assert_eq!(board.live().len(), 3);
    assert_eq!(board.disk.boots, 1, "no commit was waited for");
    assert!(board.session.is_none());
}

#[test]
fn f5_what_is_good_runs_while_the_newer_revision_is_not_here() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1])]));
    board.advance(5000);
    board.network = false;
    board.desired(document(2, [assignment("a", 2, &[0, 1])]));
    board.advance(5000);
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.settle();
    assert_eq!(
        board.live(),
        [("plant/a/0".to_string(), revision(1)), ("plant/a/1".to_string(), revision(1))]
    );
    board.broker = false;
    board.power_cut();
    board.settle_but_disk();
    assert_eq!(
        board.live().len(),
        2,
        "the new document is durable, its artefact is not here: the good one runs"
    );
    board.network = true;
    board.reconnect(2);
    board.advance(10_000);
    assert!(board.live().iter().all(|(_, r)| *r == revision(2)));
    assert_eq!(board.believed[&key("a")].good, Some(revision(2)));
}

#[test]
fn f4_a_restart_waits_for_no_commit() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(3500);
    board.desired(document(2, [assignment("a", 1, &[0]), assignment("b", 2, &[0])]));
    board.settle_but_disk();
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.settle_but_disk();
    assert_ne!(board.live_run(&instance("a", 0)).unwrap(), run, "the first restart is at once");
    assert_eq!(board.live().len(), 1, "the new document does not count before it is durable");
    board.settle();
    assert_eq!(board.live().len(), 2);
}

#[test]
fn a_candidate_that_keeps_ending_falls_back_alone() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1, 2]), assignment("b", 5, &[0])]));
    board.advance(5000);
    let b = board.live_run(&instance("b", 0));
    board.fates.insert(revision(2), Fate::Exit(trap()));
    board.desired(document(2, [assignment("a", 2, &[0, 1, 2]), assignment("b", 5, &[0])]));
    board.settle();
    let old = board.live().iter().filter(|(_, r)| *r == revision(1)).count();
    assert_eq!(old, 2, "only one slot is given to the candidate");
    board.advance(30_000);
    assert_eq!(board.live().iter().filter(|(_, r)| *r == revision(1)).count(), 3);
    let status = &board.believed[&key("a")];
    let rejected = status.rejected.as_ref().expect("rejected, and the hub knows");
    assert_eq!((rejected.revision, rejected.attempt), (revision(2), Attempt(1)));
    assert!(rejected.reason.contains("unreachable"), "{}", rejected.reason);
    assert_eq!(status.good, Some(revision(1)));
    assert_eq!(board.live_run(&instance("b", 0)), b, "the other workload was not touched");
    assert!(board.events().iter().any(|e| e.kind == EventKind::FellBack));
    // The same attempt again changes nothing; a higher one tries again.
    let starts = board.starts();
    board.desired(document(3, [assignment("a", 2, &[0, 1, 2]), assignment("b", 5, &[0])]));
    board.advance(10_000);
    assert_eq!(board.starts(), starts);
    board.fates.clear();
    let again = contract::run::Assignment { attempt: Attempt(2), ..assignment("a", 2, &[0, 1, 2]) };
    board.desired(document(4, [again, assignment("b", 5, &[0])]));
    board.advance(10_000);
    assert_eq!(board.live().iter().filter(|(_, r)| *r == revision(2)).count(), 3);
    assert_eq!(board.believed[&key("a")].good, Some(revision(2)));
    assert_eq!(board.believed[&key("a")].rejected, None);
}

#[test]
fn a_candidate_that_is_late_falls_back() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    let mut slow = assignment("a", 2, &[0]);
    slow.run.healthy_after_ms = 60_000;
    slow.run.health_deadline_ms = 20_000;
    board.desired(document(2, [slow]));
    board.advance(19_000);
    assert_eq!(board.live()[0].1, revision(2));
    board.advance(2000);
    assert_eq!(board.live()[0].1, revision(1));
}

#[test]
fn what_can_never_start_falls_back_at_once_or_backs_off() {
    let refused = Fate::Outcome(Outcome::Refused("no such host path: /dev/plc".into()));
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.fates.insert(revision(2), refused);
    board.desired(document(2, [assignment("a", 2, &[0]), assignment("b", 2, &[0])]));
    board.settle();
    assert_eq!(board.live(), [("plant/a/0".to_string(), revision(1))]);
    assert_eq!(board.runs.len(), 1, "the leftovers are cleared");
    board.advance(60_000);
    let b = board.status("b", 0);
    assert!(matches!(b.state, InstanceState::Backoff { .. }), "without a good one: back-off for ever");
    assert!(b.last_exit.unwrap().to_string().contains("/dev/plc"));
}

#[test]
fn strays_are_stopped_only_against_a_verified_document() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0]), assignment("b", 2, &[0])]));
    board.disk = Default::default(); // The store is gone.
    board.broker = false;
    board.crash();
    board.advance(100_000);
    assert_eq!((board.live().len(), board.stops()), (2, 0), "everything is adopted");
    // What dies meanwhile is started again, as its own spec says.
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.settle();
    assert_eq!(board.live().len(), 2);
    let starts = board.starts();
    assert!(board.core.state().provisional);
    board.reconnect(2);
    board.desired(document(2, [assignment("a", 1, &[0])]));
    board.settle();
    assert_eq!(board.live(), [("plant/a/0".to_string(), revision(1))]);
    assert_eq!(board.starts(), starts, "what stays was not restarted");
    assert!(board.events().iter().any(|e| e.kind == EventKind::Stray));
}

#[test]
fn a_workload_that_needs_what_the_agent_lacks_is_named_and_the_rest_runs() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    let mut oci = assignment("b", 2, &[0]);
    oci.requires.insert("oci".into());
    let mut a2 = assignment("a", 3, &[0]);
    a2.requires.insert("gpu".into());
    board.desired(document(2, [oci, a2]));
    board.settle();
    assert_eq!(board.live(), [("plant/a/0".to_string(), revision(1))]);
    assert_eq!(board.believed[&key("b")].unsupported.as_deref(), Some("oci"));
    assert_eq!(board.believed[&key("a")].unsupported.as_deref(), Some("gpu"));
    assert!(
        matches!(&board.status("b", 0).state, InstanceState::Waiting { reason } if reason.contains("oci"))
    );
    assert!(!board.artifacts.contains(&artifact(2)), "what cannot run is not fetched");
}

/// No run has some of one revision's contents and some of another's.
#[test]
fn a_start_waits_for_every_content_and_what_is_good_keeps_its_own() {
    let with = |n: u8, contents: &[&str]| {
        let data_ref = |text: &&str| DataRef {
            of: "secret/api".parse().unwrap(),
            digest: contract::Digest::of(text.as_bytes()),
            size_bytes: 1,
        };
        let data = RunData { objects: contents.iter().map(data_ref).collect(), ..RunData::default() };
        let mut assignment = assignment("a", n, &[0]);
        assignment.run.data = Some(Box::new(data));
        assignment
    };
    let has = |board: &Board, text: &str| board.artifacts.contains(&contract::Digest::of(text.as_bytes()));
    let mut board = Board::running(document(1, [with(1, &["one", "both"])]));
    board.advance(5000);
    assert!(has(&board, "one") && has(&board, "both"));
    board.network = false;
    board.desired(document(2, [with(2, &["two", "both"])]));
    board.advance(60_000);
    assert_eq!(board.live()[0].1, revision(1), "what runs is not stopped for what is not here");
    let waiting = &board.core.status(board.clock()).workloads[&key("a")].waiting;
    assert!(waiting[&0].contains("no route to host"), "{waiting:?}");
    // Also after a power cut: all that is good is here.
    board.power_cut();
    board.settle();
    assert_eq!(board.live()[0].1, revision(1));
    board.network = true;
    board.reconnect(2);
    board.advance(10_000);
    assert_eq!(board.live()[0].1, revision(2));
    assert!(has(&board, "two") && has(&board, "both") && !has(&board, "one"), "what nobody needs is gone");
    // A start that finds one missing fetches again.
    board.artifacts.remove(&contract::Digest::of(b"two"));
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.advance(10_000);
    assert!(has(&board, "two"));
    assert_eq!(board.live().len(), 1);
}
