//! When the agent connects, and to which hub it listens. Losing the session touches no instance.
//!
//! ```text
//!  Down{at} ──Connect──▶ Connecting ──Done──▶ Up ──hello──▶ Up, greeted
//!     ▲                      │ Fault, Refused   │ Disconnected   │ hello with a floor above our boots
//!     └────── back-off ◀─────┴──────────────────┘                ▼
//!     ▲                                                       Closing
//!     └──────────────────── Disconnect ended ────────────────────┘
//! ```

use contract::message::{FromAgent, Hello, HubAnnounce, Presence};
use contract::time::{Millis, backoff_ms, jitter_hash};
use contract::{Epoch, Lineage, Nonce, Now, Term};

use crate::api::{EffectId, Op, Outcome};
use crate::core::Core;
use crate::outbox::Pending;

const HEARTBEAT_MS_MIN: Millis = 1000;
const HEARTBEAT_MS_MAX: Millis = 24 * 3600 * 1000;
/// Over which a fleet may be asked to spread its reports.
const WINDOW_MS_MAX: Millis = 24 * 3600 * 1000;
/// Event numbers are `boots << 32 | n`.
const BOOTS_MAX: u64 = u32::MAX as u64;

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub link: Link,
    /// CONNECTs under the present boots.
    count: u64,
    faults: u32,
    refusals: u32,
    pub last_error: Option<String>,
    /// The commit that makes our boots durable, while it is on its way.
    pub boots_persist: Option<EffectId>,
    /// What the hub said in this session.
    pub greeting: Option<Greeting>,
    /// When presence is sent (again), while no hello has come.
    pub presence_at_ms: Option<Millis>,
    presence_tries: u32,
    pub hub: Option<(Lineage, Term)>,
    pub heartbeat_ms: Option<Millis>,
    /// Of the last hello; outlives the session, as fetching goes another way.
    pub base_url: Option<String>,
    /// The hub's wall clock less our boottime.
    wall_offset: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Down {
        at_ms: Millis,
    },
    /// `lost`: gone before its CONNECT was reported.
    Connecting {
        epoch: Epoch,
        effect: EffectId,
        lost: bool,
    },
    Up {
        epoch: Epoch,
        since_ms: Millis,
    },
    Closing {
        effect: EffectId,
    },
}

