//! A hub's core with a shell around it: a store that is durable when a Persist ends, and checks of
//! what every effect promises.

use std::collections::{BTreeMap, VecDeque};

use contract::message::{Capacity, FromAgent};
use contract::spec::{Metadata, Placement, Selector, Workload, WorkloadSpec};
use contract::time::Now;
use contract::{AgentId, Digest, Lineage, WorkloadKey};

use crate::api::*;
use crate::record::*;
use crate::{Config, Core};

pub const ENGINE: &str = "e1";
pub const HEARTBEAT_MS: u64 = 600_000;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Store {
    pub meta: Option<Meta>,
    pub workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    pub placements: BTreeMap<(WorkloadKey, AgentId), PlacementRecord>,
    pub agents: BTreeMap<AgentId, AgentRecord>,
    pub artifacts: BTreeMap<Digest, ArtifactRecord>,
    pub data: BTreeMap<contract::DataId, crate::record::DataRecord>,
    pub events: BTreeMap<u64, EventRecord>,
    pub trust: crate::trust::TrustFacts,
    pub access: crate::access::AccessFacts,
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

impl Store {
    pub fn write(&mut self, writes: &[Write]) {
        for write in writes.iter().cloned() {
            match write {
                Write::Meta(meta) => self.meta = Some(meta),
                Write::Workload { key, record } => put(&mut self.workloads, key, record.map(|r| *r)),
                Write::Placement { key, agent, record } => put(&mut self.placements, (key, agent), record),
                Write::Agent { agent, record } => put(&mut self.agents, agent, record.map(|r| *r)),
                Write::Data { id, record } => put(&mut self.data, id, record.map(|r| *r)),
                Write::Artifact { digest, record } => put(&mut self.artifacts, digest, record.map(|r| *r)),
                Write::Trust { key, record } => put(&mut self.trust, key, record.map(|r| *r)),
                Write::Access { key, record } => put(&mut self.access, key, record.map(|r| *r)),
                Write::Event(event) => drop(self.events.insert(event.seq, *event)),
                Write::EventsBelow(seq) => self.events.retain(|s, _| *s >= seq),
            }
        }
    }

    pub fn facts(&self) -> HubFacts {
        HubFacts {
            meta: self.meta,
            lineage: Lineage([1; 16]),
            nonce_seed: [7; 16],
            workloads: self.workloads.clone(),
            placements: self.placements.clone(),
            agents: self.agents.clone(),
            artifacts: self.artifacts.clone(),
            access: self.access.clone(),
            data: self.data.clone(),
            trust: self.trust.clone(),
            events: self.events.values().cloned().collect(),
            engines: vec![ENGINE.into()],
            artifacts_url: "http://hub".into(),
            heartbeat_ms: HEARTBEAT_MS,
            announce_window_ms: 1000,
        }
    }
}

pub struct Bed {
    pub core: Core,
    pub now: u64,
    pub durable: Store,
    pub pending: VecDeque<(EffectId, Vec<Write>)>,
    /// Effects end by themselves, at once.
    pub auto: bool,
    /// What left since it was last taken.
    pub ops: Vec<Op>,
    pub open: Vec<Effect>,
    /// Documents published, ever.
    pub documents: usize,
    /// What a registry gives; None: it is away.
    pub registry: Option<crate::image::ImageRecord>,
    config: Config,
    requests: u64,
}

impl Bed {
    pub fn new() -> Bed {
        Bed::with(Config::default(), Store::default())
    }

    pub fn with(config: Config, durable: Store) -> Bed {
        let core = Core::new(config.clone());
        let (pending, ops, open) = (VecDeque::new(), Vec::new(), Vec::new());
        let mut bed = Bed {
            core,
            now: 1000,
            durable,
            pending,
            auto: true,
            ops,
            open,
            documents: 0,
            registry: None,
            config,
            requests: 0,
        };
        bed.boot();
        bed
    }

    fn boot(&mut self) {
        let facts = Box::new(self.durable.facts());
        self.send(Event::Boot(facts));
        self.send(Event::BusUp);
    }

    /// The hub dies with what was not durable and starts again.
    pub fn restart(&mut self) {
        self.core = Core::new(self.config.clone());
        (self.pending, self.open) = Default::default();
        self.now += 1000;
        self.boot();
    }

    pub fn at(&self) -> Now {
        Now { boot_ms: self.now, wall_ms: Some(1_700_000_000_000 + self.now) }
    }

    /// One step, and in auto mode all that follows at once.
    pub fn send(&mut self, event: Event) {
        self.step(event);
        if self.auto {
            self.settle();
        }
    }

    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if let Some((id, writes)) = self.pending.pop_front() {
                self.durable.write(&writes);
                self.step(Event::Finished { id, outcome: Outcome::Done });
            } else if !self.open.is_empty() {
                let effect = self.open.remove(0);
                self.finish(effect);
            } else if self.core.next_wake().is_some_and(|at| at <= self.now) {
                self.step(Event::Wake);
            } else {
                return;
            }
        }
        panic!("it does not settle");
    }

    pub fn finish(&mut self, effect: Effect) {
        let outcome = match &effect.op {
            Op::Compile { source, engine } => {
                Outcome::Compiled { digest: compiled(source, engine), size_bytes: 99 }
            }
            Op::Fetch { .. } => match self.registry.clone() {
                Some(image) => Outcome::Fetched { image: Box::new(image) },
                None => Outcome::Fault("no route to r.local".into()),
            },
            _ => Outcome::Done,
        };
        self.step(Event::Finished { id: effect.id, outcome });
    }

    pub fn step(&mut self, event: Event) {
        let effects = self.core.step(self.at(), event);
        let is_persist = |e: &Effect| matches!(e.op, Op::Persist(_));
        assert!(effects.iter().skip(1).all(|e| !is_persist(e)), "one Persist, first");
        assert!(effects.len() <= self.config.page_max.max(20), "a page: {}", effects.len());
        for effect in effects {
            if let Op::Persist(writes) = &effect.op {
                assert_eq!(effect.after, None);
                assert!(!writes.is_empty());
                self.pending.push_back((effect.id, writes.clone()));
                continue;
            }
            self.check(&effect);
            self.ops.push(effect.op.clone());
            if !matches!(effect.op, Op::Answer { .. } | Op::Changed(_) | Op::Relay { .. }) || !self.auto {
                self.open.push(effect);
            }
        }
    }

    /// What will be durable when this effect starts.
    fn durable_before(&self, effect: &Effect) -> Store {
        let mut store = self.durable.clone();
        if let Some(after) = effect.after {
            assert!(self.pending.iter().any(|(id, _)| *id == after), "after what is not pending");
            for (id, writes) in &self.pending {
                store.write(writes);
                if *id == after {
                    break;
                }
            }
        }
        store
    }

    fn check(&mut self, effect: &Effect) {
        let before = self.durable_before(effect);
        let store = || before.clone();
        match &effect.op {
            Op::PublishDesired { agent, document } => {
                self.documents += 1;
                let store = store();
                let record = &store.agents[agent];
                assert_eq!(record.generation, document.generation, "generation is durable first");
                assert_eq!(record.digest, Some(document.digest()), "digest is durable first");
                assert_eq!(store.meta.unwrap().term, document.term);
                assert!(store.meta.unwrap().version.0 >= document.generation.0);
            }
            Op::PublishHello { agent, hello } => {
                let store = store();
                // One that is only asked who it is has no record.
                let (boots, event_seq) = store.agents.get(agent).map_or((0, 0), |a| (a.boots, a.event_seq));
                assert!(event_seq >= hello.acked.event_seq, "acked events are durable");
                assert!(boots <= hello.epoch_floor.max(hello.epoch.boots));
                assert_eq!(store.meta.unwrap().term, hello.term);
            }
            Op::PublishAnnounce(announce) => assert_eq!(store().meta.unwrap().term, announce.term),
            Op::Answer {
                answer: Answer::Applied { version, .. } | Answer::Deleted { version, .. }, ..
            } => {
                assert!(store().meta.unwrap().version >= *version, "answered when durable");
            }
            _ => {}
        }
    }

    pub fn take(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.ops)
    }

    pub fn message(&mut self, agent: &AgentId, message: FromAgent) {
        self.send(Event::Agent { agent: agent.clone(), message });
    }

    /// A request and its answer.
    pub fn ask(&mut self, request: Request) -> Answer {
        let id = self.request(request);
        let answer = self.ops.iter().rev().find_map(|op| match op {
            Op::Answer { request, answer } if *request == id => Some(answer.clone()),
            _ => None,
        });
        answer.expect("an answer")
    }

    pub fn request(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = self.requests;
        self.send(Event::Request { id, request });
        id
    }

    pub fn apply(&mut self, workloads: Vec<Workload>) -> Answer {
        self.ask(Request::Apply(Box::new(apply_of(workloads))))
    }

    pub fn push(&mut self, tag: &str) -> Digest {
        let digest = Digest::of(tag.as_bytes());
        self.ask(Request::AddArtifact(module(digest, tag)));
        digest
    }

    /// Let time pass, waking the core when it wants to be.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        while let Some(at) = self.core.next_wake().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.send(Event::Wake);
        }
        self.now = end;
        self.send(Event::Wake);
    }
}

