//! Everything the hub knows, in memory: the durable records, indexed, and the soft state beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::platform::Platform;
use contract::spec::Runtime;
use contract::time::Millis;
use contract::{AgentId, DataId, Digest, Name, RevisionId, WorkloadKey};

use crate::access::Access;
use crate::api::HubFacts;
use crate::charge::Charge;
use crate::image::ImageRecord;
use crate::place::{Ask, Board, Lack, Own};
use crate::record::{
    AgentRecord, ArtifactRecord, CompiledRecord, DataRecord, Meta, PlacementRecord, WorkloadRecord,
};
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
    pub data: BTreeMap<DataId, DataRecord>,
    /// Platforms of images that could not be fetched at the last try, and why.
    pub unfetched: BTreeMap<(Digest, Platform), String>,
    /// Workloads with slots that no board takes, or that have to leave one and find no other: looked at
    /// again when room appears.
    pub starving: BTreeSet<WorkloadKey>,
    pub trust: Trust,
    /// Agents from the emptiest to the fullest.
    pub by_load: BTreeSet<(u32, AgentId)>,
    /// How many workloads have each priority.
    priorities: BTreeMap<i32, usize>,
    pub access: Access,
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
    /// A slot has to leave an agent that is drained, and no other has room.
    pub moving: bool,
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
    /// Its place in `World::by_load`.
    load: Option<u32>,
    /// It has told since the hub's start what it applied. Until then nothing is published to it: a
    /// store restored from an old copy cannot know yet that the fleet is ahead of it.
    pub heard: bool,
}

impl Work {
    pub fn new(record: WorkloadRecord) -> Work {
        let template =
            Template::new(&record.manifest, record.revision, record.image, record.runtime, &record.data);
        let (placed, unplaced) = (BTreeMap::new(), Unplaced::default());
        let (record, template) = (Arc::new(record), Arc::new(template));
        Work { record, template, placed, unplaced, moving: false }
    }

    pub fn every_agent(&self) -> bool {
        self.record.manifest.spec.every_agent
    }

    pub fn replicas(&self) -> u32 {
        self.record.manifest.spec.replicas.unwrap_or(0)
    }

    pub fn priority(&self) -> i32 {
        self.record.manifest.spec.priority.unwrap_or(0)
    }

    fn is_starving(&self) -> bool {
        self.moving || !self.unplaced.is_empty()
    }

    /// Whether what is placed is what should be, so that what ended there is at its end.
    pub fn is_present(&self, placed: &PlacementRecord) -> bool {
        let record = &*self.record;
        (placed.revision, placed.attempt, placed.restarts)
            == (record.revision, record.attempt, record.restarts)
    }

    /// The present revision, or an earlier one that is still kept.
    pub fn template(&self, revision: RevisionId) -> Option<Arc<Template>> {
        if revision == self.record.revision {
            return Some(self.template.clone());
        }
        let old = self.record.revisions.iter().rev().find(|r| r.revision == revision)?;
        Some(Arc::new(Template::new(&old.manifest, old.revision, old.image, old.runtime, &old.data)))
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
        Ask {
            placement: self.record.manifest.spec.placement.as_ref(),
            requires: &self.template.requires,
            price: self.template.price,
            ports: self.template.ports(),
        }
    }
}

