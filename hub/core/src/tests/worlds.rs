//! Random worlds: looking only at what changed gives what looking at everything gives.

use std::collections::{BTreeMap, BTreeSet};

use contract::spec::{Affinity, Preference, Selector, Toleration, TolerationOperator, Workload};
use contract::{AgentId, WorkloadKey};
use proptest::prelude::*;

use super::bed::*;
use super::board::*;
use super::placement::slots;
use crate::Config;
use crate::api::*;
use crate::charge::Charge;
use crate::fleet::{AgentChange, Nothing, Untaint};
use crate::place;

#[derive(Debug, Clone)]
enum Change {
    Join {
        agent: u8,
        line: u8,
        cpu: u32,
        memory: u64,
    },
    Leave {
        agent: u8,
    },
    Remove {
        agent: u8,
    },
    Apply {
        name: u8,
        every: bool,
        replicas: u32,
        line: Option<u8>,
        cpu: u32,
        memory: u64,
        taste: Taste,
    },
    /// Label, taint, cordon or uncordon.
    Mark {
        agent: u8,
        what: u8,
        line: u8,
    },
    Scale {
        name: u8,
        replicas: u32,
    },
    Delete {
        name: u8,
    },
    Restart,
}

/// What else decides where it goes.
#[derive(Debug, Clone)]
struct Taste {
    priority: i32,
    spread: bool,
    prefers: Option<u8>,
    tolerates: bool,
}

fn taste() -> impl Strategy<Value = Taste> {
    (-1i32..3, any::<bool>(), proptest::option::of(0u8..3), any::<bool>())
        .prop_map(|(priority, spread, prefers, tolerates)| Taste { priority, spread, prefers, tolerates })
}

fn with_taste(mut workload: Workload, taste: &Taste) -> Workload {
    let every = workload.spec.every_agent;
    workload.spec.priority = (taste.priority != 0).then_some(taste.priority);
    let placement = workload.spec.placement.get_or_insert_default();
    placement.spread = (taste.spread && !every).then(|| "line".to_string());
    if let Some(line) = taste.prefers.filter(|_| !every) {
        let selector = Selector { match_labels: labels_of(line), ..Selector::default() };
        let preferred = vec![Preference { weight: Some(5), selector }];
        placement.affinity = Some(Affinity { required: Vec::new(), preferred });
    }
    if taste.tolerates {
        let toleration = Toleration { operator: Some(TolerationOperator::Exists), ..Toleration::default() };
        placement.tolerations = vec![toleration];
    }
    workload
}

fn mark(what: u8, line: u8) -> AgentChange {
    let taint = |effect| vec![format!("old:{effect}").parse().unwrap()];
    match what {
        0 => AgentChange::Cordon(Nothing {}),
        1 => AgentChange::Uncordon(Nothing {}),
        2 => AgentChange::Taint(taint("NoSchedule")),
        3 => AgentChange::Taint(taint("NoExecute")),
        4 => AgentChange::Taint(taint("PreferNoSchedule")),
        5 => AgentChange::Untaint(vec![Untaint { key: "old".into(), effect: None }]),
        6 => AgentChange::Label([("line".to_string(), None)].into()),
        _ => AgentChange::Label(labels_of(line).into_iter().map(|(k, v)| (k, Some(v))).collect()),
    }
}

fn change() -> impl Strategy<Value = Change> {
    let memory = 10u64..100;
    prop_oneof![
        4 => (0u8..8, 0u8..3, 100u32..1000, 20u64..300)
            .prop_map(|(agent, line, cpu, memory)| Change::Join { agent, line, cpu, memory }),
        1 => (0u8..8).prop_map(|agent| Change::Leave { agent }),
        1 => (0u8..8).prop_map(|agent| Change::Remove { agent }),
        5 => (0u8..5, any::<bool>(), 0u32..9, proptest::option::of(0u8..3), 10u32..400, memory, taste()).prop_map(
            |(name, every, replicas, line, cpu, memory, taste)| Change::Apply {
                name, every, replicas, line, cpu, memory, taste
            }
        ),
        3 => (0u8..8, 0u8..9, 0u8..3).prop_map(|(agent, what, line)| Change::Mark { agent, what, line }),
        2 => (0u8..5, 0u32..9).prop_map(|(name, replicas)| Change::Scale { name, replicas }),
        2 => (0u8..5).prop_map(|name| Change::Delete { name }),
        1 => Just(Change::Restart),
    ]
}

struct Fleet {
    bed: Bed,
    boards: BTreeMap<u8, Board>,
    away: BTreeSet<u8>,
    /// Look at everything at each event, and not only at what it concerns.
    full: bool,
}

impl Fleet {
    fn new(page_max: usize, full: bool) -> Fleet {
        let config = Config { page_max, ..Config::default() };
        let mut bed = Bed::with(config, Store::default());
        bed.push("app:1");
        Fleet { bed, boards: BTreeMap::new(), away: BTreeSet::new(), full }
    }

