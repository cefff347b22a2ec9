//! What goes into the hub's core and what comes out. The rules for effects are the agent's
//! (`agent_core::api`): ordered Persists, `after`, exactly one `Finished` each.

use std::collections::BTreeMap;

use contract::identity::Standing;
use contract::message::{Command, CommandOp, FromAgent, Hello, HubAnnounce};
use contract::platform::Platform;
use contract::run::Assignment;
use contract::spec::Workload;
use contract::time::Millis;
use contract::{AgentId, DataId, DataKind, Digest, Lineage, Name, Nonce, Term, Version, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::access::rights::Many;
use crate::access::{AccessFacts, AccessKey, AccessRecord, AccessRequest};
use crate::data::NewData;
use crate::fleet::AgentChange;
use crate::image::ImageRecord;
use crate::record::{
    AgentRecord, ArtifactKind, ArtifactRecord, DataRecord, EventRecord, Meta, PlacementRecord, WorkloadRecord,
};
use crate::refused::Why;
use crate::resolve::Found;
use crate::trust::{TrustFacts, TrustKey, TrustRecord, TrustRequest};

pub type EffectId = u64;
/// The shell's number for somebody who waits for an answer.
pub type RequestId = u64;

#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub id: EffectId,
    /// The Persist that must be durable first.
    pub after: Option<EffectId>,
    pub op: Op,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// One atomic, durable commit. Every Persist that changes desired state writes `Meta` with the
    /// new version.
    Persist(Vec<Write>),
    /// The answer to a request.
    Answer {
        request: RequestId,
        answer: Answer,
    },
    /// Compose, sign and publish (retained) the document. The core gives the content; `Done` at PUBACK.
    PublishDesired {
        agent: AgentId,
        document: Box<contract::message::Desired>,
    },
    PublishHello {
        agent: AgentId,
        hello: Box<Hello>,
    },
    PublishAnnounce(HubAnnounce),
    /// Clear the retained messages of an agent that was removed.
    ClearAgent {
        agent: AgentId,
    },
    /// Send a command; replies come back as `Event::Agent`.
    PublishCommand {
        agent: AgentId,
        command: Box<Command>,
    },
    /// A reply of an agent, for the request that asked.
    Relay {
        request: RequestId,
        reply: contract::message::ReplyBody,
    },
    /// Compile an artefact for an engine, in a worker with limits, and sign the result.
    /// Ends in `Outcome::Compiled`, `Refused` (bad module, no worker for the engine) or `Fault`.
    Compile {
        source: Digest,
        engine: String,
    },
    /// Bring one platform of an image that one of these registries had: its documents and layers.
    /// Ends in `Outcome::Fetched`, `Refused` (the registry says no) or `Fault`.
    Fetch {
        image: Digest,
        sources: Vec<String>,
        platform: Platform,
    },
    /// Something that watchers see has changed.
    Changed(Vec<Change>),
}

/// A durable record. `None` deletes.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Meta(Meta),
    Workload {
        key: WorkloadKey,
        record: Option<Box<WorkloadRecord>>,
    },
    Placement {
        key: WorkloadKey,
        agent: AgentId,
        record: Option<PlacementRecord>,
    },
    Agent {
        agent: AgentId,
        record: Option<Box<AgentRecord>>,
    },
    Artifact {
        digest: Digest,
        record: Option<Box<ArtifactRecord>>,
    },
    /// A Config or Secret.
    Data {
        id: DataId,
        record: Option<Box<DataRecord>>,
    },
    /// A token, an identity, an expected board.
    Trust {
        key: TrustKey,
        record: Option<Box<TrustRecord>>,
    },
    /// An operator's token, a role.
    Access {
        key: AccessKey,
        record: Option<Box<AccessRecord>>,
    },
    Event(Box<EventRecord>),
    /// Drop events numbered below this.
    EventsBelow(u64),
}

/// What a watch is told: which object to look at again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Change {
    Workload { workload: WorkloadKey },
    Agent { agent: AgentId },
    Artifact { digest: Digest },
    Event { seq: u64 },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Always the first.
    Boot(Box<HubFacts>),
    Finished {
        id: EffectId,
        outcome: Outcome,
    },
    /// An operator's request, authenticated by the shell.
    Request {
        id: RequestId,
        request: Request,
    },
    /// Nobody waits for this request any more (the client hung up): cancel what only it needs.
    Abandoned {
        id: RequestId,
    },
    /// From an agent, decoded. The transport has checked that the topic is the agent's own.
    Agent {
        agent: AgentId,
        message: FromAgent,
    },
    /// Messages of this agent were dropped at the hub's door: ask it for a full report.
    Overflow {
        agent: AgentId,
    },
    /// A message that could not be read, or is not its sender's.
    Rejected {
        agent: Option<AgentId>,
        why: Why,
        reason: String,
    },
    /// The hub's link to its broker. While it is down nothing that agents do is known.
    BusUp,
    BusDown {
        reason: String,
    },
    Wake,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done,
    Compiled { digest: Digest, size_bytes: u64 },
    Fetched { image: Box<ImageRecord> },
    Refused(String),
    Fault(String),
    Deadline,
}