impl Agent {
    pub fn new(record: AgentRecord) -> Agent {
        Agent { record, session: None, works: Vec::new(), used: Charge::default(), load: None, heard: false }
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
            data: BTreeMap::new(),
            trust: Default::default(),
            access: Default::default(),
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
            works: BTreeMap::new(),
            agents: facts.agents.into_iter().map(|(id, record)| (id, Agent::new(record))).collect(),
            tags: tags.collect(),
            artifacts: facts.artifacts,
            data: facts.data,
            unfetched: BTreeMap::new(),
            starving: BTreeSet::new(),
            trust: Trust::load(facts.trust),
            by_load: BTreeSet::new(),
            priorities: BTreeMap::new(),
            access: Access::load(facts.access),
        };
        for (key, record) in facts.workloads {
            world.put_work(key, Work::new(record));
        }
        for ((key, agent), record) in facts.placements {
            world.restore_placement(&key, &agent, record);
        }
        let ids: Vec<AgentId> = world.agents.keys().cloned().collect();
        ids.iter().for_each(|id| world.weigh(id));
        world
    }

    /// A placement whose workload or agent is gone is left out: the store wrote them together, so
    /// there is none unless somebody edited it.
    fn restore_placement(&mut self, key: &WorkloadKey, agent: &AgentId, record: PlacementRecord) {
        let Some(work) = self.works.get(key) else { return };
        let template = work.template(record.revision).unwrap_or_else(|| work.template.clone());
        let ended = if work.is_present(&record) { record.ended.len() } else { 0 };
        let charge = template.price.of(record.slots.len(), ended);
        self.set_placed(key, agent, Some(Placed { record, charge }));
    }

    pub fn put_work(&mut self, key: WorkloadKey, work: Work) {
        *self.priorities.entry(work.priority()).or_default() += 1;
        self.works.insert(key, work);
    }

    pub fn take_work(&mut self, key: &WorkloadKey) -> Option<Work> {
        let work = self.works.remove(key)?;
        let priority = work.priority();
        if let Some(n) = self.priorities.get_mut(&priority) {
            *n -= 1;
        }
        self.priorities.retain(|_, n| *n > 0);
        Some(work)
    }

    /// Whether anything could yield to this priority.
    pub fn has_lower(&self, priority: i32) -> bool {
        self.priorities.first_key_value().is_some_and(|(lowest, _)| *lowest < priority)
    }

    /// Put an agent where it belongs among the emptier and the fuller ones.
    pub fn weigh(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        let load = agent.used.load(agent.limit());
        let old = agent.load.replace(load);
        if old == Some(load) {
            return;
        }
        if let Some(old) = old {
            self.by_load.remove(&(old, id.clone()));
        }
        self.by_load.insert((load, id.clone()));
    }

    pub fn remove_agent(&mut self, id: &AgentId) {
        if let Some(load) = self.agents.remove(id).and_then(|agent| agent.load) {
            self.by_load.remove(&(load, id.clone()));
        }
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
        self.weigh(id);
        old.minus(new) != Charge::default()
    }

    pub fn works_in<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = (&'a WorkloadKey, &'a Work)> {
        // Keys are sorted by namespace first; no name sorts before '0'.
        let first = WorkloadKey { namespace: name.clone(), name: "0".parse().expect("a legal name") };
        self.works.range(first..).take_while(move |(key, _)| key.namespace == *name)
    }

    pub fn set_unplaced(&mut self, key: &WorkloadKey, change: impl FnOnce(&mut Unplaced)) {
        let Some(work) = self.works.get_mut(key) else { return };
        change(&mut work.unplaced);
        self.note_starving(key);
    }

    pub fn set_moving(&mut self, key: &WorkloadKey, moving: bool) {
        if let Some(work) = self.works.get_mut(key) {
            work.moving = moving;
            self.note_starving(key);
        }
    }

    fn note_starving(&mut self, key: &WorkloadKey) {
        if self.works.get(key).is_some_and(Work::is_starving) {
            self.starving.insert(key.clone());
        } else {
            self.starving.remove(key);
        }
    }

    pub fn board<'a>(&'a self, work: &'a Work, id: &'a AgentId, agent: &'a Agent) -> Board<'a> {
        Board {
            agent: id,
            record: &agent.record,
            limit: agent.limit(),
            used: agent.used,
            load: agent.load.unwrap_or(0),
            own: work.placed.get(id).map(|p| Own {
                slots: &p.record.slots,
                charge: p.charge,
                ended: if work.is_present(&p.record) { &p.record.ended } else { &[] },
            }),
            reachable: self.bus_up && agent.is_online(),
            fits: self.fits(&work.template, self.image(&work.template), &agent.record),
            taken: self.taken(work, id, agent, |_| true),
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

    /// The first port of `work` that another workload, of those that count, has on this agent.
    pub fn taken<'a>(
        &'a self,
        work: &Work,
        id: &AgentId,
        agent: &'a Agent,
        counts: impl Fn(&Work) -> bool,
    ) -> Option<(u16, &'a WorkloadKey)> {
        let ports = work.template.ports();
        if ports.is_empty() {
            return None;
        }
        agent.works.iter().filter(|key| **key != work.template.key).find_map(|key| {
            let theirs = self.works.get(key).filter(|other| counts(other))?.ports_on(id);
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
