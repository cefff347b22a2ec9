//! Is what the hub shows still true? Reports are taken in order; a hole, another state digest, an
//! unknown nonce or silence makes the hub ask for everything again.

use contract::message::{AgentEvent, EventKind, Events, Observed, ObservedBody, Want};
use contract::time::{Millis, Now};
use contract::{AgentId, BoardId, Epoch, InstanceId, WorkloadKey};

use crate::core::Core;
use crate::event_log::{EventLog, Intake, intake};
use crate::observed;
use crate::refused::Why;
use crate::restore;
use crate::sanitize;
use crate::session::{Retry, Session};

/// A heartbeat that says "events wait" is answered at once only if there is something new to
/// acknowledge, and else no more often than this: each answer makes the agent send them again.
const ACK_AGAIN_MS: Millis = 30_000;
/// Events taken in before they are acknowledged without being asked.
const ACK_EVERY: u32 = 32;
/// A hole in the events is asked for so often, at most a minute apart; then, after some eight minutes, it
/// is told and passed over: a hub restored from an old copy asks for what no agent has any more. An
/// agent sends again only what it sent more than 10 s ago. (Five times were too few for a broker that
/// loses one message of twenty each way: one hole of some ten thousand was given up.)
const EVENT_GAP_ASKS: u32 = 10;
const EVENT_GAP_BASE_MS: Millis = 15_000;
const EVENT_GAP_MAX_MS: Millis = 60_000;

/// What taking a report in came to.
enum Taken {
    /// In order: these workloads look different now.
    InOrder(Vec<WorkloadKey>),
    /// Seen before, or older than what is known.
    Old,
    /// Something before it was lost.
    Hole,
}

impl Core {
    pub(crate) fn on_observed(&mut self, now: Now, id: &AgentId, report: Observed) {
        if let Some(reason) = observed::refusal(&report.body) {
            return self.note_rejected(now, Some(id), Why::Impossible, reason);
        }
        if self.begins_unseen_session(id, &report) {
            self.assume_session(now, id, &report);
        }
        let of_session = |s: &&mut Session| s.board == report.board && s.epoch == report.epoch;
        let Some(session) = self.session_mut(id).filter(of_session) else {
            self.note_other_session(now, id, "a report", report.epoch, report.board);
            return self.ask_who_it_is(now, id, report.board, report.epoch);
        };
        let was_fresh = session.is_fresh();
        if !session.online {
            let answers = session.probe_at.is_some() && report.nonce == Some(session.nonce);
            if answers { self.revive(now, id) } else { self.probe(now, id) }
        }
        let Some(session) = self.session_mut(id) else { return };
        let spooled = match report.body {
            ObservedBody::Heartbeat { spooled, .. } => spooled,
            _ => 0,
        };
        let is_full = matches!(report.body, ObservedBody::Full { .. });
        let head = (report.nonce, report.applied, report.refused.clone());
        let seq = report.seq;
        match session.take(now, report) {
            Taken::Old => {
                let reason = format!("report {seq} of session {}, which was heard", self.epoch_of(id));
                self.note_refused(now, Some(id), Why::Repeated, &reason);
            }
            Taken::Hole => self.on_hole(now, id),
            Taken::InOrder(keys) => {
                let (nonce, applied, refused) = head;
                self.note_heard(now, id, nonce == self.session(id).map(|s| s.nonce), is_full);
                let before = self.session(id).and_then(|s| s.applied);
                self.note_applied(now, id, applied, refused);
                if before != applied {
                    self.note_all_ended(id);
                }
                keys.iter().for_each(|key| {
                    self.changes.workload(key);
                    self.note_ended(id, key);
                });
                if !keys.is_empty() {
                    self.changes.agent(id);
                }
                if spooled > 0 {
                    self.ack_spooled(now, id);
                }
            }
        }
        if was_fresh != self.session(id).is_some_and(Session::is_fresh) {
            self.changed_agent(id);
        }
    }

