//! What do the operator and misfortune do? A board joins, a cable is pulled, a revision is bad, a store
//! is restored from an old copy. In the end somebody mends everything.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::api::StoreState;
use contract::message::{CommandOp, LogQuery};
use contract::quantity::Duration;
use contract::spec::{
    ConfigKey, EnvValue, Metadata, Placement, RestartPolicy, Rollout, Selector, Workload, WorkloadSpec,
};
use contract::{AgentId, DataKind, Digest, InstanceId, WorkloadKey};
use hub_core::access::rights::Many;
use hub_core::api::{Apply, NewArtifact, Prune, Request};
use hub_core::data::NewData;
use hub_core::record::ArtifactKind;

use crate::board::Board;
use crate::hub::Store;
use crate::runtime::Behaviour;
use crate::world::{Ev, World};

/// What misfortune did, undone.
#[derive(Debug, Clone)]
pub enum Act {
    LinkUp(usize),
    PowerOn(usize),
    Push,
    Operate,
    Rescue,
}

#[derive(Default)]
pub struct Operator {
    pub pending: BTreeMap<u64, Request>,
    artifacts: BTreeMap<Digest, Behaviour>,
}

/// By number of the artefact; the first ones are safe.
const ARTIFACTS: &[Behaviour] = &[
    Behaviour::Good,
    Behaviour::Good,
    Behaviour::Good,
    Behaviour::Slow,
    Behaviour::Stubborn,
    Behaviour::Completes,
    Behaviour::Flaky,
    Behaviour::Crashes,
    Behaviour::Refused,
    Behaviour::DoesNotCompile,
    Behaviour::Fells,
];
const SAFE: usize = 5;
const WORKLOADS: usize = 6;

impl Operator {
    pub fn behaviour(&self, source: &Digest) -> Behaviour {
        self.artifacts.get(source).copied().unwrap_or(Behaviour::Good)
    }
}

pub fn artifact(n: usize) -> Digest {
    Digest::of(format!("artefact {n}").as_bytes())
}

pub fn key(n: usize) -> WorkloadKey {
    format!("plant/w{n}").parse().expect("a legal key")
}

pub fn told(request: &Request) -> String {
    match request {
        Request::Apply(apply) => {
            let one = |w: &Workload| format!("{} {} {:?}", w.key(), w.spec.image, w.spec.replicas);
            let list: Vec<String> = apply.workloads.iter().map(one).collect();
            format!("apply {list:?} prune {:?}", apply.prune)
        }
        other => format!("{other:?}"),
    }
}

/// A workload of this artefact; a variant is another revision of it.
pub fn workload(n: usize, artifact: usize, variant: u64) -> Workload {
    let key = key(n);
    Workload {
        metadata: Metadata {
            name: key.name,
            namespace: key.namespace,
            labels: BTreeMap::from([("app".to_string(), format!("g{}", n % 2))]),
            annotations: BTreeMap::new(),
        },
        spec: WorkloadSpec {
            image: format!("app{artifact}:1"),
            args: vec![variant.to_string()],
            every_agent: true,
            rollout: Some(Rollout {
                healthy_after: Some(Duration { ms: 2_000 }),
                deadline: Some(Duration { ms: 90_000 }),
                ..Rollout::default()
            }),
            ..WorkloadSpec::default()
        },
    }
}

pub fn apply(workloads: Vec<Workload>) -> Request {
    let (images, if_versions) = Default::default();
    let apply = Apply { workloads, images, data: Vec::new(), prune: None, dry_run: false, if_versions };
    Request::Apply(Box::new(apply))
}

impl World {
    pub fn begin(&mut self) {
        for (n, behaviour) in ARTIFACTS.iter().enumerate() {
            self.operator.artifacts.insert(artifact(n), *behaviour);
        }
        self.broker.up = !self.plan.broker.embedded;
        for n in 0..self.plan.agents {
            self.join(n);
        }
        self.at(0, Ev::HubStarts);
        self.at(3_000, Ev::Act(Act::Push));
        if self.plan.chaos_ms > 0 {
            self.at(5_000, Ev::Chaos);
            if self.plan.tended {
                self.at(20_000, Ev::Tend);
            }
        }
    }

    fn join(&mut self, n: usize) -> usize {
        let agent: AgentId = format!("a{n}").parse().expect("a legal id");
        let mut labels = BTreeMap::from([("line".to_string(), ["a", "b"][n % 2].to_string())]);
        if !self.rng.chance(200) {
            labels.insert("site".into(), format!("s{}", n % 3));
        }
        let id = contract::BoardId(self.rng.bytes16());
        self.boards.push(Board::new(agent, id, labels, self.plan.tight));
        let b = self.boards.len() - 1;
        let wait = self.rng.below(2_000);
        self.after(wait, Ev::Act(Act::PowerOn(b)));
        b
    }

