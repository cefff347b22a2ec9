//! Two boards under one id: which of them is the agent? The known one, as long as it answers.

use contract::AgentId;
use contract::message::{EventKind, Presence, Want};
use contract::time::{Millis, Now};

use crate::core::Core;
use crate::session::{Challenge, Twin};

/// How long the known board has to answer when another one claims its id.
pub const CHALLENGE_MS: Millis = 10_000;
/// A board that is not greeted says who it is again and again, at least every 15 minutes; one that missed
/// two and a half times is gone.
pub const TWIN_SILENT_MS: Millis = 15 * 60_000 * 5 / 2;

impl Core {
    /// Another board under a known id. The known one is asked first, if it is thought to be there.
    pub(crate) fn on_other_board(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let nonce = self.world.agents.get(id).and_then(|a| a.session.as_ref()).map(|s| s.epoch);
        let nonce = nonce.map(|epoch| self.nonce(id, epoch));
        match (self.session_mut(id), nonce) {
            (Some(session), Some(nonce)) if session.online => {
                match &mut session.challenge {
                    Some(c) if c.newcomer.board == presence.board && c.newcomer.epoch >= presence.epoch => {}
                    Some(challenge) => challenge.newcomer = presence,
                    None => {
                        let until = now.boot_ms + CHALLENGE_MS;
                        session.challenge = Some(Box::new(Challenge { newcomer: presence, until }));
                        session.nonce = nonce;
                        session.confirmed = false;
                        session.ask = None;
                        self.ask(now, id, Want::Full);
                    }
                }
                self.retime(id);
                self.changed_agent(id);
            }
            _ => self.take_over(now, id, presence),
        }
    }

    pub(crate) fn on_other_board_offline(&mut self, id: &AgentId, presence: &Presence) {
        let Some(session) = self.session_mut(id) else { return };
        let newer = |c: &Challenge| c.newcomer.board == presence.board && c.newcomer.epoch <= presence.epoch;
        if session.challenge.as_deref().is_some_and(newer) {
            session.challenge = None;
        }
        if session.duplicate.is_some_and(|twin| twin.board == presence.board) {
            session.duplicate = None;
        }
        self.retime(id);
        self.changed_agent(id);
    }

    pub(crate) fn forget_twin(&mut self, id: &AgentId) {
        if let Some(session) = self.session_mut(id) {
            session.duplicate = None;
            self.changed_agent(id);
        }
    }

    /// The known board answered while another one claimed its id: both live.
    pub(crate) fn found_duplicate(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        let Some(challenge) = session.challenge.take() else { return };
        let (other, known) = (challenge.newcomer.board, session.board);
        let twin = Twin { board: other, until: now.boot_ms + TWIN_SILENT_MS };
        let first = session.duplicate.replace(twin).is_none_or(|before| before.board != other);
        self.retime(id);
        self.changed_agent(id);
        if first {
            let text = format!(
                "board {other} uses the id of board {known}, which is online: give one of them another id"
            );
            self.hub_event(now, id, EventKind::Duplicate, text);
        }
    }

    /// The known board is silent or gone: the newcomer is the agent now.
    pub(crate) fn admit_newcomer(&mut self, now: Now, id: &AgentId) {
        let challenge = self.session_mut(id).and_then(|s| s.challenge.take());
        if let Some(challenge) = challenge {
            self.take_over(now, id, challenge.newcomer);
        }
    }

    fn take_over(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let due = agent.session.take().and_then(|s| s.due);
        self.timers.set(id, due, None);
        agent.heard = false;
        let floor = agent.record.boots;
        if presence.epoch.boots > floor {
            return self.new_session(now, id, presence);
        }
        // The other board's counter says nothing about this one's; event numbers must not collide,
        // so it has to get above, however often it asks.
        let floor = floor + 1;
        (agent.record.board, agent.record.boots) = (presence.board, floor);
        self.out.agent(id);
        self.end_commands(id, "another board took the agent's id over");
        self.changed_agent(id);
        self.send_floor(now, id, presence.board, presence.epoch, floor);
    }
}