    /// A report of the known board from an epoch that no presence announced: the presence was lost.
    fn begins_unseen_session(&self, id: &AgentId, report: &Observed) -> bool {
        let Some(agent) = self.world.agents.get(id) else { return false };
        let known = agent.session.as_ref().map(|s| (s.board, s.epoch));
        let (board, epoch) = known.unwrap_or((agent.record.board, Epoch::default()));
        board == report.board
            && report.epoch > epoch
            && report.epoch.boots >= agent.record.boots
            && report.epoch.boots < u64::from(u32::MAX)
    }

    /// Take the session for granted with what is known of the board.
    fn assume_session(&mut self, now: Now, id: &AgentId, report: &Observed) {
        let Some(agent) = self.world.agents.get(id) else { return };
        let record = &agent.record;
        let presence = contract::message::Presence {
            board: report.board,
            epoch: report.epoch,
            online: true,
            contract_version: contract::message::CONTRACT_VERSION,
            agent_version: record.agent_version.clone(),
            features: record.features.clone(),
            engines: record.engines.clone(),
            arch: record.arch.clone(),
            labels: record.own_labels(),
            capacity: record.capacity,
        };
        self.on_presence(now, id, presence);
    }

    /// A report came in order.
    fn note_heard(&mut self, now: Now, id: &AgentId, current_nonce: bool, is_full: bool) {
        let beat_ms = self.world.settings.heartbeat_ms;
        let Some(session) = self.session_mut(id) else { return };
        if !session.online {
            return;
        }
        session.confirmed = current_nonce;
        if !current_nonce {
            // In order, but said before this nonce was heard: the agent need only say it again.
            return self.ask(now, id, Want::Nothing);
        }
        session.overdue = false;
        session.beat_at = Some(now.boot_ms + beat_ms + beat_ms + beat_ms / 2);
        if session.complete && session.ask.is_some_and(|ask| ask.want == Want::Nothing || is_full) {
            session.ask = None;
        }
        let challenged = session.challenge.is_some();
        self.retime(id);
        if challenged {
            self.found_duplicate(now, id);
        }
    }

    /// What the agent holds durably: the proof that a document arrived, or that the hub is behind.
    fn note_applied(
        &mut self,
        now: Now,
        id: &AgentId,
        applied: Option<contract::message::DesiredHead>,
        refused: Option<String>,
    ) {
        let meta = self.world.meta;
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let first = !std::mem::replace(&mut agent.heard, true);
        let record = &agent.record;
        let Some(session) = agent.session.as_deref_mut() else { return };
        let refused = refused.map(|text| sanitize::text(&text).into_boxed_str());
        let hold = applied.and_then(|head| restore::judge(&meta, record, &head));
        let is_current = applied
            .is_some_and(|head| head.generation == record.generation && Some(head.digest) == record.digest);
        let was = (session.applied, session.hold, session.refused.clone());
        (session.applied, session.hold, session.refused) = (applied, hold, refused);
        // One that it refused while it holds the right one was told by the broker, perhaps from its memory:
        // ours once more takes that place, and the agent's word of it back.
        let settled = is_current && session.refused.is_none();
        if settled || hold.is_some() {
            session.resend = None;
        }
        let is = (session.applied, session.hold, session.refused.clone());
        let released = was.1.is_some() && hold.is_none();
        if was != is {
            self.changed_agent(id);
        }
        if hold.is_none() && (first || released) {
            self.queues.publish(id, !settled);
        } else if hold.is_none() && !settled {
            self.expect_applied(now, id);
        }
        self.retime(id);
    }

    fn on_hole(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        session.complete = false;
        self.ask(now, id, Want::Full);
    }

    /// Silence for two and a half heartbeats while the broker says that it is online.
    pub(crate) fn on_overdue(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        session.overdue = true;
        session.beat_at = None;
        self.ask(now, id, Want::Full);
        self.changed_agent(id);
    }

    /// Messages of this agent were dropped at the hub's own door.
    pub(crate) fn on_overflow(&mut self, now: Now, id: &AgentId) {
        self.on_hole(now, id);
        self.changed_agent(id);
    }

