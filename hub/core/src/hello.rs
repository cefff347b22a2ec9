//! What is an agent asked, and when again? One open question at a time, further and further apart.

use contract::message::{Acked, Hello, Want};
use contract::time::{Millis, Now, backoff_ms};
use contract::{AgentId, BoardId, Digest, Epoch, Nonce};

use crate::api::Op;
use crate::core::Core;
use crate::session::{Ask, BOOTS_MAX, Retry};

/// A session that was said to be over is asked no more often than this.
const PROBE_AGAIN_MS: Millis = 30_000;
/// Asking again: after 5 s first; at most every 10 minutes.
const ASK_BASE_MS: Millis = 5_000;
/// The same for a document that is not reported as applied.
const RESEND_BASE_MS: Millis = 10_000;
pub const RETRY_MAX_MS: Millis = 600_000;

impl Retry {
    pub fn first(base: Millis, now: Now, agent: &AgentId) -> Retry {
        Retry::within(base, RETRY_MAX_MS, 1, now, agent)
    }

    pub fn within(base: Millis, max: Millis, attempt: u32, now: Now, agent: &AgentId) -> Retry {
        Retry { attempt, at: now.boot_ms + backoff_ms(base, max, attempt, agent.as_str()) }
    }

    #[must_use]
    pub fn next(self, base: Millis, now: Now, agent: &AgentId) -> Retry {
        Retry::within(base, RETRY_MAX_MS, self.attempt.saturating_add(1), now, agent)
    }
}

impl Core {
    /// A hello from which nothing follows but that the agent jumps above `floor`.
    pub(crate) fn send_floor(&mut self, now: Now, id: &AgentId, board: BoardId, epoch: Epoch, floor: u64) {
        let nonce = self.nonce(id, epoch);
        let event_seq = self.world.agents.get(id).map_or(0, |agent| agent.record.event_seq);
        let acked = Acked { event_seq, ..Acked::default() };
        let hello = self.hello_of(now, board, epoch, nonce, floor, acked, Want::Nothing);
        self.out.after(Op::PublishHello { agent: id.clone(), hello: Box::new(hello) });
    }

    /// It reports, and not in the session that is known. Whoever was greeted does not say again who it is;
    /// and this one was greeted before this hub's store was lost, or before another board took its id over,
    /// or under a counter that it lost with its store, or it was removed while it was thought to be away. A
    /// report does not say what a board can do, nor that it lives still (it may come late); made to connect
    /// anew, it says both.
    pub(crate) fn ask_who_it_is(&mut self, now: Now, id: &AgentId, board: BoardId, epoch: Epoch) {
        let known = self.world.agents.get(id).map(|agent| agent.record.boots);
        let room = known.is_some() || self.world.agents.len() < self.config.agents_max;
        let floor = known.unwrap_or(0).max(epoch.boots.saturating_add(1));
        if room && floor < BOOTS_MAX {
            self.send_floor(now, id, board, epoch, floor);
        }
    }

    /// It said something in a session whose will was heard. Either that came late, or the broker told
    /// the will of a living session; only an answer under a new nonce tells which.
    pub(crate) fn probe(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session(id) else { return };
        if session.probe_at.is_some_and(|at| now.boot_ms < at + PROBE_AGAIN_MS) {
            return;
        }
        let nonce = self.nonce(id, session.epoch);
        if let Some(session) = self.session_mut(id) {
            session.nonce = nonce;
            session.confirmed = false;
            session.probe_at = Some(now.boot_ms);
            self.queues.hello(id);
        }
    }

    /// The probe was answered: the session lives.
    pub(crate) fn revive(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        (session.online, session.since_ms, session.probe_at) = (true, now.boot_ms, None);
        self.queues.publish(id, true);
        self.dirty_starving(id);
        self.changed_agent(id);
    }

    /// The known session said hello again (a retained presence read again, say).
    pub(crate) fn greet_again(&mut self, id: &AgentId) {
        self.queues.hello(id);
    }

