//! A broker that keeps what the hub said and says it again, or late, or to another board: each kind of
//! message is refused by name, told to the operator once, and changes nothing. (Forged and truncated ones do
//! not come this far: `contract::codec` refuses them, and `tests/e2e/tests/forged.rs` shows it.)

use agent_core::api::*;
use contract::message::{
    Command, CommandOp, EventKind, FromAgent, Hello, HubAnnounce, LogQuery, Reply, ReplyBody, Want,
};
use contract::{Epoch, Generation, Lineage, Term};

use crate::board::Board;
use crate::hub::*;

const OTHER: Lineage = Lineage([9; 16]);

fn running() -> Board {
    Board::running(document(5, [assignment("a", 1, &[0])]))
}

fn hub(board: &mut Board, message: HubMessage) {
    board.event(Event::Hub(message));
    board.settle();
}

/// Which refusals were told, in words.
fn told(board: &Board) -> Vec<String> {
    let refused = board.events().into_iter().filter(|e| e.kind == EventKind::Refused);
    refused.map(|e| e.text.clone()).collect()
}

#[track_caller]
fn is_told(board: &Board, words: &str) {
    assert!(told(board).iter().any(|text| text.contains(words)), "{words}: {:#?}", told(board));
}

fn replies(board: &Board) -> Vec<Reply> {
    let reply = |message: &FromAgent| match message {
        FromAgent::Reply(reply) => Some(reply.clone()),
        _ => None,
    };
    board.sent.iter().filter_map(reply).collect()
}

fn refusals(board: &Board) -> usize {
    replies(board).iter().filter(|r| matches!(r.body, ReplyBody::Refused { .. })).count()
}

fn counted(epoch: Epoch, nonce: u8, said: u64) -> Hello {
    Hello { said, want: Want::Full, ..hello(epoch, nonce) }
}

#[test]
fn a_hello_counts_once_and_only_in_its_session() {
    let mut board = running();
    let epoch = board.session.unwrap();
    board.hello(counted(epoch, 1, 7));
    let (reports, nonce) = (board.reports().len(), board.reports().last().unwrap().nonce);
    // Each would make the board report in full, or answer to a nonce that the hub has given up.
    for (nonce, said, words) in [(1, 7, "hello 7"), (3, 6, "hello 6")] {
        board.hello(counted(epoch, nonce, said));
        is_told(&board, "repeated or older");
        assert!(told(&board).iter().any(|t| t.contains(words)) || said == 6);
    }
    assert_eq!(board.reports().len(), reports);
    board.hello(Hello { term: Term(0), ..counted(epoch, 4, 99) });
    assert_eq!(board.reports().len(), reports, "of an older term");
    board.hello(counted(epoch, 2, 8));
    assert!(board.reports().len() > reports && board.reports().last().unwrap().nonce != nonce);
    // In the next session, and after a restart of the agent.
    board.disconnect();
    board.reconnect(5);
    let reports = board.reports().len();
    board.hello(counted(epoch, 1, 9));
    is_told(&board, "is not the present one");
    board.crash();
    board.settle();
    board.hello(counted(epoch, 1, 10));
    board.hello(counted(Epoch { session: epoch.session + 1, ..epoch }, 1, 11));
    assert!(board.reports().len() <= reports, "nothing but its own session's hello makes it speak");
}

#[test]
fn a_hub_of_another_lineage_is_heard_in_a_new_session_only() {
    let mut board = running();
    let epoch = board.session.unwrap();
    board.hello(counted(epoch, 1, 7));
    board.hello(Hello { lineage: OTHER, ..counted(epoch, 2, 1) });
    board.settle();
    let next = board.session.unwrap();
    assert!(next > epoch, "{next}");
    // What the hub before it said in the old session does not turn it back.
    let reports = board.reports().len();
    board.hello(counted(epoch, 1, 8));
    assert_eq!(board.reports().len(), reports);
    board.hello(Hello { lineage: OTHER, ..counted(next, 3, 2) });
    assert_eq!(board.reports().last().unwrap().nonce, Some(contract::Nonce([3; 16])));
    assert_eq!(board.live().len(), 1, "its work is not touched by any of it");
}

#[test]
fn an_announcement_is_taken_forward_only() {
    let mut board = running();
    let epoch = board.session.unwrap();
    board.hello(Hello { term: Term(4), ..counted(epoch, 1, 7) });
    let reports = board.reports().len();
    let announce =
        |lineage, term| HubMessage::Announce(HubAnnounce { lineage, term: Term(term), window_ms: 1 });
    hub(&mut board, announce(LINEAGE, 3));
    is_told(&board, "hub: older: it is of term 3; term 4");
    hub(&mut board, announce(OTHER, 9));
    is_told(&board, "hub: other lineage");
    hub(&mut board, announce(LINEAGE, 4));
    board.advance(10);
    assert_eq!(board.reports().len(), reports, "none makes it report");
    hub(&mut board, announce(LINEAGE, 5));
    board.advance(10);
    assert_eq!(board.reports().len(), reports + 1);
    // Said again, it is old.
    hub(&mut board, announce(LINEAGE, 4));
    board.advance(10);
    assert_eq!(board.reports().len(), reports + 1);
}

