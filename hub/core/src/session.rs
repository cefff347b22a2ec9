//! Who is there? Each presence is one of: older than what is known (ignored), the known session
//! again, a new session, a board that lost its store, or another board under a known id.
//!
//! ```text
//!   (none) ──presence──▶ online, asked ──report with the nonce──▶ online, fresh
//!              ▲              │  ▲                                   │
//!              │ new epoch    │  └── gap, overdue, bus was down ◀────┤
//!              └── offline ◀──┴───────────── will of this epoch ◀────┘
//! ```

use contract::message::{Acked, CONTRACT_VERSION, Capacity, DesiredHead, Hello, Presence, Want};
use contract::time::{Millis, Now, backoff_ms};
use contract::{AgentId, BoardId, Digest, Epoch, Generation, Lineage, Nonce, limits};

use crate::api::Op;
use crate::core::Core;
use crate::observed::Seen;
use crate::record::AgentRecord;
use crate::sanitize;
use crate::world::Agent;

/// What the hub knows of an agent's connection. Soft: gone with the hub, rebuilt by resync.
#[derive(Debug, Clone)]
pub struct Session {
    pub board: BoardId,
    pub epoch: Epoch,
    pub online: bool,
    /// Since when `online` is what it is, on the hub's clock.
    pub since_ms: Millis,
    pub nonce: Nonce,
    /// The newest report echoed the nonce.
    pub confirmed: bool,
    /// Nothing is missing between the last full report and now.
    pub complete: bool,
    /// No report for two and a half heartbeats.
    pub overdue: bool,
    /// The last report taken in, and the epoch it belongs to.
    pub seen_epoch: Epoch,
    pub seen_seq: u64,
    pub seen: Seen,
    /// The agent's clock and the hub's when that report came.
    pub clock: Option<(Millis, Millis)>,
    pub applied: Option<DesiredHead>,
    /// What the agent said about a document that it refused.
    pub refused: Option<Box<str>>,
    pub hold: Option<Hold>,
    pub ask: Option<Ask>,
    pub resend: Option<Retry>,
    pub beat_at: Option<Millis>,
    pub challenge: Option<Box<Challenge>>,
    /// Another live board that claims this id.
    pub duplicate: Option<BoardId>,
    /// Events taken since the last hello acknowledged any.
    pub unacked: u32,
    pub hello_at: Option<Millis>,
    /// A hole in the events: when and how often the agent is asked to send them again.
    pub gap: Option<Retry>,
    /// What of its messages could not be used.
    pub problem: Option<Box<str>>,
    /// The entry in the timers.
    pub due: Option<Millis>,
}

/// Why nothing is published to an agent until `hub restore accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It has seen more than this store knows: the store is an old copy.
    Floor(DesiredHead),
    /// It belongs to another store.
    Lineage(Lineage),
}

/// A question to the agent that is open: at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub want: Want,
    pub retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    pub attempt: u32,
    pub at: Millis,
}

/// Another board came while the known one was thought to be online.
#[derive(Debug, Clone, PartialEq)]
pub struct Challenge {
    pub newcomer: Presence,
    pub until: Millis,
}

/// Asking again: after 5 s first; at most every 10 minutes.
const ASK_BASE_MS: Millis = 5_000;
/// The same for a document that is not reported as applied.
const RESEND_BASE_MS: Millis = 10_000;
pub const RETRY_MAX_MS: Millis = 600_000;
/// How long the known board has to answer when another one claims its id.
pub const CHALLENGE_MS: Millis = 10_000;
/// An agent's start counter has 32 bits in its event numbers.
const BOOTS_MAX: u64 = u32::MAX as u64 - 1;

impl Session {
    fn new(presence: &Presence, nonce: Nonce, now: Now) -> Session {
        Session {
            board: presence.board,
            epoch: presence.epoch,
            online: presence.online,
            since_ms: now.boot_ms,
            nonce,
            confirmed: false,
            complete: false,
            overdue: false,
            seen_epoch: presence.epoch,
            seen_seq: 0,
            seen: Seen::default(),
            clock: None,
            applied: None,
            refused: None,
            hold: None,
            ask: None,
            resend: None,
            beat_at: None,
            challenge: None,
            duplicate: None,
            unacked: 0,
            hello_at: None,
            gap: None,
            problem: None,
            due: None,
        }
    }

    pub fn is_fresh(&self) -> bool {
        self.online && self.confirmed && self.complete && !self.overdue
    }

    /// The last report taken in of the present epoch.
    pub fn seq(&self) -> u64 {
        if self.seen_epoch == self.epoch { self.seen_seq } else { 0 }
    }

    /// How old the newest report is.
    pub fn report_age(&self, now: Now) -> Option<Millis> {
        self.clock.map(|(_, at)| now.boot_ms.saturating_sub(at))
    }

    /// Nothing more is expected of it.
    pub fn stop_waiting(&mut self) {
        (self.ask, self.resend, self.beat_at, self.gap) = (None, None, None, None);
    }