#[derive(Debug, Clone, PartialEq)]
pub struct HubFacts {
    /// None on a fresh store; then `lineage` is used.
    pub meta: Option<Meta>,
    pub lineage: Lineage,
    /// Seeds the nonces (hashed with agent, epoch and a counter); from the shell's random source.
    pub nonce_seed: [u8; 16],
    pub workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    pub placements: BTreeMap<(WorkloadKey, AgentId), PlacementRecord>,
    pub agents: BTreeMap<AgentId, AgentRecord>,
    pub artifacts: BTreeMap<Digest, ArtifactRecord>,
    pub data: BTreeMap<DataId, DataRecord>,
    pub trust: TrustFacts,
    pub access: AccessFacts,
    pub events: Vec<EventRecord>,
    /// Engine ids that a compile worker serves.
    pub engines: Vec<String>,
    /// Told to agents in hello: `http://host:port`.
    pub artifacts_url: String,
    pub heartbeat_ms: Millis,
    /// Over which agents spread their full reports after a changed term.
    pub announce_window_ms: Millis,
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq)]
pub struct NewArtifact {
    pub digest: Digest,
    pub size_bytes: u64,
    pub kind: ArtifactKind,
    pub tag: Option<String>,
    /// Of an `OciImage`.
    pub image: Option<Box<ImageRecord>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// All or nothing.
    Apply(Box<Apply>),
    Delete {
        keys: Vec<WorkloadKey>,
        if_version: Option<Version>,
    },
    Scale {
        key: WorkloadKey,
        replicas: u32,
        if_version: Option<Version>,
    },
    Restart {
        key: WorkloadKey,
    },
    /// The bytes are in the artefact store, inspected.
    AddArtifact(NewArtifact),
    RemoveArtifact {
        reference: String,
    },
    /// Refused while a workload names it.
    DeleteData {
        id: DataId,
        if_version: Option<Version>,
    },
    /// A command to a board; its replies are relayed to this request until Done.
    Command {
        agent: AgentId,
        op: CommandOp,
        deadline_ms: Millis,
        ticket: Option<String>,
    },
    /// Forget an agent that is gone for good.
    RemoveAgent {
        agent: AgentId,
    },
    /// Label, taint, cordon or drain agents: all of them, or none.
    ChangeAgents {
        agents: Vec<AgentId>,
        change: AgentChange,
    },
    /// After a restore from an old copy: jump above everything the fleet has seen and publish again.
    /// With a lineage: this store is new, and takes over the fleet of an older one that had the same key.
    AcceptRestore {
        lineage: Option<Lineage>,
    },
    Trust(TrustRequest),
    Access(AccessRequest),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Apply {
    pub workloads: Vec<Workload>,
    /// Configs and Secrets.
    pub data: Vec<NewData>,
    /// What was found at other registries, by the name in `spec.image` (`Core::wanted_images`).
    pub images: BTreeMap<String, Found>,
    pub prune: Option<Prune>,
    /// Admit and answer, but change nothing.
    pub dry_run: bool,
    /// Refuse unless these are the present versions (0: must not exist).
    pub if_versions: BTreeMap<WorkloadKey, Version>,
}

/// Delete workloads with all of these labels that are not in the apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Prune {
    pub labels: BTreeMap<String, String>,
    /// Whoever asks may delete in these.
    pub within: Many<Name>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", tag = "result")]
pub enum Answer {
    Applied {
        version: Version,
        changes: Vec<AppliedChange>,
        warnings: Vec<String>,
    },
    Deleted {
        version: Version,
        keys: Vec<WorkloadKey>,
    },
    Done {
        version: Version,
    },
    /// Boards that were approved, sent away, replaced or are expected.
    Agents {
        version: Version,
        agents: Vec<AgentId>,
    },
    /// A board has joined; `good` gets its certificate.
    Joined {
        agent: AgentId,
        #[cfg_attr(feature = "schema", schemars(with = "String"))]
        standing: Standing,
    },
    AgentsChanged {
        version: Version,
        /// The others were so already.
        changed: usize,
        warnings: Vec<String>,
    },
    /// The agent has taken the command; replies follow as `Op::Relay`.
    Accepted,
    /// All reasons at once; nothing was changed.
    Refused {
        errors: Vec<Refusal>,
    },
    /// Somebody else changed it first.
    Conflict {
        errors: Vec<Refusal>,
    },
    NotFound {
        errors: Vec<Refusal>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AppliedChange {
    /// What it is; none for a workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<DataKind>,
    /// Its namespace and name.
    pub workload: WorkloadKey,
    pub change: ChangeKind,
    pub revision: Option<contract::RevisionId>,
    /// `tag → digest`, when a tag was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
}

impl AppliedChange {
    /// There is a workload of this name now.
    pub fn is_of_work(&self) -> bool {
        self.kind.is_none() && self.change != ChangeKind::Deleted
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    Created,
    Changed,
    Scaled,
    Unchanged,
    Deleted,
}

/// One thing that is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// The object, and the field within it: `spec.resources.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadKey>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    pub reason: String,
}

/// Kept together for the shells: a session as the hub knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKey {
    pub nonce: Nonce,
    pub term: Term,
}

/// What the plan decided for one (workload, agent).
#[derive(Debug, Clone, PartialEq)]
pub enum Placed {
    /// This goes into the agent's document.
    Assigned(Box<Assignment>),
    /// It would, but waits: for what.
    Waiting(String),
}
