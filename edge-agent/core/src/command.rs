//! Which commands the agent takes: accepted, or refused with the reason, at once. What an accepted one
//! does is the shell's (`Op::Serve`).

use std::collections::{BTreeMap, VecDeque};

use contract::limits::{COMMANDS_MAX, SESSIONS_MAX};
use contract::message::{Command, CommandOp, FromAgent, Reply, ReplyBody};
use contract::spec::Runtime;
use contract::{InstanceId, Name, RunId};

use crate::api::Op;
use crate::core::Core;
use crate::instance::Phase;
use crate::outbox::Pending;

/// A command that comes twice (QoS 1) is answered once; so many are remembered.
const REMEMBERED_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// And whether each is a session.
    running: BTreeMap<Name, bool>,
    seen: VecDeque<Name>,
}

impl Commands {
    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn ended(&mut self, id: &Name) {
        self.running.remove(id);
    }

    /// Ids are of a session; those that still run are remembered as running.
    pub fn end_session(&mut self) {
        self.seen.clear();
    }

    fn is_repeat(&mut self, id: &Name) -> bool {
        if self.running.contains_key(id) || self.seen.contains(id) {
            return true;
        }
        self.seen.truncate(REMEMBERED_MAX - 1);
        self.seen.push_front(id.clone());
        false
    }
}

impl Core {
    pub(crate) fn on_command(&mut self, command: Command) {
        let Some(epoch) = self.session.epoch() else { return };
        if self.commands.is_repeat(&command.id) {
            return;
        }
        let refusal = self.refusal(&command);
        let body = match &refusal {
            Some(reason) => ReplyBody::Refused { reason: reason.clone() },
            None => ReplyBody::Accepted,
        };
        let reply = Reply { id: command.id.clone(), nonce: command.nonce, seq: 0, body };
        self.out.emit(Op::Publish(FromAgent::Reply(reply)), Pending::Reply(epoch));
        if refusal.is_none() {
            self.commands.running.insert(command.id.clone(), command.op.session().is_some());
            let pending = Pending::Serve(command.id.clone());
            self.out.emit(Op::Serve(command), pending);
        }
    }

    fn refusal(&self, command: &Command) -> Option<String> {
        if self.session.greeted().is_none_or(|(_, nonce)| nonce != command.nonce) {
            return Some("the command is of another session: ask again".into());
        }
        // Cancelling is how room is made.
        let cancels = matches!(command.op, CommandOp::Cancel { .. });
        if self.commands.len() >= COMMANDS_MAX && !cancels {
            return Some(format!("{COMMANDS_MAX} commands are being worked on; wait or cancel one"));
        }
        match &command.op {
            CommandOp::Logs(query) if self.instance(&query.instance).is_none() => {
                Some(format!("instance {} is not on this agent", query.instance))
            }
            CommandOp::Cancel { command } if !self.commands.running.contains_key(command) => {
                Some(format!("command {command} is not running here"))
            }
            op => op.session().and_then(|instance| self.no_session(instance)),
        }
    }

    /// Why none can be had with it now.
    fn no_session(&self, instance: &InstanceId) -> Option<String> {
        if self.commands.running.values().filter(|session| **session).count() >= SESSIONS_MAX {
            return Some(format!("{SESSIONS_MAX} sessions are open here; end one"));
        }
        match self.running(instance) {
            Some((_, Runtime::Oci)) => None,
            Some(_) => Some(format!("{instance} is no container: nothing else can run in it")),
            None => Some(format!("instance {instance} does not run here now")),
        }
    }

    /// The run of it that is under way.
    pub fn running(&self, id: &InstanceId) -> Option<(RunId, Runtime)> {
        let mut runs = self.instance(id)?.runs.iter().rev();
        let (run, of) = runs.find(|(_, run)| run.phase == Phase::Running)?;
        Some((*run, of.assignment.as_ref()?.run.runtime))
    }
}
