//! What the agent says to its hub, and what it takes from it.

use agent_core::SessionView;
use agent_core::api::*;
use contract::message::{CommandOp, EventKind, Exec, FromAgent, ObservedBody};
use contract::{Epoch, Generation, Lineage, Term};

use crate::board::{Board, Fate};
use crate::hub::*;

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

/// The broker keeps a document of a hub store that was deleted.
#[test]
fn the_first_document_is_of_the_hub_that_greets() {
    let mut board = Board::new();
    board.boot();
    board.settle();
    let mut old = document(900, [assignment("a", 1, &[0])]);
    old.lineage = Lineage([9; 16]);
    board.desired(old.clone());
    board.settle();
    assert!(board.disk.desired.is_none(), "nobody says yet which hub there is");
    board.greet(1);
    board.desired(old);
    board.settle();
    assert!(board.disk.desired.is_none());
    assert!(
        board.reports().last().unwrap().refused.as_ref().is_some_and(|r| r.contains("another hub store"))
    );
    board.desired(document(1, [assignment("a", 1, &[0])]));
    board.settle();
    assert_eq!(board.live().len(), 1);
    assert_eq!(board.reports().last().unwrap().refused, None);
}

#[test]
fn a_full_disk_is_told() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.event(Event::StoreWaits { reason: "/var/lib/skerry: disk full".into() });
    board.settle();
    let told = board.events().into_iter().find(|e| e.kind == EventKind::DiskFull).expect("told");
    assert!(told.text.contains("/var/lib/skerry"), "{}", told.text);
}

