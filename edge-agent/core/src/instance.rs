//! Where one instance is in its life, and which runs of it there are.
//!
//! ```text
//!             Start            Started              Replace, Stop
//!  (nothing) ──────▶ Starting ─────────▶ Running ────────────────▶ Stopping ◀─┐ Stop failed:
//!                      │   │                │                        │     └──┘ back-off
//!   Fault, Refused,    │   │ Deadline:      │ Exited                 │ Exited, or Stop Done
//!   Missing, Exited    │   └─▶ Stopping     │                        │
//!                      ▼                    ▼                        │
//!                    Ended ◀────────────────┴────────────────────────┘
//!                      │ Remove Done   (failed: back-off)
//!                      ▼
//!                  (nothing)
//! ```
//!
//! While an effect for a run is under way (`busy`) no other is sent for it, so that a Stop never
//! overtakes a Start. A run is forgotten only when its Remove is done, and the next one starts only
//! when nothing of the last is left: never two runs of one instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::run::Assignment;
use contract::status::{Exit, InstanceState};
use contract::time::{Millis, backoff_ms};
use contract::{Digest, RunId};

use crate::api::{DeviceId, EffectId, RestartNote};
use crate::fetch::{Piece, pieces};
use crate::probe::Health;
use crate::reconcile::Bucket;

#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// One, but for what the start-up scan found.
    /// Boxed: a tree's node has room for eleven, and there is one.
    pub runs: BTreeMap<RunId, Box<Run>>,
    pub note: Option<RestartNote>,
    /// What the last look said; a change of it is reported.
    pub bucket: Bucket,
    pub state: InstanceState,
    pub since_ms: Millis,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// None when its spec.json could not be read.
    pub assignment: Option<Arc<Assignment>>,
    pub phase: Phase,
    /// The effect under way for this run.
    pub busy: Option<EffectId>,
    pub pid: Option<u32>,
    pub started_ms: Millis,
    /// Without a break.
    pub ready_since_ms: Option<Millis>,
    /// Ready for as long as its spec asks.
    pub healthy: bool,
    /// It was healthy for long before it was not.
    pub proven: bool,
    /// Of one that has probes.
    pub health: Option<Box<Health>>,
    pub retry: Retry,
    /// By the start-up scan, not started by this process.
    pub found: bool,
    /// What it was started with.
    pub devices: Vec<(String, DeviceId)>,
    /// One of them has gone since, though another may be there under its name.
    pub unplugged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Running,
    Stopping,
    Ended,
}

/// Texts in a status are cut to this: 500 workloads, each with a rejection, an exit and two reasons, must
/// fit one report (500 × (4 × 384 + ~500) B < `MESSAGE_BYTES_MAX`).
pub(crate) const STATUS_TEXT_BYTES_MAX: usize = 384;

/// Cut a text for a status, at a character.
pub(crate) fn brief(text: &str) -> String {
    if text.len() <= STATUS_TEXT_BYTES_MAX {
        return text.to_string();
    }
    let end = text.floor_char_boundary(STATUS_TEXT_BYTES_MAX - '…'.len_utf8());
    format!("{}…", &text[..end])
}

/// The same for what a run left as its last words.
pub(crate) fn brief_exit(exit: Exit) -> Exit {
    match exit {
        Exit::Trap { message } => Exit::Trap { message: brief(&message) },
        Exit::StartFailed { message } => Exit::StartFailed { message: brief(&message) },
        Exit::ProbeFailed { probe, message } => Exit::ProbeFailed { probe, message: brief(&message) },
        Exit::Unknown { evidence } => Exit::Unknown { evidence: brief(&evidence) },
        other => other,
    }
}

/// When something that failed is tried again, and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retry {
    pub attempt: u32,
    pub not_before_ms: Millis,
    pub reason: String,
}

impl Retry {
    pub fn failed(&mut self, now: Millis, base_ms: Millis, max_ms: Millis, id: &str, reason: String) {
        self.attempt = self.attempt.saturating_add(1);
        self.not_before_ms = now + backoff_ms(base_ms, max_ms, self.attempt, id);
        self.reason = reason;
    }
}

impl Instance {
    pub fn new(now: Millis) -> Instance {
        Instance {
            runs: BTreeMap::new(),
            note: None,
            bucket: Bucket::Forget,
            state: InstanceState::Waiting { reason: String::new() },
            since_ms: now,
        }
    }

    /// The run that is what this assignment asks for. Only revision and restarts count: what was
    /// started under an older document and has not changed is left alone (F13).
    pub fn keeper(&self, wanted: &Assignment) -> Option<(RunId, &Run)> {
        let fits = |run: &Run| run.phase == Phase::Running && !run.unplugged && run.fits(wanted);
        self.runs.iter().rev().find(|(_, run)| fits(run)).map(|(id, run)| (*id, &**run))
    }

    /// The newest run that has not ended.
    pub fn live(&self) -> Option<(RunId, &Run)> {
        self.runs.iter().rev().find(|(_, run)| run.phase != Phase::Ended).map(|(id, run)| (*id, &**run))
    }
}

impl Run {
    pub fn starting(assignment: Arc<Assignment>, busy: EffectId, now: Millis) -> Run {
        let health = assignment.run.probes.as_ref().map(|probes| Box::new(Health::new(probes)));
        Run {
            assignment: Some(assignment),
            phase: Phase::Starting,
            busy: Some(busy),
            pid: None,
            started_ms: now,
            ready_since_ms: None,
            healthy: false,
            proven: false,
            health,
            retry: Retry::default(),
            found: false,
            devices: Vec::new(),
            unplugged: false,
        }
    }

    pub fn fits(&self, wanted: &Assignment) -> bool {
        let fits = |a: &Arc<Assignment>| a.revision == wanted.revision && a.restarts >= wanted.restarts;
        self.assignment.as_ref().is_some_and(fits)
    }

    /// What it was started from.
    pub fn pieces(&self) -> Vec<Digest> {
        self.assignment.iter().flat_map(|a| pieces(&a.run)).map(Piece::digest).collect()
    }

    /// When it will have been ready for long enough to count as healthy.
    pub fn healthy_at(&self) -> Option<Millis> {
        let assignment =
            self.assignment.as_ref().filter(|_| self.phase == Phase::Running && !self.healthy)?;
        Some(self.ready_since_ms?.saturating_add(assignment.run.healthy_after_ms))
    }

    /// Its signal and grace; what is unreadable gets the defaults.
    pub fn stop_with(&self) -> (String, Millis) {
        match &self.assignment {
            Some(a) => (a.run.stop_signal.clone(), a.run.stop_grace_ms),
            None => ("TERM".to_string(), 10_000),
        }
    }
}
