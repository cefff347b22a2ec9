//! The field's stories (FIELD.md), each played on one board.

use agent_core::api::*;
use agent_core::{Phase, SessionView};
use contract::message::{EventKind, FromAgent, ObservedBody};
use contract::spec::RestartPolicy;
use contract::status::{Exit, InstanceState};
use contract::{Attempt, Epoch, Generation, Lineage, Term};

use crate::board::{Board, Fate};
use crate::hub::*;

fn trap() -> Exit {
    Exit::Trap { message: "unreachable".into() }
}

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
    board.settle_but_disk();
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
fn restarts_are_spaced_out_and_forgiven() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.fates.insert(revision(1), Fate::Exit(trap()));
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.advance(600_000);
    let starts = board.starts();
    assert!((9..16).contains(&starts), "0 s, 1 s, 2 s … 120 s: {starts} starts in ten minutes");
    assert!(matches!(board.status("a", 0).state, InstanceState::Backoff { .. }));
    assert_eq!(board.status("a", 0).last_exit, Some(trap()));
    assert_eq!(board.status("a", 0).restarts as usize, starts - 1);
    // An agent crash forgets none of it.
    board.crash();
    board.settle();
    assert_eq!(board.starts(), starts);
    // A minute of health does.
    board.fates.clear();
    board.advance(120_000 + 63_000);
    let run = board.live_run(&instance("a", 0)).expect("it runs again");
    board.end_run(&instance("a", 0), run, trap());
    board.settle();
    assert!(board.live_run(&instance("a", 0)).is_some(), "the first restart is at once again");
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
fn an_operators_restart_takes_one_slot_after_the_other() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1, 2])]));
    board.advance(5000);
    let before = board.live_runs();
    let again = contract::run::Assignment { restarts: 1, ..assignment("a", 1, &[0, 1, 2]) };
    board.desired(document(2, [again]));
    let mut least = 3;
    for _ in 0..1000 {
        least = least.min(board.live().len());
        let Some(n) = board.ready().first().copied() else { break };
        board.perform(n);
    }
    assert_eq!(least, 2);
    let after = board.live_runs();
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|run| !after.contains(run)));
    assert_eq!(board.disk.records[&key("a")].good.as_ref().unwrap().revision, revision(1));
    board.crash();
    board.settle();
    assert_eq!(board.live_runs(), after, "and once");
}

#[test]
fn an_operators_restart_does_not_stall_on_a_slot_that_crashes() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1])]));
    board.advance(5000);
    let before = board.live_run(&instance("a", 1));
    board.fates.insert(revision(1), Fate::Exit(trap()));
    let again = contract::run::Assignment { restarts: 1, ..assignment("a", 1, &[0, 1]) };
    board.desired(document(2, [again]));
    board.advance(10_000);
    assert_ne!(board.live_run(&instance("a", 1)), before);
}

#[test]
fn scaling_down_stops_the_highest_slots_only() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1, 2, 3])]));
    let kept = (board.live_run(&instance("a", 0)), board.live_run(&instance("a", 1)));
    board.desired(document(2, [assignment("a", 1, &[0, 1])]));
    board.settle();
    assert_eq!((board.live_run(&instance("a", 0)), board.live_run(&instance("a", 1))), kept);
    assert_eq!(board.live().len(), 2);
    assert_eq!(board.believed[&key("a")].instances.len(), 2);
}

#[test]
fn a_stop_that_fails_is_tried_again_and_said() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.desired(document(2, []));
    let mut failures = 0;
    for _ in 0..100 {
        let Some(n) = board.ready().first().copied() else {
            if board.runs.is_empty() {
                break;
            }
            board.now = board.core.next_wake().expect("a retry");
            board.event(Event::Wake);
            continue;
        };
        let id = board.pending[n].id;
        if matches!(board.pending[n].op, Op::Stop { .. }) && failures < 3 {
            failures += 1;
            board.pending.remove(n);
            let outcome =
                if failures == 2 { Outcome::Deadline } else { Outcome::Fault("frozen cgroup".into()) };
            board.finish(id, outcome);
            let InstanceState::Waiting { reason } = board.status("a", 0).state else { panic!("not waiting") };
            assert!(reason.contains("stopping run"), "{reason}");
        } else {
            board.perform(n);
        }
    }
    assert!(board.live().is_empty() && board.runs.is_empty());
    assert_eq!(failures, 3);
}

