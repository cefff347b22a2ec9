//! What should be against what is: every instance falls into exactly one bucket, and the plan says
//! what waits and for what. Pure: it looks at the whole picture each time and is told no changes, so
//! that restart, replay and a lost message all take one path.

use std::collections::BTreeMap;

use contract::run::Assignment;
use contract::time::Millis;
use contract::{RevisionId, RunId, WorkloadKey};

use crate::instance::{Instance, Phase, Run};
use crate::restart;

/// What a look is taken at.
pub struct View<'a> {
    pub workloads: Vec<WorkloadView<'a>>,
    /// A verified document is held. Without one nothing is a stray: what was found runs on.
    pub verified: bool,
    /// How many more runs may begin to start, and how many effects on runs may leave at all.
    pub starts_free: usize,
    pub work_free: usize,
    /// How many more may be stopped because a probe failed.
    pub heals_free: usize,
}

pub struct WorkloadView<'a> {
    pub key: &'a WorkloadKey,
    pub wanted: Option<Wanted<'a>>,
    /// Every wanted slot stands in here, and whatever else there is.
    pub slots: &'a BTreeMap<u32, Box<Instance>>,
}

/// What should run of one workload.
#[derive(Clone)]
pub struct Wanted<'a> {
    pub assignment: &'a Assignment,
    /// The feature this agent lacks.
    pub unsupported: Option<&'a str>,
    pub artifact: Availability,
    /// The good revision, while `assignment` is a candidate that is tried beside it.
    pub trusted: Option<RevisionId>,
    /// What a start waits for besides.
    pub hold: Option<Wait>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    Ready,
    Fetching,
    Waiting { reason: String, until: Option<Millis> },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Bucket {
    /// Runs as it should.
    Running(RunId),
    /// Runs, and will be replaced or judged later: for what it waits.
    Held(RunId, Wait),
    /// An effect is under way; its end decides.
    Busy(RunId),
    /// Nothing is there and nothing stands against a start.
    Start,
    /// Of an older revision or restart number: stopped, and the new one follows.
    Replace(RunId),
    /// As it should be, but a probe says that it is ill: stopped, and started anew.
    Heal(RunId),
    /// Not wanted here.
    Stop(RunId),
    /// Ended: clear what it left.
    Clear(RunId),
    /// Ended for good under its restart policy.
    Finished,
    /// Wanted, and not running: for what it waits.
    Waiting(Wait),
    /// Neither wanted nor there.
    Forget,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    Backoff {
        until: Millis,
    },
    Fetching,
    Artifact {
        reason: String,
        until: Option<Millis>,
    },
    Unsupported {
        feature: String,
    },
    /// A stop or a clean-up that failed is tried again.
    Retry {
        what: &'static str,
        run: RunId,
        reason: String,
        until: Millis,
    },
    /// Too much is under way.
    Turn,
    /// One slot after the other.
    Slot(u32),
    /// No verified document says whether this may be stopped.
    Unverified,
    /// That this boot is one in which the candidate was tried, is not durable yet.
    Trial,
    Device {
        path: String,
    },
}

impl Wait {
    pub fn until(&self) -> Option<Millis> {
        match self {
            Wait::Backoff { until } | Wait::Retry { until, .. } => Some(*until),
            Wait::Artifact { until, .. } => *until,
            _ => None,
        }
    }

