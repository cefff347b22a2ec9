//! Commands: bound to a session, with an end in every case.

use contract::message::*;
use contract::{InstanceId, Name};

use super::bed::*;
use super::board::*;
use crate::api::*;

fn logs(agent: &str) -> Request {
    let instance = InstanceId { workload: key("ns/w"), slot: 0 };
    let query = LogQuery { instance, tail: None, since_ms: None, previous: false, follow: true };
    Request::Command { agent: id(agent), op: CommandOp::Logs(query), deadline_ms: 1000, ticket: None }
}

fn sent(bed: &mut Bed) -> Vec<Command> {
    let command = |op: Op| match op {
        Op::PublishCommand { command, .. } => Some(*command),
        _ => None,
    };
    bed.take().into_iter().filter_map(command).collect()
}

fn reply(bed: &mut Bed, board: &Board, command: &Command, seq: u32, body: ReplyBody) {
    let reply = Reply { id: command.id.clone(), nonce: command.nonce, seq, body };
    bed.message(&board.id, FromAgent::Reply(reply));
}

fn relayed(bed: &mut Bed) -> Vec<String> {
    let told = |op: Op| match op {
        Op::Answer { answer, .. } => Some(match answer {
            Answer::Refused { errors } => format!("refused: {}", errors[0].reason),
            Answer::Accepted => "accepted".into(),
            other => format!("{other:?}"),
        }),
        Op::Relay { reply, .. } => Some(match reply {
            ReplyBody::Progress { text } => text,
            ReplyBody::Done { error } => format!("done {error:?}"),
            other => format!("{other:?}"),
        }),
        _ => None,
    };
    bed.take().into_iter().filter_map(told).collect()
}

#[test]
fn replies_are_relayed_in_order_once() {
    let mut bed = Bed::new();
    let a = fleet(&mut bed, &["a"]).remove(0);
    bed.request(logs("a"));
    let command = sent(&mut bed).remove(0);
    let text = |text: &str| ReplyBody::Progress { text: text.into() };
    reply(&mut bed, &a, &command, 2, text("two"));
    reply(&mut bed, &a, &command, 0, ReplyBody::Accepted);
    reply(&mut bed, &a, &command, 0, ReplyBody::Accepted);
    reply(&mut bed, &a, &command, 1, text("one"));
    reply(&mut bed, &a, &command, 1, text("one"));
    reply(&mut bed, &a, &command, 3, ReplyBody::Done { error: None });
    assert_eq!(relayed(&mut bed), ["accepted", "one", "two", "done None"]);
    bed.pass(100_000);
    assert_eq!(relayed(&mut bed), Vec::<String>::new());
}

#[test]
fn nothing_is_queued_for_who_is_not_there() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    assert!(matches!(bed.ask(logs("b")), Answer::NotFound { .. }));
    bed.send(Event::Overflow { agent: a.id.clone() });
    assert!(matches!(bed.ask(logs("a")), Answer::Refused { .. }), "not fresh");
    a.converse(&mut bed);
    a.leave(&mut bed);
    bed.take();
    assert!(matches!(bed.ask(logs("a")), Answer::Refused { .. }));
    assert_eq!(sent(&mut bed), []);
}

