//! Probes: what makes an instance ready, what restarts it, and what never does.

use agent_core::api::*;
use contract::message::EventKind;
use contract::run::{Assignment, ProbeAsk, Probes, RunProbe};
use contract::spec::RestartPolicy;
use contract::status::{Exit, InstanceState, ProbeKind};

use crate::board::Board;
use crate::hub::*;
use ProbeKind::{Liveness, Readiness, Startup};

pub fn probe() -> RunProbe {
    RunProbe {
        ask: ProbeAsk::Tcp { host: "127.0.0.1".parse().unwrap(), port: 8080 },
        initial_delay_ms: 0,
        period_ms: 10_000,
        timeout_ms: 1_000,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

/// For random stories: each revision has others.
pub fn some(revision: u8) -> Option<Box<Probes>> {
    let of = |bit: u8| (revision & bit != 0).then(probe);
    Some(Box::new(Probes { startup: of(1), liveness: of(2), readiness: of(4).or(Some(probe())) }))
}

fn probed(n: u8, slots: &[u32], kinds: &[ProbeKind]) -> Assignment {
    let of = |which| kinds.contains(&which).then(probe);
    let probes = Probes { startup: of(Startup), liveness: of(Liveness), readiness: of(Readiness) };
    let mut assignment = assignment("a", n, slots);
    assignment.run.probes = Some(Box::new(probes));
    assignment
}

/// Running, nothing answered yet.
fn board(assignments: impl IntoIterator<Item = Assignment>) -> Board {
    let mut board = Board::new();
    board.well = false;
    board.boot();
    board.settle();
    board.greet(1);
    board.desired(document(1, assignments));
    board.settle();
    board
}

const REFUSED: Result<(), &str> = Err("tcp 127.0.0.1:8080: connection refused");

fn exit(which: ProbeKind) -> Exit {
    Exit::ProbeFailed { probe: which, message: "tcp 127.0.0.1:8080: connection refused".into() }
}

fn told(board: &Board, kind: EventKind) -> Vec<String> {
    board.events().into_iter().filter(|e| e.kind == kind).map(|e| e.text.clone()).collect()
}

#[test]
fn a_liveness_failure_restarts_and_its_exit_names_it() {
    let mut board = board([probed(1, &[0], &[Liveness])]);
    board.advance(20_000);
    assert!(
        board.status("a", 0).ready && board.status("a", 0).healthy,
        "without a readiness probe, running is ready"
    );
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
    board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
    board.answer_once(&instance("a", 0), run, Liveness, Ok(()));
    board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
    board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
    board.settle();
    assert_eq!(board.stops(), 0, "three in a row count, not five with a success between");
    board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
    board.settle();
    let status = board.status("a", 0);
    assert_eq!((board.stops(), board.starts()), (1, 2), "the first restart is at once");
    assert_eq!((status.restarts, status.probe_restarts, status.last_exit), (1, 1, Some(exit(Liveness))));
    let stop = board.performed.iter().find_map(|op| match op {
        Op::Stop { signal, grace_ms, .. } => Some((signal.clone(), *grace_ms)),
        _ => None,
    });
    assert_eq!(stop, Some(("TERM".into(), 10_000)), "with its own signal and grace");
    let texts = told(&board, EventKind::ProbeFailed);
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("liveness probe failed: tcp 127.0.0.1:8080: connection refused"), "{texts:?}");
    assert_eq!(board.believed[&key("a")].instances[&0], board.status("a", 0));
    // Again and again: with back-off.
    for _ in 0..3 {
        board.advance(200_000);
        board.answer("a", 0, Liveness, REFUSED);
        board.settle();
    }
    board.answer("a", 0, Liveness, REFUSED);
    board.settle();
    assert_eq!(
        board.notes[&instance("a", 0)].streak,
        2,
        "minutes of health forgive, what followed at once does not"
    );
    assert!(matches!(board.status("a", 0).state, InstanceState::Backoff { .. }));
}

#[test]
fn startup_holds_the_others_back_and_its_failure_restarts() {
    let mut board = board([probed(1, &[0], &[Startup, Liveness, Readiness])]);
    board.advance(60_000);
    assert!(
        board.is_asked("a", Startup) && !board.is_asked("a", Liveness) && !board.is_asked("a", Readiness)
    );
    let status = board.status("a", 0);
    assert_eq!(
        (status.ready, status.unready.as_deref()),
        (false, Some("startup probe has not succeeded yet"))
    );
    // An answer to what is not asked means nothing.
    let run = board.live_run(&instance("a", 0)).unwrap();
    for _ in 0..5 {
        board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
        board.answer_once(&instance("a", 0), run, Readiness, Ok(()));
    }
    board.settle();
    assert_eq!((board.stops(), board.status("a", 0).ready), (0, false));
    board.answer("a", 0, Startup, REFUSED);
    board.settle();
    assert_eq!(board.status("a", 0).last_exit, Some(exit(Startup)));
    assert_eq!(board.starts(), 2);
    board.answer("a", 0, Startup, Ok(()));
    board.settle();
    assert!(!board.is_asked("a", Startup) && board.is_asked("a", Liveness) && board.is_asked("a", Readiness));
    assert_eq!(board.status("a", 0).unready.as_deref(), Some("readiness probe has not succeeded yet"));
    board.answer("a", 0, Readiness, Ok(()));
    board.settle();
    assert!(board.status("a", 0).ready);
}

#[test]
fn readiness_never_restarts_and_healthy_is_ready_without_a_break() {
    let mut ready = probed(1, &[0], &[Readiness]);
    ready.run.probes.as_mut().unwrap().readiness.as_mut().unwrap().success_threshold = 2;
    let mut board = board([ready]);
    board.advance(10_000);
    assert!(!board.status("a", 0).ready && !board.status("a", 0).healthy);
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.answer_once(&instance("a", 0), run, Readiness, Ok(()));
    assert!(!board.status("a", 0).ready, "two in a row");
    board.answer_once(&instance("a", 0), run, Readiness, Ok(()));
    board.advance(2_000);
    assert!(board.status("a", 0).ready && !board.status("a", 0).healthy);
    board.answer("a", 0, Readiness, REFUSED);
    board.advance(5_000);
    let status = board.status("a", 0);
    assert!(!status.ready && !status.healthy);
    assert_eq!(status.unready.as_deref(), Some("readiness probe: tcp 127.0.0.1:8080: connection refused"));
    assert_eq!(board.believed[&key("a")].instances[&0], status, "the hub knows");
    board.answer("a", 0, Readiness, Ok(()));
    board.advance(2_900);
    assert!(!board.status("a", 0).healthy, "counted anew");
    board.advance(200);
    assert!(board.status("a", 0).healthy && board.status("a", 0).unready.is_none());
    board.answer("a", 0, Readiness, REFUSED);
    board.advance(24 * 3_600_000);
    assert_eq!((board.stops(), board.starts()), (0, 1), "however long");
}

#[test]
fn f21_a_candidate_never_ready_falls_back_and_takes_one_slot_down() {
    let mut board = board([assignment("a", 1, &[0, 1, 2])]);
    board.advance(10_000);
    board.desired(document(2, [probed(2, &[0, 1, 2], &[Readiness])]));
    board.settle();
    let mut most = 0;
    for _ in 0..600 {
        board.advance(1_000);
        most = most.max(board.live().iter().filter(|(_, r)| *r == revision(2)).count());
    }
    assert_eq!(most, 1, "the others wait until the first is ready");
    board.settle();
    let rejected = board.disk.records[&key("a")].rejected.clone().expect("it fell back");
    assert_eq!(rejected.reason, "not healthy within 600000 ms: readiness probe has not succeeded yet");
    board.advance(10_000);
    assert!(board.live().iter().all(|(_, r)| *r == revision(1)));
}

#[test]
fn f18_a_candidate_is_good_only_when_every_slot_was_ready_for_long_enough() {
    let mut board = board([probed(1, &[0, 1], &[Startup, Readiness])]);
    board.answer("a", 0, Startup, Ok(()));
    board.answer("a", 1, Startup, Ok(()));
    board.settle();
    board.answer("a", 0, Readiness, Ok(()));
    board.advance(60_000);
    assert!(board.disk.records[&key("a")].good.is_none());
    board.answer("a", 1, Readiness, Ok(()));
    board.advance(2_000);
    assert!(board.disk.records[&key("a")].good.is_none());
    board.advance(2_000);
    assert_eq!(board.disk.records[&key("a")].good.as_ref().unwrap().revision, revision(1));
}

#[test]
fn f13_an_agent_that_starts_again_asks_on_and_restarts_nothing() {
    let mut board = board([probed(1, &[0, 1], &[Startup, Liveness, Readiness])]);
    for slot in [0, 1] {
        board.answer("a", slot, Startup, Ok(()));
    }
    board.settle();
    board.answer("a", 0, Readiness, Ok(()));
    board.answer("a", 1, Readiness, Ok(()));
    board.answer("a", 1, Readiness, REFUSED);
    board.advance(60_000);
    let before = board.live_runs();
    board.crash();
    board.settle();
    assert!(!board.is_asked("a", Startup), "it has long come up");
    assert!(board.is_asked("a", Liveness) && board.is_asked("a", Readiness));
    let (ready, unready) = (board.status("a", 0), board.status("a", 1));
    assert!(ready.ready && ready.healthy, "what was ready is shown so, and its time is not counted anew");
    assert!(!unready.ready, "and what was not is not");
    let asked = board.asked.values().map(|asking| asking.delay_ms);
    let delays: std::collections::BTreeSet<u64> = asked.collect();
    assert_eq!(delays.len(), 4, "they do not fire together: {delays:?}");
    assert!(delays.iter().all(|ms| *ms < 10_000), "{delays:?}");
    board.advance(60_000);
    assert_eq!(board.live_runs(), before);
    // One failure on each side of the restart is not two in a row.
    board.answer("a", 1, Readiness, Ok(()));
    board.advance(10_000);
    assert!(board.status("a", 1).healthy);
    assert_eq!(board.stops(), 0);
}

#[test]
fn f04_a_restart_by_a_probe_waits_for_no_disk() {
    let mut board = board([probed(1, &[0], &[Liveness])]);
    board.advance(10_000);
    board.answer("a", 0, Liveness, REFUSED);
    board.settle_but_disk();
    assert_eq!((board.stops(), board.starts(), board.live().len()), (1, 2, 1));
}

#[test]
fn f30_without_probes_nothing_is_asked_and_steady_answers_wake_nobody() {
    let mut board = board([assignment("b", 1, &[0]), probed(2, &[0], &[Liveness, Readiness])]);
    board.answer("a", 0, Readiness, Ok(()));
    board.advance(60_000);
    assert!(board.asked.keys().all(|(id, ..)| id.workload == key("a")));
    let (performed, wake) = (board.performed.len(), board.core.next_wake());
    let run = board.live_run(&instance("a", 0)).unwrap();
    board.answer_once(&instance("a", 0), run, Liveness, Ok(()));
    board.answer_once(&instance("a", 0), run, Liveness, REFUSED);
    board.settle();
    assert_eq!(
        (board.performed.len(), board.core.next_wake()),
        (performed, wake),
        "nothing to do, to note or to tell"
    );
}

#[test]
fn the_first_question_comes_after_its_delay() {
    let mut slow = probed(1, &[0], &[Liveness]);
    slow.run.probes.as_mut().unwrap().liveness.as_mut().unwrap().initial_delay_ms = 60_000;
    let mut board = board([slow]);
    let delay = |board: &Board| board.asked.values().next().unwrap().delay_ms;
    assert!((60_000..61_000).contains(&delay(&board)), "{}", delay(&board));
    board.advance(45_000);
    board.crash();
    board.settle();
    assert!(
        (15_000..25_000).contains(&delay(&board)),
        "what has passed is not waited for again: {}",
        delay(&board)
    );
}

#[test]
fn a_stalled_board_restarts_few_at_one_time_and_spares_what_answers_again() {
    let assignments = (0..20).map(|n| {
        let mut one = probed(1, &[0], &[Liveness]);
        one.workload = key(&format!("w{n}"));
        one
    });
    let mut board = board(assignments);
    board.advance(60_000);
    let asked: Vec<_> = board.asked.keys().cloned().collect();
    for (id, run, which) in &asked {
        (0..3).for_each(|_| board.answer_once(id, *run, *which, REFUSED));
    }
    let stops = board.pending.iter().filter(|e| matches!(e.op, Op::Stop { .. })).count();
    assert_eq!(stops, 4);
    let held = board.status("w9", 0);
    assert!(!held.ready, "{held:?}");
    board.answer_all(|_| true);
    board.settle();
    assert_eq!((board.stops(), board.live().len()), (4, 20));
    assert!((0..20).all(|n| board.status(&format!("w{n}"), 0).ready));
}

#[test]
fn a_crash_of_the_agent_amid_the_stop_counts_it_once_and_keeps_the_reason() {
    for ended in [false, true] {
        let mut board = board([probed(1, &[0], &[Liveness])]);
        board.advance(10_000);
        let run = board.live_run(&instance("a", 0)).unwrap();
        board.answer("a", 0, Liveness, REFUSED);
        // The note lies in /run before the signal.
        while let Some(n) =
            board.ready().into_iter().find(|n| !matches!(board.pending[*n].op, Op::Stop { .. }))
        {
            board.perform(n);
        }
        if ended {
            let fake = board.runs.get_mut(&(instance("a", 0), run)).unwrap();
            (fake.live, fake.exit) = (false, Some(Exit::Signal { signal: 15 }));
        }
        board.crash();
        board.settle();
        let status = board.status("a", 0);
        assert_eq!((status.restarts, status.probe_restarts), (1, 1));
        assert_eq!(status.last_exit, Some(exit(Liveness)));
        assert_eq!(board.notes[&instance("a", 0)].streak, 1);
        assert_ne!(board.live_run(&instance("a", 0)), Some(run), "what was begun is ended");
    }
}

#[test]
fn an_operators_restart_waits_for_ready_and_stalls_on_nothing() {
    let mut board = board([probed(1, &[0, 1], &[Readiness])]);
    // Slot 0 was never ready: that is why it is restarted.
    board.answer("a", 1, Readiness, Ok(()));
    board.advance(10_000);
    let again = Assignment { restarts: 1, ..probed(1, &[0, 1], &[Readiness]) };
    board.desired(document(2, [again]));
    board.advance(60_000);
    assert_eq!(board.stops(), 1, "the second waits until the first is ready");
    board.advance(600_000);
    assert_eq!(board.stops(), 2, "but not for ever");
    assert_eq!(board.live().len(), 2);
}

#[test]
fn a_policy_of_never_ends_it_for_good() {
    let mut job = probed(1, &[0], &[Liveness]);
    job.run.restart_policy = RestartPolicy::Never;
    let mut board = board([job]);
    board.answer("a", 0, Liveness, REFUSED);
    board.advance(600_000);
    assert_eq!((board.starts(), board.status("a", 0).state), (1, InstanceState::Failed));
}

#[test]
fn a_candidate_whose_liveness_fails_falls_back_with_its_name() {
    let mut board = board([assignment("a", 1, &[0])]);
    board.advance(10_000);
    board.desired(document(2, [probed(2, &[0], &[Liveness])]));
    for _ in 0..60 {
        board.advance(1_000);
        if board.is_asked("a", Liveness) {
            board.answer("a", 0, Liveness, REFUSED);
        }
    }
    let rejected = board.disk.records[&key("a")].rejected.clone().expect("it fell back");
    assert!(
        rejected.reason.contains("3 times before it was healthy, the last time: liveness probe failed"),
        "{rejected:?}"
    );
    assert_eq!(board.live(), [("plant/a/0".to_string(), revision(1))]);
}

#[test]
fn a_readiness_that_comes_and_goes_is_told_now_and_then() {
    let mut board = board([probed(1, &[0], &[Readiness])]);
    for _ in 0..60 {
        board.answer("a", 0, Readiness, Ok(()));
        board.advance(30_000);
        board.answer("a", 0, Readiness, REFUSED);
        board.advance(30_000);
    }
    let (lost, back) = (told(&board, EventKind::ProbeFailed).len(), told(&board, EventKind::Ready).len());
    assert!((5..=7).contains(&lost) && (5..=8).contains(&back), "an hour: {lost} lost, {back} back");
    assert_eq!(board.believed[&key("a")].instances[&0], board.status("a", 0), "the state is always told");
}