#[test]
fn nothing_starts_beside_leftovers_that_cannot_be_cleared() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    let n = board.ready().into_iter().find(|n| matches!(board.pending[*n].op, Op::Remove { .. })).unwrap();
    let id = board.pending.remove(n).unwrap().id;
    board.finish(id, Outcome::Fault("busy mount".into()));
    board.settle();
    assert!(board.live().is_empty());
    assert!(
        matches!(board.status("a", 0).state, InstanceState::Waiting { reason } if reason.contains("busy mount"))
    );
    board.advance(2000);
    assert_eq!(board.live().len(), 1);
}

#[test]
fn a_start_without_an_answer_is_stopped_before_another() {
    let mut board = Board::new();
    board.boot();
    board.settle();
    board.greet(1);
    board.desired(document(1, [assignment("a", 1, &[0])]));
    let n = loop {
        if let Some(n) = board.pending.iter().position(|e| matches!(e.op, Op::Start { .. })) {
            break n;
        }
        board.perform(board.ready()[0]);
    };
    let effect = board.pending.remove(n).unwrap();
    board.act(&effect); // It does run, but nobody hears of it in time.
    board.finish(effect.id, Outcome::Deadline);
    board.settle();
    board.advance(5000);
    assert_eq!(board.live().len(), 1);
    assert_eq!(board.runs.len(), 1, "nothing of the first is left");
    assert_eq!(board.stops(), 1);
}

#[test]
fn an_artefact_that_is_missing_at_the_start_is_fetched_again() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.artifacts.clear();
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.advance(2000);
    assert_eq!(board.live().len(), 1);
    assert_eq!(board.notes[&instance("a", 0)].streak, 1, "only the trap is counted");
}

#[test]
fn without_a_hub_a_missing_artefact_is_waited_for_by_name() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.artifacts.clear();
    board.broker = false;
    board.power_cut();
    board.advance(60_000);
    let InstanceState::Waiting { reason } = board.status("a", 0).state else { panic!("not waiting") };
    assert_eq!(reason, "waiting for the hub: artefact not on this board");
    board.reconnect(2);
    assert_eq!(board.live().len(), 1);
}

#[test]
fn jobs_end_for_good() {
    let mut once = assignment("once", 1, &[0]);
    once.run.restart_policy = RestartPolicy::Never;
    let mut twice = assignment("twice", 2, &[0]);
    twice.run.restart_policy = RestartPolicy::OnFailure;
    let mut board = Board::running(document(1, [once.clone(), twice.clone()]));
    for (name, exit) in [("once", trap()), ("twice", Exit::Code { code: 0 })] {
        let run = board.live_run(&instance(name, 0)).unwrap();
        board.end_run(&instance(name, 0), run, exit);
    }
    board.advance(600_000);
    assert_eq!(board.starts(), 2);
    assert_eq!(board.status("once", 0).state, InstanceState::Failed);
    assert_eq!(board.status("twice", 0).state, InstanceState::Completed);
    assert_eq!(board.believed[&key("twice")].good, Some(revision(2)), "to complete is to be healthy");
    assert_eq!(board.believed[&key("once")].good, None);
    board.crash();
    board.advance(1000);
    assert_eq!(board.starts(), 2, "an agent crash runs no job again");
    // An operator can.
    once.restarts = 1;
    board.reconnect(2);
    board.desired(document(2, [once, twice]));
    board.settle();
    assert_eq!(board.starts(), 3);
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
fn a_run_without_a_spec_is_left_alone_until_a_document_says_what_it_should_be() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.disk = Default::default();
    board.runs.values_mut().for_each(|run| run.assignment = None);
    board.broker = false;
    board.crash();
    board.advance(10_000);
    assert_eq!((board.stops(), board.starts()), (0, 1));
    board.reconnect(2);
    board.desired(document(2, [assignment("a", 1, &[0])]));
    board.settle();
    assert_eq!(board.live(), [("plant/a/0".to_string(), revision(1))]);
    assert_eq!(board.stops(), 1);
}

