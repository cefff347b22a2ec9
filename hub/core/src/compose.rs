//! What does an agent's document say now? Composed when it is published, never stored.

use std::collections::BTreeMap;

use contract::message::Desired;
use contract::platform::Platform;
use contract::run::{ArtifactRef, Assignment};
use contract::time::Now;
use contract::{AgentId, Digest, Generation, WorkloadKey};

use crate::api::{Op, Placed};
use crate::core::Core;
use crate::image::{ImageRecord, nothing_for};
use crate::record::{AgentRecord, CompiledRecord, PlacementRecord};
use crate::template::Template;
use crate::world::{Agent, World};

/// Why a (workload, agent) has no assignment yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// Compiled code that can be made: for this engine.
    Compile(String),
    /// A platform of its image that can be fetched, and why it could not be the last time.
    Fetch {
        platform: Platform,
        from: String,
        failed: Option<String>,
    },
    /// Nothing will change it but another artefact.
    Failed(String),
    Other(String),
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Waits::Compile(engine) => write!(f, "waiting for code compiled for {engine}"),
            Waits::Fetch { platform, from, failed: None } => {
                write!(f, "waiting for {platform} of {from}, which is being fetched")
            }
            Waits::Fetch { platform, failed: Some(reason), .. } => {
                write!(f, "waiting for {platform} of its image; the last try to fetch it failed: {reason}")
            }
            Waits::Failed(reason) | Waits::Other(reason) => f.write_str(reason),
        }
    }
}

impl World {
    /// The artefact that this agent would fetch, if everything it needs is there.
    pub fn ready(&self, template: &Template, record: &AgentRecord) -> Result<ArtifactRef, Waits> {
        if let Some(missing) = template.missing_label(&record.labels) {
            return Err(Waits::Other(missing));
        }
        let source = template.image;
        let Some(artifact) = self.artifacts.get(&source) else {
            return Err(Waits::Other(format!("artefact {} is not here any more", source.short())));
        };
        if let Some(image) = &artifact.image {
            let manifest = match image.for_board(&record.arch) {
                Ok(part) => part.manifest,
                Err(_) => return Err(self.lacking(&source, image, &record.arch)),
            };
            let (digest, size_bytes) = (manifest.digest, manifest.size_bytes);
            return Ok(ArtifactRef { source, digest, size_bytes, engine: None });
        }
        match self.compiled(&source, record) {
            (_, Some((engine, CompiledRecord::Ready { digest, size_bytes }))) => Ok(ArtifactRef {
                source,
                digest: *digest,
                size_bytes: *size_bytes,
                engine: Some(engine.to_string()),
            }),
            (_, Some((engine, CompiledRecord::Failed { reason }))) => {
                Err(Waits::Failed(format!("compiling for {engine} failed: {reason}")))
            }
            (Ok(engine), None) => Err(Waits::Compile(engine.to_string())),
            (Err(""), None) => Err(Waits::Other("the agent reports no engine to compile for".into())),
            (Err(engine), None) => {
                Err(Waits::Other(format!("no compile worker serves the agent's engine {engine}")))
            }
        }
    }

    fn lacking(&self, source: &Digest, image: &ImageRecord, arch: &str) -> Waits {
        let Some(platform) = image.lacks(arch).cloned() else {
            return Waits::Other(nothing_for(arch, image));
        };
        let from = image.sources.last().cloned().unwrap_or_default();
        let failed = self.unfetched.get(&(*source, platform.clone())).cloned();
        Waits::Fetch { platform, from, failed }
    }

    /// What the document says about one placement.
    pub fn assigned(&self, key: &WorkloadKey, placed: &PlacementRecord, agent: &AgentRecord) -> Placed {
        let Some(work) = self.works.get(key) else {
            return Placed::Waiting("the workload is gone".into());
        };
        let Some(template) = work.template(placed.revision) else {
            return Placed::Waiting(format!("revision {} is not kept any more", placed.revision.short()));
        };
        match self.ready(&template, agent) {
            Err(waits) => Placed::Waiting(waits.to_string()),
            Ok(artifact) => match template.assignment(placed, artifact, &agent.labels) {
                Ok(mut assignment) => {
                    if let Some(signal) = self.image_stop(&template, agent) {
                        assignment.run.stop_signal = signal.to_string();
                    }
                    Placed::Assigned(Box::new(assignment))
                }
                Err(reason) => Placed::Waiting(reason),
            },
        }
    }

    /// How the image itself wants to be stopped, where the manifest says nothing.
    fn image_stop(&self, template: &Template, agent: &AgentRecord) -> Option<&str> {
        let artifact = self.artifacts.get(&template.image).filter(|_| template.image_stops)?;
        artifact.image.as_ref()?.for_board(&agent.arch).ok()?.stop_signal.as_deref()
    }

    pub fn assignments(&self, id: &AgentId, agent: &Agent) -> BTreeMap<WorkloadKey, Assignment> {
        let placed = agent.works.iter().filter_map(|key| {
            let placed = self.works.get(key)?.placed.get(id)?;
            match self.assigned(key, &placed.record, &agent.record) {
                Placed::Assigned(assignment) => Some((key.clone(), *assignment)),
                Placed::Waiting(_) => None,
            }
        });
        placed.collect()
    }
}

impl Core {
    /// Publish an agent's document if its content changed since the last one, or if it is due
    /// anyway (`again`). Its generation and digest are durable first.
    pub(crate) fn publish_desired(&mut self, now: Now, id: &AgentId, again: bool) {
        let Some(agent) = self.world.agents.get(id) else { return };
        let held = agent.session.as_ref().is_some_and(|s| s.hold.is_some());
        if !agent.heard || held {
            return;
        }
        let mut document = Desired {
            lineage: self.world.meta.lineage,
            term: self.world.meta.term,
            agent: id.clone(),
            generation: agent.record.generation,
            assignments: self.world.assignments(id, agent),
        };
        let digest = document.digest();
        let is_new = agent.record.digest != Some(digest);
        if !is_new {
            // What it said meanwhile is about this very document.
            self.note_all_ended(id);
        }
        if !is_new && !again {
            return;
        }
        if is_new {
            document.generation = Generation(self.commit().0);
            if let Some(agent) = self.world.agents.get_mut(id) {
                agent.record.generation = document.generation;
                agent.record.digest = Some(digest);
            }
            self.out.agent(id);
            self.changed_agent(id);
            if let Some(session) = self.session_mut(id) {
                session.refused = None;
                session.resend = None;
            }
        }
        let document = Box::new(document);
        let effect = self.out.after(Op::PublishDesired { agent: id.clone(), document });
        self.publishing.insert(effect);
        let current = |s: &crate::session::Session| {
            s.applied
                .is_some_and(|head| head.digest == digest && Some(head.generation) == self.generation_of(id))
        };
        if !self.session(id).is_some_and(current) {
            self.expect_applied(now, id);
        }
    }

    fn generation_of(&self, id: &AgentId) -> Option<Generation> {
        self.world.agents.get(id).map(|agent| agent.record.generation)
    }
}
