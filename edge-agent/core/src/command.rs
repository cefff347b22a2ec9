//! Which commands the agent takes: accepted, or refused with the reason, at once. What an accepted one
//! does is the shell's (`Op::Serve`).

use std::collections::BTreeMap;

use contract::limits::{COMMANDS_MAX, SESSIONS_MAX};
use contract::message::{Command, CommandOp, FromAgent, Reply, ReplyBody};
use contract::spec::Runtime;
use contract::time::Millis;
use contract::{Epoch, InstanceId, Name, Now, RunId};

use crate::api::Op;
use crate::core::Core;
use crate::instance::Phase;
use crate::outbox::Pending;

/// A command that comes twice is answered once: remembered for as long as it could still be begun. One
/// more than so many in that time is refused.
const REMEMBERED_MAX: usize = 1024;
/// For one that does not say until when: as hubs did that sent none.
const REMEMBERED_MS: Millis = 120_000;
/// Of the hub's own commands none may be begun later than this after it came.
const UNTIL_MS_MAX: Millis = 600_000;

#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// And whether each is a session.
    running: BTreeMap<Name, bool>,
    /// Until when each could still be begun.
    seen: BTreeMap<Name, Millis>,
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

    fn is_repeat(&self, id: &Name) -> bool {
        self.running.contains_key(id) || self.seen.contains_key(id)
    }

    /// False: there is no room to remember one more.
    fn remember(&mut self, now: Millis, command: &Command) -> bool {
        self.seen.retain(|_, until| *until >= now);
        let until = command.until_ms.unwrap_or(now + REMEMBERED_MS).min(now + UNTIL_MS_MAX);
        let room = self.seen.len() < REMEMBERED_MAX;
        if room {
            self.seen.insert(command.id.clone(), until);
        }
        room
    }
}

impl Core {
    pub(crate) fn on_command(&mut self, now: Now, command: Command) {
        let Some(epoch) = self.session.epoch() else { return };
        if self.commands.is_repeat(&command.id) {
            return self.note_refused(now, "command", &format!("repeated: {}", command.id));
        }
        if let Some(reason) = self.not_ours_now(now, &command) {
            self.note_refused(now, "command", &reason);
            return self.reply_refused(epoch, &command, reason);
        }
        let refusal = match self.commands.remember(now.boot_ms, &command) {
            true => self.refusal(&command),
            false => Some(format!("{REMEMBERED_MAX} commands came within minutes; ask again later")),
        };
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

    fn reply_refused(&mut self, epoch: Epoch, command: &Command, reason: String) {
        let body = ReplyBody::Refused { reason };
        let reply = Reply { id: command.id.clone(), nonce: command.nonce, seq: 0, body };
        self.out.emit(Op::Publish(FromAgent::Reply(reply)), Pending::Reply(epoch));
    }

    /// What was said to another session, or was held back on its way.
    fn not_ours_now(&self, now: Now, command: &Command) -> Option<String> {
        if self.session.greeted().is_none_or(|(_, nonce)| nonce != command.nonce) {
            return Some("the command is of another session: ask again".into());
        }
        let late = now.boot_ms.checked_sub(command.until_ms?).filter(|late| *late > 0)?;
        Some(format!("the command came too late: by {late} ms"))
    }

    fn refusal(&self, command: &Command) -> Option<String> {
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