    pub fn push_artifacts(&mut self) {
        for n in 0..ARTIFACTS.len() {
            self.request(Request::AddArtifact(NewArtifact {
                digest: artifact(n),
                size_bytes: 1_000,
                kind: ArtifactKind::WasmModule,
                tag: Some(format!("app{n}:1")),
                image: None,
            }));
        }
    }

    pub fn act(&mut self, act: Act) {
        match act {
            Act::LinkUp(b) => {
                self.trace(|| format!("a{b} link up"));
                self.boards[b].linked = true;
            }
            Act::PowerOn(b) => self.power_on(b),
            Act::Push => self.push_artifacts(),
            Act::Operate => self.operate(),
            Act::Rescue => self.rescue(),
        }
    }

    /// One act, and the next one's time.
    pub fn chaos(&mut self) {
        if self.healed {
            return;
        }
        match self.rng.below(100) {
            0..32 => self.operate(),
            32..42 => self.pull_cable(),
            42..48 => self.flap(),
            48..56 => self.some_board(|w, b| {
                w.agent_dies(b, true);
                w.agent_restarts(b);
            }),
            56..64 => self.some_board(|w, b| {
                w.power_cut(b);
                let wait = w.rng.range(3_000, 400_000);
                w.after(wait, Ev::Act(Act::PowerOn(b)));
            }),
            64..70 => self.crash_hub(),
            70..75 => self.crash_broker(),
            75..80 => self.lose_bus(),
            80..84 => self.stall_disk(),
            84..87 => self.change_labels(),
            87..89 => {
                if self.boards.len() < 24 {
                    let n = self.boards.len();
                    self.join(n);
                }
            }
            89 => self.retire_one(),
            90..93 => self.spoil_hub_store(),
            93..96 => self.lose_agent_store(),
            96..98 => self.clone_board(),
            _ => self.ask_for_logs(),
        }
        let wait = self.rng.range(500, self.plan.pause_ms);
        self.after(wait, Ev::Chaos);
    }

    fn some_board(&mut self, act: impl FnOnce(&mut World, usize)) {
        let b = self.rng.index(self.boards.len());
        if !self.boards[b].retired {
            act(self, b);
        }
    }

    // --- the operator ---

    fn operate(&mut self) {
        if self.plan.data && self.data_rng.chance(300) {
            return self.configure();
        }
        let n = self.rng.index(WORKLOADS);
        match self.rng.below(100) {
            0..60 => {
                let workload = self.some_workload(n);
                let mut workloads = vec![workload];
                if self.rng.chance(200) {
                    let other = (n + 1) % WORKLOADS;
                    workloads.push(self.some_workload(other));
                }
                self.request(apply(workloads));
            }
            60..72 => {
                let replicas = self.rng.below(5) as u32;
                self.request(Request::Scale { key: key(n), replicas, if_version: None });
            }
            72..84 => self.request(Request::Restart { key: key(n) }),
            84..94 => self.request(Request::Delete { keys: vec![key(n)], if_version: None }),
            94..97 => {
                let workload = self.some_workload(n);
                let labels = BTreeMap::from([("app".to_string(), format!("g{}", n % 2))]);
                let prune = Some(Prune { labels, within: Many::All });
                let (workloads, if_versions) = (vec![workload], BTreeMap::new());
                self.request(Request::Apply(Box::new(Apply {
                    workloads,
                    images: BTreeMap::new(),
                    data: Vec::new(),
                    prune,
                    dry_run: false,
                    if_versions,
                })));
            }
            _ if self.plan.restores => self.accept_restore(),
            _ => {}
        }
    }

    /// A Config is made, changed, or applied as it is; whoever uses it follows.
    fn configure(&mut self) {
        let content = format!("tuning {}", self.data_rng.below(4));
        let metadata = Metadata {
            name: "tuning".parse().expect("a legal name"),
            namespace: key(0).namespace,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        };
        let data = NewData {
            kind: DataKind::Config,
            metadata,
            content: Digest::of(content.as_bytes()),
            size_bytes: 100,
            keys: BTreeMap::from([("mode".to_string(), 5)]),
        };
        let Request::Apply(mut apply) = apply(Vec::new()) else { return };
        apply.data.push(data);
        self.request(Request::Apply(apply));
    }

