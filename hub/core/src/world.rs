//! Everything the hub knows, in memory: the durable records, indexed, and the soft state beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::platform::Platform;
use contract::spec::Runtime;
use contract::time::Millis;
use contract::{AgentId, Digest, RevisionId, WorkloadKey};

use crate::api::HubFacts;
use crate::charge::Charge;
use crate::image::ImageRecord;
use crate::place::{Ask, Board, Lack};
use crate::record::{AgentRecord, ArtifactRecord, CompiledRecord, Meta, PlacementRecord, WorkloadRecord};
use crate::session::Session;
use crate::template::Template;
use crate::trust::Trust;

#[derive(Debug, Clone)]
pub struct World {
    pub meta: Meta,
    pub settings: Settings,
    pub bus_up: bool,
    pub works: BTreeMap<WorkloadKey, Work>,
    pub agents: BTreeMap<AgentId, Agent>,
    pub artifacts: BTreeMap<Digest, ArtifactRecord>,
    pub tags: BTreeMap<String, Digest>,
    /// Platforms of images that could not be fetched at the last try, and why.
    pub unfetched: BTreeMap<(Digest, Platform), String>,
    /// Workloads with slots that no board takes: looked at again when room appears.
    pub starving: BTreeSet<WorkloadKey>,
    pub trust: Trust,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub nonce_seed: [u8; 16],
    /// Engines that a compile worker serves.
    pub engines: BTreeSet<String>,
    pub artifacts_url: String,
    pub heartbeat_ms: Millis,
    pub announce_window_ms: Millis,
}

/// A workload with what follows from it.
#[derive(Debug, Clone)]
pub struct Work {
    pub record: Arc<WorkloadRecord>,
    pub template: Arc<Template>,
    pub placed: BTreeMap<AgentId, Placed>,
    pub unplaced: Unplaced,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    pub record: PlacementRecord,
    /// What it takes from the agent's room since it was placed.
    pub charge: Charge,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unplaced {
    /// `replicas`: the slots that fit nowhere.
    pub slots: Vec<u32>,
    /// `everyAgent`: the selected boards that have no room, or lack a feature.
    pub agents: BTreeSet<AgentId>,
}

impl Unplaced {
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.agents.is_empty()
    }
}

/// An agent: one record, one session at most, and an index. Kept small; a fleet has 100,000 of them.
#[derive(Debug, Clone)]
pub struct Agent {
    pub record: AgentRecord,
    pub session: Option<Box<Session>>,
    /// What is placed here, sorted.
    pub works: Vec<WorkloadKey>,
    pub used: Charge,
    /// It has told since the hub's start what it applied. Until then nothing is published to it: a
    /// store restored from an old copy cannot know yet that the fleet is ahead of it.
    pub heard: bool,
}

impl Work {
    pub fn new(record: WorkloadRecord) -> Work {
        let template = Template::new(&record.manifest, record.revision, record.image, record.runtime);
        let (placed, unplaced) = (BTreeMap::new(), Unplaced::default());
        Work { record: Arc::new(record), template: Arc::new(template), placed, unplaced }
    }

    pub fn every_agent(&self) -> bool {
        self.record.manifest.spec.every_agent
    }

    pub fn replicas(&self) -> u32 {
        self.record.manifest.spec.replicas.unwrap_or(0)
    }

    /// The present revision, or an earlier one that is still kept.
    pub fn template(&self, revision: RevisionId) -> Option<Arc<Template>> {
        if revision == self.record.revision {
            return Some(self.template.clone());
        }
        let old = self.record.revisions.iter().rev().find(|r| r.revision == revision)?;
        Some(Arc::new(Template::new(&old.manifest, old.revision, old.image, old.runtime)))
    }

    /// Ports of the board that this has, or keeps while an earlier revision still runs there.
    pub fn ports_on(&self, id: &AgentId) -> BTreeSet<u16> {
        let Some(placed) = self.placed.get(id) else { return BTreeSet::new() };
        let mut ports: BTreeSet<u16> = self.template.ports().iter().copied().collect();
        if placed.record.revision != self.record.revision
            && let Some(earlier) = self.template(placed.record.revision)
        {
            ports.extend(earlier.ports());
        }
        ports
    }

