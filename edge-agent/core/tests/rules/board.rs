//! A board in memory: a disk that knows what was synced, a runtime, an artefact store, a broker. It
//! performs effects under the rules of the seam and checks the invariants at every one of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use agent_core::api::*;
use agent_core::{Core, CoreConfig};
use contract::message::{Capacity, Desired, DesiredHead, FromAgent, ObservedBody, Presence};
use contract::run::Assignment;
use contract::status::{Exit, ProbeKind, Workloads};
use contract::{Digest, Epoch, InstanceId, Now, RevisionId, RunId, WorkloadKey};

use crate::hub;

pub struct Board {
    pub core: Core,
    pub now: u64,
    pub disk: Disk,
    /// In `/run`.
    pub notes: BTreeMap<InstanceId, RestartNote>,
    pub artifacts: BTreeSet<Digest>,
    pub runs: BTreeMap<(InstanceId, RunId), FakeRun>,
    /// Emitted and not performed yet.
    pub pending: VecDeque<Effect>,
    durable: BTreeSet<EffectId>,
    last_id: EffectId,
    /// The session that is up.
    pub session: Option<Epoch>,
    /// The broker lets us in.
    pub broker: bool,
    /// Artefacts can be fetched.
    pub network: bool,
    pub sent: Vec<FromAgent>,
    pub performed: Vec<Op>,
    /// What the hub would believe from full reports and changes.
    pub believed: Workloads,
    /// No report was missed since the last full one.
    pub in_order: bool,
    pub last_report: Option<(Epoch, u64)>,
    /// Everything that was durable at some time.
    heads: Vec<DesiredHead>,
    goods: BTreeSet<(WorkloadKey, RevisionId)>,
    /// Starts of these revisions end so, instead of running.
    pub fates: BTreeMap<RevisionId, Fate>,
    /// What the shell asks.
    pub asked: BTreeMap<(InstanceId, RunId, ProbeKind), Asking>,
    /// Every question is answered well as soon as it is asked.
    pub well: bool,
    pids: u32,
    /// The nodes that are there, and which of them the core asked about.
    pub devices: BTreeMap<String, DeviceId>,
    pub watched: BTreeSet<String>,
}

#[derive(Default, Clone)]
pub struct Disk {
    pub boots: u64,
    pub desired: Option<(Box<Desired>, Arc<[u8]>)>,
    pub records: BTreeMap<WorkloadKey, WorkloadRecord>,
    pub persists: usize,
}

#[derive(Clone, Debug)]
pub struct FakeRun {
    pub assignment: Option<Assignment>,
    pub live: bool,
    pub exit: Option<Exit>,
    pub pid: u32,
    pub started_ms: u64,
}

#[derive(Clone)]
pub enum Fate {
    Outcome(Outcome),
    /// Starts and ends at once.
    Exit(Exit),
}

impl Board {
    pub fn new() -> Board {
        Board {
            core: Core::new(CoreConfig::default()),
            now: 1000,
            disk: Disk::default(),
            notes: BTreeMap::new(),
            artifacts: BTreeSet::new(),
            runs: BTreeMap::new(),
            pending: VecDeque::new(),
            durable: BTreeSet::new(),
            last_id: 0,
            session: None,
            broker: true,
            network: true,
            sent: Vec::new(),
            performed: Vec::new(),
            believed: Workloads::new(),
            in_order: false,
            last_report: None,
            heads: Vec::new(),
            goods: BTreeSet::new(),
            fates: BTreeMap::new(),
            asked: BTreeMap::new(),
            well: true,
            pids: 100,
            devices: BTreeMap::new(),
            watched: BTreeSet::new(),
        }
    }

    /// Booted, connected, greeted, with this document applied and everything running.
    pub fn running(document: Desired) -> Board {
        let mut board = Board::new();
        board.boot();
        board.settle();
        board.greet(1);
        board.desired(document);
        board.settle();
        board
    }

    pub fn clock(&self) -> Now {
        Now { boot_ms: self.now, wall_ms: None }
    }

    pub fn facts(&self) -> BootFacts {
        let found = self.runs.iter().map(|((instance, run), fake)| FoundRun {
            instance: instance.clone(),
            run: *run,
            assignment: fake.assignment.clone(),
            devices: Default::default(),
            state: match (fake.live, &fake.exit) {
                (true, _) => FoundState::Running { pid: fake.pid, started_ms: fake.started_ms },
                (false, Some(exit)) => FoundState::Ended(exit.clone()),
                (false, None) => FoundState::Ended(Exit::Unknown { evidence: "nothing".into() }),
            },
        });
        BootFacts {
            agent: hub::agent(),
            board: hub::BOARD,
            presence: presence(),
            boots: self.disk.boots,
            store: StoreState::Opened,
            desired: self.disk.desired.clone(),
            workloads: self.disk.records.clone(),
            found: found.collect(),
            restarts: self.notes.clone(),
            artifacts: self.artifacts.clone(),
        }
    }