    /// For people. It holds no countdown: a text that changed would be reported each time.
    pub fn reason(&self) -> String {
        match self {
            Wait::Backoff { .. } => "backing off after it ended".into(),
            Wait::Fetching => "fetching the artefact".into(),
            Wait::Artifact { reason, .. } => reason.clone(),
            Wait::Unsupported { feature } => format!("this agent lacks the feature '{feature}'"),
            Wait::Retry { what, run, reason, .. } => {
                format!("{what} run {run} failed, tried again: {reason}")
            }
            Wait::Turn => "other instances go first".into(),
            Wait::Slot(slot) => format!("slot {slot} is replaced first"),
            Wait::Trial => "its trial is written down first".into(),
            Wait::Device { path } => format!("waiting for device {path}"),
            Wait::Unverified => "no verified document is here yet".into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan<'a> {
    pub entries: Vec<Entry<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    pub workload: &'a WorkloadKey,
    pub slot: u32,
    /// What it looked at.
    pub instance: &'a Instance,
    pub bucket: Bucket,
}

impl Bucket {
    /// Something is to be done.
    pub fn is_action(&self) -> bool {
        use Bucket::*;
        matches!(self, Start | Replace(_) | Heal(_) | Stop(_) | Clear(_) | Forget)
    }

    pub fn wait(&self) -> Option<&Wait> {
        match self {
            Bucket::Held(_, wait) | Bucket::Waiting(wait) => Some(wait),
            _ => None,
        }
    }
}

pub fn reconcile<'a>(view: &View<'a>, now: Millis) -> Plan<'a> {
    let mut budget = Budget { starts: view.starts_free, work: view.work_free, heals: view.heals_free };
    let mut plan = Plan { entries: Vec::with_capacity(view.workloads.len()) };
    for workload in &view.workloads {
        let mut turns = Turns::of(workload, now);
        for (slot, instance) in workload.slots {
            let wanted = workload.wanted.as_ref().filter(|w| w.assignment.slots.contains(slot));
            let bucket = bucket(wanted, instance, view.verified, &mut turns, *slot, now);
            let bucket = budget.spend(bucket);
            plan.entries.push(Entry { workload: workload.key, slot: *slot, instance, bucket });
        }
    }
    plan
}

/// A document may hold far more instances than a board can start or stop at one time.
struct Budget {
    starts: usize,
    work: usize,
    heals: usize,
}

impl Budget {
    fn spend(&mut self, bucket: Bucket) -> Bucket {
        let free = match bucket {
            Bucket::Start => self.starts.min(self.work),
            Bucket::Heal(_) => self.heals.min(self.work),
            Bucket::Replace(_) | Bucket::Stop(_) | Bucket::Clear(_) => self.work,
            other => return other,
        };
        if free == 0 {
            return match bucket {
                Bucket::Replace(run) | Bucket::Heal(run) | Bucket::Stop(run) => Bucket::Held(run, Wait::Turn),
                _ => Bucket::Waiting(Wait::Turn),
            };
        }
        self.work -= 1;
        self.starts -= usize::from(bucket == Bucket::Start);
        self.heals -= usize::from(matches!(bucket, Bucket::Heal(_)));
        bucket
    }
}

fn bucket(
    wanted: Option<&Wanted<'_>>,
    instance: &Instance,
    verified: bool,
    turns: &mut Turns,
    slot: u32,
    now: Millis,
) -> Bucket {
    let keeper = wanted.and_then(|w| instance.keeper(w.assignment)).map(|(id, _)| id);
    let others = instance.runs.iter().filter(|(id, _)| Some(**id) != keeper);
    // The first that something can be done about, else the first that waits.
    let mut waits = None;
    for (id, run) in others {
        let bucket = other_run(wanted, keeper, *id, run, verified, turns, slot, now);
        if bucket.is_action() || matches!(bucket, Bucket::Busy(_)) {
            return bucket;
        }
        waits = waits.or(Some(bucket));
    }
    match (wanted, keeper, waits) {
        (_, Some(run), _) if instance.runs[&run].is_ill() => Bucket::Heal(run),
        (_, Some(run), _) => Bucket::Running(run),
        (_, None, Some(waits)) => waits,
        (Some(wanted), None, None) => absent(wanted, instance, now),
        (None, None, None) => Bucket::Forget,
    }
}

/// A run that is not the one that should be.
#[allow(clippy::too_many_arguments)]
fn other_run(
    wanted: Option<&Wanted<'_>>,
    keeper: Option<RunId>,
    id: RunId,
    run: &Run,
    verified: bool,
    turns: &mut Turns,
    slot: u32,
    now: Millis,
) -> Bucket {
    if run.busy.is_some() {
        return Bucket::Busy(id);
    }
    let retry = |what| Wait::Retry {
        what,
        run: id,
        reason: run.retry.reason.clone(),
        until: run.retry.not_before_ms,
    };
    let due = run.retry.not_before_ms <= now;
    match run.phase {
        Phase::Ended if due => Bucket::Clear(id),
        Phase::Ended => Bucket::Waiting(retry("clearing")),
        // A Start is always busy; were it not, nobody knew whether it runs.
        Phase::Starting | Phase::Stopping if due => Bucket::Stop(id),
        Phase::Starting | Phase::Stopping => Bucket::Held(id, retry("stopping")),
        Phase::Running if keeper.is_some() || run.unplugged => Bucket::Stop(id),
        Phase::Running => outdated(wanted, id, run, verified, turns, slot, now),
    }
}