    fn some_workload(&mut self, n: usize) -> Workload {
        let bad = self.plan.bad_revisions && self.rng.chance(350);
        let artifact = if bad {
            self.rng.range(SAFE as u64, ARTIFACTS.len() as u64) as usize
        } else {
            self.rng.index(SAFE)
        };
        let variant = self.rng.below(3);
        let probes =
            if self.plan.probes && self.probe_rng.chance(700) { self.probe_rng.below(16) } else { 0 };
        let mut workload = workload(n, artifact, variant);
        let spec = &mut workload.spec;
        if n % 2 == 1 {
            spec.every_agent = false;
            spec.replicas = Some(self.rng.below(5) as u32);
        }
        if self.rng.chance(250) {
            let line = ["a", "b"][self.rng.index(2)].to_string();
            let match_labels = BTreeMap::from([("line".to_string(), line)]);
            let selector = Selector { match_labels, ..Selector::default() };
            spec.placement = Some(Placement { selector: Some(selector), ..Placement::default() });
        }
        if self.rng.chance(200) {
            spec.env.insert("SITE".into(), EnvValue::Text("${agent.labels.site}".into()));
        }
        if probes > 0 {
            crate::probes::give(spec, probes);
        }
        if self.plan.data && self.data_rng.chance(500) {
            let (config, key) = ("tuning".parse().expect("a legal name"), "mode".to_string());
            spec.env.insert("MODE".into(), EnvValue::Config(ConfigKey { config, key, optional: true }));
        }
        if artifact == 5 {
            let policies = [RestartPolicy::OnFailure, RestartPolicy::Never, RestartPolicy::Always];
            spec.restart_policy = Some(policies[self.rng.index(3)]);
        }
        self.rank(&mut workload);
        workload
    }

    /// An operator who was told that agents are ahead of the hub's store, or belong to another one.
    pub fn accept_restore(&mut self) {
        let Some(lineage) = self.hub.disk.meta.map(|meta| meta.lineage) else { return };
        let present = self.boards.iter().filter(|b| !b.retired);
        let held: Vec<_> =
            present.filter_map(|b| b.disk.desired.as_ref()).map(|held| held.head.lineage).collect();
        let other = held.iter().find(|l| **l != lineage).copied();
        if held.contains(&lineage) && other.is_some() {
            self.wipe_strangers(lineage);
        }
        let lineage = other.filter(|_| !held.contains(&lineage));
        self.request(Request::AcceptRestore { lineage });
    }

    /// A hub follows one lineage. Boards of a third one (the store was deleted twice) have to be taken in
    /// one by one: their stores are deleted.
    fn wipe_strangers(&mut self, lineage: contract::Lineage) {
        for b in 0..self.boards.len() {
            let other = |held: &crate::board::Held| held.head.lineage != lineage;
            if !self.boards[b].retired && self.boards[b].disk.desired.as_ref().is_some_and(other) {
                self.agent_dies(b, true);
                self.boards[b].store_lost = Some(StoreState::Fresh);
                self.agent_restarts(b);
            }
        }
    }

    fn ask_for_logs(&mut self) {
        let b = self.rng.index(self.boards.len());
        let Some((instance, _)) = self.boards[b].runs.keys().next().cloned() else { return };
        let InstanceId { .. } = instance;
        let query = LogQuery { instance, tail: Some(10), since_ms: None, previous: false, follow: false };
        let (agent, op) = (self.boards[b].agent.clone(), CommandOp::Logs(query));
        self.request(Request::Command { agent, op, deadline_ms: 10_000, ticket: None });
    }

    // --- misfortune ---

    fn pull_cable(&mut self) {
        self.some_board(|w, b| {
            w.trace(|| format!("a{b} link down"));
            w.boards[b].linked = false;
            for conn in w.conns_of(b) {
                w.cut(conn, 60_000);
            }
            let wait = w.rng.range(1_000, 600_000);
            w.after(wait, Ev::Act(Act::LinkUp(b)));
        });
    }

    /// The session ends and the next one begins at once, mostly before the broker has noticed.
    fn flap(&mut self) {
        self.some_board(|w, b| {
            for conn in w.conns_of(b) {
                w.cut(conn, 60_000);
                w.after(1, Ev::AgentLoses { conn });
            }
        });
    }

    fn crash_hub(&mut self) {
        self.hub_dies();
        let wait = self.rng.range(500, 300_000);
        self.after(wait, Ev::HubStarts);
    }

    fn crash_broker(&mut self) {
        if self.plan.broker.embedded || !self.broker.up {
            return;
        }
        self.broker_dies();
        let wait = self.rng.range(500, 300_000);
        self.after(wait, Ev::BrokerStarts);
    }

    fn lose_bus(&mut self) {
        if self.plan.broker.embedded {
            return;
        }
        self.bus_lost("the link broke");
        let (life, wait) = (self.hub.life, self.rng.range(500, 200_000));
        self.after(wait, Ev::BusUp { life });
    }