    pub fn boot(&mut self) {
        self.core = Core::new(CoreConfig::default());
        self.pending.clear();
        self.durable.clear();
        self.last_id = 0;
        self.asked.clear();
        self.session = None;
        let facts = self.facts();
        self.event(Event::Boot(Box::new(facts)));
    }

    /// The agent dies and comes back; shims live on.
    pub fn crash(&mut self) {
        self.boot();
    }

    /// The board loses power: nothing runs, `/run` is gone, what was not synced is lost.
    pub fn power_cut(&mut self) {
        self.now = 500;
        self.notes.clear();
        for run in self.runs.values_mut().filter(|run| run.live) {
            run.live = false;
            run.exit = Some(Exit::Rebooted);
        }
        self.boot();
    }

    pub fn event(&mut self, event: Event) {
        let effects = self.core.step(self.clock(), event);
        for effect in effects {
            assert!(effect.id > self.last_id, "effect ids must grow");
            assert!(effect.after.is_none_or(|after| after < effect.id), "after names a later effect");
            self.last_id = effect.id;
            if let Op::KeepArtifacts(keep) = &effect.op {
                self.check_sweep(keep);
            }
            self.pending.push_back(effect);
        }
        let wake = self.core.next_wake();
        assert!(wake.is_none_or(|at| at > self.now), "a wake at {wake:?} is not after {}", self.now);
    }

    /// Effects that may be performed now: `after` when that is durable; Persists, notes, probes
    /// and what is published in order.
    pub fn ready(&self) -> Vec<usize> {
        let (mut persist, mut publish, mut note, mut probe) = (false, false, false, false);
        let mut ready = Vec::new();
        for (n, effect) in self.pending.iter().enumerate() {
            let may = effect.after.is_none_or(|after| self.durable.contains(&after));
            let first = match effect.op {
                Op::Persist(_) => !std::mem::replace(&mut persist, true),
                Op::Publish(_) => may && !std::mem::replace(&mut publish, true),
                Op::NoteRestarts { .. } => !std::mem::replace(&mut note, true),
                Op::Probe { .. } => !std::mem::replace(&mut probe, true),
                _ => true,
            };
            if first && may {
                ready.push(n);
            }
        }
        ready
    }

