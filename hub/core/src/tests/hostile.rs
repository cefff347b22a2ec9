//! A broker that keeps what it saw and says it again: each kind of message × when it comes again. Each is
//! refused under a name that the operator sees, and what the hub knows of the board stays as it was.
//! (Forged, truncated and another board's messages do not come this far: `hub/src/serve/inbound.rs`.)

use contract::message::*;

use super::bed::*;
use super::board::*;
use crate::api::Request;
use crate::refused::Why;
use crate::view::AgentState;

fn refused(bed: &Bed, why: Why) -> u64 {
    let agent = bed.core.agent(bed.at(), &id("a")).unwrap();
    agent.refused.iter().find(|r| r.why == why).map_or(0, |r| r.count)
}

/// Says it again, and demands that it is refused under this name and changes nothing that is shown.
#[track_caller]
fn again(bed: &mut Bed, message: &FromAgent, why: Why) {
    let shown = |bed: &Bed| {
        let agent = bed.core.agent(bed.at(), &id("a")).unwrap();
        (agent.state, agent.epoch, agent.applied, agent.capacity, agent.board, agent.labels)
    };
    let (before, count) = (shown(bed), refused(bed, why));
    let events = bed.core.newest_event();
    bed.message(&id("a"), message.clone());
    assert_eq!(refused(bed, why), count + 1, "{why:?}, but {:?}", bed.core.agent(bed.at(), &id("a")));
    assert_eq!(shown(bed), before);
    assert_eq!(bed.core.newest_event(), events, "links repeat: one is counted, not told");
}

/// What the board said in one session: presence, will, report, heartbeat, events, a reply.
struct Seen {
    presence: FromAgent,
    will: FromAgent,
    report: FromAgent,
    beat: FromAgent,
    events: FromAgent,
    reply: FromAgent,
}

fn session(bed: &mut Bed, board: &mut Board) -> Seen {
    let presence = FromAgent::Presence(board.presence.clone());
    let will = FromAgent::Presence(Presence { online: false, ..board.presence.clone() });
    board.seq += 1;
    let report = FromAgent::Observed(report_of(board, ObservedBody::Full { workloads: Default::default() }));
    bed.message(&board.id, report.clone());
    board.seq += 1;
    let state = Observed::state_digest(&Default::default());
    let beat = FromAgent::Observed(report_of(board, ObservedBody::Heartbeat { state, spooled: 0 }));
    bed.message(&board.id, beat.clone());
    let events = FromAgent::Events(board.batch(1, 3));
    bed.message(&board.id, events.clone());
    let op = CommandOp::Logs(LogQuery {
        instance: contract::InstanceId { workload: key("ns/w"), slot: 0 },
        tail: None,
        since_ms: None,
        previous: false,
        follow: false,
    });
    bed.request(Request::Command { agent: id("a"), op, deadline_ms: 60_000, ticket: None });
    let command = bed.take().into_iter().find_map(|op| match op {
        crate::api::Op::PublishCommand { command, .. } => Some(*command),
        _ => None,
    });
    let command = command.expect("it was sent");
    let body = ReplyBody::Accepted;
    let reply = FromAgent::Reply(Reply { id: command.id, nonce: command.nonce, seq: 0, body });
    bed.message(&board.id, reply.clone());
    Seen { presence, will, report, beat, events, reply }
}

fn report_of(board: &Board, body: ObservedBody) -> Observed {
    Observed {
        board: board.presence.board,
        epoch: board.presence.epoch,
        seq: board.seq,
        nonce: board.nonce,
        now_ms: 1,
        applied: None,
        refused: None,
        body,
    }
}

fn online() -> (Bed, Board) {
    let mut bed = Bed::new();
    let board = fleet(&mut bed, &["a"]).remove(0);
    (bed, board)
}

#[test]
fn said_again_in_the_same_session() {
    let (mut bed, mut board) = online();
    let seen = session(&mut bed, &mut board);
    again(&mut bed, &seen.report, Why::Repeated);
    again(&mut bed, &seen.beat, Why::Repeated);
    again(&mut bed, &seen.events, Why::Repeated);
    again(&mut bed, &seen.reply, Why::Repeated);
    // A presence in its own session is true: it is answered, and changes nothing.
    let before = bed.core.agent(bed.at(), &id("a")).unwrap();
    bed.message(&id("a"), seen.presence);
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap(), before);
}