    /// Ask the agent and go on asking, further and further apart, until a report with the nonce
    /// (a full one, if that is wanted) comes. One question at a time.
    pub(crate) fn ask(&mut self, now: Now, id: &AgentId, want: Want) {
        let Some(session) = self.session_mut(id) else { return };
        if !session.online {
            return;
        }
        match &mut session.ask {
            Some(ask) if ask.want == Want::Full || want == Want::Nothing => return,
            Some(ask) => ask.want = Want::Full,
            None => session.ask = Some(Ask { want, retry: Retry::first(ASK_BASE_MS, now, id) }),
        }
        self.queues.hello(id);
        self.retime(id);
    }

    /// The time of something that this agent's session waits for.
    pub(crate) fn on_timer(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        session.due = None;
        let past = |at: Millis| at <= now.boot_ms;
        let challenge_over = session.challenge.as_ref().is_some_and(|c| past(c.until));
        let overdue = session.beat_at.is_some_and(past);
        let ask_again = session.ask.is_some_and(|ask| past(ask.retry.at));
        let send_again = session.resend.is_some_and(|retry| past(retry.at));
        let gap = session.gap.is_some_and(|retry| past(retry.at));
        let twin_silent = session.duplicate.is_some_and(|twin| past(twin.until));
        if challenge_over {
            return self.admit_newcomer(now, id);
        }
        if let Some(ask) = session.ask.as_mut().filter(|_| ask_again) {
            ask.retry = ask.retry.next(ASK_BASE_MS, now, id);
            self.queues.hello(id);
        }
        if twin_silent {
            self.forget_twin(id);
        }
        if overdue {
            self.on_overdue(now, id);
        }
        if gap {
            self.on_gap_again(now, id);
        }
        if send_again {
            self.send_again(now, id);
        }
        self.retime(id);
    }

    /// The document was published and the agent did not say that it applied it.
    fn send_again(&mut self, now: Now, id: &AgentId) {
        if let Some(session) = self.session_mut(id) {
            session.resend = session.resend.map(|retry| retry.next(RESEND_BASE_MS, now, id));
            self.queues.publish(id, true);
        }
    }

    /// A published document is to be reported as applied, or it is sent again.
    pub(crate) fn expect_applied(&mut self, now: Now, id: &AgentId) {
        if let Some(session) = self.session_mut(id).filter(|s| s.online && s.resend.is_none()) {
            session.resend = Some(Retry::first(RESEND_BASE_MS, now, id));
            self.retime(id);
        }
    }

    pub(crate) fn publish_hello(&mut self, now: Now, id: &AgentId) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let (floor, event_seq) = (agent.record.boots, agent.record.event_seq);
        let Some(session) = agent.session.as_mut().filter(|s| s.online || s.probe_at.is_some()) else {
            return;
        };
        let acked = Acked { epoch: session.seen_epoch, observed_seq: session.seen_seq, event_seq };
        let want = session.ask.map_or(Want::Nothing, |ask| ask.want);
        session.unacked = 0;
        session.hello_at = Some(now.boot_ms);
        let (board, epoch, nonce) = (session.board, session.epoch, session.nonce);
        let hello = self.hello_of(now, board, epoch, nonce, floor, acked, want);
        let effect = self.out.after(Op::PublishHello { agent: id.clone(), hello: Box::new(hello) });
        self.publishing.insert(effect);
    }

    #[allow(clippy::too_many_arguments)] // the fields of one message, no two of one type in a row
    fn hello_of(
        &mut self,
        now: Now,
        board: BoardId,
        epoch: Epoch,
        nonce: Nonce,
        epoch_floor: u64,
        acked: Acked,
        want: Want,
    ) -> Hello {
        self.hellos += 1;
        Hello {
            lineage: self.world.meta.lineage,
            term: self.world.meta.term,
            board,
            epoch,
            nonce,
            said: self.hellos,
            epoch_floor,
            acked,
            want,
            heartbeat_ms: self.world.settings.heartbeat_ms,
            wall_ms: now.wall_ms,
            artifacts: self.world.settings.artifacts_url.clone(),
        }
    }

    /// Fresh for each session and each doubt about one.
    pub(crate) fn nonce(&mut self, id: &AgentId, epoch: Epoch) -> Nonce {
        self.nonces += 1;
        let seed = &self.world.settings.nonce_seed;
        let text = format!("{}\0{}\0{}", id.as_str(), epoch, self.nonces);
        let digest = Digest::of(&[seed.as_slice(), text.as_bytes()].concat());
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&digest.as_bytes()[..16]);
        Nonce(nonce)
    }
}