/// The same document came under term 9; then the hub's store was restored from a copy of term 5.
#[test]
fn a_hub_behind_a_term_that_was_only_seen_is_told_so() {
    let mut board = Board::running(document(5, [assignment("a", 1, &[0])]));
    let mut seen = document(5, [assignment("a", 1, &[0])]);
    seen.term = Term(9);
    board.desired(seen);
    let mut behind = document(6, []);
    behind.term = Term(5);
    board.desired(behind);
    board.settle();
    let report = *board.reports().last().unwrap();
    assert!(report.refused.as_ref().is_some_and(|text| text.contains("term 9")), "{report:?}");
    let head = report.applied.unwrap();
    assert_eq!((head.term, head.generation), (Term(9), Generation(5)));
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
fn an_agent_of_whom_more_is_known_than_it_said_begins_anew() {
    // Its store is gone, and it started as often as before: the same epoch, and all of it would be old.
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let (epoch, seq) = board.last_report.unwrap();
    board.disk = Default::default();
    board.runs.clear();
    board.crash();
    board.settle();
    assert_eq!(board.session, Some(epoch));
    let mut hello = hello(epoch, 2);
    (hello.acked.epoch, hello.acked.observed_seq) = (epoch, seq);
    board.hello(hello);
    assert_eq!(board.session, Some(Epoch { boots: epoch.boots + 1, session: 1 }));
    assert_eq!(board.disk.boots, epoch.boots + 1);
}

/// The same, but by the time it got through its session was above the one that the hub knows, and it had
/// spooled more events than the hub has under these numbers.
#[test]
fn numbers_of_a_process_before_the_store_was_lost_are_not_used_again() {
    for events_only in [false, true] {
        let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
        let (epoch, seq) = board.last_report.unwrap();
        let events = board.batches().last().map(|b| b.first_seq + b.events.len() as u64 - 1).unwrap();
        board.disk = Default::default();
        board.runs.clear();
        board.broker = false;
        board.crash();
        for n in 0..50 {
            let topic = format!("agents/press-1/command/c{n}");
            board.event(Event::Rejected { topic, reason: "is not valid JSON".into() });
        }
        board.settle();
        board.broker = true;
        board.advance(5000);
        let again = board.session.unwrap();
        assert!(again.boots == epoch.boots && again.session > epoch.session, "{again} {epoch}");
        let mut hello = hello(again, 2);
        hello.acked.event_seq = events;
        if !events_only {
            (hello.acked.epoch, hello.acked.observed_seq, hello.acked.event_seq) = (epoch, seq, 0);
        }
        let told = board.batches().len();
        board.hello(hello);
        assert_eq!(board.batches().len(), told, "nothing is told under these numbers");
        assert_eq!(board.session, Some(Epoch { boots: epoch.boots + 1, session: 1 }));
    }
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
fn a_hub_that_asks_again_because_the_answer_was_lost_gets_one() {
    let mut board = Board::running(document(1, [assignment("a", 1, &[0])]));
    board.advance(10_000);
    let before = board.reports().len();
    let mut hello = hello(board.session.unwrap(), 1);
    hello.want = contract::message::Want::Nothing;
    (hello.acked.epoch, hello.acked.observed_seq) = board.last_report.unwrap();
    board.hello(hello.clone());
    assert_eq!(board.reports().len(), before, "it has everything: that only acknowledged events");
    hello.acked.observed_seq -= 1;
    board.hello(hello);
    let last = board.reports().last().copied().unwrap();
    assert_eq!(board.reports().len(), before + 1);
    assert!(matches!(last.body, ObservedBody::Heartbeat { .. }));
}

#[test]
fn the_longest_report_fits_one_message() {
    let mut board = Board::running(document(1, []));
    let reason = "ä".repeat(4000);
    let start = Fate::Outcome(Outcome::Refused(reason.clone()));
    (0..=255u8).for_each(|n| drop(board.fates.insert(revision(n), start.clone())));
    board.desired(document(2, (0..500).map(|n| assignment(&format!("w{n}"), (n % 200) as u8, &[0]))));
    board.advance(10_000);
    assert!(board.live().is_empty());
    let full =
        contract::message::Hello { want: contract::message::Want::Full, ..hello(board.session.unwrap(), 2) };
    board.hello(full);
    let longest = board.reports().iter().map(|o| serde_json::to_vec(o).unwrap().len()).max();
    assert!(longest.unwrap() < contract::limits::MESSAGE_BYTES_MAX, "{longest:?}");
    assert!(longest.unwrap() > 200_000, "{longest:?}");
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
        let last = *board.batches().last().unwrap();
        last.first_seq + last.events.len() as u64 - 1
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

/// What a session needs is known here; what it is for is not the core's affair.
#[test]
fn a_session_is_for_a_container_that_runs() {
    let mut container = assignment("a", 1, &[0]);
    container.run.runtime = contract::spec::Runtime::Oci;
    let mut board = Board::running(document(1, [container, assignment("w", 1, &[0])]));
    let mut ask = |id: &str, name: &str, slot| {
        let mut command = logs(id, 1, instance(name, slot));
        command.op = CommandOp::Exec(Exec {
            instance: instance(name, slot),
            args: vec!["sh".into()],
            env: Default::default(),
            user: None,
            workdir: None,
            terminal: None,
            input: false,
        });
        board.event(Event::Hub(HubMessage::Command(command)));
        while let Some(n) = board.ready().into_iter().find(|n| !matches!(board.pending[*n].op, Op::Serve(_)))
        {
            board.perform(n);
        }
        let reply =
            board.sent.iter().rev().find_map(|m| if let FromAgent::Reply(r) = m { Some(r) } else { None });
        reply.map(|reply| format!("{:?}", reply.body)).unwrap_or_default()
    };
    assert!(ask("w", "w", 0).contains("is no container"));
    assert!(ask("x", "a", 1).contains("does not run here now"));
    for n in 0..8 {
        assert!(ask(&format!("s{n}"), "a", 0).contains("Accepted"));
    }
    assert!(ask("s9", "a", 0).contains("8 sessions"));
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
fn the_status_view_is_plain_data() {
    let board = Board::running(document(1, [assignment("a", 1, &[0])]));
    let view = board.core.status(board.clock());
    let text = serde_json::to_string(&view).unwrap();
    assert_eq!(serde_json::from_str::<agent_core::StatusView>(&text).unwrap(), view);
    assert!(text.contains("\"plant/a\""), "{text}");
}