    fn ack_spooled(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        let lately = session.hello_at.is_some_and(|at| now.boot_ms < at + ACK_AGAIN_MS);
        if session.unacked > 0 || !lately {
            self.queues.hello(id);
        }
    }

    pub(crate) fn on_events(&mut self, now: Now, id: &AgentId, batch: Events) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let have = agent.record.event_seq;
        let session = agent.session.as_deref_mut();
        let of_session = |s: &&mut Session| s.board == batch.board && s.epoch == batch.epoch;
        let Some(session) = session.filter(of_session) else {
            return self.note_other_session(now, id, "events", batch.epoch, batch.board);
        };
        let skip = match intake(have, &batch, batch.epoch) {
            Intake::Known => {
                let reason = format!("events from {}, which are kept", batch.first_seq);
                return self.note_refused(now, Some(id), Why::Repeated, &reason);
            }
            Intake::Nonsense => {
                let text = format!("events numbered from {} are not possible", batch.first_seq);
                return self.note_rejected(now, Some(id), Why::Impossible, text);
            }
            // The agent had to drop some, and says so itself.
            Intake::Gap(_) if batch.events[0].kind == EventKind::Lost => 0,
            Intake::Gap(_) if session.gap.is_none_or(|retry| retry.attempt <= EVENT_GAP_ASKS) => {
                if session.gap.is_none() {
                    session.gap = Some(Retry::within(EVENT_GAP_BASE_MS, EVENT_GAP_MAX_MS, 1, now, id));
                    self.retime(id);
                }
                return;
            }
            Intake::Gap(missing) => {
                let text = format!("{missing} events of the agent never arrived");
                self.hub_event(now, id, EventKind::Lost, text);
                0
            }
            Intake::Take { skip } => skip,
        };
        self.take_events(now, id, batch, skip);
    }

    fn take_events(&mut self, now: Now, id: &AgentId, batch: Events, skip: usize) {
        let first_seq = batch.first_seq;
        let last = first_seq + batch.events.len() as u64 - 1;
        let mut taken = 0;
        for mut event in batch.events.into_iter().skip(skip) {
            event.text = sanitize::text(&event.text);
            self.keep_event(EventLog::record(now.wall_ms, Some(id), event));
            taken += 1;
        }
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        agent.record.event_seq = last;
        self.out.agent(id);
        let Some(session) = agent.session.as_deref_mut() else { return };
        session.gap = None;
        session.unacked += taken;
        if session.unacked >= ACK_EVERY {
            self.queues.hello(id);
        }
        self.retime(id);
    }

    /// The events that came before have not come: a hello makes the agent send from there.
    pub(crate) fn on_gap_again(&mut self, now: Now, id: &AgentId) {
        let Some(session) = self.session_mut(id) else { return };
        session.gap = session.gap.map(|retry| {
            Retry::within(EVENT_GAP_BASE_MS, EVENT_GAP_MAX_MS, retry.attempt.saturating_add(1), now, id)
        });
        self.queues.hello(id);
    }

    pub(crate) fn keep_event(&mut self, record: crate::record::EventRecord) {
        let record = self.log.push(record);
        self.changes.event(record.seq);
        self.out.event(record);
        if let Some(below) = self.log.trim() {
            self.out.events_below(below);
        }
    }

    /// Something about an agent that the hub itself found out.
    pub(crate) fn hub_event(&mut self, now: Now, id: &AgentId, kind: EventKind, text: String) {
        let event =
            AgentEvent { at_ms: now.boot_ms, boots: 0, wall_ms: now.wall_ms, instance: None, kind, text };
        self.keep_event(EventLog::record(now.wall_ms, Some(id), event));
    }

    /// Something about one instance that the hub itself did.
    pub(crate) fn instance_event(
        &mut self,
        id: &AgentId,
        instance: InstanceId,
        kind: EventKind,
        text: String,
    ) {
        let (at_ms, wall_ms) = (self.now.boot_ms, self.now.wall_ms);
        let event = AgentEvent { at_ms, boots: 0, wall_ms, instance: Some(instance), kind, text };
        self.keep_event(EventLog::record(wall_ms, Some(id), event));
    }

    /// A message that was not taken: counted, shown beside the agent, and told as `refused` decides.
    pub(crate) fn note_rejected(&mut self, now: Now, id: Option<&AgentId>, why: Why, reason: String) {
        let reason = sanitize::text(&reason);
        self.note_refused(now, id, why, &reason);
        self.last_rejected = Some((id.cloned(), reason.clone()));
        if let Some(id) = id
            && let Some(session) = self.session_mut(id)
            && session.problem.as_deref() != Some(&*reason)
        {
            session.problem = Some(reason.into_boxed_str());
            self.changes.agent(id);
        }
    }

    /// The same for what an honest link may bring: it is no problem of the agent's.
    pub(crate) fn note_refused(&mut self, now: Now, id: Option<&AgentId>, why: Why, reason: &str) {
        let Some(id) = id else { return self.refusals.note_nobodys(why) };
        let known = self.world.agents.contains_key(id) || self.world.trust.identities.contains_key(id);
        if let Some(text) = self.refusals.note(now.boot_ms, id, known, why, reason) {
            self.hub_event(now, id, EventKind::Refused, text);
        }
    }

    fn note_other_session(&mut self, now: Now, id: &AgentId, what: &str, epoch: Epoch, board: BoardId) {
        let reason = format!("{what} of session {epoch} of board {board}, which is not the present one");
        self.note_refused(now, Some(id), Why::OtherSession, &reason);
    }

    /// Nothing that happened meanwhile is known: every session is asked, under a new nonce, whether
    /// it is still as it was. Those that ended are told by their retained wills.
    pub(crate) fn on_bus_up(&mut self, now: Now) {
        self.world.bus_up = true;
        self.announce();
        self.dirty_all_starving();
        let online = self.world.agents.iter().filter(|(_, agent)| agent.is_online());
        let online: Vec<AgentId> = online.map(|(id, _)| id.clone()).collect();
        for id in online {
            let Some(epoch) = self.session(&id).map(|s| s.epoch) else { continue };
            let nonce = self.nonce(&id, epoch);
            let Some(session) = self.session_mut(&id) else { continue };
            session.nonce = nonce;
            session.confirmed = false;
            session.ask = None;
            let want = if session.complete { Want::Nothing } else { Want::Full };
            self.ask(now, &id, want);
            self.changed_agent(&id);
        }
    }

    pub(crate) fn on_bus_down(&mut self, reason: String) {
        self.world.bus_up = false;
        self.bus_reason = Some(sanitize::text(&reason));
        self.publishing.clear();
        let online = self.world.agents.iter().filter(|(_, agent)| agent.is_online());
        let online: Vec<AgentId> = online.map(|(id, _)| id.clone()).collect();
        for id in online {
            self.changed_agent(&id);
            let Some(session) = self.session_mut(&id) else { continue };
            session.confirmed = false;
            session.challenge = None;
            session.stop_waiting();
            self.retime(&id);
        }
        self.end_all_commands(&format!("the hub lost its broker: {reason}"));
    }
}

impl Session {
    fn take(&mut self, now: Now, report: Observed) -> Taken {
        let seq = self.seq();
        if report.seq <= seq {
            return Taken::Old;
        }
        let next = report.seq == seq + 1;
        let (at, epoch) = (report.seq, report.epoch);
        let keys = match report.body {
            ObservedBody::Full { workloads } => {
                self.complete = true;
                self.seen.replace(workloads)
            }
            _ if !next || !self.complete => return Taken::Hole,
            ObservedBody::Changes { workloads } => {
                let keys = workloads.keys().cloned().collect();
                workloads.into_iter().for_each(|(key, status)| self.seen.set(key, status));
                keys
            }
            ObservedBody::Heartbeat { state, .. } if self.seen.digest() != state => return Taken::Hole,
            ObservedBody::Heartbeat { .. } => Vec::new(),
        };
        (self.seen_epoch, self.seen_seq) = (epoch, at);
        self.clock = Some((report.now_ms, now.boot_ms));
        Taken::InOrder(keys)
    }
}
