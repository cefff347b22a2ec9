//! Random worlds and random talk: what must hold whatever comes.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::*;
use contract::status::Workloads;
use contract::{AgentId, BoardId, Epoch, Nonce, WorkloadKey};
use proptest::prelude::*;

use super::bed::*;
use super::board::*;
use super::placement::slots;
use crate::api::*;
use crate::charge::Charge;
use crate::{Config, labels};

#[derive(Debug, Clone)]
enum Change {
    Join { agent: u8, line: u8, cpu: u32, memory: u64 },
    Leave { agent: u8 },
    Remove { agent: u8 },
    Apply { name: u8, every: bool, replicas: u32, line: Option<u8>, cpu: u32, memory: u64 },
    Scale { name: u8, replicas: u32 },
    Delete { name: u8 },
    Restart,
}

fn change() -> impl Strategy<Value = Change> {
    let memory = 10u64..100;
    prop_oneof![
        4 => (0u8..8, 0u8..3, 100u32..1000, 20u64..300)
            .prop_map(|(agent, line, cpu, memory)| Change::Join { agent, line, cpu, memory }),
        1 => (0u8..8).prop_map(|agent| Change::Leave { agent }),
        1 => (0u8..8).prop_map(|agent| Change::Remove { agent }),
        5 => (0u8..5, any::<bool>(), 0u32..9, proptest::option::of(0u8..3), 10u32..400, memory).prop_map(
            |(name, every, replicas, line, cpu, memory)| Change::Apply { name, every, replicas, line, cpu, memory }
        ),
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
            Change::Apply { name, every: is_every, replicas: n, line, cpu, memory } => {
                let name = format!("w{name}");
                let workload = if is_every { every(&name, "app:1") } else { replicas(&name, "app:1", n) };
                let workload = needs(workload, cpu, memory);
                let pairs = line.map(labels_of);
                let workload = match &pairs {
                    Some(pairs) => on(workload, &pairs.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>()),
                    None => workload,
                };
                let answer = self.bed.apply(vec![workload]);
                assert!(matches!(answer, Answer::Applied { .. }), "{answer:?}");
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
                assert!(labels::miss(ask.selector, &world.agents[id].record.labels).is_none());
                assert_eq!(placed.charge, ask.price.of(placed.record.slots.len()));
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

use super::bed::labels;

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

/// Anything that two boards, fighting over two ids, might say, in any order.
#[derive(Debug, Clone)]
enum Talk {
    Presence {
        agent: u8,
        board: u8,
        boots: u64,
        session: u64,
        online: bool,
    },
    Report {
        agent: u8,
        board: u8,
        boots: u64,
        session: u64,
        seq: u64,
        nonce: u8,
        body: u8,
    },
    Events {
        agent: u8,
        board: u8,
        boots: u64,
        session: u64,
        first: u64,
        of: u64,
        n: usize,
    },
    Reply {
        agent: u8,
        seq: u32,
        body: u8,
    },
    Overflow {
        agent: u8,
    },
    Bus(bool),
    Pass(u64),
    Apply {
        every: bool,
        n: u32,
    },
    Command {
        agent: u8,
    },
    /// End so many of the open effects, the first Persist first.
    Finish {
        persists: usize,
        others: usize,
        fails: bool,
    },
    Restart,
}

fn talk() -> impl Strategy<Value = Talk> {
    let who = || (0u8..2, 0u8..2, 0u64..4, 1u64..4);
    prop_oneof![
        4 => (who(), any::<bool>()).prop_map(|((agent, board, boots, session), online)|
            Talk::Presence { agent, board, boots, session, online }),
        8 => (who(), 1u64..6, 0u8..4, 0u8..4).prop_map(|((agent, board, boots, session), seq, nonce, body)|
            Talk::Report { agent, board, boots, session, seq, nonce, body }),
        3 => (who(), 0u64..9, 0u64..4, 0usize..5).prop_map(|((agent, board, boots, session), first, of, n)|
            Talk::Events { agent, board, boots, session, first, of, n }),
        1 => (0u8..2, 0u32..3, 0u8..4).prop_map(|(agent, seq, body)| Talk::Reply { agent, seq, body }),
        1 => (0u8..2).prop_map(|agent| Talk::Overflow { agent }),
        1 => any::<bool>().prop_map(Talk::Bus),
        2 => (0u64..2_000_000).prop_map(Talk::Pass),
        1 => (any::<bool>(), 0u32..4).prop_map(|(every, n)| Talk::Apply { every, n }),
        1 => (0u8..2).prop_map(|agent| Talk::Command { agent }),
        6 => (0usize..4, 0usize..4, proptest::bool::weighted(0.1))
            .prop_map(|(persists, others, fails)| Talk::Finish { persists, others, fails }),
        1 => Just(Talk::Restart),
    ]
}

struct Chaos {
    bed: Bed,
    /// Every nonce that a report has echoed.
    echoed: BTreeSet<Nonce>,
    old: BTreeMap<AgentId, Nonce>,
    desired: BTreeMap<AgentId, DesiredHead>,
    commands: BTreeMap<AgentId, Command>,
}

impl Chaos {
    fn agent(n: u8) -> AgentId {
        id(["a", "b"][usize::from(n)])
    }

    fn session_nonce(&self, agent: &AgentId) -> Option<Nonce> {
        self.bed.core.session(agent).map(|s| s.nonce)
    }

    fn say(&mut self, agent: u8, message: FromAgent) {
        self.bed.message(&Chaos::agent(agent), message);
    }

    fn hear(&mut self) {
        for op in self.bed.take() {
            match op {
                Op::PublishHello { agent, hello } => drop(self.old.insert(agent, hello.nonce)),
                Op::PublishDesired { agent, document } => drop(self.desired.insert(agent, document.head())),
                Op::PublishCommand { agent, command } => drop(self.commands.insert(agent, *command)),
                _ => {}
            }
        }
    }

    fn go(&mut self, talk: Talk) {
        match talk {
            Talk::Presence { agent, board, boots, session, online } => {
                let mut presence = Board::new("a").presence;
                (presence.board, presence.epoch, presence.online) =
                    (BoardId([board; 16]), Epoch { boots, session }, online);
                self.say(agent, FromAgent::Presence(presence));
            }
            Talk::Report { agent, board, boots, session, seq, nonce, body } => {
                let id = Chaos::agent(agent);
                let nonce = match nonce {
                    0 => None,
                    1 => self.old.get(&id).copied(),
                    2 => Some(Nonce([1; 16])),
                    _ => self.session_nonce(&id),
                };
                self.echoed.extend(nonce);
                let body = match body {
                    0 => ObservedBody::Full { workloads: Workloads::new() },
                    1 => ObservedBody::Changes { workloads: Default::default() },
                    2 => ObservedBody::Heartbeat {
                        state: Observed::state_digest(&Workloads::new()),
                        spooled: 1,
                    },
                    _ => ObservedBody::Heartbeat { state: contract::Digest::of(b"other"), spooled: 0 },
                };
                let applied = self.desired.get(&id).copied().filter(|_| seq % 2 == 0);
                let (board, epoch) = (BoardId([board; 16]), Epoch { boots, session });
                let report = Observed { board, epoch, seq, nonce, now_ms: 1, applied, refused: None, body };
                self.say(agent, FromAgent::Observed(report));
            }
            Talk::Events { agent, board, boots, session, first, of, n } => {
                let mut batch = Board::new("a").batch(1, n);
                (batch.board, batch.epoch) = (BoardId([board; 16]), Epoch { boots, session });
                batch.first_seq = of << 32 | first;
                self.say(agent, FromAgent::Events(batch));
            }
            Talk::Reply { agent, seq, body } => {
                let Some(command) = self.commands.get(&Chaos::agent(agent)) else { return };
                let body = match body {
                    0 => ReplyBody::Accepted,
                    1 => ReplyBody::Refused { reason: "no".into() },
                    2 => ReplyBody::Progress { text: "x".into() },
                    _ => ReplyBody::Done { error: None },
                };
                let reply = Reply { id: command.id.clone(), nonce: command.nonce, seq, body };
                self.say(agent, FromAgent::Reply(reply));
            }
            Talk::Overflow { agent } => self.bed.send(Event::Overflow { agent: Chaos::agent(agent) }),
            Talk::Bus(true) => self.bed.send(Event::BusUp),
            Talk::Bus(false) => self.bed.send(Event::BusDown { reason: "x".into() }),
            Talk::Pass(ms) => {
                self.bed.now += ms;
                self.bed.send(Event::Wake);
            }
            Talk::Apply { every: is_every, n } => {
                let workload = if is_every { every("w", "app:1") } else { replicas("w", "app:1", n) };
                let request = Request::Apply(Box::new(apply_of(vec![workload])));
                self.bed.request(request);
            }
            Talk::Command { agent } => {
                let op = CommandOp::Cancel { command: "x".parse().unwrap() };
                let agent = Chaos::agent(agent);
                self.bed.request(Request::Command { agent, op, deadline_ms: 1000, ticket: None });
            }
            Talk::Finish { persists, others, fails } => self.finish(persists, others, fails),
            Talk::Restart => self.bed.restart(),
        }
    }

    fn finish(&mut self, persists: usize, others: usize, fails: bool) {
        for _ in 0..persists {
            let Some((id, writes)) = self.bed.pending.pop_front() else { break };
            self.bed.durable.write(&writes);
            self.bed.step(Event::Finished { id, outcome: Outcome::Done });
        }
        for _ in 0..others {
            let waits = |e: &Effect| e.after.is_some_and(|k| self.bed.pending.iter().any(|(id, _)| *id == k));
            let Some(n) = self.bed.open.iter().position(|e| !waits(e)) else { break };
            let effect = self.bed.open.remove(n);
            match fails {
                true => self.bed.step(Event::Finished { id: effect.id, outcome: Outcome::Fault("x".into()) }),
                false => self.bed.finish(effect),
            }
        }
    }

    fn check(&self) {
        for view in self.bed.core.agents(self.bed.at(), &Default::default()) {
            if !view.fresh {
                continue;
            }
            let session = self.bed.core.session(&view.agent).unwrap();
            assert!(self.echoed.contains(&session.nonce), "fresh without the present nonce");
            assert!(session.online && self.bed.core.world.bus_up);
        }
        for (id, agent) in &self.bed.core.world.agents {
            let due = agent.session.as_ref().and_then(|s| s.due);
            assert_eq!(self.bed.core.timers.of(id), due.into_iter().collect::<Vec<_>>(), "one timer each");
        }
        let numbers: Vec<u64> = self.bed.durable.events.keys().copied().collect();
        assert!(numbers.windows(2).all(|w| w[0] + 1 == w[1]), "events have no holes: {numbers:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_said_nothing_is_fresh_without_proof(talks in proptest::collection::vec(talk(), 1..80)) {
        let mut bed = Bed::new();
        bed.push("app:1");
        bed.auto = false;
        let mut chaos = Chaos {
            bed,
            echoed: BTreeSet::new(),
            old: BTreeMap::new(),
            desired: BTreeMap::new(),
            commands: BTreeMap::new(),
        };
        for talk in talks {
            chaos.go(talk);
            chaos.hear();
            chaos.check();
        }
        // Then the world heals: what was taken in becomes durable, and it comes to rest.
        chaos.bed.auto = true;
        chaos.bed.settle();
        chaos.check();
        prop_assert!(chaos.bed.pending.is_empty());
        for (id, agent) in &chaos.bed.core.world.agents {
            prop_assert_eq!(Some(&agent.record), chaos.bed.durable.agents.get(id), "the store has what memory has");
        }
    }
}
