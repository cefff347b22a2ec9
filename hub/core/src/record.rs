//! What the hub keeps. Durable records are written with the decision that made them, in one commit;
//! soft state (observed, sessions) is rebuilt by resync and 'unknown' until then.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::{AgentEvent, Capacity};
use contract::spec::{Metadata, Runtime, Workload};
use contract::time::Millis;
use contract::{
    AgentId, Attempt, BoardId, Digest, Generation, Lineage, RevisionId, Term, Version, WorkloadKey,
};
use serde::{Deserialize, Serialize};

use crate::data::Pins;
use crate::image::ImageRecord;
use crate::operator::OperatorRecord;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub lineage: Lineage,
    pub term: Term,
    /// Of the newest commit.
    pub version: Version,
}

/// A workload as applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// As given; `image` keeps the tag that was written.
    pub manifest: Workload,
    pub revision: RevisionId,
    pub attempt: Attempt,
    /// What the tag meant when it was applied.
    pub image: Digest,
    pub runtime: Runtime,
    /// The contents of the Configs and Secrets that it uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: Pins,
    /// Grows with `hub restart`.
    pub restarts: u64,
    /// The commit that last changed it: its resource version.
    pub version: Version,
    pub created_wall_ms: Option<Millis>,
    pub applied_wall_ms: Option<Millis>,
    /// Earlier and present revisions, newest last, at most `REVISIONS_KEPT`.
    pub revisions: Vec<RevisionRecord>,
}

pub const REVISIONS_KEPT: usize = 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionRecord {
    pub revision: RevisionId,
    pub manifest: Workload,
    pub image: Digest,
    pub runtime: Runtime,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: Pins,
    pub version: Version,
}

/// A Config or Secret. The values lie in the artefact store, under `content`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataRecord {
    pub metadata: Metadata,
    pub content: Digest,
    pub size_bytes: u64,
    /// Keys, and how many bytes each has.
    pub keys: BTreeMap<String, u64>,
    /// The commit that last changed it: its resource version.
    pub version: Version,
    pub created_wall_ms: Option<Millis>,
    pub applied_wall_ms: Option<Millis>,
}

/// What one agent is told about one workload. Kept, because while a new revision is not ready for an
/// agent (no compiled code yet, say) its document must go on carrying the old one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacementRecord {
    pub slots: BTreeSet<u32>,
    pub revision: RevisionId,
    pub attempt: Attempt,
    pub restarts: u64,
    /// Slots that have run to their end (`restartPolicy`) and reserve nothing any more, sorted. Kept: who was
    /// given their room must not lose it by the hub's own restart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    pub board: BoardId,
    /// The highest boots ever heard: the epoch floor.
    pub boots: u64,
    /// Of the newest document published to it, and that document's digest.
    pub generation: Generation,
    pub digest: Option<Digest>,
    /// The last event taken in.
    pub event_seq: u64,
    /// Those of the agent, and over them those of operators.
    pub labels: BTreeMap<String, String>,
    /// None where no operator said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Box<OperatorRecord>>,
    pub features: BTreeSet<String>,
    pub engines: Vec<String>,
    pub arch: String,
    pub capacity: Capacity,
    pub agent_version: String,
    pub first_seen_wall_ms: Option<Millis>,
}

/// An artefact: pushed, or an image that a manifest named at another registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    pub digest: Digest,
    pub size_bytes: u64,
    pub kind: ArtifactKind,
    /// `name:tag`s that point here.
    pub tags: BTreeSet<String>,
    pub pushed_wall_ms: Option<Millis>,
    /// By engine id; WASM only.
    pub compiled: BTreeMap<String, CompiledRecord>,
    /// OCI only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<ImageRecord>>,
}

impl ArtifactRecord {
    /// More of the same image.
    pub fn add_image(&mut self, image: &ImageRecord) {
        let whole = self.image.get_or_insert_default();
        whole.add(image);
        self.size_bytes = whole.pieces().values().sum();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ArtifactKind {
    WasmModule,
    WasmComponent,
    OciImage,
}

impl ArtifactKind {
    pub fn runtime(self) -> Runtime {
        match self {
            ArtifactKind::WasmModule | ArtifactKind::WasmComponent => Runtime::Wasm,
            ArtifactKind::OciImage => Runtime::Oci,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CompiledRecord {
    Ready {
        digest: Digest,
        size_bytes: u64,
    },
    /// The worker refused it; trying again gives the same.
    Failed {
        reason: String,
    },
}

/// An event as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The hub's own number; `watch` resumes after it.
    pub seq: u64,
    pub wall_ms: Option<Millis>,
    pub agent: Option<AgentId>,
    pub workload: Option<WorkloadKey>,
    pub event: AgentEvent,
}

/// Events kept: a ring of 10,000 × ~300 B ≈ 3 MB.
pub const EVENTS_KEPT: usize = 10_000;
