//! Random stories: an adversarial shell, broker, hub and power plug, under the rules of the seam. Never
//! a panic, never two runs of one instance, nothing told that is not durable (the board checks at every
//! step); and when the world is healed, everything becomes as it should.

use agent_core::api::*;
use contract::message::{Desired, Want};
use contract::run::Assignment;
use contract::spec::RestartPolicy;
use contract::status::{Exit, InstanceState, ProbeKind};
use contract::{Attempt, InstanceId, RunId, Term};
use proptest::prelude::*;

use crate::board::{Board, FakeRun, Fate};
use crate::{hub, probes};

#[derive(Debug, Clone)]
enum Act {
    /// Perform a ready effect, well.
    Perform(u8),
    /// Perform it badly: half done or not at all.
    Fail(u8, u8),
    /// Time passes to the next wake, or by so much.
    Wake,
    Advance(u16),
    End(u8, u8),
    Crash,
    PowerCut,
    LoseStore,
    Disconnect(bool),
    Hello(u8, bool),
    StrangeHello(u8),
    Publish(Plan),
    /// An older or forked document, or one of another lineage.
    Stale(u8),
    Announce(u8),
    Command(u8),
    Garbage(u8),
    Broker(bool),
    Network(bool),
    Fate(u8, u8),
    Answer(u8, bool),
}

/// For each of three workloads: revision (0: absent), slots, restarts.
type Plan = [(u8, u8, u8); 3];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        30 => any::<u8>().prop_map(Act::Perform),
        6 => (any::<u8>(), any::<u8>()).prop_map(|(n, how)| Act::Fail(n, how)),
        6 => Just(Act::Wake),
        3 => (0u16..20_000).prop_map(Act::Advance),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(n, how)| Act::End(n, how)),
        1 => Just(Act::Crash),
        1 => Just(Act::PowerCut),
        1 => Just(Act::LoseStore),
        2 => any::<bool>().prop_map(Act::Disconnect),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(n, full)| Act::Hello(n, full)),
        1 => any::<u8>().prop_map(Act::StrangeHello),
        4 => prop::array::uniform3((0u8..5, 0u8..4, 0u8..2)).prop_map(Act::Publish),
        1 => any::<u8>().prop_map(Act::Stale),
        1 => (0u8..3).prop_map(Act::Announce),
        1 => any::<u8>().prop_map(Act::Command),
        1 => any::<u8>().prop_map(Act::Garbage),
        1 => any::<bool>().prop_map(Act::Broker),
        1 => any::<bool>().prop_map(Act::Network),
        2 => (1u8..5, any::<u8>()).prop_map(|(n, how)| Act::Fate(n, how)),
        12 => (any::<u8>(), any::<bool>()).prop_map(|(n, well)| Act::Answer(n, well)),
    ]
}