/// A broker holds the will of the present session and may say it: the board is doubted until it answers,
/// under a nonce that the broker has never seen.
#[test]
fn the_will_of_a_living_session_is_found_out() {
    let (mut bed, mut board) = online();
    let seen = session(&mut bed, &mut board);
    bed.message(&id("a"), seen.will);
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap().state, AgentState::Offline);
    // What was said before does not bring it back; what is said now does.
    bed.message(&id("a"), seen.beat);
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap().state, AgentState::Offline);
    board.converse(&mut bed);
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap().state, AgentState::Online);
}

#[test]
fn said_again_after_a_reconnect_and_after_a_restart_of_the_agent() {
    let (mut bed, mut board) = online();
    for restart in [false, true] {
        let seen = session(&mut bed, &mut board);
        match restart {
            false => board.reconnect(&mut bed),
            true => board.reboot(&mut bed),
        }
        again(&mut bed, &seen.presence, Why::Older);
        again(&mut bed, &seen.will, Why::Older);
        again(&mut bed, &seen.report, Why::OtherSession);
        again(&mut bed, &seen.beat, Why::OtherSession);
        again(&mut bed, &seen.events, Why::OtherSession);
        // The hub asked in the session that ended, and waits for no answer any more.
        again(&mut bed, &seen.reply, Why::Unasked);
    }
}

#[test]
fn said_of_another_board() {
    let (mut bed, mut board) = online();
    let seen = session(&mut bed, &mut board);
    let FromAgent::Events(events) = &seen.events else { panic!() };
    let board_id = contract::BoardId([7; 16]);
    let other = Events { board: board_id, first_seq: events.first_seq + 3, ..events.clone() };
    again(&mut bed, &FromAgent::Events(other), Why::OtherSession);
    let FromAgent::Observed(beat) = &seen.beat else { panic!() };
    again(
        &mut bed,
        &FromAgent::Observed(Observed { board: board_id, seq: beat.seq + 1, ..beat.clone() }),
        Why::OtherSession,
    );
}

/// A hub that was started anew, or has another store: nothing that was said to the one before counts.
#[test]
fn said_to_the_hub_that_was_before() {
    let (mut bed, mut board) = online();
    let seen = session(&mut bed, &mut board);
    bed.restart();
    // As random as a hub's shell makes it at each start.
    bed.core.world.settings.nonce_seed[0] ^= 1;
    bed.send(crate::api::Event::BusUp);
    for message in [&seen.report, &seen.beat, &seen.events, &seen.reply] {
        bed.message(&id("a"), message.clone());
        let agent = bed.core.agent(bed.at(), &id("a")).unwrap();
        assert!(!agent.fresh && agent.state != AgentState::Online, "{agent:?}");
    }
    assert!(bed.core.status().rejected > 0);
    board.reconnect(&mut bed);
    assert_eq!(bed.core.agent(bed.at(), &id("a")).unwrap().state, AgentState::Online);
}

#[test]
fn a_command_says_until_when_by_the_boards_own_boottime() {
    let (mut bed, mut board) = online();
    board.seq += 1;
    let mut report = report_of(&board, ObservedBody::Full { workloads: Default::default() });
    report.now_ms = 5_000_000;
    bed.message(&board.id, FromAgent::Observed(report));
    let until = |bed: &mut Bed| {
        let op = CommandOp::Cancel { command: "c".parse().unwrap() };
        bed.request(Request::Command { agent: id("a"), op, deadline_ms: 1000, ticket: None });
        let command = bed.take().into_iter().find_map(|op| match op {
            crate::api::Op::PublishCommand { command, .. } => command.until_ms,
            _ => None,
        });
        command.expect("it was sent")
    };
    assert_eq!(until(&mut bed), 5_060_000);
    bed.pass(100_000);
    assert_eq!(until(&mut bed), 5_161_000, "what has passed here has passed there, but for a drift");
}
