//! What is told about the work, and when: in full when the hub asks, then only what changed, and a
//! heartbeat when nothing did.
//!
//! Only *which* workloads changed is remembered; their present state is sent (latest wins, F10), in one
//! message a step, with few messages under way. So nothing piles up behind a slow link.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::{DesiredHead, FromAgent, Hello, Observed, ObservedBody, Want};
use contract::status::Workloads;
use contract::time::{Millis, backoff_ms};
use contract::{Epoch, Nonce, Now, WorkloadKey};

use crate::api::{Op, Outcome};
use crate::core::Core;
use crate::outbox::Pending;

const REPORTS_IN_FLIGHT_MAX: usize = 4;
/// Workloads that came, changed and went while nothing could be said: twice what a board may hold.
const CHANGED_MAX: usize = 2 * contract::limits::ASSIGNMENTS_MAX;

#[derive(Debug, Default)]
pub(crate) struct Reporter {
    /// Of the last report in this session.
    seq: u64,
    /// The last report of all: what an acknowledgement is compared with.
    last: Option<(Epoch, u64)>,
    said: Option<(Epoch, u64)>,
    changed: BTreeSet<WorkloadKey>,
    /// When a full report is due.
    full_at_ms: Option<Millis>,
    /// A heartbeat is due now: the hello's nonce is to be echoed.
    echo: bool,
    sent_ms: Millis,
    sent_applied: Option<DesiredHead>,
    sent_refused: Option<String>,
    /// Reports that could not be sent, in a row.
    failures: u32,
}

enum Due {
    Full,
    Changes,
    Heartbeat,
}

impl Reporter {
    /// The last report of all under the present counter of starts.
    pub fn said(&self) -> Option<(Epoch, u64)> {
        self.said
    }

    /// A new counter of starts: nothing under it was ever said.
    pub fn rebase(&mut self) {
        self.said = None;
    }

    /// The status of this workload is another than before.
    pub fn mark(&mut self, key: &WorkloadKey) {
        if self.changed.contains(key) {
            return;
        }
        if self.changed.len() >= CHANGED_MAX {
            // A full report says it all, now or after the next hello.
            self.changed.clear();
            self.last = None;
            self.full_at_ms = Some(0);
        }
        self.changed.insert(key.clone());
    }

    pub fn begin_session(&mut self) {
        self.seq = 0;
        self.failures = 0;
        self.full_at_ms = None;
    }

    pub fn end_session(&mut self) {
        self.echo = false;
        self.full_at_ms = None;
    }

    pub fn full_at(&mut self, at: Millis) {
        self.full_at_ms = Some(self.full_at_ms.map_or(at, |old| old.min(at)));
    }

    /// `again`: the same nonce as before. It acknowledges events, or repeats its question because the
    /// answer was lost; then what it acknowledges is not the last report, and a heartbeat tells whether
    /// anything is missing.
    pub fn on_hello(&mut self, now: Millis, hello: &Hello, again: bool) {
        let known = self.last.is_some_and(|last| last == (hello.acked.epoch, hello.acked.observed_seq));
        if hello.want == Want::Full || !again && !known {
            self.full_at(now);
        } else if !again || !known {
            self.echo = true;
        }
    }

    pub fn wake(&self, heartbeat_ms: Millis) -> Millis {
        let beat = self.sent_ms.saturating_add(heartbeat_ms);
        self.full_at_ms.map_or(beat, |full| full.min(beat))
    }
}

impl Core {
    pub(crate) fn send_report(&mut self, now: Now) {
        let Some((epoch, nonce)) = self.session.greeted() else { return };
        // What is told may rest on what is not written yet; then it leaves after that, or later.
        if !self.out.writes.is_empty() || self.reports_in_flight() >= REPORTS_IN_FLIGHT_MAX {
            return;
        }
        let Some(due) = self.report_due(now.boot_ms) else { return };
        let body = self.report_body(due);
        self.publish_report(now, epoch, nonce, body);
    }

    pub(crate) fn reports_in_flight(&self) -> usize {
        self.out.count(|pending| matches!(pending, Pending::Observed(_)))
    }

    fn report_due(&self, now: Millis) -> Option<Due> {
        let reporter = &self.reporter;
        if reporter.full_at_ms.is_some_and(|at| at <= now) {
            return Some(Due::Full);
        }
        if reporter.failures > 0 {
            return None; // A full one is on its way; nothing overtakes it.
        }
        let documents = reporter.sent_applied != self.documents.applied
            || reporter.sent_refused != self.documents.refused;
        if documents || !reporter.changed.is_empty() {
            // The first of a session stands on nothing that was said in another.
            return Some(if reporter.seq == 0 { Due::Full } else { Due::Changes });
        }
        let beat = reporter.echo || now >= reporter.sent_ms.saturating_add(self.heartbeat_ms());
        beat.then_some(Due::Heartbeat)
    }

    pub(crate) fn heartbeat_ms(&self) -> Millis {
        self.session.heartbeat_ms.unwrap_or(self.config.heartbeat_ms)
    }

    fn report_body(&mut self, due: Due) -> ObservedBody {
        match due {
            Due::Full => {
                self.reporter.full_at_ms = None;
                self.reporter.changed.clear();
                ObservedBody::Full { workloads: self.statuses() }
            }
            Due::Changes => {
                let changed = std::mem::take(&mut self.reporter.changed);
                let status = |key: WorkloadKey| {
                    let status = self.workload_status(&key);
                    (key, status)
                };
                ObservedBody::Changes {
                    workloads: changed.into_iter().map(status).collect::<BTreeMap<_, _>>(),
                }
            }
            Due::Heartbeat => {
                let state = Observed::state_digest(&self.statuses());
                ObservedBody::Heartbeat { state, spooled: self.spool.len() as u32 }
            }
        }
    }

    fn publish_report(&mut self, now: Now, epoch: Epoch, nonce: Nonce, body: ObservedBody) {
        let reporter = &mut self.reporter;
        reporter.seq += 1;
        reporter.last = Some((epoch, reporter.seq));
        reporter.said = reporter.last;
        reporter.echo = false;
        reporter.sent_ms = now.boot_ms;
        reporter.sent_applied = self.documents.applied;
        reporter.sent_refused.clone_from(&self.documents.refused);
        let observed = Observed {
            board: self.me.board,
            epoch,
            seq: reporter.seq,
            nonce: Some(nonce),
            now_ms: now.boot_ms,
            applied: self.documents.reported(),
            refused: self.documents.refused.clone(),
            body,
        };
        let after = self.out.last_persist();
        self.out.emit_after(after, Op::Publish(FromAgent::Observed(observed)), Pending::Observed(epoch));
    }

    /// Did not leave: whatever was in it, the next one tells everything.
    pub(crate) fn on_report_end(&mut self, now: Now, epoch: Epoch, outcome: &Outcome) {
        if self.session.epoch() != Some(epoch) {
            return;
        }
        if matches!(outcome, Outcome::Done | Outcome::Started { .. }) {
            self.reporter.failures = 0;
            return;
        }
        self.reporter.failures = self.reporter.failures.saturating_add(1);
        let (base, max) = (self.config.report_base_ms, self.config.report_max_ms);
        let wait = backoff_ms(base, max, self.reporter.failures, self.me.agent.as_str());
        self.reporter.full_at_ms = Some(now.boot_ms + wait);
    }

    pub(crate) fn statuses(&self) -> Workloads {
        let keys = self.workloads.keys();
        keys.filter_map(|key| Some((key.clone(), self.workload_status(key)?))).collect()
    }
}