    fn next_due(&self) -> Option<Millis> {
        let asks = self.ask.map(|ask| ask.retry.at);
        let resends = self.resend.map(|retry| retry.at);
        let challenged = self.challenge.as_ref().map(|c| c.until);
        let gap = self.gap.map(|retry| retry.at);
        [asks, resends, self.beat_at, challenged, gap].into_iter().flatten().min()
    }
}

impl Retry {
    pub fn first(base: Millis, now: Now, agent: &AgentId) -> Retry {
        Retry { attempt: 0, at: 0 }.next(base, now, agent)
    }

    #[must_use]
    pub fn next(self, base: Millis, now: Now, agent: &AgentId) -> Retry {
        let attempt = self.attempt.saturating_add(1);
        Retry { attempt, at: now.boot_ms + backoff_ms(base, RETRY_MAX_MS, attempt, agent.as_str()) }
    }
}

fn blank_record(presence: &Presence, now: Now) -> AgentRecord {
    AgentRecord {
        board: presence.board,
        boots: 0,
        generation: Generation(0),
        digest: None,
        event_seq: 0,
        labels: Default::default(),
        features: Default::default(),
        engines: Vec::new(),
        arch: String::new(),
        capacity: Capacity::default(),
        agent_version: String::new(),
        first_seen_wall_ms: now.wall_ms,
    }
}

impl Core {
    pub(crate) fn on_presence(&mut self, now: Now, id: &AgentId, presence: Presence) {
        if presence.epoch.boots > BOOTS_MAX || presence.epoch.session == u64::MAX {
            return self.note_rejected(Some(id), format!("epoch {} is out of range", presence.epoch));
        }
        if presence.contract_version > CONTRACT_VERSION {
            let (theirs, agent) = (presence.contract_version, limits::clip(&presence.agent_version));
            let text = format!(
                "agent {agent} speaks contract version {theirs}; this hub knows {CONTRACT_VERSION}: upgrade the hub"
            );
            return self.note_rejected(Some(id), text);
        }
        let Some(agent) = self.world.agents.get(id) else {
            return self.on_first_presence(now, id, presence);
        };
        let known = agent.session.as_ref().map_or(agent.record.board, |s| s.board);
        match (presence.board == known, presence.online) {
            (true, true) => self.on_online(now, id, presence),
            (true, false) => self.on_offline(now, id, presence),
            (false, true) => self.on_other_board(now, id, presence),
            (false, false) => self.on_other_board_offline(id, &presence),
        }
    }

    fn on_first_presence(&mut self, now: Now, id: &AgentId, presence: Presence) {
        if self.world.agents.len() >= self.config.agents_max {
            let max = self.config.agents_max;
            return self.note_rejected(Some(id), format!("there are {max} agents already"));
        }
        self.world.agents.insert(id.clone(), Agent::new(blank_record(&presence, now)));
        self.new_session(now, id, presence);
    }

    /// From the known board.
    fn on_online(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let floor = agent.record.boots;
        if presence.epoch.boots < floor {
            return self.send_floor(now, id, &presence, floor);
        }
        match &agent.session {
            Some(session) if presence.epoch < session.epoch => {}
            Some(session) if presence.epoch == session.epoch => {
                if session.online {
                    self.greet_again(id);
                }
            }
            _ => self.new_session(now, id, presence),
        }
    }

    fn new_session(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let nonce = self.nonce(id, presence.epoch);
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let mut session = Session::new(&presence, nonce, now);
        if let Some(old) = agent.session.take().filter(|old| old.board == presence.board) {
            session.inherit(*old);
        }
        let online = presence.online;
        agent.session = Some(Box::new(session));
        self.learn(now, id, &presence);
        self.end_commands(id, "the agent's session ended");
        if online {
            let known = self.session(id).is_some_and(|s| s.complete);
            let want = if known { Want::Nothing } else { Want::Full };
            self.ask(now, id, want);
            self.queues.publish(id, true);
        }
        self.changed_agent(id);
    }

    /// Take over what the presence tells about the board, durably if it is new.
    fn learn(&mut self, _now: Now, id: &AgentId, presence: &Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let mut record = agent.record.clone();
        let left_out = sanitize::learn(&mut record, presence);
        if record.board != presence.board {
            agent.heard = false;
        }
        record.board = presence.board;
        record.boots = record.boots.max(presence.epoch.boots);
        if let Some(session) = &mut agent.session {
            session.problem = left_out.map(String::into_boxed_str);
        }
        if record == agent.record {
            // A first presence that says nothing new cannot be: its boots are above 0, or its
            // record was made from it.
            return;
        }
        let old = std::mem::replace(&mut agent.record, record);
        let facts_changed = (&old.labels, &old.features, &old.engines, &old.capacity)
            != (&agent.record.labels, &agent.record.features, &agent.record.engines, &agent.record.capacity);
        self.out.agent(id);
        if facts_changed || old.boots == 0 {
            self.dirty_agent(id);
        }
    }