/// The hub's side of a story.
struct Story {
    board: Board,
    generation: u64,
    document: Option<Desired>,
    nonce: u8,
    strays: u64,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Story {
    fn new() -> Story {
        let mut board = Board::new();
        board.well = false;
        board.boot();
        Story { board, generation: 0, document: None, nonce: 0, strays: 0 }
    }

    fn play(&mut self, act: &Act) {
        match act {
            Act::Perform(n) => self.perform(*n),
            Act::Fail(n, how) => self.fail(*n, *how),
            Act::Wake => self.wake(),
            Act::Advance(ms) => {
                self.board.now += u64::from(*ms);
                self.board.event(Event::Wake);
            }
            Act::End(n, how) => self.end(*n, *how),
            Act::Crash => self.crash(),
            Act::PowerCut => {
                self.board.power_cut();
            }
            Act::LoseStore => self.lose_store(),
            Act::Disconnect(refused) => self.disconnect(*refused),
            Act::Hello(n, full) => self.hello(*n, *full),
            Act::StrangeHello(n) => self.strange_hello(*n),
            Act::Publish(plan) => self.publish(plan),
            Act::Stale(how) => self.stale(*how),
            Act::Announce(term) => {
                let announce = contract::message::HubAnnounce {
                    lineage: hub::LINEAGE,
                    term: Term(u64::from(*term)),
                    window_ms: 30_000,
                };
                self.board.event(Event::Hub(HubMessage::Announce(announce)));
            }
            Act::Command(n) => {
                let command =
                    hub::logs(&format!("c{n}"), self.nonce, hub::instance(NAMES[*n as usize % 3], 0));
                self.board.event(Event::Hub(HubMessage::Command(command)));
            }
            Act::Garbage(n) => {
                let topic = format!("agents/press-1/{}", if n % 2 == 0 { "desired" } else { "hello" });
                self.board.event(Event::Rejected { topic, reason: format!("is not valid JSON {n}") });
            }
            Act::Broker(up) => self.board.broker = *up,
            Act::Network(up) => self.board.network = *up,
            Act::Fate(n, how) => self.fate(*n, *how),
            Act::Answer(n, well) => self.answer(*n, *well),
        }
    }

    /// Some question is answered; now and then one that nobody asks any more.
    fn answer(&mut self, n: u8, well: bool) {
        let asked: Vec<_> = self.board.asked.keys().cloned().collect();
        let Some((id, run, which)) = asked.get(n as usize % asked.len().max(1)).cloned() else { return };
        let which = if n > 250 { ProbeKind::Startup } else { which };
        self.board.answer_once(&id, run, which, if well { Ok(()) } else { Err("refused") });
    }

    fn perform(&mut self, n: u8) {
        let ready = self.board.ready();
        if !ready.is_empty() {
            self.board.perform(ready[n as usize % ready.len()]);
        }
    }

    fn fail(&mut self, n: u8, how: u8) {
        let ready: Vec<usize> = self.board.ready();
        let Some(n) = ready.get(n as usize % ready.len().max(1)).copied() else { return };
        // A store fault ends the process; that is `Crash`. Asking cannot fail, answers can.
        if matches!(self.board.pending[n].op, Op::Persist(_) | Op::Probe { .. }) {
            return;
        }
        let effect = self.board.pending.remove(n).unwrap();
        let half = how & 1 == 1;
        match &effect.op {
            // Failed starts leave something behind, and a late one may well run.
            Op::Start { instance, run, assignment } => {
                let deadline = how & 2 == 2;
                self.leave_run(instance, *run, assignment, half && deadline);
                let outcome = match (deadline, how & 4) {
                    (true, _) => Outcome::Deadline,
                    (false, 0) => Outcome::Fault("no memory".into()),
                    _ => Outcome::Refused("no such path".into()),
                };
                return self.board.finish(effect.id, outcome);
            }
            Op::Stop { instance, run, .. } if half => {
                self.board.end_run(instance, *run, Exit::Signal { signal: 9 });
            }
            // Done, and reported as failed.
            Op::KeepArtifacts(_) | Op::NoteRestarts { .. } | Op::Remove { .. } if half => {
                let _ = self.board.act(&effect);
            }
            Op::Disconnect => self.board.session = None,
            _ => {}
        }
        let outcome = match how % 3 {
            0 => Outcome::Fault("it broke".into()),
            1 => Outcome::Deadline,
            _ => Outcome::Refused("never".into()),
        };
        self.board.finish(effect.id, outcome);
    }

    fn leave_run(&mut self, instance: &InstanceId, run: RunId, assignment: &Assignment, live: bool) {
        let alive = self.board.runs.iter().any(|((i, _), r)| i == instance && r.live);
        assert!(!alive, "two live runs of {instance}");
        let assignment = Some(assignment.clone());
        let exit = (!live).then(|| Exit::Unknown { evidence: "half made".into() });
        let fake = FakeRun { assignment, live, exit, pid: 9, started_ms: self.board.now };
        self.board.runs.insert((instance.clone(), run), fake);
    }

    fn wake(&mut self) {
        if let Some(at) = self.board.core.next_wake() {
            self.board.now = at;
            self.board.event(Event::Wake);
        }
    }

    fn end(&mut self, n: u8, how: u8) {
        let live: Vec<_> = self.board.runs.iter().filter(|(_, r)| r.live).map(|(id, _)| id.clone()).collect();
        let Some((instance, run)) = live.get(n as usize % live.len().max(1)).cloned() else { return };
        let exit = match how % 3 {
            0 => Exit::Code { code: 0 },
            1 => Exit::OutOfMemory { limit_bytes: 1 << 20 },
            _ => Exit::Trap { message: "unreachable".into() },
        };
        self.board.end_run(&instance, run, exit);
    }

    fn crash(&mut self) {
        self.board.crash();
    }

    /// The store is unopenable, the board was moved aside; half of the time with runs that have no spec.
    fn lose_store(&mut self) {
        self.strays += 1;
        self.board.disk = Default::default();
        if self.strays.is_multiple_of(2)
            && let Some(run) = self.board.runs.values_mut().next()
        {
            run.assignment = None;
        }
        self.board.crash();
    }

    fn disconnect(&mut self, refused: bool) {
        if let Some(epoch) = self.board.session.take() {
            self.board.event(Event::Disconnected { epoch, reason: "gone".into(), refused });
        }
    }

    fn hello(&mut self, n: u8, full: bool) {
        let Some(epoch) = self.board.session else { return };
        if !n.is_multiple_of(3) {
            self.nonce = self.nonce.wrapping_add(1);
        }
        let mut hello = hub::hello(epoch, self.nonce);
        // A hub that missed something asks for everything.
        hello.want = if full || !self.board.in_order { Want::Full } else { Want::Nothing };
        if let Some((epoch, seq)) = self.board.last_report {
            hello.acked.epoch = epoch;
            hello.acked.observed_seq = if n % 2 == 1 && seq > 1 { seq - 1 } else { seq };
        }
        if let Some(batch) = self.board.batches().last() {
            hello.acked.event_seq = batch.first_seq + u64::from(n) % batch.events.len() as u64;
        }
        self.board.event(Event::Hub(HubMessage::Hello(hello)));
    }

    fn strange_hello(&mut self, n: u8) {
        let Some(epoch) = self.board.session else { return };
        let mut hello = hub::hello(epoch, n);
        match n % 3 {
            0 => hello.board = contract::BoardId([9; 16]),
            1 => hello.epoch.session += 1,
            _ => hello.epoch_floor = epoch.boots + u64::from(n),
        }
        self.board.event(Event::Hub(HubMessage::Hello(hello)));
    }

    fn publish(&mut self, plan: &Plan) {
        self.generation += 1;
        let assignments = NAMES.iter().zip(plan).filter(|(_, (revision, ..))| *revision > 0);
        let assignments = assignments.map(|(name, (revision, slots, restarts))| {
            let slots: Vec<u32> = (0..u32::from(*slots)).collect();
            let mut assignment = hub::assignment(name, *revision, &slots);
            assignment.restarts = u64::from(*restarts);
            assignment.attempt = Attempt(1 + (self.generation / 4) as u32);
            if *name == "b" {
                assignment.run.probes = probes::some(*revision);
            }
            if *name == "c" {
                assignment.run.restart_policy = RestartPolicy::OnFailure;
            }
            assignment
        });
        let document = hub::document(self.generation, assignments);
        self.document = Some(document.clone());
        self.board.desired(document);
    }

    fn stale(&mut self, how: u8) {
        let mut document = hub::document(self.generation.saturating_sub(u64::from(how % 2)), []);
        if how.is_multiple_of(3) {
            document.lineage = contract::Lineage([3; 16]);
        }
        // The very first document would be taken: it is nobody's fault then.
        if self.board.core.state().applied.is_some() {
            self.board.desired(document);
        }
    }

    fn fate(&mut self, n: u8, how: u8) {
        let fate = match how % 5 {
            0 => Fate::Exit(Exit::Code { code: 1 }),
            1 => Fate::Outcome(Outcome::Refused("no such path".into())),
            2 => Fate::Outcome(Outcome::Fault("no memory".into())),
            _ => {
                self.board.fates.remove(&hub::revision(n));
                return;
            }
        };
        self.board.fates.insert(hub::revision(n), fate);
    }

    /// The world is well again; everything must become as it should, and stay so.
    fn heal(&mut self) {
        self.board.fates.clear();
        self.board.well = true;
        self.board.answer_all(|_| true);
        self.board.network = true;
        self.board.broker = true;
        self.board.settle();
        self.board.advance(20 * 60_000);
        if self.board.session.is_none() {
            self.board.reconnect(0);
        }
        self.generation += 1;
        let mut document = self.document.clone().unwrap_or_else(|| hub::document(0, []));
        document.generation = contract::Generation(self.generation);
        let epoch = self.board.session.expect("connected");
        let mut hello = hub::hello(epoch, self.nonce.wrapping_add(1));
        hello.acked.event_seq = 0;
        self.board.hello(hello);
        self.board.desired(document.clone());
        self.board.advance(60 * 60_000);
        self.check(&document);
        let performed = self.board.performed.len();
        self.board.advance(5 * 600_000);
        let after = &self.board.performed[performed..];
        assert!(after.iter().all(|op| matches!(op, Op::Publish(_))), "not quiet: {after:?}");
    }

    fn check(&self, document: &Desired) {
        let state = self.board.core.state();
        assert_eq!(state.applied, Some(document.head()), "refused: {:?}", state.refused);
        let mut wanted = Vec::new();
        for (key, assignment) in &document.assignments {
            let record = &self.board.disk.records.get(key).cloned().unwrap_or_default();
            let rejected = record.rejected.as_ref().filter(|r| {
                r.revision == assignment.revision && r.attempt >= assignment.attempt && record.good.is_some()
            });
            let revision = match rejected {
                Some(_) => record.good.as_ref().unwrap().revision,
                None => assignment.revision,
            };
            for instance in assignment.instances() {
                let state = self.board.status(key.name.as_str(), instance.slot).state;
                let done = matches!(state, InstanceState::Completed | InstanceState::Failed);
                wanted.extend((!done).then(|| (instance.to_string(), revision)));
            }
            if !assignment.slots.is_empty() && rejected.is_none() {
                assert_eq!(record.good.as_ref().map(|g| g.revision), Some(revision), "{key} is not good");
            }
        }
        wanted.sort();
        assert_eq!(self.board.live(), wanted);
        let left = self.board.runs.values().filter(|run| !run.live).count();
        assert_eq!(left, 0, "something of ended runs is left");
        let records: Vec<_> = self.board.disk.records.keys().collect();
        assert!(records.iter().all(|key| document.assignments.contains_key(key)), "{records:?}");
        let told: Vec<_> = self.board.believed.values().flat_map(|s| s.instances.values()).collect();
        assert_eq!(told.iter().filter(|i| i.ready).count(), wanted.len(), "the hub believes something else");
        assert!(told.iter().filter(|i| i.ready).all(|i| i.healthy));
    }
}

/// Two thousand take a few seconds; `PROPTEST_CASES` asks for more.
fn stories() -> u32 {
    if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { 2000 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: stories(), max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_story_ends_well(acts in prop::collection::vec(act(), 0..120)) {
        let mut story = Story::new();
        for act in &acts {
            story.play(act);
        }
        story.heal();
    }
}
