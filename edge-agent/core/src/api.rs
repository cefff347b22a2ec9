//! What goes into the agent's core and what comes out: facts in, effects out.
//!
//! The shell performs effects and reports each one's end as exactly one [`Event::Finished`].
//! `Persist` effects run in order, one at a time. An effect with `after: Some(k)` starts only when
//! Persist `k` is durable; all others start at once. `Publish` effects that may start leave in the
//! order they were given, one after the other. On a store fault nothing marked `after` ever
//! leaves, and the process exits; shims live on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::message::{Command, Desired, DesiredHead, FromAgent, Hello, HubAnnounce, Presence};
use contract::run::{ArtifactRef, Assignment, DataRef, RunProbe};
use contract::spec::RestartPolicy;
use contract::status::{Exit, ProbeKind, Rejected};
use contract::time::Millis;
use contract::{AgentId, Attempt, BoardId, Digest, Epoch, InstanceId, RevisionId, RunId, WorkloadKey};
use serde::{Deserialize, Serialize};

pub type EffectId = u64;

#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub id: EffectId,
    /// The Persist that must be durable first.
    pub after: Option<EffectId>,
    pub op: Op,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// One atomic, durable commit.
    Persist(Vec<Write>),
    /// Open a new session: one CONNECT with this will. `Done` once CONNACK and SUBACKs are in.
    Connect { epoch: Epoch, presence: Presence, will: Presence },
    /// Close the session, if there is one.
    Disconnect,
    /// Send on the present session. `Done` at PUBACK (which says nothing about the hub), `Fault`
    /// when there is no session or its queue is full.
    Publish(FromAgent),
    /// Bring the artefact into the board's store, digest and signature checked. Resumable.
    /// `Refused` when the bytes are not what they should be.
    Fetch { artifact: ArtifactRef, base_url: String },
    /// Bring this content of a Config or Secret into the board's store; a Secret's comes sealed, and stays so.
    FetchData { data: DataRef, base_url: String },
    /// Make directory, cgroup and spec.json, spawn the shim. `Done` when the guest runs.
    /// `Refused` when it can never work as specified (no such host path, say).
    Start { instance: InstanceId, run: RunId, assignment: Box<Assignment> },
    /// Signal, wait out the grace, KILL. `Done` when the run has ended and its exit is recorded;
    /// its `Exited` event comes before.
    Stop { instance: InstanceId, run: RunId, signal: String, grace_ms: Millis },
    /// Clear what an ended run left: processes, mounts, cgroup, directory. Idempotent.
    Remove { instance: InstanceId, run: RunId },
    /// Ask this again and again, beginning after a while, and tell each answer that can still count
    /// ([`Event::Probed`]); none: ask no more. The last one given counts. `Done` at once.
    Probe { instance: InstanceId, run: RunId, which: ProbeKind, asking: Option<Box<Asking>> },
    /// Kept in `/run`: survives the agent, not the board; costs no fsync. The last one given counts.
    NoteRestarts { instance: InstanceId, note: Option<RestartNote> },
    /// An accepted command: the shell sends every reply after `Accepted` (seq from 1).
    Serve(Command),
    /// Delete all cached artefacts and contents but these.
    KeepArtifacts(BTreeSet<Digest>),
    /// Tell which of these device nodes are there, now and whenever it changes ([`Event::Devices`]).
    WatchDevices(BTreeSet<String>),
}

/// A question that is asked every period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    pub probe: RunProbe,
    /// Until it is asked first.
    pub delay_ms: Millis,
}

/// Tells one node from another under the same name: a device that was unplugged and plugged in again.
pub type DeviceId = u64;

/// A durable record. `None` deletes it.
// Few exist at a time, and not for long: a box would only make every reader write more.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Counts starts of the agent.
    Boots(u64),
    /// The one slot: the newest verified document and its signed bytes, verbatim.
    Desired {
        head: DesiredHead,
        signed: Arc<[u8]>,
    },
    Workload {
        key: WorkloadKey,
        record: Option<WorkloadRecord>,
    },
}

