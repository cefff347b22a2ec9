//! What is asked of a board now, and who waits for the answer. Never queued: a board that is not
//! freshly there refuses at once, through us.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::{COMMANDS_MAX, SESSIONS_MAX};
use contract::message::{Command, CommandOp, Reply, ReplyBody};
use contract::spec::Runtime;
use contract::status::InstanceState;
use contract::time::{Millis, Now};
use contract::{AgentId, InstanceId, Name, Nonce};

use crate::api::{Answer, EffectId, Op, Outcome, Refusal, RequestId};
use crate::core::Core;
use crate::refused::Why;
use crate::sanitize;

#[derive(Debug, Default)]
pub struct Commands {
    open: BTreeMap<Name, Open>,
    due: BTreeSet<(Millis, Name)>,
    sent: BTreeMap<EffectId, Name>,
    count: u64,
}

#[derive(Debug)]
struct Open {
    request: RequestId,
    agent: AgentId,
    nonce: Nonce,
    until: Millis,
    session: bool,
    accepted: bool,
    next_seq: u32,
    /// Replies that came before one they follow: a broker may reorder.
    early: BTreeMap<u32, ReplyBody>,
}

/// The agent's deadline runs from receipt; ours covers the way there and back.
const TRAVEL_MS: Millis = 5_000;
/// The longest a command may run: a `logs --follow` over a working day.
const DEADLINE_MAX_MS: Millis = 12 * 3_600_000;
const EARLY_MAX: usize = 64;
/// A command is begun within this, or not at all: a slow link's round trip many times over.
const BEGIN_MS: Millis = 60_000;
/// Two clocks part by no more than one in this.
const DRIFT: Millis = 100;

impl Commands {
    pub fn next_due(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    fn name(&mut self, term: u64) -> Name {
        self.count += 1;
        format!("c{term}-{}", self.count).parse().expect("digits and a dash are a name")
    }

    fn remove(&mut self, name: &Name) -> Option<Open> {
        let open = self.open.remove(name)?;
        self.due.remove(&(open.until, name.clone()));
        self.sent.retain(|_, sent| sent != name);
        Some(open)
    }

    fn named(&self, wanted: impl Fn(&Open) -> bool) -> Vec<Name> {
        self.open.iter().filter(|(_, open)| wanted(open)).map(|(name, _)| name.clone()).collect()
    }
}

impl Core {
    pub(crate) fn on_command(
        &mut self,
        now: Now,
        request: RequestId,
        agent: AgentId,
        op: CommandOp,
        deadline_ms: Millis,
        ticket: Option<String>,
    ) {
        let allowed = self.commandable(&agent).and_then(|nonce| match op.session() {
            Some(instance) => self.joinable(&agent, instance).map(|()| nonce).map_err(refused),
            None => Ok(nonce),
        });
        let nonce = match allowed {
            Ok(nonce) => nonce,
            Err(answer) => return self.out.answer(request, answer),
        };
        let deadline_ms = deadline_ms.min(DEADLINE_MAX_MS);
        let id = self.commands.name(self.world.meta.term.0);
        let until = now.boot_ms + deadline_ms + TRAVEL_MS;
        let early = BTreeMap::new();
        let session = op.session().is_some();
        let agent_id = agent.clone();
        let open =
            Open { request, agent: agent_id, nonce, until, session, accepted: false, next_seq: 0, early };
        self.commands.open.insert(id.clone(), open);
        self.commands.due.insert((until, id.clone()));
        let until_ms = self.begin_until(now, &agent);
        let command = Box::new(Command { id: id.clone(), nonce, deadline_ms, until_ms, ticket, op });
        let effect = self.out.now(Op::PublishCommand { agent, command });
        self.commands.sent.insert(effect, id);
    }

    /// The nonce to bind a command to, or why none can be sent.
    fn commandable(&self, id: &AgentId) -> Result<Nonce, Answer> {
        let Some(agent) = self.world.agents.get(id) else {
            return Err(Answer::NotFound { errors: refusal(format!("there is no agent '{id}'")) });
        };
        let refused = |reason: String| Err(refused(reason));
        let Some(session) = agent.session.as_ref().filter(|s| s.online) else {
            return refused(format!("agent {id} is not online"));
        };
        if !self.world.is_fresh(agent) {
            return refused(format!("agent {id} has not answered lately; its state is unknown"));
        }
        if self.commands.open.values().filter(|open| open.agent == *id).count() >= COMMANDS_MAX {
            return refused(format!("agent {id} works on {COMMANDS_MAX} commands already"));
        }
        Ok(session.nonce)
    }

    /// Whether a session can be had with it, and if not, why: at once, before the board is asked.
    fn joinable(&self, id: &AgentId, instance: &InstanceId) -> Result<(), String> {
        let agent = self.world.agents.get(id).ok_or("there is no such agent")?;
        if !agent.record.features.contains(CommandOp::SESSIONS) {
            return Err(format!("agent {id} knows no sessions (exec, cp): it needs a newer edge-agent"));
        }
        let work = self.world.works.get(&instance.workload);
        if work.is_some_and(|work| work.template.runtime != Runtime::Oci) {
            return Err(format!(
                "{} is WebAssembly: nothing else can run in it; 'hub logs' shows what it says",
                instance.workload
            ));
        }
        let seen = agent.session.as_ref().and_then(|s| s.seen.get(&instance.workload));
        match seen.and_then(|seen| seen.instance(instance.slot)).map(|status| &status.state) {
            Some(InstanceState::Running) => {}
            Some(other) => {
                return Err(format!("{instance} does not run on {id} now: it is {}", other.name()));
            }
            None => return Err(format!("{instance} is not on {id}")),
        }
        let sessions = self.commands.open.values().filter(|open| open.session && open.agent == *id);
        match sessions.count() >= SESSIONS_MAX {
            true => Err(format!("agent {id} has {SESSIONS_MAX} sessions already; end one")),
            false => Ok(()),
        }
    }