    /// Perform everything, and what follows from it, but let no time pass.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let Some(n) = self.ready().first().copied() else { return };
            self.perform(n);
        }
        panic!("the core never becomes quiet");
    }

    /// The same without touching the disk.
    pub fn settle_but_disk(&mut self) {
        for _ in 0..100_000 {
            let ready = self.ready().into_iter().find(|n| !matches!(self.pending[*n].op, Op::Persist(_)));
            let Some(n) = ready else { return };
            self.perform(n);
        }
        panic!("the core never becomes quiet");
    }

    pub fn perform(&mut self, n: usize) {
        let effect = self.pending.remove(n).unwrap();
        let outcome = self.act(&effect);
        self.finish(effect.id, outcome);
        if let (Op::Probe { instance, run, which, asking: Some(_) }, true) = (&effect.op, self.well) {
            self.answer_all(|(i, r, w)| (i, r, w) == (instance, run, which));
        }
    }

    pub fn finish(&mut self, id: EffectId, outcome: Outcome) {
        self.event(Event::Finished { id, outcome });
    }

    pub fn advance(&mut self, ms: u64) {
        let until = self.now + ms;
        loop {
            self.settle();
            match self.core.next_wake().filter(|at| *at <= until) {
                Some(at) => self.now = at,
                None => break,
            }
            self.event(Event::Wake);
        }
        self.now = until;
        self.event(Event::Wake);
        self.settle();
    }

    /// Do what the effect says.
    pub fn act(&mut self, effect: &Effect) -> Outcome {
        self.performed.push(effect.op.clone());
        match &effect.op {
            Op::Persist(writes) => {
                writes.iter().for_each(|write| self.write(write));
                self.disk.persists += 1;
                self.durable.insert(effect.id);
                Outcome::Done
            }
            Op::Connect { epoch, presence, will } => self.connect(*epoch, presence, will),
            Op::Disconnect => {
                self.session = None;
                Outcome::Done
            }
            Op::Publish(message) => self.publish(message),
            Op::Fetch { artifact, .. } if self.network => {
                self.artifacts.insert(artifact.digest);
                Outcome::Done
            }
            Op::FetchData { data, .. } if self.network => {
                self.artifacts.insert(data.digest);
                Outcome::Done
            }
            Op::Fetch { .. } | Op::FetchData { .. } => Outcome::Fault("no route to host".into()),
            Op::Start { instance, run, assignment } => self.start(instance, *run, assignment),
            Op::Stop { instance, run, .. } => {
                self.end_run(instance, *run, Exit::Signal { signal: 15 });
                Outcome::Done
            }
            Op::Remove { instance, run } => {
                let run = self.runs.remove(&(instance.clone(), *run));
                assert!(run.is_none_or(|run| !run.live), "a live run was removed");
                Outcome::Done
            }
            Op::Probe { instance, run, which, asking } => {
                let key = (instance.clone(), *run, *which);
                let was = match asking {
                    Some(asking) => self.asked.insert(key, asking.as_ref().clone()),
                    None => self.asked.remove(&key),
                };
                assert_eq!(was.is_some(), asking.is_none(), "{which} of {instance} is asked already, or not");
                Outcome::Done
            }
            Op::NoteRestarts { instance, note } => {
                match note {
                    Some(note) => self.notes.insert(instance.clone(), note.clone()),
                    None => self.notes.remove(instance),
                };
                Outcome::Done
            }
            Op::Serve(_) => Outcome::Done,
            Op::KeepArtifacts(keep) => self.sweep(keep),
            Op::WatchDevices(wanted) => {
                self.watched = wanted.clone();
                self.tell_devices();
                Outcome::Done
            }
        }
    }

    fn write(&mut self, write: &Write) {
        match write {
            Write::Boots(boots) => {
                assert!(*boots > self.disk.boots, "boots must grow");
                self.disk.boots = *boots;
            }
            Write::Desired { head, signed } => {
                let document: Desired = serde_json::from_slice(signed).expect("the fake's bytes");
                assert_eq!(document.head(), *head);
                self.heads.push(*head);
                self.disk.desired = Some((Box::new(document), signed.clone()));
            }
            Write::Workload { key, record: Some(record) } => {
                self.goods.extend(record.good.iter().map(|good| (key.clone(), good.revision)));
                self.disk.records.insert(key.clone(), record.clone());
            }
            Write::Workload { key, record: None } => {
                self.disk.records.remove(key);
            }
        }
    }

    fn connect(&mut self, epoch: Epoch, presence: &Presence, will: &Presence) -> Outcome {
        assert_eq!(epoch.boots, self.disk.boots, "connected under boots that are not durable");
        assert!(presence.online && !will.online && presence.epoch == epoch && will.epoch == epoch);
        if !self.broker {
            return Outcome::Fault("connection refused".into());
        }
        self.session = Some(epoch);
        Outcome::Done
    }

    fn publish(&mut self, message: &FromAgent) -> Outcome {
        let epoch = match message {
            FromAgent::Presence(p) => Some(p.epoch),
            FromAgent::Observed(o) => Some(o.epoch),
            FromAgent::Events(e) => Some(e.epoch),
            FromAgent::Reply(_) => self.session,
        };
        if let FromAgent::Observed(observed) = message {
            let same =
                |a: &DesiredHead, b: &DesiredHead| (a.generation, a.digest) == (b.generation, b.digest);
            let durable = observed.applied.is_none_or(|a| self.heads.iter().any(|head| same(head, &a)));
            assert!(durable, "applied was never durable");
            if self.session == epoch {
                self.believe(observed);
            }
            self.check_goods(&observed.body);
        }
        if self.session.is_none() || self.session != epoch {
            return Outcome::Fault("no session".into());
        }
        self.sent.push(message.clone());
        Outcome::Done
    }

    /// Take a report in as the hub does: after a hole only a full one counts.
    fn believe(&mut self, observed: &contract::message::Observed) {
        let next = match self.last_report {
            Some((epoch, seq)) if epoch == observed.epoch => seq + 1,
            _ => 1,
        };
        let new_session = self.last_report.is_some_and(|(epoch, _)| epoch != observed.epoch);
        self.in_order &= observed.seq == next;
        self.last_report = Some((observed.epoch, observed.seq));
        match &observed.body {
            ObservedBody::Full { workloads } => {
                self.believed.clone_from(workloads);
                self.in_order = true;
            }
            ObservedBody::Changes { workloads } => {
                assert!(!(new_session && observed.seq == 1), "changes against what another session told");
                for (key, status) in workloads {
                    match status {
                        Some(status) => self.believed.insert(key.clone(), status.clone()),
                        None => self.believed.remove(key),
                    };
                }
            }
            ObservedBody::Heartbeat { state, .. } if self.in_order => {
                let believed = contract::message::Observed::state_digest(&self.believed);
                assert_eq!(*state, believed, "a heartbeat tells of what was never reported");
            }
            ObservedBody::Heartbeat { .. } => {}
        }
    }

    fn check_goods(&self, body: &ObservedBody) {
        let statuses: Vec<_> = match body {
            ObservedBody::Full { workloads } => workloads.iter().map(|(k, s)| (k, Some(s))).collect(),
            ObservedBody::Changes { workloads } => workloads.iter().map(|(k, s)| (k, s.as_ref())).collect(),
            ObservedBody::Heartbeat { .. } => vec![],
        };
        for (key, status) in statuses {
            let good = status.and_then(|s| s.good);
            assert!(
                good.is_none_or(|g| self.goods.contains(&(key.clone(), g))),
                "a good one that is not durable"
            );
        }
    }

    fn start(&mut self, instance: &InstanceId, run: RunId, assignment: &Assignment) -> Outcome {
        let alive = self.runs.iter().filter(|((i, _), r)| i == instance && r.live);
        assert_eq!(alive.count(), 0, "two live runs of {instance}");
        assert!(assignment.slots.contains(&instance.slot), "{instance} started in a slot it has not");
        assert!(!self.runs.contains_key(&(instance.clone(), run)), "run id {run} was given twice");
        let contents = assignment.run.contents().iter().map(|data| data.digest);
        if !contents.chain([assignment.run.artifact.digest]).all(|digest| self.artifacts.contains(&digest)) {
            return Outcome::Missing;
        }
        self.pids += 1;
        let fate = self.fates.get(&assignment.revision).cloned();
        let live = !matches!(fate, Some(Fate::Outcome(_)));
        let fake = FakeRun {
            assignment: Some(assignment.clone()),
            live,
            exit: None,
            pid: self.pids,
            started_ms: self.now,
        };
        self.runs.insert((instance.clone(), run), fake);
        match fate {
            Some(Fate::Outcome(outcome)) => outcome,
            Some(Fate::Exit(exit)) => {
                // Its end comes before the start is reported: the harder order.
                self.end_run(instance, run, exit);
                Outcome::Started { pid: self.pids }
            }
            None => Outcome::Started { pid: self.pids },
        }
    }

    /// A run ends, by itself or not.
    pub fn end_run(&mut self, instance: &InstanceId, run: RunId, exit: Exit) {
        let Some(fake) = self.runs.get_mut(&(instance.clone(), run)).filter(|fake| fake.live) else { return };
        fake.live = false;
        fake.exit = Some(exit.clone());
        self.event(Event::Exited { instance: instance.clone(), run, exit });
    }

    /// As often as the threshold says, the rest is silence.
    pub fn answer(&mut self, name: &str, slot: u32, which: ProbeKind, answer: Result<(), &str>) {
        let id = hub::instance(name, slot);
        let found = self.asked.iter().find(|((i, _, w), _)| *i == id && *w == which);
        let ((_, run, _), asking) = found.unwrap_or_else(|| panic!("{which} of {id} is not asked"));
        let (run, probe) = (*run, asking.probe.clone());
        let times = if answer.is_ok() { probe.success_threshold } else { probe.failure_threshold };
        for _ in 0..times {
            self.answer_once(&id, run, which, answer);
        }
    }

    pub fn answer_once(&mut self, id: &InstanceId, run: RunId, which: ProbeKind, answer: Result<(), &str>) {
        let answer = answer.map_err(str::to_string);
        self.event(Event::Probed { instance: id.clone(), run, which, answer });
    }

    pub fn answer_all(&mut self, of: impl Fn((&InstanceId, &RunId, &ProbeKind)) -> bool) {
        let asked = self.asked.iter().filter(|((i, r, w), _)| of((i, r, w)));
        let asked: Vec<_> =
            asked.map(|(key, asking)| (key.clone(), asking.probe.success_threshold)).collect();
        for ((id, run, which), times) in asked {
            (0..times).for_each(|_| self.answer_once(&id, run, which, Ok(())));
        }
    }

    pub fn is_asked(&self, name: &str, which: ProbeKind) -> bool {
        self.asked.keys().any(|(i, _, w)| *i == hub::instance(name, 0) && *w == which)
    }

    /// Plugged in as this one, or pulled out.
    pub fn plug(&mut self, path: &str, id: Option<DeviceId>) {
        match id {
            Some(id) => self.devices.insert(path.into(), id),
            None => self.devices.remove(path),
        };
        self.tell_devices();
    }

    fn tell_devices(&mut self) {
        let there = self.watched.iter().map(|path| (path.clone(), self.devices.get(path).copied()));
        let there = there.collect();
        self.event(Event::Devices(there));
    }

    /// When a sweep leaves the core everything is durable: nothing that the disk, the goods or a live
    /// run refers to may go. (A document that comes after it fetches anew.)
    fn check_sweep(&self, keep: &BTreeSet<Digest>) {
        let desired = self.disk.desired.iter().flat_map(|(d, _)| d.assignments.values());
        let goods = self.disk.records.values().filter_map(|r| r.good.as_ref());
        let live = self.runs.values().filter(|r| r.live).filter_map(|r| r.assignment.as_ref());
        for needed in desired.chain(goods).chain(live) {
            let contents = needed.run.contents().iter().map(|data| data.digest);
            for digest in contents.chain([needed.run.artifact.digest]) {
                assert!(keep.contains(&digest), "an artefact of {} was dropped", needed.workload);
            }
        }
    }

    fn sweep(&mut self, keep: &BTreeSet<Digest>) -> Outcome {
        self.artifacts.retain(|digest| keep.contains(digest));
        Outcome::Done
    }

    // --- what a hub does ---

    pub fn greet(&mut self, nonce: u8) {
        let epoch = self.session.expect("a session");
        self.hello(hub::hello(epoch, nonce));
    }

    pub fn hello(&mut self, hello: contract::message::Hello) {
        self.event(Event::Hub(HubMessage::Hello(hello)));
        self.settle();
    }

    pub fn desired(&mut self, document: Desired) {
        let signed: Arc<[u8]> = serde_json::to_vec(&document).unwrap().into();
        self.event(Event::Hub(HubMessage::Desired { document: Box::new(document), signed }));
    }

    pub fn disconnect(&mut self) {
        let Some(epoch) = self.session.take() else { return };
        self.event(Event::Disconnected { epoch, reason: "cable".into(), refused: false });
    }

    /// Connected again, greeted with this nonce.
    pub fn reconnect(&mut self, nonce: u8) {
        self.broker = true;
        for _ in 0..1000 {
            self.settle();
            if self.session.is_some() {
                return self.greet(nonce);
            }
            self.advance(1000);
        }
        panic!("never connected again");
    }

    // --- what a test asks ---

    /// (instance, revision number) of what lives, sorted.
    pub fn live(&self) -> Vec<(String, RevisionId)> {
        let live = self.runs.iter().filter(|(_, run)| run.live);
        live.map(|((instance, _), run)| (instance.to_string(), run.assignment.as_ref().unwrap().revision))
            .collect()
    }

    pub fn live_runs(&self) -> Vec<RunId> {
        self.runs.iter().filter(|(_, run)| run.live).map(|((_, run), _)| *run).collect()
    }

    pub fn live_run(&self, instance: &InstanceId) -> Option<RunId> {
        self.runs.iter().find(|((i, _), r)| i == instance && r.live).map(|((_, run), _)| *run)
    }

    pub fn count(&self, of: impl Fn(&Op) -> bool) -> usize {
        self.performed.iter().filter(|op| of(op)).count()
    }

    pub fn starts(&self) -> usize {
        self.count(|op| matches!(op, Op::Start { .. }))
    }

    pub fn stops(&self) -> usize {
        self.count(|op| matches!(op, Op::Stop { .. }))
    }

    pub fn reports(&self) -> Vec<&contract::message::Observed> {
        let mut reports = Vec::new();
        for message in &self.sent {
            if let FromAgent::Observed(observed) = message {
                reports.push(observed);
            }
        }
        reports
    }

    pub fn batches(&self) -> Vec<&contract::message::Events> {
        let mut batches = Vec::new();
        for message in &self.sent {
            if let FromAgent::Events(events) = message {
                batches.push(events);
            }
        }
        batches
    }

    pub fn events(&self) -> Vec<&contract::message::AgentEvent> {
        self.batches().into_iter().flat_map(|batch| &batch.events).collect()
    }

    pub fn status(&self, name: &str, slot: u32) -> contract::status::InstanceStatus {
        let view = self.core.status(self.clock());
        view.workloads[&hub::key(name)].status.instances[&slot].clone()
    }
}

pub fn presence() -> Presence {
    Presence {
        board: hub::BOARD,
        epoch: Epoch::default(),
        online: true,
        contract_version: 1,
        agent_version: "0.1.0".into(),
        features: BTreeSet::from(["wasm".to_string()]),
        engines: vec![],
        arch: "x86_64".into(),
        labels: BTreeMap::new(),
        capacity: Capacity::default(),
    }
}