#[test]
fn documents_that_must_not_count_are_refused_by_name() {
    let mut board = Board::running(document(5, [assignment("a", 1, &[0])]));
    let mut term = document(6, []);
    term.term = Term(0);
    let mut lineage = document(6, []);
    lineage.lineage = Lineage([9; 16]);
    let mut agent = document(6, []);
    agent.agent = "press-2".parse().unwrap();
    let twice = document(6, [assignment("a", 1, &[0, 0])]);
    let cases = [
        (document(4, []), "generation 4"),
        (document(5, []), "fork"),
        (term, "term 0"),
        (lineage, "another hub store"),
        (agent, "press-2"),
        (twice, "slots"),
    ];
    for (document, says) in cases {
        board.desired(document);
        board.settle();
        let last = board.reports().last().unwrap().refused.clone().unwrap_or_default();
        assert!(last.contains(says), "{last} / {says}");
        assert_eq!(board.live().len(), 1);
        assert_eq!(board.reports().last().unwrap().applied.unwrap().generation, Generation(5));
    }
    board.desired(document(5, [assignment("a", 1, &[0])]));
    board.settle();
    assert_eq!(board.reports().last().unwrap().refused, None, "already so: agreed again");
    assert_eq!(board.disk.desired.as_ref().unwrap().0.generation, Generation(5));
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

#[test]
fn an_agent_below_the_floor_jumps_above_it() {
    let mut board = Board::new();
    board.boot();
    board.settle();
    let epoch = board.session.unwrap();
    let hello = contract::message::Hello { epoch_floor: 40, ..hello(epoch, 1) };
    board.hello(hello);
    board.settle();
    assert_eq!(board.session, Some(Epoch { boots: 41, session: 1 }));
    assert_eq!(board.disk.boots, 41);
    board.greet(2);
    let FromAgent::Events(events) =
        board.sent.iter().rev().find(|m| matches!(m, FromAgent::Events(_))).unwrap()
    else {
        panic!()
    };
    assert_eq!(events.first_seq, 41 << 32 | 1);
    let absurd =
        contract::message::Hello { epoch_floor: u64::MAX, ..crate::hub::hello(board.session.unwrap(), 3) };
    board.hello(absurd);
    assert_eq!(board.disk.boots, 41);
}

#[test]
fn a_hello_for_another_board_or_session_is_ignored() {
    let mut board = Board::new();
    board.boot();
    board.settle();
    let epoch = board.session.unwrap();
    board.hello(contract::message::Hello { board: contract::BoardId([8; 16]), ..hello(epoch, 1) });
    board.hello(hello(Epoch { boots: epoch.boots, session: epoch.session + 1 }, 1));
    assert!(!board.core.state().greeted && board.reports().is_empty());
    board.greet(1);
    assert_eq!(board.reports().len(), 1);
}

#[test]
fn reports_are_full_once_then_changes_then_heartbeats() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let kinds = |board: &Board| -> Vec<char> {
        let kind = |o: &&contract::message::Observed| match o.body {
            ObservedBody::Full { .. } => 'F',
            ObservedBody::Changes { .. } => 'c',
            ObservedBody::Heartbeat { .. } => 'h',
        };
        board.reports().iter().map(kind).collect()
    };
    board.advance(10_000);
    let first = kinds(&board);
    assert!(first[0] == 'F' && first[1..].iter().all(|k| *k == 'c'), "{first:?}");
    board.advance(2 * 600_000);
    assert_eq!(kinds(&board)[first.len()..], ['h', 'h'], "nothing else is said at idle");
    let seqs: Vec<u64> = board.reports().iter().map(|o| o.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    // Reconnected, the hub has it all: one heartbeat with the new nonce makes it fresh.
    let (epoch, seq) = (board.session.unwrap(), *seqs.last().unwrap());
    board.disconnect();
    let before = kinds(&board).len();
    board.advance(2000);
    let mut hello = hello(board.session.unwrap(), 2);
    hello.want = contract::message::Want::Nothing;
    hello.acked.epoch = epoch;
    hello.acked.observed_seq = seq;
    board.hello(hello.clone());
    assert_eq!(kinds(&board)[before..], ['h']);
    assert_eq!(board.reports().last().unwrap().nonce, Some(hello.nonce));
    // With something changed meanwhile it is told in full.
    board.disconnect();
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.advance(2000);
    let hello =
        contract::message::Hello { epoch: board.session.unwrap(), nonce: contract::Nonce([3; 16]), ..hello };
    board.hello(hello);
    assert_eq!(kinds(&board)[before + 1..], ['F']);
}

#[test]
fn a_report_that_could_not_leave_is_made_good() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(4000);
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    let mut lost = 0;
    while let Some(n) = board.ready().first().copied() {
        if matches!(board.pending[n].op, Op::Publish(FromAgent::Observed(_))) && lost < 2 {
            lost += 1;
            let id = board.pending.remove(n).unwrap().id;
            board.finish(id, Outcome::Fault("queue full".into()));
        } else {
            board.perform(n);
        }
    }
    board.advance(10_000);
    assert_eq!(board.believed[&key("a")].instances[&0].run, board.live_run(&instance("a", 0)));
}