/// Which revision of a workload is trusted on this board (DESIGN §4). `good` keeps its whole
/// assignment: the document holds only the newest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WorkloadRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Assignment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<(RevisionId, Attempt)>,
    /// In how many boots of the board the candidate was started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub trials: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejected>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// How often an instance was started lately, and when it may start again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartNote {
    pub revision: RevisionId,
    pub attempt: Attempt,
    /// `Assignment::restarts` it was started under.
    pub generation: u64,
    /// It was started since the board booted: the note is not of a run that the boot found ended.
    #[serde(default)]
    pub started: bool,
    /// Starts after the first, since the revision was assigned: for people.
    pub restarts: u32,
    /// Ends among them that were a probe's doing.
    #[serde(default)]
    pub by_probe: u32,
    /// Ends in a row without a minute of health: the back-off counts these.
    #[serde(default)]
    pub streak: u32,
    /// The newest run whose end is counted in here already; found again, it is not counted twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<RunId>,
    /// Boottime before which it must not start.
    pub not_before_ms: Millis,
    /// Set when it ended for good under its restart policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Exit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// What the probes of the present run have told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<ProbeNote>,
}

/// What an agent that starts again must know of a run's probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeNote {
    pub run: RunId,
    /// Its startup is over.
    pub up: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_since_ms: Option<Millis>,
    /// It is being stopped because this probe failed so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<(ProbeKind, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Always the first: what the shell found on the board.
    Boot(Box<BootFacts>),
    /// The end of an effect.
    Finished { id: EffectId, outcome: Outcome },
    /// A run ended (pidfd, or an exit record found later). At most once a run.
    Exited { instance: InstanceId, run: RunId, exit: Exit },
    /// An answer to a question of [`Op::Probe`]; Err: the failure, in words. Of equal ones in a row only as
    /// many are told as the probe's threshold says: more change nothing. So what goes on being well, or
    /// ill, wakes nobody; and time in which nobody asked (a board that slept) counts for nothing.
    Probed { instance: InstanceId, run: RunId, which: ProbeKind, answer: Result<(), String> },
    /// The session is gone. `refused`: the broker said no (authorisation, say), which backs off longer.
    Disconnected { epoch: Epoch, reason: String, refused: bool },
    /// From the hub, decoded, and verified against the pinned key.
    Hub(HubMessage),
    /// A message that was thrown away, and why: told to the operator.
    Rejected { topic: String, reason: String },
    /// The disk is full: commits are tried again, and what depends on them waits. Told when it begins.
    StoreWaits { reason: String },
    /// All that are watched; none for those that are not there.
    Devices(BTreeMap<String, Option<DeviceId>>),
    /// `next_wake` has come.
    Wake,
}

#[derive(Debug, Clone, PartialEq)]
pub enum HubMessage {
    Announce(HubAnnounce),
    Hello(Hello),
    Desired { document: Box<Desired>, signed: Arc<[u8]> },
    Command(Command),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done,
    /// Start only.
    Started {
        pid: u32,
    },
    /// It can never work like this; trying again is pointless.
    Refused(String),
    /// Start only: the artefact, or a content, is not in the board's store after all. Fetched again; no exit is counted.
    Missing,
    /// It did not work this time.
    Fault(String),
    /// It took longer than the shell allows such an operation.
    Deadline,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BootFacts {
    pub agent: AgentId,
    pub board: BoardId,
    /// What the presence will say, but for epoch and `online`.
    pub presence: Presence,
    /// From the store: how often the agent has started before; 0 on a fresh store.
    pub boots: u64,
    pub store: StoreState,
    /// The verified document, if there is one.
    pub desired: Option<(Box<Desired>, Arc<[u8]>)>,
    pub workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    /// The start-up scan: every run that left anything.
    pub found: Vec<FoundRun>,
    pub restarts: BTreeMap<InstanceId, RestartNote>,
    /// Artefacts and contents already in the board's store, verified.
    pub artifacts: BTreeSet<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreState {
    Fresh,
    Opened,
    /// It could not be opened and lies at `path` now.
    SetAside {
        path: String,
        reason: String,
    },
}

/// One run that the start-up scan found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRun {
    pub instance: InstanceId,
    pub run: RunId,
    /// From spec.json; none when that was never written or cannot be read.
    pub assignment: Option<Assignment>,
    /// What it was started with.
    pub devices: BTreeMap<String, DeviceId>,
    pub state: FoundState,
}

#[derive(Debug, Clone, PartialEq)]
pub enum FoundState {
    /// Its shim lives. `started_ms`: boottime at which the guest began.
    Running { pid: u32, started_ms: Millis },
    /// It ended while nobody looked (or never began).
    Ended(Exit),
}

/// Whether a run that ended so is started again.
pub fn restarts_after(policy: RestartPolicy, exit: &Exit) -> bool {
    match policy {
        RestartPolicy::Always => true,
        // A reboot is not the workload's failure, but its work was cut short.
        RestartPolicy::OnFailure => !exit.is_success(),
        RestartPolicy::Never => false,
    }
}