/// Live, but not (or no longer) what is wanted.
fn outdated(
    wanted: Option<&Wanted<'_>>,
    id: RunId,
    run: &Run,
    verified: bool,
    turns: &mut Turns,
    slot: u32,
    now: Millis,
) -> Bucket {
    if !verified {
        return Bucket::Held(id, Wait::Unverified);
    }
    let Some(wanted) = wanted else { return Bucket::Stop(id) };
    // What runs is stopped only once what replaces it is on the board.
    if let Some(wait) = hindrance(wanted, now) {
        return Bucket::Held(id, wait);
    }
    // What is ill serves nobody: there is nothing to be careful with.
    if run.is_ill() {
        return Bucket::Replace(id);
    }
    match turns.take(wanted, run, slot) {
        Ok(()) => Bucket::Replace(id),
        Err(first) => Bucket::Held(id, Wait::Slot(first)),
    }
}

fn hindrance(wanted: &Wanted<'_>, now: Millis) -> Option<Wait> {
    if let Some(feature) = wanted.unsupported {
        return Some(Wait::Unsupported { feature: feature.to_string() });
    }
    match &wanted.artifact {
        Availability::Ready => {
            wanted.hold.clone().filter(|wait| wait.until().is_none_or(|until| until > now))
        }
        Availability::Fetching => Some(Wait::Fetching),
        Availability::Waiting { reason, until } => {
            Some(Wait::Artifact { reason: reason.clone(), until: *until })
        }
    }
}

/// Wanted, and nothing of it is there.
fn absent(wanted: &Wanted<'_>, instance: &Instance, now: Millis) -> Bucket {
    let note = restart::binding(instance.note.as_ref(), wanted.assignment);
    if note.is_some_and(|note| note.finished.is_some()) {
        return Bucket::Finished;
    }
    if let Some(wait) = hindrance(wanted, now) {
        return Bucket::Waiting(wait);
    }
    match note.map(|note| note.not_before_ms).filter(|until| *until > now) {
        Some(until) => Bucket::Waiting(Wait::Backoff { until }),
        None => Bucket::Start,
    }
}

/// One slot after the other: a second is replaced only when the first runs again, and is ready. So a bad candidate
/// takes one instance down and not all. What runs an untrusted revision is not worth the care.
struct Turns {
    /// A slot that has no running instance at the moment.
    down: Option<u32>,
    /// The same, but one that backs off, or is not ready in time, counts as through: an operator's restart
    /// must not stall on it.
    down_not_tried: Option<u32>,
}

impl Turns {
    fn of(workload: &WorkloadView<'_>, now: Millis) -> Turns {
        let mut turns = Turns { down: None, down_not_tried: None };
        let Some(wanted) = &workload.wanted else { return turns };
        for slot in &wanted.assignment.slots {
            let Some(instance) = workload.slots.get(slot) else { continue };
            // One of what was before is up however it is: it is to be replaced, and waits for itself not.
            let up =
                |run: &Run| run.phase == Phase::Running && (run.is_ready() || !run.fits(wanted.assignment));
            if instance.runs.values().any(|run| up(run)) {
                continue;
            }
            let note = restart::binding(instance.note.as_ref(), wanted.assignment);
            if note.is_some_and(|note| note.finished.as_ref().is_some_and(|exit| exit.is_success())) {
                continue;
            }
            turns.down = turns.down.or(Some(*slot));
            let tried = |note: &crate::api::RestartNote| note.finished.is_some() || note.not_before_ms > now;
            if instance.runs.is_empty() && note.is_some_and(tried) {
                continue;
            }
            if instance.runs.values().any(|run| run.patience_ends().is_some_and(|at| at <= now)) {
                continue;
            }
            turns.down_not_tried = turns.down_not_tried.or(Some(*slot));
        }
        turns
    }

    fn take(&mut self, wanted: &Wanted<'_>, run: &Run, slot: u32) -> Result<(), u32> {
        let revision = run.assignment.as_ref().map(|a| a.revision);
        let first = if revision == Some(wanted.assignment.revision) {
            self.down_not_tried
        } else if revision.is_some() && revision == wanted.trusted {
            self.down
        } else {
            return Ok(());
        };
        match first {
            Some(first) => Err(first),
            None => {
                self.down = Some(slot);
                self.down_not_tried = Some(slot);
                Ok(())
            }
        }
    }
}
