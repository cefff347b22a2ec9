//! The life of instances: restarts, replacements, and what does not work the first time.

use agent_core::Phase;
use agent_core::api::*;
use contract::spec::RestartPolicy;
use contract::status::{Exit, InstanceState};

use crate::board::{Board, Fate};
use crate::hub::*;

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
    assert_eq!(board.notes[&instance("a", 0)].streak, 1, "its end by our own signal is not counted as well");
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
fn run_ids_are_never_given_twice_though_the_counter_was_not_durable() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let run = board.live_run(&instance("a", 0)).unwrap();
        assert!(seen.insert(run), "{run} was given twice");
        board.crash();
        board.end_run(&instance("a", 0), run, trap());
        board.settle_but_disk();
        board.now += 200_000;
        board.event(Event::Wake);
        board.settle_but_disk();
    }
    assert_eq!(board.disk.boots, 1, "the disk did nothing all the while");
}

#[test]
fn a_good_job_that_completed_while_the_newer_revision_was_not_here_stays_completed() {
    let job = |n: u8, restarts: u64| {
        let mut job = assignment("job", n, &[0]);
        job.run.restart_policy = RestartPolicy::OnFailure;
        job.restarts = restarts;
        job
    };
    let mut board = Board::running(document(1, [job(1, 0)]));
    board.advance(5000);
    board.network = false;
    board.desired(document(2, [job(2, 1)]));
    board.settle();
    let run = board.live_run(&instance("job", 0)).unwrap();
    board.end_run(&instance("job", 0), run, Exit::Code { code: 0 });
    board.settle();
    assert_eq!(board.status("job", 0).state, InstanceState::Completed);
    assert_eq!(board.status("job", 0).revision, revision(1), "nothing is said of what never ran");
    board.desired(document(3, [job(1, 0)]));
    board.settle();
    assert_eq!(board.status("job", 0).state, InstanceState::Completed);
    assert_eq!(board.believed[&key("job")].instances[&0].state, InstanceState::Completed);
}

/// An exit record that nobody could read: the stop is done, and no `Exited` came before it.
#[test]
fn a_run_that_ended_unheard_is_told() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(5000);
    board.desired(document(2, [assignment("a", 2, &[0])]));
    let stop = loop {
        let n = board.ready()[0];
        if matches!(board.pending[n].op, Op::Stop { .. }) {
            break board.pending.remove(n).unwrap();
        }
        board.perform(n);
    };
    board.runs.values_mut().for_each(|run| run.live = false);
    board.finish(stop.id, Outcome::Done);
    // The clean-up takes its time.
    while let Some(n) = board.ready().into_iter().find(|n| !matches!(board.pending[*n].op, Op::Remove { .. }))
    {
        board.perform(n);
    }
    let told = &board.believed[&key("a")].instances[&0];
    assert_eq!((told.run, told.pid), (None, None), "{told:?}");
    assert_eq!(*told, board.status("a", 0));
}