#[test]
fn every_command_ends() {
    let mut bed = Bed::new();
    let mut a = fleet(&mut bed, &["a"]).remove(0);
    // In time,
    bed.request(logs("a"));
    let command = sent(&mut bed).remove(0);
    bed.pass(20_000);
    assert!(
        matches!(&bed.ops[..], [Op::Answer { answer: Answer::Refused { .. }, .. }, Op::PublishCommand { command: cancel, .. }]
        if cancel.op == CommandOp::Cancel { command: command.id.clone() }),
        "{:?}",
        bed.ops
    );
    bed.take();
    // with its session,
    bed.request(logs("a"));
    let command = sent(&mut bed).remove(0);
    reply(&mut bed, &a, &command, 0, ReplyBody::Accepted);
    a.leave(&mut bed);
    assert_eq!(relayed(&mut bed), ["accepted", "done Some(\"the agent went offline\")"]);
    // with the broker,
    a.reconnect(&mut bed);
    bed.take();
    bed.request(logs("a"));
    bed.take();
    bed.send(Event::BusDown { reason: "x".into() });
    assert_eq!(relayed(&mut bed), ["refused: the hub lost its broker: x"]);
    bed.send(Event::BusUp);
    a.converse(&mut bed);
    bed.take();
    // when it could not be sent, and when nobody waits any more.
    bed.auto = false;
    let request = bed.request(logs("a"));
    let effect = bed.open.iter().find(|e| matches!(e.op, Op::PublishCommand { .. })).unwrap().id;
    bed.step(Event::Finished { id: effect, outcome: Outcome::Fault("full".into()) });
    assert_eq!(relayed(&mut bed), ["refused: the command could not be sent: full"]);
    let second = bed.request(logs("a"));
    let command: Name = sent(&mut bed).remove(0).id;
    bed.step(Event::Abandoned { id: second });
    assert_eq!(sent(&mut bed)[0].op, CommandOp::Cancel { command });
    assert_ne!(request, second);
}

fn exec(agent: &str, workload: &str, slot: u32) -> Request {
    let exec = Exec {
        instance: InstanceId { workload: key(workload), slot },
        args: vec!["sh".into()],
        env: Default::default(),
        user: None,
        workdir: None,
        terminal: None,
        input: false,
    };
    Request::Command { agent: id(agent), op: CommandOp::Exec(exec), deadline_ms: 1000, ticket: None }
}

/// At once, and by name: the board is not even asked.
#[test]
fn a_session_is_refused_where_there_can_be_none() {
    let mut bed = Bed::new();
    super::images::push(&mut bed, "web:1", &["linux/amd64"]);
    bed.push("m:1");
    let mut old = super::images::board(&mut bed, "old", "x86_64");
    let mut new = Board::new("new");
    new.presence.features.extend(["oci".to_string(), CommandOp::SESSIONS.to_string()]);
    new.connect(&mut bed);
    bed.apply(vec![every("w", "web:1"), every("m", "m:1")]);
    let refusal = |bed: &mut Bed, request| match bed.ask(request) {
        Answer::Refused { errors } => errors[0].reason.clone(),
        other => format!("{other:?}"),
    };
    assert!(refusal(&mut bed, exec("new", "ns/w", 0)).contains("is not on new"), "not reported yet");
    old.converse(&mut bed);
    new.converse(&mut bed);
    bed.take();
    assert!(refusal(&mut bed, exec("old", "ns/w", 0)).contains("needs a newer edge-agent"));
    assert!(refusal(&mut bed, exec("new", "ns/m", 0)).contains("is WebAssembly"));
    assert!(refusal(&mut bed, exec("new", "ns/w", 7)).contains("ns/w/7 is not on new"));
    assert_eq!(sent(&mut bed), []);
    for _ in 0..contract::limits::SESSIONS_MAX {
        bed.request(exec("new", "ns/w", 0));
    }
    assert_eq!(sent(&mut bed).len(), contract::limits::SESSIONS_MAX);
    assert!(refusal(&mut bed, exec("new", "ns/w", 0)).contains("8 sessions already"));
    bed.request(logs("new"));
    assert_eq!(sent(&mut bed).len(), 1, "logs go on");
    new.leave(&mut bed);
    assert!(refusal(&mut bed, exec("new", "ns/w", 0)).contains("not online"));
}

#[test]
fn one_more_than_the_agent_takes_is_refused() {
    let mut bed = Bed::new();
    fleet(&mut bed, &["a"]);
    for _ in 0..contract::limits::COMMANDS_MAX {
        bed.request(logs("a"));
    }
    assert!(matches!(bed.ask(logs("a")), Answer::Refused { .. }));
}