#[test]
fn a_changed_term_makes_a_full_report_at_the_agents_own_moment() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(10_000);
    let before = board.reports().len();
    let announce = contract::message::HubAnnounce { lineage: LINEAGE, term: Term(1), window_ms: 60_000 };
    board.event(Event::Hub(HubMessage::Announce(announce)));
    board.advance(60_000);
    assert_eq!(board.reports().len(), before, "the term is the same");
    let announce = contract::message::HubAnnounce { term: Term(2), ..announce };
    board.event(Event::Hub(HubMessage::Announce(announce)));
    board.settle();
    assert_eq!(board.reports().len(), before);
    board.advance(60_000);
    assert_eq!(board.reports().len(), before + 1);
    assert!(matches!(board.reports().last().unwrap().body, ObservedBody::Full { .. }));
}

#[test]
fn the_session_backs_off_and_longer_when_refused() {
    let mut board = Board::new();
    board.broker = false;
    board.boot();
    board.advance(3_600_000);
    let faults = board.count(|op| matches!(op, Op::Connect { .. }));
    assert!((60..90).contains(&faults), "about one a minute: {faults}");
    board.broker = true;
    board.reconnect(1);
    let epoch = board.session.take().unwrap();
    board.event(Event::Disconnected { epoch, reason: "not authorised".into(), refused: true });
    let SessionView::Disconnected { next_ms, reason } = board.core.status(board.clock()).session else {
        panic!()
    };
    assert!(next_ms - board.now >= 22_500, "{}", next_ms - board.now);
    assert_eq!(reason.as_deref(), Some("not authorised"));
}

#[test]
fn presence_is_said_again_until_the_hub_answers() {
    let mut board = Board::new();
    board.boot();
    board.advance(24 * 3_600_000);
    let said = board.sent.iter().filter(|m| matches!(m, FromAgent::Presence(_))).count();
    assert!((90..150).contains(&said), "30 s up to 15 min: {said} in a day");
    board.greet(1);
    board.advance(24 * 3_600_000);
    assert_eq!(board.sent.iter().filter(|m| matches!(m, FromAgent::Presence(_))).count(), said);
}

#[test]
fn events_are_trimmed_at_the_hubs_word_only() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    let told = board.core.state().spooled;
    assert!(told >= 3, "started, running, good: {told}");
    let last = |board: &Board| {
        let FromAgent::Events(events) =
            board.sent.iter().rev().find(|m| matches!(m, FromAgent::Events(_))).unwrap()
        else {
            panic!()
        };
        events.first_seq + events.events.len() as u64 - 1
    };
    let newest = last(&board);
    let sent = board.events().len();
    board.disconnect();
    board.advance(2000);
    let mut hello = hello(board.session.unwrap(), 2);
    hello.acked.event_seq = newest - 1;
    board.hello(hello.clone());
    assert_eq!(board.core.state().spooled, 1);
    assert_eq!(board.events().len(), sent + 1, "what is not acknowledged is sent again");
    hello.acked.event_seq = newest;
    board.hello(hello);
    assert_eq!(board.core.state().spooled, 0);
}