    fn stall_disk(&mut self) {
        let until = self.now + self.rng.range(5_000, 120_000);
        if self.rng.chance(200) {
            self.hub.stalled_until = until;
        } else {
            self.some_board(|w, b| w.boards[b].stalled_until = until);
        }
    }

    fn change_labels(&mut self) {
        self.some_board(|w, b| {
            let line = ["a", "b"][w.rng.index(2)];
            w.boards[b].labels.insert("line".into(), line.into());
            w.agent_dies(b, true);
            w.agent_restarts(b);
        });
    }

    fn retire_one(&mut self) {
        if self.boards.iter().filter(|b| !b.retired).count() > 1 {
            self.some_board(|w, b| {
                w.power_cut(b);
                w.boards[b].retired = true;
                let agent = w.boards[b].agent.clone();
                if w.rng.chance(500) {
                    w.request(Request::RemoveAgent { agent });
                }
            });
        }
    }

    fn spoil_hub_store(&mut self) {
        if !self.plan.restores {
            return;
        }
        let choice = self.rng.below(4);
        if choice < 2 || self.hub.copies.is_empty() {
            return self.hub.copies.push(self.hub.disk.clone());
        }
        self.hub_dies();
        if choice == 2 {
            let n = self.rng.index(self.hub.copies.len());
            self.hub.disk = self.hub.copies[n].clone();
            self.trace(|| "the hub's store is restored from an old copy".into());
        } else {
            self.hub.disk = Store::default();
            self.trace(|| "the hub's store is deleted".into());
            self.after(10_000, Ev::Act(Act::Push));
        }
        self.truth.rewind();
        self.after(1_000, Ev::HubStarts);
    }

    fn lose_agent_store(&mut self) {
        if !self.plan.agent_store_loss {
            return;
        }
        self.some_board(|w, b| {
            w.agent_dies(b, true);
            let aside = StoreState::SetAside { path: "/aside".into(), reason: "bad checksum".into() };
            w.boards[b].store_lost = Some(if w.rng.chance(500) { aside } else { StoreState::Fresh });
            w.agent_restarts(b);
        });
    }

    /// A second board under the same id: an image that was written twice.
    fn clone_board(&mut self) {
        if !self.plan.duplicates {
            return;
        }
        self.some_board(|w, b| {
            let agent = w.boards[b].agent.clone();
            let (id, labels) = (contract::BoardId(w.rng.bytes16()), w.boards[b].labels.clone());
            w.boards.push(Board::new(agent, id, labels, w.plan.tight));
            let twin = w.boards.len() - 1;
            w.trace(|| format!("a{twin} is a twin of a{b}"));
            w.power_on(twin);
        });
    }

    // --- the end of it ---

    pub fn heal(&mut self) {
        (self.healed, self.healed_at) = (true, self.now);
        self.heal_all();
        self.trace(|| "HEAL".into());
        self.plan.heal();
        self.retire_twins();
        self.hub.stalled_until = 0;
        for b in 0..self.boards.len() {
            self.boards[b].linked = true;
            self.boards[b].stalled_until = 0;
            self.power_on(b);
        }
        self.hub_starts();
        self.broker_starts();
        let life = self.hub.life;
        self.after(2_500, Ev::BusUp { life });
        self.after(6_000, Ev::Act(Act::Push));
        self.after(1_200_000, Ev::Act(Act::Rescue));
    }

    /// What takes boards down that have nothing to fall back to is deleted: they are heard between two
    /// boots. (The others help themselves.)
    fn rescue(&mut self) {
        let mut keys = BTreeSet::new();
        for board in self.boards.iter().filter(|board| !board.retired) {
            let assignments = board.disk.desired.iter().flat_map(|held| &held.document.assignments);
            for (key, assignment) in assignments {
                let good = board.disk.workloads.get(key).is_some_and(|record| record.good.is_some());
                if !good && self.behaviour(assignment) == Behaviour::Fells {
                    keys.insert(key.clone());
                }
            }
        }
        let keys = keys.into_iter().filter(|key| self.hub.disk.workloads.contains_key(key)).collect();
        self.request(Request::Delete { keys, if_version: None });
    }

    /// Of boards with one id, the one that the hub knows stays.
    fn retire_twins(&mut self) {
        for b in 0..self.boards.len() {
            let agent = self.boards[b].agent.clone();
            let known = self.hub.disk.agents.get(&agent).map(|record| record.board);
            let twins: Vec<usize> = self.boards_of(&agent).filter(|t| !self.boards[*t].retired).collect();
            let stays = twins.iter().find(|t| Some(self.boards[**t].id) == known).or(twins.first()).copied();
            for twin in twins.into_iter().filter(|t| Some(*t) != stays) {
                self.power_cut(twin);
                self.boards[twin].retired = true;
            }
        }
    }
}