#[test]
fn a_document_counts_forward_only_and_for_its_own_board() {
    let mut board = running();
    let mut older = document(4, []);
    let mut other = document(6, []);
    other.agent = "press-2".parse().unwrap();
    let mut lineage = document(6, []);
    lineage.lineage = OTHER;
    for again in 0..3 {
        board.desired(older.clone());
        board.desired(other.clone());
        board.desired(lineage.clone());
        board.settle();
        is_told(&board, "generation 4");
        is_told(&board, "is for agent press-2");
        is_told(&board, "another hub store");
        assert_eq!(
            (board.live().len(), board.disk.desired.as_ref().unwrap().0.generation),
            (1, Generation(5))
        );
        older.term = Term(0);
        match again {
            0 => {
                board.disconnect();
                board.reconnect(2);
            }
            _ => board.crash(),
        }
        board.settle();
    }
}

fn cancel(id: &str, nonce: u8, until_ms: Option<u64>) -> Command {
    let op = CommandOp::Cancel { command: "c0".parse().unwrap() };
    Command { until_ms, op, ..logs(id, nonce, instance("a", 0)) }
}

#[test]
fn a_command_is_done_once_in_its_session_and_in_time() {
    let mut board = running();
    let epoch = board.session.unwrap();
    board.hello(counted(epoch, 1, 7));
    let now = board.clock().boot_ms;
    let wanted = Command { until_ms: Some(now + 60_000), ..logs("c1", 1, instance("a", 0)) };
    let serves = |board: &Board| replies(board).iter().filter(|r| r.body == ReplyBody::Accepted).count();
    hub(&mut board, HubMessage::Command(wanted.clone()));
    assert_eq!(serves(&board), 1);
    // In the session: however many came since, as long as it could be begun.
    for n in 0..100 {
        hub(&mut board, HubMessage::Command(cancel(&format!("x{n}"), 1, Some(now + 60_000))));
    }
    hub(&mut board, HubMessage::Command(wanted.clone()));
    assert_eq!(serves(&board), 1);
    is_told(&board, "command: repeated");
    // Held back by the broker: too late, and told to both sides.
    board.advance(60_001);
    let before = refusals(&board);
    hub(&mut board, HubMessage::Command(wanted.clone()));
    hub(&mut board, HubMessage::Command(Command { id: "c2".parse().unwrap(), ..wanted.clone() }));
    assert_eq!((serves(&board), refusals(&board) > before), (1, true));
    is_told(&board, "the command came too late");
    // After a reconnect, after a restart of the agent, and one for another board: each has its own nonce.
    board.disconnect();
    board.reconnect(2);
    hub(&mut board, HubMessage::Command(Command { until_ms: None, ..wanted.clone() }));
    board.crash();
    board.settle();
    board.greet(3);
    hub(&mut board, HubMessage::Command(Command { until_ms: None, ..wanted.clone() }));
    hub(&mut board, HubMessage::Command(Command { until_ms: None, ..logs("c9", 8, instance("a", 0)) }));
    assert_eq!(serves(&board), 1);
    is_told(&board, "the command is of another session");
}

#[test]
fn a_flood_of_commands_is_bounded() {
    let mut board = running();
    let epoch = board.session.unwrap();
    board.hello(counted(epoch, 1, 7));
    let until = Some(board.clock().boot_ms + 60_000);
    for n in 0..2000 {
        board.event(Event::Hub(HubMessage::Command(cancel(&format!("x{n}"), 1, until))));
    }
    board.settle();
    let mut last = replies(&board).into_iter().filter_map(|r| match r.body {
        ReplyBody::Refused { reason } => Some(reason),
        _ => None,
    });
    assert!(last.next_back().unwrap().contains("1024 commands came within minutes"));
    let query =
        LogQuery { instance: instance("a", 0), tail: None, since_ms: None, previous: false, follow: false };
    let later =
        Command { until_ms: until.map(|u| u + 600_000), op: CommandOp::Logs(query), ..cancel("y", 1, None) };
    board.advance(61_000);
    hub(&mut board, HubMessage::Command(later));
    assert_eq!(replies(&board).last().unwrap().body, ReplyBody::Accepted, "what is over is forgotten");
}
