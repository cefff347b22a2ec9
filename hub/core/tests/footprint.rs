//! What does a fleet of 10,000 cost the hub's core, in memory and time? Alone in its binary, because
//! it counts every allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use contract::message::*;
use contract::spec::{Metadata, Workload, WorkloadSpec};
use contract::status::{InstanceState, InstanceStatus, WorkloadStatus};
use contract::{AgentId, BoardId, Digest, Epoch, Lineage, Nonce, Now, WorkloadKey};
use hub_core::api::*;
use hub_core::record::{AgentRecord, ArtifactKind, ArtifactRecord, Meta, PlacementRecord, WorkloadRecord};
use hub_core::{Config, Core};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands every call on to the system's allocator unchanged, and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// `FLEET=100000` for a larger one.
fn agents() -> usize {
    std::env::var("FLEET").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// What one agent with one workload may cost: 100,000 of them in 400 MiB.
const AGENT_BYTES_MAX: usize = 4 << 10;
const ENGINE: &str = "5f3a9c0d1e2b4a6f-1-x86_64-unknown-linux-musl";

#[derive(Default)]
struct Store {
    meta: Option<Meta>,
    workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    placements: BTreeMap<(WorkloadKey, AgentId), PlacementRecord>,
    agents: BTreeMap<AgentId, AgentRecord>,
    artifacts: BTreeMap<Digest, ArtifactRecord>,
}

struct Hub {
    core: Core,
    now: u64,
    /// Kept only when the store is of interest: it would count as well.
    store: Option<Store>,
    effects: usize,
}

impl Hub {
    fn step(&mut self, event: Event, boards: &mut Boards) {
        let mut events = VecDeque::from([event]);
        loop {
            let event = match events.pop_front() {
                Some(event) => event,
                None if self.core.next_wake().is_some_and(|at| at <= self.now) => Event::Wake,
                None => return,
            };
            let now = Now { boot_ms: self.now, wall_ms: Some(1) };
            for effect in self.core.step(now, event) {
                self.effects += 1;
                let mut outcome = Outcome::Done;
                match effect.op {
                    Op::Persist(writes) => self.persist(writes),
                    Op::Compile { source, .. } => {
                        outcome = Outcome::Compiled { digest: source, size_bytes: 100_000 }
                    }
                    Op::PublishHello { agent, hello } => boards.on_hello(&agent, &hello, &mut events),
                    Op::PublishDesired { agent, document } => {
                        boards.on_desired(&agent, &document, &mut events)
                    }
                    _ => {}
                }
                events.push_back(Event::Finished { id: effect.id, outcome });
            }
        }
    }

    fn persist(&mut self, writes: Vec<Write>) {
        let Some(store) = &mut self.store else { return };
        for write in writes {
            match write {
                Write::Meta(meta) => store.meta = Some(meta),
                Write::Workload { key, record } => {
                    store.workloads.insert(key, *record.unwrap());
                }
                Write::Placement { key, agent, record: Some(record) } => {
                    store.placements.insert((key, agent), record);
                }
                Write::Placement { key, agent, record: None } => {
                    store.placements.remove(&(key, agent));
                }
                Write::Agent { agent, record } => {
                    store.agents.insert(agent, *record.unwrap());
                }
                Write::Artifact { digest, record } => {
                    store.artifacts.insert(digest, *record.unwrap());
                }
                Write::Data { .. }
                | Write::Trust { .. }
                | Write::Access { .. }
                | Write::Event(_)
                | Write::EventsBelow(_) => {}
            }
        }
    }
}

/// Boards that answer; what they remember is kept outside of what is counted.
struct Boards(Vec<(AgentId, u64, Option<Nonce>, Option<DesiredHead>)>);

impl Boards {
    fn new() -> Boards {
        Boards((0..agents()).map(|n| (format!("line-{n:05}").parse().unwrap(), 0, None, None)).collect())
    }

    fn at(&mut self, agent: &AgentId) -> &mut (AgentId, u64, Option<Nonce>, Option<DesiredHead>) {
        let n: usize = agent.as_str()[5..].parse().unwrap();
        &mut self.0[n]
    }

    fn on_hello(&mut self, agent: &AgentId, hello: &Hello, events: &mut VecDeque<Event>) {
        self.at(agent).2 = Some(hello.nonce);
        self.report(agent, BTreeMap::new(), events);
    }

    fn on_desired(&mut self, agent: &AgentId, document: &Desired, events: &mut VecDeque<Event>) {
        self.at(agent).3 = Some(document.head());
        let workloads = document.assignments.iter().map(|(key, assignment)| {
            let instance = InstanceStatus {
                revision: assignment.revision,
                attempt: assignment.attempt,
                state: InstanceState::Running,
                ready: true,
                unready: None,
                probe_restarts: 0,
                healthy: true,
                since_ms: 1,
                restarts: 0,
                run: Some("1-1".parse().unwrap()),
                pid: Some(1),
                last_exit: None,
            };
            let instances = assignment.slots.iter().map(|slot| (*slot, instance.clone())).collect();
            let good = Some(assignment.revision);
            (key.clone(), WorkloadStatus { good, instances, ..WorkloadStatus::default() })
        });
        self.report(agent, workloads.collect(), events);
    }

    fn report(
        &mut self,
        agent: &AgentId,
        workloads: BTreeMap<WorkloadKey, WorkloadStatus>,
        events: &mut VecDeque<Event>,
    ) {
        let (id, seq, nonce, applied) = self.at(agent);
        *seq += 1;
        let report = Observed {
            board: BoardId([1; 16]),
            epoch: Epoch { boots: 1, session: 1 },
            seq: *seq,
            nonce: *nonce,
            now_ms: 1,
            applied: *applied,
            refused: None,
            body: ObservedBody::Full { workloads },
        };
        events.push_back(Event::Agent { agent: id.clone(), message: FromAgent::Observed(report) });
    }

    fn connect(&mut self, hub: &mut Hub) {
        for n in 0..agents() {
            let agent = self.0[n].0.clone();
            self.0[n].1 = 0;
            let message = FromAgent::Presence(presence(n));
            hub.step(Event::Agent { agent, message }, self);
        }
    }
}

fn presence(n: usize) -> Presence {
    Presence {
        board: BoardId([1; 16]),
        epoch: Epoch { boots: 1, session: 1 },
        online: true,
        contract_version: CONTRACT_VERSION,
        agent_version: "0.1.0".into(),
        features: ["wasm".to_string(), "tmpfs-mounts".to_string()].into(),
        engines: vec![ENGINE.into()],
        arch: "x86_64".into(),
        labels: BTreeMap::from([
            ("line".to_string(), format!("l{}", n % 7)),
            ("site".into(), "north".into()),
        ]),
        capacity: Capacity { cpu_millis: 4000, memory_bytes: 1 << 30, storage_bytes: 1 << 30 },
    }
}

fn workload(name: &str, replicas: Option<u32>) -> Workload {
    let metadata = Metadata {
        name: name.parse().unwrap(),
        namespace: "plant".parse().unwrap(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    let every_agent = replicas.is_none();
    let spec = WorkloadSpec { image: "app:1".into(), every_agent, replicas, ..WorkloadSpec::default() };
    Workload { metadata, spec }
}

fn apply(id: u64, workload: Workload) -> Event {
    let apply = Apply {
        workloads: vec![workload],
        images: BTreeMap::new(),
        data: Vec::new(),
        prune: None,
        dry_run: false,
        if_versions: BTreeMap::new(),
    };
    Event::Request { id, request: Request::Apply(Box::new(apply)) }
}

fn facts(store: &Store) -> HubFacts {
    HubFacts {
        meta: store.meta,
        lineage: Lineage([1; 16]),
        nonce_seed: [7; 16],
        workloads: store.workloads.clone(),
        placements: store.placements.clone(),
        agents: store.agents.clone(),
        artifacts: store.artifacts.clone(),
        data: BTreeMap::new(),
        trust: Default::default(),
        access: Default::default(),
        events: Vec::new(),
        engines: vec![ENGINE.into()],
        artifacts_url: "http://127.0.0.1:7070".into(),
        heartbeat_ms: 600_000,
        announce_window_ms: 1000,
    }
}

fn boot(store: Option<Store>, boards: &mut Boards) -> Hub {
    let facts = facts(store.as_ref().unwrap_or(&Store::default()));
    let mut hub = Hub { core: Core::new(Config::default()), now: 1, store, effects: 0 };
    hub.step(Event::Boot(Box::new(facts)), boards);
    hub.step(Event::BusUp, boards);
    let request = Request::AddArtifact(NewArtifact {
        digest: Digest::of(b"app"),
        size_bytes: 10_000,
        kind: ArtifactKind::WasmModule,
        tag: Some("app:1".into()),
        image: None,
    });
    hub.step(Event::Request { id: 1, request }, boards);
    hub
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = run();
    println!("{what}: {:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
    result
}

fn memory_of_a_fleet() -> usize {
    let mut boards = Boards::new();
    let mut hub = boot(None, &mut boards);
    let before = LIVE.load(Ordering::Relaxed);
    boards.connect(&mut hub);
    let connected = LIVE.load(Ordering::Relaxed);
    hub.step(apply(2, workload("guard", None)), &mut boards);
    let after = LIVE.load(Ordering::Relaxed);
    let view = hub.core.workload(&"plant/guard".parse().unwrap()).unwrap();
    assert_eq!(view.targets.steady as usize, agents(), "{}", view.message);
    println!("bytes per agent: {} connected", (connected - before) / agents());
    println!("bytes per agent: {} with one workload", (after - before) / agents());
    (after - before) / agents()
}

fn time_of_a_fleet() {
    let mut boards = Boards::new();
    let mut hub = boot(Some(Store::default()), &mut boards);
    timed("the boards connect, report and get a document", || boards.connect(&mut hub));
    let before = hub.effects;
    timed("everyAgent applied until all boards are steady", || {
        hub.step(apply(2, workload("guard", None)), &mut boards)
    });
    println!("   in {} effects", hub.effects - before);
    timed("replicas: 10000 applied until all are steady", || {
        hub.step(apply(3, workload("many", Some(10_000))), &mut boards)
    });
    timed("replicas: 100 applied until all are steady", || {
        hub.step(apply(5, workload("few", Some(100))), &mut boards)
    });
    let scale = |n| {
        let key = "plant/few".parse().unwrap();
        Event::Request { id: 6, request: Request::Scale { key, replicas: n, if_version: None } }
    };
    timed("one replica more, ten times", || {
        (101..111).for_each(|n| hub.step(scale(n), &mut boards));
    });
    timed("one replica fewer, ten times", || {
        (100..110).rev().for_each(|n| hub.step(scale(n), &mut boards));
    });
    let at = Now { boot_ms: 1, wall_ms: Some(1) };
    let few = hub_core::view::InstanceFilter { workload: "plant/few".parse().ok(), ..Default::default() };
    let first = vec![hub.core.instances(at, &few)[0].agent.clone()];
    let change = hub_core::fleet::AgentChange::Taint(vec!["old:NoExecute".parse().unwrap()]);
    let request = Request::ChangeAgents { agents: first, change };
    timed("the board of a replica is tainted, and it moves", || {
        hub.step(Event::Request { id: 7, request }, &mut boards)
    });
    timed("replicas: 100 spread over a label", || {
        let mut spread = workload("even", Some(100));
        spread.spec.placement =
            Some(contract::spec::Placement { spread: Some("line".into()), ..Default::default() });
        hub.step(apply(8, spread), &mut boards)
    });
    timed("GET /v1/fleet", || hub.core.fleet(at, &Default::default(), "line"));
    timed("a page of agents", || hub.core.agent_page(at, &Default::default(), None, 1000));
    timed("describe", || hub.core.describe(at, &"plant/few".parse().unwrap()));
    timed("GET /v1/workloads", || hub.core.workloads(None, &Default::default()));
    timed("dry run over all boards", || {
        let Event::Request { request: Request::Apply(apply), .. } = apply(4, workload("guard", None)) else {
            unreachable!()
        };
        hub.core.plan(&apply).unwrap()
    });
    let store = hub.store.take().unwrap();
    let facts = facts(&store);
    drop(hub);
    let mut hub = Hub { core: Core::new(Config::default()), now: 1, store: None, effects: 0 };
    timed("a full pass at the hub's start: all boards × 2 workloads", || {
        hub.step(Event::Boot(Box::new(facts)), &mut boards)
    });
    timed("all boards back after the hub's start", || {
        hub.step(Event::BusUp, &mut boards);
        boards.connect(&mut hub);
    });
    assert_eq!(hub.core.status().agents.online as usize, agents());
}

#[test]
fn a_fleet() {
    let bytes = memory_of_a_fleet();
    time_of_a_fleet();
    assert!(bytes <= AGENT_BYTES_MAX, "{bytes} bytes per agent");
}
