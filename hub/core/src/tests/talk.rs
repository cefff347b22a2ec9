//! Random talk of boards that fight over ids, a bus and a store that fail: what must hold whatever comes.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::*;
use contract::status::Workloads;
use contract::{AgentId, BoardId, Epoch, Nonce};
use proptest::prelude::*;

use super::bed::*;
use super::board::*;
use crate::api::*;

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
