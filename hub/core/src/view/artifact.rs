//! A pushed artefact, and for whom it is compiled.

use std::collections::{BTreeMap, BTreeSet};

use contract::spec::Runtime;
use contract::time::Millis;
use contract::{Digest, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::image::ImageRecord;
use crate::record::{ArtifactKind, ArtifactRecord, CompiledRecord};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ArtifactView {
    pub digest: Digest,
    pub kind: ArtifactKind,
    pub size_bytes: u64,
    pub tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_wall_ms: Option<Millis>,
    /// By engine id; of WASM.
    pub compiled: BTreeMap<String, CompiledView>,
    /// Of a container image: for which platforms, and of what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Box<ImageRecord>>,
    pub used_by: Vec<WorkloadKey>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum CompiledView {
    #[serde(rename_all = "camelCase")]
    Ready {
        digest: Digest,
        size_bytes: u64,
    },
    Failed {
        reason: String,
    },
    /// A worker is at it.
    Compiling,
    /// Some board would need it; nothing has asked for it yet, or it waits for its turn.
    Missing,
    /// Boards report this engine, and no worker serves it.
    Unserved,
}

impl Core {
    pub fn artifacts(&self) -> Vec<ArtifactView> {
        let engines = self.fleet_engines();
        self.world.artifacts.values().map(|artifact| self.artifact_view(artifact, &engines)).collect()
    }

    /// By digest, by `name:tag`, or by the name that a manifest gave it at another registry.
    pub fn artifact(&self, reference: &str) -> Option<ArtifactView> {
        let digest = self.world.named(reference)?;
        Some(self.artifact_view(self.world.artifacts.get(&digest)?, &self.fleet_engines()))
    }

    /// The engine that each board would get code for, and whether a worker serves it.
    fn fleet_engines(&self) -> BTreeMap<&str, bool> {
        let agents = self.world.agents.values();
        let engines = agents.map(|agent| match self.world.engine(&agent.record) {
            Ok(engine) => (engine, true),
            Err(engine) => (engine, false),
        });
        engines.filter(|(engine, _)| !engine.is_empty()).collect()
    }

    fn artifact_view(&self, record: &ArtifactRecord, engines: &BTreeMap<&str, bool>) -> ArtifactView {
        let done = record.compiled.iter().map(|(engine, compiled)| {
            let view = match compiled {
                CompiledRecord::Ready { digest, size_bytes } => {
                    CompiledView::Ready { digest: *digest, size_bytes: *size_bytes }
                }
                CompiledRecord::Failed { reason } => CompiledView::Failed { reason: reason.clone() },
            };
            (engine.clone(), view)
        });
        let mut compiled: BTreeMap<String, CompiledView> = done.collect();
        let engines = engines.iter().filter(|_| record.kind.runtime() == Runtime::Wasm);
        for (engine, served) in engines {
            let running = self.compiles.is_running(&record.digest, engine);
            compiled.entry(engine.to_string()).or_insert(match (served, running) {
                (_, true) => CompiledView::Compiling,
                (true, false) => CompiledView::Missing,
                (false, false) => CompiledView::Unserved,
            });
        }
        ArtifactView {
            digest: record.digest,
            kind: record.kind,
            size_bytes: record.size_bytes,
            tags: record.tags.clone(),
            pushed_wall_ms: record.pushed_wall_ms,
            compiled,
            image: record.image.clone(),
            used_by: self.users_of(record.digest),
        }
    }
}