#[test]
fn commands_are_accepted_or_refused_at_once() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let answer = |board: &Board| {
        let reply =
            board.sent.iter().rev().find_map(|m| if let FromAgent::Reply(r) = m { Some(r) } else { None });
        reply.map(|reply| format!("{:?}", reply.body)).unwrap_or_default()
    };
    let mut ask = |command| {
        board.event(Event::Hub(HubMessage::Command(command)));
        while let Some(n) = board.ready().into_iter().find(|n| !matches!(board.pending[*n].op, Op::Serve(_)))
        {
            board.perform(n);
        }
        answer(&board)
    };
    assert!(ask(logs("c1", 1, instance("a", 0))).contains("Accepted"));
    assert!(ask(logs("c2", 9, instance("a", 0))).contains("another session"));
    assert!(ask(logs("c3", 1, instance("x", 0))).contains("plant/x/0"));
    for n in 0..15 {
        assert!(ask(logs(&format!("d{n}"), 1, instance("a", 0))).contains("Accepted"));
    }
    assert!(ask(logs("c4", 1, instance("a", 0))).contains("16 commands"));
    let replies = |board: &Board| board.sent.iter().filter(|m| matches!(m, FromAgent::Reply(_))).count();
    let before = replies(&board);
    board.event(Event::Hub(HubMessage::Command(logs("c1", 1, instance("a", 0)))));
    board.settle();
    assert_eq!(replies(&board), before, "a command that comes twice is answered once");
    assert_eq!(board.core.status(board.clock()).commands, 0, "served");
}

#[test]
fn after_a_store_fault_nothing_leaves() {
    let mut board = Board::new();
    board.boot();
    let id = board.pending.iter().find(|e| matches!(e.op, Op::Persist(_))).unwrap().id;
    board.pending.clear();
    board.finish(id, Outcome::Fault("no space left".into()));
    board.desired(document(1, [assignment("a", 1, &[0])]));
    assert!(board.pending.is_empty() && board.core.next_wake().is_none() && board.core.state().halted);
}

#[test]
fn nothing_is_written_at_idle() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0, 1])]));
    board.advance(10_000);
    let persists = board.disk.persists;
    let performed = board.performed.len();
    board.advance(24 * 3_600_000);
    assert_eq!(board.disk.persists, persists);
    assert!(board.performed[performed..].iter().all(|op| matches!(op, Op::Publish(_))));
    assert!(board.performed.len() - performed <= 145, "a heartbeat each ten minutes");
    // A restart of the agent writes its counter and nothing else.
    board.crash();
    board.settle();
    assert_eq!(board.disk.persists, persists + 1);
}

#[test]
fn code_compiled_anew_replaces_nothing_and_does_not_hold_up_a_boot() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.network = false;
    let mut again = assignment("a", 1, &[0]);
    again.run.artifact.digest = artifact(77);
    board.desired(document(2, [again]));
    board.advance(5000);
    assert_eq!((board.starts(), board.stops()), (1, 0));
    board.power_cut();
    board.settle();
    assert_eq!(board.live().len(), 1, "what is here of this revision starts");
    board.network = true;
    board.reconnect(3);
    board.settle();
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    board.advance(5000);
    let fake = board.runs.values().find(|run| run.live).unwrap();
    assert_eq!(
        fake.assignment.as_ref().unwrap().run.artifact.digest,
        artifact(77),
        "the next start takes the new"
    );
    assert_eq!(board.disk.records[&key("a")].good.as_ref().unwrap().run.artifact.digest, artifact(77));
    assert!(!board.artifacts.contains(&artifact(1)), "and the old build goes");
}

#[test]
fn a_found_end_is_counted_once() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.end_run(&instance("a", 0), run, trap());
    let n = board.pending.iter().position(|e| matches!(e.op, Op::NoteRestarts { .. })).unwrap();
    board.perform(n);
    board.crash(); // Before the leftovers were cleared.
    board.settle();
    assert_eq!(board.notes[&instance("a", 0)].streak, 1);
    assert_eq!(board.live().len(), 1);
}

#[test]
fn ends_of_unknown_runs_and_effects_mean_nothing() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let before = board.live();
    let stranger = contract::RunId { boots: 99, number: 99 };
    board.event(Event::Exited { instance: instance("a", 0), run: stranger, exit: trap() });
    board.event(Event::Exited { instance: instance("zz", 3), run: stranger, exit: trap() });
    board.event(Event::Finished { id: 999_999, outcome: Outcome::Fault("?".into()) });
    board.settle();
    assert_eq!(board.live(), before);
    assert!(board.core.state().live.iter().all(|(.., phase, _)| *phase == Phase::Running));
}

#[test]
fn the_status_view_is_plain_data() {
    let board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let view = board.core.status(board.clock());
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<agent_core::StatusView>(&text).unwrap(), view);
    assert!(text.contains("\"plant/a\""), "{text}");
}