impl Default for Link {
    fn default() -> Link {
        Link::Down { at_ms: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub nonce: Nonce,
    pub lineage: Lineage,
    /// Which of the hub's hellos it was.
    pub said: (Term, u64),
}

impl Session {
    pub fn start(&mut self, now: Millis) {
        self.link = Link::Down { at_ms: now };
    }

    /// The epoch of the session that is up.
    pub fn epoch(&self) -> Option<Epoch> {
        match self.link {
            Link::Up { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// Up and greeted: reports may leave.
    pub fn greeted(&self) -> Option<(Epoch, Nonce)> {
        Some((self.epoch()?, self.greeting?.nonce))
    }

    pub fn wall_at(&self, boot_ms: Millis) -> Option<Millis> {
        self.wall_offset.and_then(|offset| boot_ms.checked_add_signed(offset))
    }
}

impl Core {
    /// Connect when it is time; say who we are until the hub answers.
    pub(crate) fn pursue_session(&mut self, now: Now) {
        match self.session.link {
            Link::Down { at_ms } if at_ms <= now.boot_ms && self.out.writes.boots.is_none() => self.connect(),
            Link::Up { epoch, .. } if self.session.greeting.is_none() => self.pursue_presence(now, epoch),
            _ => {}
        }
    }

    fn connect(&mut self) {
        self.session.count += 1;
        let epoch = Epoch { boots: self.me.boots, session: self.session.count };
        let presence = Presence { epoch, online: true, ..self.me.presence.clone() };
        let will = Presence { online: false, ..presence.clone() };
        let op = Op::Connect { epoch, presence, will };
        let effect = self.out.emit_after(self.session.boots_persist, op, Pending::Connect);
        self.session.link = Link::Connecting { epoch, effect, lost: false };
    }

    fn pursue_presence(&mut self, now: Now, epoch: Epoch) {
        if self.session.presence_at_ms.is_none_or(|at| at > now.boot_ms) {
            return;
        }
        let presence = Presence { epoch, online: true, ..self.me.presence.clone() };
        self.out.emit(Op::Publish(FromAgent::Presence(presence)), Pending::Presence(epoch));
        self.session.presence_tries = self.session.presence_tries.saturating_add(1);
        let (base, max) = (self.config.presence_base_ms, self.config.presence_max_ms);
        let wait = backoff_ms(base, max, self.session.presence_tries, self.me.agent.as_str());
        self.session.presence_at_ms = Some(now.boot_ms + wait);
    }

    pub(crate) fn on_connect_end(&mut self, now: Now, id: EffectId, outcome: Outcome) {
        let Link::Connecting { epoch, effect, lost } = self.session.link else { return };
        if effect != id {
            return;
        }
        let (reason, refused) = match outcome {
            Outcome::Done | Outcome::Started { .. } if !lost => return self.on_connected(now, epoch),
            Outcome::Done | Outcome::Started { .. } => ("the session ended at once".to_string(), false),
            Outcome::Refused(reason) => (reason, true),
            Outcome::Fault(reason) => (reason, false),
            Outcome::Missing => ("no broker".to_string(), false),
            Outcome::Deadline => ("no answer in time".to_string(), false),
        };
        self.back_off(now, &reason, refused);
    }

    fn on_connected(&mut self, now: Now, epoch: Epoch) {
        self.session.link = Link::Up { epoch, since_ms: now.boot_ms };
        self.session.presence_at_ms = Some(now.boot_ms);
        self.session.presence_tries = 0;
        self.reporter.begin_session();
    }

    pub(crate) fn on_disconnected(&mut self, now: Now, gone: Epoch, reason: &str, refused: bool) {
        match &mut self.session.link {
            Link::Up { epoch, since_ms } if *epoch == gone => {
                let stable = now.boot_ms.saturating_sub(*since_ms) >= self.config.session_stable_ms;
                if stable && self.session.greeting.is_some() {
                    self.session.faults = 0;
                    self.session.refusals = 0;
                }
                self.back_off(now, reason, refused);
            }
            Link::Connecting { epoch, lost, .. } if *epoch == gone => *lost = true,
            _ => {}
        }
    }

    fn back_off(&mut self, now: Now, reason: &str, refused: bool) {
        self.leave();
        let (session, config) = (&mut self.session, &self.config);
        session.last_error = Some(contract::limits::clip(reason));
        let count = if refused { &mut session.refusals } else { &mut session.faults };
        *count = count.saturating_add(1);
        let (base, max) = match refused {
            true => (config.refused_base_ms, config.refused_max_ms),
            false => (config.connect_base_ms, config.connect_max_ms),
        };
        let at_ms = now.boot_ms + backoff_ms(base, max, *count, self.me.agent.as_str());
        session.link = Link::Down { at_ms };
    }

    /// The session is over: nothing of it is waited for, everything unacknowledged is sent again.
    fn leave(&mut self) {
        self.session.greeting = None;
        self.session.presence_at_ms = None;
        self.out.forget_session();
        self.reporter.end_session();
        self.spool.end_session();
        self.commands.end_session();
    }

    /// A Disconnect that we asked for has ended, however: the way is free for the next session.
    pub(crate) fn on_closed(&mut self, now: Now, id: EffectId) {
        if self.session.link == (Link::Closing { effect: id }) {
            self.session.link = Link::Down { at_ms: now.boot_ms };
        }
    }

    pub(crate) fn on_hello(&mut self, now: Now, hello: Hello) {
        // Two boards under one id hear each other's.
        if hello.board != self.me.board {
            return;
        }
        if let Some(reason) = self.stale(&hello) {
            return self.note_refused(now, "hello", &reason);
        }
        if self.session.greeting.is_some_and(|greeting| greeting.lineage != hello.lineage) {
            // A hub that lost its store. What the one before it said could come again; not in a new session.
            return self.come_again();
        }
        if let Some(floor) = self.known_above(&hello) {
            return self.jump_above(floor);
        }
        let again = self.session.greeting.is_some_and(|old| old.nonce == hello.nonce);
        self.session.greeting =
            Some(Greeting { nonce: hello.nonce, lineage: hello.lineage, said: (hello.term, hello.said) });
        self.session.presence_at_ms = None;
        self.session.hub = Some((hello.lineage, hello.term));
        self.session.heartbeat_ms = Some(hello.heartbeat_ms.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX));
        self.session.wall_offset = hello.wall_ms.and_then(|wall| wall.checked_signed_diff(now.boot_ms));
        self.session.base_url = Some(hello.artifacts.clone());
        self.spool.acked(hello.acked.event_seq);
        if !again {
            self.artifacts.retry_now(false);
            self.spool.send_again();
        } else {
            self.spool.send_again_if_stale(now.boot_ms);
        }
        self.reporter.on_hello(now.boot_ms, &hello, again);
    }

    /// A broker's memory: said to a session that is over, or said already.
    fn stale(&self, hello: &Hello) -> Option<String> {
        if self.session.epoch() != Some(hello.epoch) {
            return Some(format!("it is for session {}, which is not the present one", hello.epoch));
        }
        let heard = self.session.greeting.filter(|greeting| greeting.lineage == hello.lineage)?;
        let counted = hello.said > 0 && heard.said >= (hello.term, hello.said);
        counted
            .then(|| format!("repeated or older: the hub's hello {} under term {}", hello.said, hello.term))
    }

    fn come_again(&mut self) {
        self.leave();
        self.close();
    }

    fn close(&mut self) {
        let effect = self.out.emit(Op::Disconnect, Pending::Disconnect);
        self.session.link = Link::Closing { effect };
    }

    /// The hub knows more of this agent than this process ever said: a later start, or something of this
    /// one. The counter was lost with the store, or the store is an old copy; whatever we said under these
    /// numbers would pass for old, or for what another process said.
    fn known_above(&self, hello: &Hello) -> Option<u64> {
        let acked = &hello.acked;
        let epoch = self.session.epoch()?;
        let heard = (acked.epoch, acked.observed_seq);
        let ours = acked.epoch.boots == self.me.boots && acked.observed_seq > 0;
        let said_more = acked.epoch > epoch || ours && self.reporter.said().is_none_or(|said| heard > said);
        let told_more = acked.event_seq > self.spool.last_sent();
        let floor = hello.epoch_floor.max(acked.epoch.boots).max(acked.event_seq >> 32).max(self.me.boots);
        let above = hello.epoch_floor > self.me.boots || said_more || told_more;
        (above && floor < BOOTS_MAX).then_some(floor)
    }

    fn jump_above(&mut self, floor: u64) {
        self.me.boots = floor + 1;
        self.me.runs = 0;
        self.session.count = 0;
        self.out.writes.boots = Some(self.me.boots);
        self.leave();
        self.spool.rebase(self.me.boots);
        self.reporter.rebase();
        self.close();
    }

    pub(crate) fn on_announce(&mut self, now: Now, announce: HubAnnounce) {
        if let Some((lineage, term)) = self.session.hub
            && lineage == announce.lineage
            && announce.term < term
        {
            let text = format!("older: it is of term {}; term {term} was seen already", announce.term);
            return self.note_refused(now, "hub", &text);
        }
        if let Some(greeting) = self.session.greeting.filter(|g| g.lineage != announce.lineage) {
            let (theirs, ours) = (announce.lineage, greeting.lineage);
            let text = format!("other lineage: the hub that greeted has {ours}, this one {theirs}");
            return self.note_refused(now, "hub", &text);
        }
        let known = self.session.hub.replace((announce.lineage, announce.term));
        let changed = known.is_some_and(|(_, term)| term != announce.term);
        if !changed || self.session.greeting.is_none() {
            return; // Before the hello there is nothing to report under; it will ask.
        }
        let window = announce.window_ms.clamp(1, WINDOW_MS_MAX);
        let moment = jitter_hash(self.me.agent.as_str(), 0) % window;
        self.reporter.full_at(now.boot_ms + moment);
    }
}