    /// The will, or a goodbye, of the known board.
    fn on_offline(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        if presence.epoch.boots < agent.record.boots {
            return;
        }
        match &mut agent.session {
            None => return self.new_session(now, id, presence),
            Some(session) if presence.epoch < session.epoch => return,
            Some(session) if presence.epoch > session.epoch => {
                // The end of a session whose beginning was lost.
                session.epoch = presence.epoch;
                session.confirmed = false;
            }
            Some(session) if !session.online => return,
            Some(_) => {}
        }
        self.go_offline(now, id);
        self.learn(now, id, &presence);
        self.admit_newcomer(now, id);
    }

    fn go_offline(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        if session.online {
            session.online = false;
            session.since_ms = now.boot_ms;
        }
        session.stop_waiting();
        self.queues.hello.remove(id);
        self.retime(id);
        self.end_commands(id, "the agent went offline");
        self.changed_agent(id);
    }

    /// Another board under a known id. The known one is asked first, if it is thought to be there.
    fn on_other_board(&mut self, now: Now, id: &AgentId, presence: Presence) {
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

    fn on_other_board_offline(&mut self, id: &AgentId, presence: &Presence) {
        let Some(session) = self.session_mut(id) else { return };
        let newer = |c: &Challenge| c.newcomer.board == presence.board && c.newcomer.epoch <= presence.epoch;
        if session.challenge.as_deref().is_some_and(newer) {
            session.challenge = None;
        }
        if session.duplicate == Some(presence.board) {
            session.duplicate = None;
        }
        self.retime(id);
        self.changed_agent(id);
    }

    /// The known board answered while another one claimed its id: both live.
    pub(crate) fn found_duplicate(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        let Some(challenge) = session.challenge.take() else { return };
        let (other, known) = (challenge.newcomer.board, session.board);
        let first = session.duplicate.replace(other) != Some(other);
        self.retime(id);
        self.changed_agent(id);
        if first {
            let text = format!(
                "board {other} uses the id of board {known}, which is online: give one of them another id"
            );
            self.hub_event(now, id, contract::message::EventKind::Duplicate, text);
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
        self.send_floor(now, id, &presence, floor);
    }

    /// A hello from which nothing follows but that the agent jumps above `floor`.
    fn send_floor(&mut self, now: Now, id: &AgentId, presence: &Presence, floor: u64) {
        let nonce = self.nonce(id, presence.epoch);
        let Some(agent) = self.world.agents.get(id) else { return };
        let acked = Acked { event_seq: agent.record.event_seq, ..Acked::default() };
        let hello = self.hello_of(now, presence.board, presence.epoch, nonce, floor, acked, Want::Nothing);
        self.out.after(Op::PublishHello { agent: id.clone(), hello: Box::new(hello) });
    }

    /// The known session said hello again (a retained presence read again, say).
    fn greet_again(&mut self, id: &AgentId) {
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
        if challenge_over {
            return self.admit_newcomer(now, id);
        }
        if let Some(ask) = session.ask.as_mut().filter(|_| ask_again) {
            ask.retry = ask.retry.next(ASK_BASE_MS, now, id);
            self.queues.hello(id);
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
        let Some(session) = agent.session.as_mut().filter(|s| s.online) else { return };
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
        &self,
        now: Now,
        board: BoardId,
        epoch: Epoch,
        nonce: Nonce,
        epoch_floor: u64,
        acked: Acked,
        want: Want,
    ) -> Hello {
        Hello {
            lineage: self.world.meta.lineage,
            term: self.world.meta.term,
            board,
            epoch,
            nonce,
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

    pub(crate) fn session(&self, id: &AgentId) -> Option<&Session> {
        self.world.agents.get(id)?.session.as_deref()
    }

    pub(crate) fn session_mut(&mut self, id: &AgentId) -> Option<&mut Session> {
        self.world.agents.get_mut(id)?.session.as_deref_mut()
    }

    /// Put the session's earliest time into the timers.
    pub(crate) fn retime(&mut self, id: &AgentId) {
        let Some(session) = self.world.agents.get_mut(id).and_then(|a| a.session.as_deref_mut()) else {
            return;
        };
        let new = session.next_due();
        self.timers.set(id, session.due, new);
        session.due = new;
    }

    /// The agent and what it runs look different to watchers.
    pub(crate) fn changed_agent(&mut self, id: &AgentId) {
        self.changes.agent(id);
        if let Some(agent) = self.world.agents.get(id) {
            agent.works.iter().for_each(|key| self.changes.workload(key));
        }
    }
}

impl Session {
    /// A new session of the same board goes on from what the last one knew.
    fn inherit(&mut self, old: Session) {
        if old.online == self.online {
            self.since_ms = old.since_ms;
        }
        // A new agent process starts over; until its full report, this is what was last known.
        self.complete = old.complete && old.epoch.boots == self.epoch.boots;
        self.seen_epoch = old.seen_epoch;
        self.seen_seq = old.seen_seq;
        self.seen = old.seen;
        self.clock = old.clock;
        self.applied = old.applied;
        self.refused = old.refused;
        self.hold = old.hold;
        self.duplicate = old.duplicate;
        self.due = old.due;
        self.challenge = old.challenge;
    }
}