pub fn module(digest: Digest, tag: &str) -> NewArtifact {
    let (kind, tag) = (ArtifactKind::WasmModule, Some(tag.to_string()));
    NewArtifact { digest, size_bytes: 10, kind, tag, image: None }
}

pub fn compiled(source: &Digest, engine: &str) -> Digest {
    Digest::of(format!("{source}{engine}").as_bytes())
}

pub fn apply_of(workloads: Vec<Workload>) -> Apply {
    let (images, if_versions) = Default::default();
    Apply { workloads, images, data: Vec::new(), prune: None, dry_run: false, if_versions }
}

pub fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

pub fn key(text: &str) -> WorkloadKey {
    text.parse().unwrap()
}

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

pub fn capacity(cpu_millis: u32, memory_mib: u64) -> Capacity {
    Capacity { cpu_millis, memory_bytes: memory_mib << 20, storage_bytes: 1 << 30 }
}

pub fn every(name: &str, image: &str) -> Workload {
    let metadata = Metadata {
        name: name.parse().unwrap(),
        namespace: "ns".parse().unwrap(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let spec = WorkloadSpec { image: image.into(), every_agent: true, ..WorkloadSpec::default() };
    Workload { metadata, spec }
}

pub fn replicas(name: &str, image: &str, n: u32) -> Workload {
    let mut workload = every(name, image);
    (workload.spec.every_agent, workload.spec.replicas) = (false, Some(n));
    workload
}

pub fn on(mut workload: Workload, pairs: &[(&str, &str)]) -> Workload {
    let selector = Selector { match_labels: labels(pairs), ..Selector::default() };
    workload.spec.placement = Some(Placement { selector: Some(selector), ..Placement::default() });
    workload
}

pub fn needs(mut workload: Workload, cpu_millis: u32, memory_mib: u64) -> Workload {
    workload.spec.resources = Some(contract::spec::Resources {
        cpu: Some(contract::quantity::Cpu { millis: cpu_millis }),
        memory: Some(contract::quantity::Bytes(memory_mib << 20)),
        ..Default::default()
    });
    workload
}

pub fn env(mut workload: Workload, name: &str, value: &str) -> Workload {
    workload.spec.env.insert(name.into(), contract::spec::EnvValue::Text(value.into()));
    workload
}

impl Bed {
    pub fn push_unfinished(&mut self, tag: &str) {
        let digest = Digest::of(tag.as_bytes());
        self.request(Request::AddArtifact(module(digest, tag)));
    }
}
