//! Who is there? Each presence is one of: older than what is known (ignored), the known session
//! again, a new session, a board that lost its store, or another board under a known id.
//!
//! ```text
//!   (none) ──presence──▶ online, asked ──report with the nonce──▶ online, fresh
//!              ▲              │  ▲                                   │
//!              │ new epoch    │  └── gap, overdue, bus was down ◀────┤
//!              └── offline ◀──┴───────────── will of this epoch ◀────┘
//! ```

use contract::message::{CONTRACT_VERSION, Capacity, DesiredHead, Presence, Want};
use contract::time::{Millis, Now};
use contract::{AgentId, BoardId, Epoch, Generation, Lineage, Nonce, limits};

use crate::core::Core;
use crate::observed::Seen;
use crate::record::AgentRecord;
use crate::refused::Why;
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
    pub duplicate: Option<Twin>,
    /// Events taken since the last hello acknowledged any.
    pub unacked: u32,
    pub hello_at: Option<Millis>,
    /// When it was asked, after its will, whether it is there all the same.
    pub probe_at: Option<Millis>,
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

/// A board that was heard of while another one answered under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    pub board: BoardId,
    /// Not heard of again by then, it is gone: its will may have been lost.
    pub until: Millis,
}

/// An agent's start counter has 32 bits in its event numbers.
pub(crate) const BOOTS_MAX: u64 = u32::MAX as u64 - 1;

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
            probe_at: None,
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

    pub(crate) fn next_due(&self) -> Option<Millis> {
        let asks = self.ask.map(|ask| ask.retry.at);
        let resends = self.resend.map(|retry| retry.at);
        let challenged = self.challenge.as_ref().map(|c| c.until);
        let gap = self.gap.map(|retry| retry.at);
        let twin = self.duplicate.map(|twin| twin.until);
        [asks, resends, self.beat_at, challenged, gap, twin].into_iter().flatten().min()
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
        operator: None,
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
            let text = format!("epoch {} is out of range", presence.epoch);
            return self.note_rejected(now, Some(id), Why::Impossible, text);
        }
        if presence.contract_version > CONTRACT_VERSION {
            let (theirs, agent) = (presence.contract_version, limits::clip(&presence.agent_version));
            let text = format!(
                "agent {agent} speaks contract version {theirs}; this hub knows {CONTRACT_VERSION}: upgrade the hub"
            );
            return self.note_rejected(now, Some(id), Why::Impossible, text);
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
            let text = format!("there are {max} agents already");
            return self.note_rejected(now, Some(id), Why::NotJoined, text);
        }
        self.world.agents.insert(id.clone(), Agent::new(blank_record(&presence, now)));
        self.world.weigh(id);
        self.new_session(now, id, presence);
    }

    /// From the known board.
    fn on_online(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let floor = agent.record.boots;
        if presence.epoch < agent.session.as_ref().map_or(Epoch::default(), |s| s.epoch) {
            self.note_older(now, id, presence.epoch);
        }
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        if presence.epoch.boots < floor {
            return self.send_floor(now, id, presence.board, presence.epoch, floor);
        }
        match &agent.session {
            Some(session) if presence.epoch < session.epoch => {
                // An old message, or a board whose lost counter has come back to this very number. Only
                // the latter is in that session, and it has to get above.
                if presence.epoch.boots == session.epoch.boots {
                    self.send_floor(now, id, presence.board, presence.epoch, floor.saturating_add(1));
                }
            }
            Some(session) if presence.epoch == session.epoch => match session.online {
                true => self.greet_again(id),
                false => self.probe(now, id),
            },
            _ => self.new_session(now, id, presence),
        }
    }

    pub(crate) fn new_session(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let nonce = self.nonce(id, presence.epoch);
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let mut session = Session::new(&presence, nonce, now);
        if let Some(old) = agent.session.take().filter(|old| old.board == presence.board) {
            session.inherit(*old);
        }
        let online = presence.online;
        agent.session = Some(Box::new(session));
        self.learn(id, &presence);
        self.end_commands(id, "the agent's session ended");
        if online {
            let known = self.session(id).is_some_and(|s| s.complete);
            let want = if known { Want::Nothing } else { Want::Full };
            self.ask(now, id, want);
            self.queues.publish(id, true);
            // Who may take others' room takes it where it is known that somebody is.
            self.dirty_starving(id);
        }
        self.changed_agent(id);
    }

    /// Take over what the presence tells about the board, durably if it is new.
    fn learn(&mut self, id: &AgentId, presence: &Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let mut record = agent.record.clone();
        let left_out = sanitize::learn(&mut record, presence);
        let mut own = record.own_labels();
        self.world.trust.impose(id, &mut own);
        record.set_own_labels(own);
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
        let facts = |r: &AgentRecord| {
            (r.labels.clone(), r.features.clone(), r.engines.clone(), r.arch.clone(), r.capacity)
        };
        let facts_changed = facts(&old) != facts(&agent.record);
        self.world.weigh(id);
        self.out.agent(id);
        if facts_changed || old.boots == 0 {
            self.dirty_agent(id);
        }
    }

    /// The will, or a goodbye, of the known board.
    fn on_offline(&mut self, now: Now, id: &AgentId, presence: Presence) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        if presence.epoch.boots < agent.record.boots {
            return self.note_older(now, id, presence.epoch);
        }
        match &mut agent.session {
            None => return self.new_session(now, id, presence),
            Some(session) if presence.epoch < session.epoch => {
                return self.note_older(now, id, presence.epoch);
            }
            Some(session) if presence.epoch > session.epoch => {
                // The end of a session whose beginning was lost.
                session.epoch = presence.epoch;
                session.confirmed = false;
            }
            Some(session) if !session.online => return,
            Some(_) => {}
        }
        self.go_offline(now, id);
        self.learn(id, &presence);
        self.admit_newcomer(now, id);
    }

    fn note_older(&mut self, now: Now, id: &AgentId, said: Epoch) {
        let reason = format!("a presence of session {said}; this is {}", self.epoch_of(id));
        self.note_refused(now, Some(id), Why::Older, &reason);
    }

    pub(crate) fn epoch_of(&self, id: &AgentId) -> Epoch {
        self.session(id).map_or(Epoch::default(), |s| s.epoch)
    }

    fn go_offline(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        if session.online {
            session.online = false;
            session.since_ms = now.boot_ms;
            session.probe_at = None;
        }
        session.stop_waiting();
        self.queues.hello.remove(id);
        self.retime(id);
        self.end_commands(id, "the agent went offline");
        self.changed_agent(id);
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