    /// By the agent's boottime, as its last report told it and our clock counted since. That report took
    /// its time to come, so the agent's is later, and the command ends earlier than this says: on the safe
    /// side, whatever a broker holds back.
    fn begin_until(&self, now: Now, agent: &AgentId) -> Option<Millis> {
        let (theirs, ours) = self.session(agent)?.clock?;
        let since = now.boot_ms.saturating_sub(ours);
        Some(theirs + since + since / DRIFT + BEGIN_MS)
    }

    pub(crate) fn on_reply(&mut self, now: Now, id: &AgentId, reply: Reply) {
        let open = self.commands.open.get_mut(&reply.id);
        let (why, what) = match &open {
            None => (Some(Why::Unasked), "which is not open"),
            Some(open) if open.agent != *id => (Some(Why::Unasked), "which another agent was asked"),
            Some(open) if open.nonce != reply.nonce => (Some(Why::OtherSession), "of another session"),
            Some(open) if reply.seq < open.next_seq => (Some(Why::Repeated), "which was heard"),
            Some(_) => (None, ""),
        };
        if let Some(why) = why {
            let reason = format!("part {} of the answer to command {}, {what}", reply.seq, reply.id);
            return self.note_refused(now, Some(id), why, &reason);
        }
        let Some(open) = open else { return };
        open.early.insert(reply.seq, reply.body);
        if open.early.len() > EARLY_MAX {
            return self.end_command(&reply.id, "a part of the answer was lost", true);
        }
        while let Some(open) = self.commands.open.get_mut(&reply.id) {
            let Some(body) = open.early.remove(&open.next_seq) else { break };
            open.next_seq += 1;
            self.pass_on(&reply.id, body);
        }
    }

    fn pass_on(&mut self, name: &Name, body: ReplyBody) {
        let Some(open) = self.commands.open.get_mut(name) else { return };
        let request = open.request;
        match body {
            ReplyBody::Accepted => {
                let first = !std::mem::replace(&mut open.accepted, true);
                if first {
                    self.out.now(Op::Answer { request, answer: Answer::Accepted });
                }
            }
            ReplyBody::Refused { reason } => self.end_command(name, &reason, false),
            ReplyBody::Progress { .. } => {
                self.out.now(Op::Relay { request, reply: body });
            }
            ReplyBody::Done { .. } => {
                let accepted = open.accepted;
                self.commands.remove(name);
                if !accepted {
                    self.out.now(Op::Answer { request, answer: Answer::Accepted });
                }
                self.out.now(Op::Relay { request, reply: body });
            }
        }
    }

    /// End it with an error, in the way that fits how far it came.
    fn end_command(&mut self, name: &Name, reason: &str, cancel: bool) {
        let Some(open) = self.commands.remove(name) else { return };
        let (request, reason) = (open.request, sanitize::text(reason));
        if open.accepted {
            let reply = ReplyBody::Done { error: Some(reason) };
            self.out.now(Op::Relay { request, reply });
        } else {
            let errors = vec![Refusal { workload: None, field: String::new(), reason }];
            self.out.now(Op::Answer { request, answer: Answer::Refused { errors } });
        }
        if cancel {
            self.cancel(name, &open.agent, open.nonce);
        }
    }

    /// Nobody waits for the answer to a cancel; if it is lost, the deadline ends the command.
    fn cancel(&mut self, name: &Name, agent: &AgentId, nonce: Nonce) {
        let id = self.commands.name(self.world.meta.term.0);
        let op = CommandOp::Cancel { command: name.clone() };
        let command =
            Box::new(Command { id, nonce, deadline_ms: TRAVEL_MS, until_ms: None, ticket: None, op });
        self.out.now(Op::PublishCommand { agent: agent.clone(), command });
    }

    pub(crate) fn on_abandoned(&mut self, request: RequestId) {
        for name in self.commands.named(|open| open.request == request) {
            if let Some(open) = self.commands.remove(&name) {
                self.cancel(&name, &open.agent, open.nonce);
            }
        }
    }

    pub(crate) fn end_commands(&mut self, id: &AgentId, reason: &str) {
        for name in self.commands.named(|open| open.agent == *id) {
            self.end_command(&name, reason, false);
        }
    }

    pub(crate) fn end_all_commands(&mut self, reason: &str) {
        for name in self.commands.named(|_| true) {
            self.end_command(&name, reason, false);
        }
    }

    pub(crate) fn end_late_commands(&mut self, now: Now) {
        while let Some((at, name)) = self.commands.due.first().cloned() {
            if at > now.boot_ms {
                return;
            }
            self.end_command(&name, "the agent did not answer in time", true);
            self.commands.due.remove(&(at, name));
        }
    }

    /// Whether `id` was a command. One that could not be sent ends at once.
    pub(crate) fn on_command_sent(&mut self, id: EffectId, outcome: &Outcome) -> bool {
        let Some(name) = self.commands.sent.remove(&id) else { return false };
        match outcome {
            Outcome::Done | Outcome::Compiled { .. } | Outcome::Fetched { .. } => {}
            Outcome::Refused(reason) | Outcome::Fault(reason) => {
                self.end_command(&name, &format!("the command could not be sent: {reason}"), false);
            }
            Outcome::Deadline => self.end_command(&name, "the command could not be sent in time", false),
        }
        true
    }
}

fn refusal(reason: String) -> Vec<Refusal> {
    vec![Refusal { workload: None, field: "agent".into(), reason }]
}

fn refused(reason: String) -> Answer {
    Answer::Refused { errors: refusal(reason) }
}