    pub fn ask(&self) -> Ask<'_> {
        let placement = self.record.manifest.spec.placement.as_ref();
        Ask {
            selector: placement.and_then(|p| p.selector.as_ref()),
            requires: &self.template.requires,
            price: self.template.price,
            ports: self.template.ports(),
        }
    }
}

impl Agent {
    pub fn new(record: AgentRecord) -> Agent {
        Agent { record, session: None, works: Vec::new(), used: Charge::default(), heard: false }
    }

    pub fn is_online(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.online)
    }

    pub fn limit(&self) -> Charge {
        Charge::limit(&self.record.capacity)
    }
}

impl HubFacts {
    /// Before the shell has told anything.
    pub(crate) fn blank() -> HubFacts {
        HubFacts {
            meta: None,
            lineage: contract::Lineage([0; 16]),
            nonce_seed: [0; 16],
            workloads: BTreeMap::new(),
            placements: BTreeMap::new(),
            agents: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            trust: Default::default(),
            events: Vec::new(),
            engines: Vec::new(),
            artifacts_url: String::new(),
            heartbeat_ms: 0,
            announce_window_ms: 0,
        }
    }
}

impl World {
    pub fn load(facts: HubFacts) -> World {
        let fresh = Meta { lineage: facts.lineage, term: Default::default(), version: Default::default() };
        let settings = Settings {
            nonce_seed: facts.nonce_seed,
            engines: facts.engines.into_iter().collect(),
            artifacts_url: facts.artifacts_url,
            heartbeat_ms: facts.heartbeat_ms.max(1),
            announce_window_ms: facts.announce_window_ms,
        };
        let tags = facts.artifacts.values().flat_map(|a| a.tags.iter().map(|tag| (tag.clone(), a.digest)));
        let mut world = World {
            meta: facts.meta.unwrap_or(fresh),
            settings,
            bus_up: false,
            works: facts.workloads.into_iter().map(|(key, record)| (key, Work::new(record))).collect(),
            agents: facts.agents.into_iter().map(|(id, record)| (id, Agent::new(record))).collect(),
            tags: tags.collect(),
            artifacts: facts.artifacts,
            unfetched: BTreeMap::new(),
            starving: BTreeSet::new(),
            trust: Trust::load(facts.trust),
        };
        for ((key, agent), record) in facts.placements {
            world.restore_placement(&key, &agent, record);
        }
        world
    }

    /// A placement whose workload or agent is gone is left out: the store wrote them together, so
    /// there is none unless somebody edited it.
    fn restore_placement(&mut self, key: &WorkloadKey, agent: &AgentId, record: PlacementRecord) {
        let Some(work) = self.works.get(key) else { return };
        let template = work.template(record.revision).unwrap_or_else(|| work.template.clone());
        let charge = template.price.of(record.slots.len());
        self.set_placed(key, agent, Some(Placed { record, charge }));
    }

    /// Put a placement in or take it out, with all that is counted by it. Returns whether room
    /// was freed on the agent.
    pub fn set_placed(&mut self, key: &WorkloadKey, id: &AgentId, placed: Option<Placed>) -> bool {
        let (Some(work), Some(agent)) = (self.works.get_mut(key), self.agents.get_mut(id)) else {
            return false;
        };
        let new = placed.as_ref().map_or(Charge::default(), |p| p.charge);
        let at = agent.works.binary_search(key);
        match (&placed, at) {
            (Some(_), Err(n)) => {
                agent.works.reserve_exact(1);
                agent.works.insert(n, key.clone());
            }
            (None, Ok(n)) => drop(agent.works.remove(n)),
            _ => {}
        }
        let before = match placed {
            Some(placed) => work.placed.insert(id.clone(), placed),
            None => work.placed.remove(id),
        };
        let old = before.map_or(Charge::default(), |p| p.charge);
        agent.used = agent.used.minus(old).plus(new);
        old.minus(new) != Charge::default()
    }