    fn make(&mut self, change: &Change) {
        if self.full {
            let keys: Vec<WorkloadKey> = self.bed.core.world.works.keys().cloned().collect();
            keys.iter().for_each(|key| self.bed.core.queues.dirty.all(key));
        }
        match change.clone() {
            Change::Join { agent, line, cpu, memory } => {
                let board = self.boards.entry(agent).or_insert_with(|| Board::new(&format!("a{agent}")));
                board.presence.labels = labels_of(line);
                board.presence.capacity = capacity(cpu, memory);
                board.reboot(&mut self.bed);
                self.away.remove(&agent);
            }
            Change::Leave { agent } => {
                if let Some(board) = self.boards.get(&agent) {
                    board.leave(&mut self.bed);
                    self.away.insert(agent);
                }
            }
            Change::Remove { agent } => {
                if let Some(board) = self.boards.get(&agent) {
                    board.leave(&mut self.bed);
                    self.bed.ask(Request::RemoveAgent { agent: board.id.clone() });
                    self.boards.remove(&agent);
                }
            }
            Change::Apply { name, every: is_every, replicas: n, line, cpu, memory, taste } => {
                let name = format!("w{name}");
                let workload = if is_every { every(&name, "app:1") } else { replicas(&name, "app:1", n) };
                let workload = needs(workload, cpu, memory);
                let pairs = line.map(labels_of);
                let workload = match &pairs {
                    Some(pairs) => on(workload, &pairs.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>()),
                    None => workload,
                };
                let workload = with_taste(workload, &taste);
                let answer = self.bed.apply(vec![workload]);
                assert!(matches!(answer, Answer::Applied { .. }), "{answer:?}");
            }
            Change::Mark { agent, what, line } => {
                let agents = vec![id(&format!("a{agent}"))];
                self.bed.ask(Request::ChangeAgents { agents, change: mark(what, line) });
            }
            Change::Scale { name, replicas } => {
                let key = key(&format!("ns/w{name}"));
                self.bed.ask(Request::Scale { key, replicas, if_version: None });
            }
            Change::Delete { name } => {
                self.bed.ask(Request::Delete { keys: vec![key(&format!("ns/w{name}"))], if_version: None });
            }
            Change::Restart => {
                self.bed.restart();
                // The broker has kept what each board said last.
                let (bed, away) = (&mut self.bed, &self.away);
                let there = self.boards.iter_mut().filter(|(n, _)| !away.contains(n));
                there.for_each(|(_, board)| board.connect(bed));
            }
        }
        for board in self.boards.values_mut() {
            board.converse(&mut self.bed);
        }
        self.bed.take();
    }

    /// Sums, selectors, slots.
    fn check(&self, shrunk: &BTreeSet<AgentId>) {
        let world = &self.bed.core.world;
        for (id, agent) in &world.agents {
            let charges = world.works.values().filter_map(|work| work.placed.get(id)).map(|p| p.charge);
            assert_eq!(charges.fold(Charge::default(), Charge::plus), agent.used);
            let limit = agent.limit();
            let over =
                agent.used.cpu_millis > limit.cpu_millis || agent.used.memory_bytes > limit.memory_bytes;
            assert!(!over || shrunk.contains(id), "{id} is over its capacity");
        }
        for (key, work) in &world.works {
            let ask = work.ask();
            for (id, placed) in &work.placed {
                assert!(place::suits(&ask, &world.agents[id].record).is_ok());
                assert_eq!(placed.charge, ask.price.of(placed.record.slots.len(), 0));
            }
            if !work.every_agent() {
                let placed: Vec<u32> = work.placed.values().flat_map(|p| p.record.slots.clone()).collect();
                let mut all: Vec<u32> = placed.iter().chain(&work.unplaced.slots).copied().collect();
                all.sort();
                assert_eq!(all, (0..work.replicas()).collect::<Vec<_>>(), "{key}: each slot once");
            }
            assert_eq!(world.starving.contains(key), !work.unplaced.is_empty());
        }
    }
}

fn labels_of(line: u8) -> BTreeMap<String, String> {
    labels(&[("line", ["x", "y", "z"][usize::from(line)])])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_full_and_nothing_is_overbooked(changes in proptest::collection::vec(change(), 1..25)) {
        // Small pages on one side: where a step ends must not show either.
        let mut incremental = Fleet::new(3, false);
        let mut full = Fleet::new(1000, true);
        let mut shrunk = BTreeSet::new();
        for change in &changes {
            let before: BTreeMap<_, _> = (0..5).map(|n| (n, slots(&incremental.bed, &format!("ns/w{n}")))).collect();
            let known = |fleet: &Fleet, agent: &u8| fleet.bed.durable.agents.contains_key(&id(&format!("a{agent}")));
            let joins = matches!(change, Change::Join { agent, .. } if !known(&incremental, agent));
            if let Change::Join { agent, .. } = change && !joins {
                shrunk.insert(id(&format!("a{agent}")));
            }
            if let Change::Remove { agent } = change {
                shrunk.remove(&id(&format!("a{agent}")));
            }
            incremental.make(change);
            full.make(change);
            incremental.check(&shrunk);
            prop_assert_eq!(&incremental.bed.durable.placements, &full.bed.durable.placements, "after {:?}", change);
            prop_assert_eq!(&incremental.bed.durable.workloads.keys().collect::<Vec<_>>(), &full.bed.durable.workloads.keys().collect::<Vec<_>>());
            if joins {
                for (n, before) in before.iter() {
                    let after = slots(&incremental.bed, &format!("ns/w{n}"));
                    if incremental.bed.core.world.works.get(&key(&format!("ns/w{n}"))).is_some_and(|w| !w.every_agent()) {
                        prop_assert!(before.iter().all(|(slot, agent)| after.get(slot) == Some(agent)), "a new agent moved a slot");
                    }
                }
            }
        }
        // What every board holds is what the hub would compose now, and knows that it published.
        for (n, board) in incremental.boards.iter().filter(|(n, _)| !incremental.away.contains(n)) {
            let known = &incremental.bed.core.world.agents[&board.id];
            let desired = board.desired.as_ref().unwrap();
            prop_assert_eq!(&incremental.bed.core.world.assignments(&board.id, known), &desired.assignments, "{}", n);
            prop_assert_eq!(incremental.bed.durable.agents[&board.id].digest, Some(desired.digest()));
        }
    }
}