    pub fn set_unplaced(&mut self, key: &WorkloadKey, change: impl FnOnce(&mut Unplaced)) {
        let Some(work) = self.works.get_mut(key) else { return };
        change(&mut work.unplaced);
        if work.unplaced.is_empty() {
            self.starving.remove(key);
        } else {
            self.starving.insert(key.clone());
        }
    }

    pub fn board<'a>(&'a self, work: &'a Work, id: &'a AgentId, agent: &'a Agent) -> Board<'a> {
        Board {
            agent: id,
            labels: &agent.record.labels,
            features: &agent.record.features,
            limit: agent.limit(),
            used: agent.used,
            own: work.placed.get(id).map(|p| (&p.record.slots, p.charge)),
            reachable: self.bus_up && agent.is_online(),
            fits: self.fits(&work.template, self.image(&work.template), &agent.record),
            taken: self.taken(work, id, agent),
        }
    }

    /// Whether there is anything of the artefact that this agent could run.
    pub fn fits<'a>(
        &self,
        template: &Template,
        image: Option<&'a ImageRecord>,
        record: &'a AgentRecord,
    ) -> Result<(), Lack<'a>> {
        match (template.runtime, image) {
            (Runtime::Wasm, _) => self.engine(record).map(drop).map_err(Lack::Engine),
            // One that is gone is waited for by name, wherever it was.
            (Runtime::Oci, None) => Ok(()),
            (Runtime::Oci, Some(image)) => {
                let arch = record.arch.as_str();
                let runs = image.for_board(arch).is_ok() || image.lacks(arch).is_some();
                if runs { Ok(()) } else { Err(Lack::Platform { arch, image }) }
            }
        }
    }

    /// Which artefact an operator means. What a tag of another registry meant several times is the newest.
    pub fn named(&self, reference: &str) -> Option<Digest> {
        let own = self.tags.get(reference).copied().or_else(|| reference.parse().ok());
        let has = |artifact: &&ArtifactRecord| {
            artifact
                .image
                .as_ref()
                .is_some_and(|image| image.sources.iter().any(|source| source == reference))
        };
        let newest = || self.artifacts.values().filter(has).max_by_key(|artifact| artifact.pushed_wall_ms);
        own.or_else(|| newest().map(|artifact| artifact.digest))
    }

    pub fn image(&self, template: &Template) -> Option<&ImageRecord> {
        self.artifacts.get(&template.image)?.image.as_deref()
    }

    /// The first port of `work` that another workload has on this agent.
    fn taken<'a>(&'a self, work: &Work, id: &AgentId, agent: &'a Agent) -> Option<(u16, &'a WorkloadKey)> {
        let ports = work.template.ports();
        if ports.is_empty() {
            return None;
        }
        agent.works.iter().filter(|key| **key != work.template.key).find_map(|key| {
            let theirs = self.works.get(key)?.ports_on(id);
            ports.iter().find(|port| theirs.contains(port)).map(|port| (*port, key))
        })
    }

    /// The engine to compile for: the first that a worker serves; Err names what it has instead.
    pub fn engine<'a>(&self, record: &'a AgentRecord) -> Result<&'a str, &'a str> {
        let served = record.engines.iter().find(|engine| self.settings.engines.contains(*engine));
        served.map(String::as_str).ok_or(record.engines.first().map_or("", String::as_str))
    }

    /// Code for this agent: of the engine that is compiled for, or, if no worker serves any of its
    /// engines, of one for which an earlier hub compiled.
    pub fn compiled<'a>(
        &'a self,
        image: &Digest,
        record: &'a AgentRecord,
    ) -> (Result<&'a str, &'a str>, Option<(&'a str, &'a CompiledRecord)>) {
        let engine = self.engine(record);
        let Some(artifact) = self.artifacts.get(image) else { return (engine, None) };
        let compiled = |engine: &'a str| artifact.compiled.get(engine).map(|c| (engine, c));
        let found = match engine {
            Ok(engine) => compiled(engine),
            Err(_) => record.engines.iter().find_map(|engine| compiled(engine)),
        };
        (engine, found)
    }

    /// Whether a status of this agent may be shown as fresh.
    pub fn is_fresh(&self, agent: &Agent) -> bool {
        self.bus_up && agent.session.as_ref().is_some_and(|s| s.is_fresh())
    }
}
