//! How does a shell treat the agent's core? By the rules in `agent_core::api`: commits in order, what
//! is marked `after` waits, each effect ends exactly once, a store fault ends the process. What is on
//! the disk outlives a power cut; what runs outlives the agent; the rest is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use agent_core::api::{
    BootFacts, Effect, EffectId, Event, FoundRun, FoundState, HubMessage, Op, Outcome, RestartNote,
    StoreState, WorkloadRecord, Write,
};
use agent_core::{Core, CoreConfig};
use contract::message::{
    CONTRACT_VERSION, Capacity, Desired, DesiredHead, FromAgent, Presence, Reply, ReplyBody,
};
use contract::time::{Millis, Now};
use contract::{AgentId, BoardId, Digest, Epoch, InstanceId, RunId, WorkloadKey};

use crate::mutant::Mutant;
use crate::runtime::{Run, RunState};
use crate::world::{ConnId, Ev, World};

pub const ENGINE: &str = "e1";

/// A durable document.
#[derive(Debug, Clone)]
pub struct Held {
    pub head: DesiredHead,
    pub document: Arc<Desired>,
    signed: Arc<[u8]>,
}

/// What a power cut leaves.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub boots: u64,
    pub desired: Option<Held>,
    pub workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
}

pub struct Board {
    pub agent: AgentId,
    pub id: BoardId,
    pub labels: BTreeMap<String, String>,
    pub powered: bool,
    pub power: u64,
    booted_at: Millis,
    pub linked: bool,
    /// It has left the fleet for good.
    pub retired: bool,
    pub disk: Disk,
    /// What the next start finds of the store.
    pub store_lost: Option<StoreState>,
    pub artifacts: BTreeSet<Digest>,
    pub runs: BTreeMap<(InstanceId, RunId), Run>,
    pub notes: BTreeMap<InstanceId, RestartNote>,
    pub process: Option<Process>,
    lives: u64,
    /// The disk is full: commits wait until then.
    pub stalled_until: Millis,
    pub persists: u64,
    memory_bytes: u64,
}

/// One life of the agent.
pub struct Process {
    pub life: u64,
    pub core: Core,
    persists: VecDeque<(EffectId, Vec<Write>)>,
    durable: EffectId,
    held: Vec<Effect>,
    pub conn: Option<ConnId>,
    woken_at: Option<Millis>,
    window: (Millis, u32),
    pub born: Millis,
    /// What its shell asks.
    pub asked: BTreeMap<crate::probes::Key, crate::probes::Asked>,
    /// What the life before was stopping for being ill.
    pub condemned: BTreeSet<InstanceId>,
}

/// Effects of one agent in ten seconds; a fleet's board with a dozen instances needs a few hundred.
const EFFECTS_MAX: u32 = 4_000;

impl Board {
    pub fn new(agent: AgentId, id: BoardId, labels: BTreeMap<String, String>, tight: bool) -> Board {
        let memory_bytes = if tight { crate::fleet::small(&agent) } else { 64 << 30 };
        Board {
            agent,
            id,
            labels,
            memory_bytes,
            powered: false,
            power: 0,
            booted_at: 0,
            linked: true,
            retired: false,
            disk: Disk::default(),
            store_lost: None,
            artifacts: BTreeSet::new(),
            runs: BTreeMap::new(),
            notes: BTreeMap::new(),
            process: None,
            lives: 0,
            stalled_until: 0,
            persists: 0,
        }
    }

    pub fn clock(&self, now: Millis) -> Now {
        Now { boot_ms: now - self.booted_at + 5_000, wall_ms: None }
    }

    fn presence(&self) -> Presence {
        Presence {
            board: self.id,
            epoch: Epoch::default(),
            online: false,
            contract_version: CONTRACT_VERSION,
            agent_version: "0.1.0".into(),
            features: ["wasm", "probes", "data"].map(String::from).into(),
            engines: vec![ENGINE.into()],
            arch: "x86_64".into(),
            labels: self.labels.clone(),
            capacity: Capacity {
                cpu_millis: 64_000,
                memory_bytes: self.memory_bytes,
                storage_bytes: 64 << 30,
            },
        }
    }
}

fn is_free(effect: &Effect, durable: EffectId) -> bool {
    effect.after.is_none_or(|k| k <= durable)
}

impl World {
    pub fn is_life(&self, b: usize, life: u64) -> bool {
        self.boards[b].process.as_ref().is_some_and(|p| p.life == life)
    }

    // --- births and deaths ---

    pub fn power_on(&mut self, b: usize) {
        let board = &mut self.boards[b];
        if board.powered || board.retired {
            return;
        }
        (board.powered, board.booted_at) = (true, self.now);
        board.power += 1;
        let power = board.power;
        self.trace(|| format!("a{b} powered on"));
        let wait = self.rng.range(10, 3_000);
        self.after(wait, Ev::AgentStarts { b, power });
    }

    /// The power goes: what was not synced is lost, what ran has ended.
    pub fn power_cut(&mut self, b: usize) {
        if !self.boards[b].powered {
            return;
        }
        self.trace(|| format!("a{b} power cut"));
        self.agent_dies(b, false);
        self.boards[b].powered = false;
        self.boards[b].notes.clear();
        self.end_all_runs(b);
    }

    /// The process ends; its last commit is fully there, or not at all.
    pub fn agent_dies(&mut self, b: usize, noticed: bool) {
        let Some(mut process) = self.boards[b].process.take() else { return };
        self.trace(|| format!("a{b} agent died"));
        if let Some((_, writes)) = process.persists.pop_front()
            && self.rng.chance(500)
        {
            self.write(b, writes);
        }
        if let Some(conn) = process.conn {
            self.cut(conn, if noticed { 100 } else { 60_000 });
        }
        // A connection that was being made as it died.
        for conn in self.conns_of(b) {
            self.cut(conn, 60_000);
        }
        self.abort_some_starts(b);
    }

    /// The supervisor starts it again.
    pub fn agent_restarts(&mut self, b: usize) {
        let power = self.boards[b].power;
        let wait = self.rng.range(100, 5_000);
        self.after(wait, Ev::AgentStarts { b, power });
    }

    pub fn agent_starts(&mut self, b: usize, power: u64) {
        let board = &self.boards[b];
        if !board.powered || board.power != power || board.process.is_some() {
            return;
        }
        let facts = self.boot_facts(b);
        let board = &mut self.boards[b];
        let failed = |note: &RestartNote| note.probes.as_ref().is_some_and(|p| p.failed.is_some());
        let condemned = board.notes.iter().filter(|(_, note)| failed(note));
        let condemned = condemned.map(|(instance, _)| instance.clone()).collect();
        board.lives += 1;
        board.process = Some(Process {
            life: board.lives,
            core: Core::new(CoreConfig::default()),
            persists: VecDeque::new(),
            durable: 0,
            held: Vec::new(),
            conn: None,
            woken_at: None,
            window: (0, 0),
            born: self.now,
            asked: BTreeMap::new(),
            condemned,
        });
        self.trace(|| format!("a{b} agent starts, boots {} store {:?}", facts.boots, facts.store));
        self.agent_step(b, Event::Boot(Box::new(facts)));
    }

    fn boot_facts(&mut self, b: usize) -> BootFacts {
        let now = self.now;
        let board = &mut self.boards[b];
        let store = board.store_lost.take();
        if store.is_some() {
            board.disk = Disk::default();
            self.truth.store_lost(b);
        }
        let board = &mut self.boards[b];
        let fresh = board.disk.boots == 0;
        let store = store.unwrap_or(if fresh { StoreState::Fresh } else { StoreState::Opened });
        let up = board.clock(now).boot_ms;
        let age = |since: Millis| up.saturating_sub(now - since);
        let found = board.runs.iter().map(|((instance, run), state)| FoundRun {
            instance: instance.clone(),
            run: *run,
            devices: Default::default(),
            assignment: Some(state.assignment.as_ref().clone()),
            state: match &state.state {
                RunState::Starting => FoundState::Running { pid: 1, started_ms: up },
                RunState::Running { since } => FoundState::Running { pid: 1, started_ms: age(*since) },
                RunState::Ended(exit) => FoundState::Ended(exit.clone()),
            },
        });
        let mut facts = BootFacts {
            agent: board.agent.clone(),
            board: board.id,
            presence: board.presence(),
            boots: board.disk.boots,
            store,
            desired: board
                .disk
                .desired
                .as_ref()
                .map(|h| (Box::new(h.document.as_ref().clone()), h.signed.clone())),
            workloads: board.disk.workloads.clone(),
            found: found.collect(),
            restarts: board.notes.clone(),
            artifacts: board.artifacts.clone(),
        };
        if self.is_mutant(Mutant::StraysKilledWithoutDesired) && facts.desired.is_none() {
            let agent = facts.agent.clone();
            let (lineage, term, generation) =
                (contract::Lineage([9; 16]), Default::default(), Default::default());
            let document = Desired { lineage, term, agent, generation, assignments: BTreeMap::new() };
            facts.desired = Some((Box::new(document), [0u8].as_slice().into()));
        }
        facts
    }

    // --- the loop ---

    pub fn agent_wakes(&mut self, b: usize, life: u64, at: Millis) {
        let due = self.boards[b].clock(self.now).boot_ms;
        let Some(process) = self.boards[b].process.as_mut().filter(|p| p.life == life) else { return };
        if process.woken_at != Some(at) {
            return;
        }
        process.woken_at = None;
        if process.core.next_wake().is_some_and(|at| at <= due) {
            self.agent_step(b, Event::Wake);
        } else {
            self.set_alarm(b);
        }
    }

    pub fn agent_effect_ends(&mut self, b: usize, life: u64, id: EffectId, outcome: Outcome) {
        let Some(process) = self.boards[b].process.as_ref().filter(|p| p.life == life) else { return };
        let conn = process.conn;
        if let Some(state) = conn.and_then(|conn| self.broker.conns.get_mut(&conn)) {
            let was = state.in_flight.remove(&id);
            if was && state.cut {
                state.in_flight.insert(id); // No acknowledgement gets through.
                return;
            }
        }
        self.agent_step(b, Event::Finished { id, outcome });
    }

    pub fn agent_step(&mut self, b: usize, event: Event) {
        if self.failure.is_some() {
            return;
        }
        let now = self.boards[b].clock(self.now);
        let Some(process) = &mut self.boards[b].process else { return };
        let life = process.life;
        let effects = process.core.step(now, event);
        self.watch_effects(b, effects.len());
        for effect in effects {
            self.admit(b, life, effect);
        }
        self.set_alarm(b);
        self.check_board(b);
    }

    fn watch_effects(&mut self, b: usize, n: usize) {
        let now = self.now;
        let Some(process) = &mut self.boards[b].process else { return };
        if now - process.window.0 > 10_000 {
            process.window = (now, 0);
        }
        process.window.1 += n as u32;
        let count = process.window.1;
        self.demand(count < EFFECTS_MAX, "no_busy_loop", || format!("a{b}: {count} effects in ten seconds"));
    }

    fn set_alarm(&mut self, b: usize) {
        let boot = self.boards[b].clock(self.now).boot_ms;
        let now = self.now;
        let Some(process) = &mut self.boards[b].process else { return };
        let at = process.core.next_wake().map(|at| now + at.saturating_sub(boot));
        if at == process.woken_at {
            return;
        }
        process.woken_at = at;
        let life = process.life;
        if let Some(at) = at {
            self.at(at, Ev::AgentWakes { b, life, at });
        }
    }

    fn admit(&mut self, b: usize, life: u64, effect: Effect) {
        let early = self.is_mutant(Mutant::PublishBeforePersist);
        let Some(process) = self.boards[b].process.as_mut().filter(|p| p.life == life) else { return };
        if early || is_free(&effect, process.durable) {
            self.perform(b, life, effect);
        } else {
            process.held.push(effect);
        }
    }

    // --- the store ---

    fn persist(&mut self, b: usize, life: u64, id: EffectId, mut writes: Vec<Write>) {
        if self.is_mutant(Mutant::BootsNotPersisted) {
            writes.retain(|w| !matches!(w, Write::Boots(n) if *n > 1));
        }
        if self.is_mutant(Mutant::GoodOverwritten) {
            self.overwrite_goods(b, &mut writes);
        }
        self.boards[b].persists += 1;
        self.check_goods(b, &writes);
        let early = self.is_mutant(Mutant::ActsBeforeDurable);
        let Some(process) = self.boards[b].process.as_mut() else { return };
        process.persists.push_back((id, writes));
        if process.persists.len() == 1 {
            self.sync(b, life);
        }
        if early {
            self.after(0, Ev::AgentEffectEnds { b, life, id, outcome: Outcome::Done });
            self.release(b, life, id);
        }
    }

    fn sync(&mut self, b: usize, life: u64) {
        let wait = self.rng.range(1, self.plan.sync_ms.max(2));
        let at = (self.now + wait).max(self.boards[b].stalled_until);
        self.at(at, Ev::AgentPersists { b, life });
    }

    pub fn agent_persists(&mut self, b: usize, life: u64) {
        let fault = self.rng.chance(self.plan.sync_faults);
        let Some(process) = self.boards[b].process.as_mut().filter(|p| p.life == life) else { return };
        let Some((id, writes)) = process.persists.pop_front() else { return };
        if fault {
            return self.store_fault(b, id, writes);
        }
        let more = !process.persists.is_empty();
        self.write(b, writes);
        if more {
            self.sync(b, life);
        }
        if self.is_mutant(Mutant::ActsBeforeDurable) {
            return;
        }
        if let Some(process) = &mut self.boards[b].process {
            process.durable = process.durable.max(id);
        }
        self.agent_step(b, Event::Finished { id, outcome: Outcome::Done });
        self.release(b, life, id);
    }

    /// Nobody knows what is durable: the process tells its core and exits.
    fn store_fault(&mut self, b: usize, id: EffectId, writes: Vec<Write>) {
        self.trace(|| format!("a{b} store fault"));
        if self.rng.chance(500) {
            self.write(b, writes);
        }
        self.agent_step(b, Event::Finished { id, outcome: Outcome::Fault("the disk is broken".into()) });
        if let Some(process) = &mut self.boards[b].process {
            process.persists.clear();
        }
        self.agent_dies(b, true);
        self.agent_restarts(b);
    }

    fn release(&mut self, b: usize, life: u64, id: EffectId) {
        let Some(process) = self.boards[b].process.as_mut().filter(|p| p.life == life) else { return };
        process.durable = process.durable.max(id);
        let durable = process.durable;
        let (free, held) = std::mem::take(&mut process.held).into_iter().partition(|e| is_free(e, durable));
        process.held = held;
        let free: Vec<Effect> = free;
        for effect in free {
            if self.is_life(b, life) {
                self.perform(b, life, effect);
            }
        }
    }

    fn write(&mut self, b: usize, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Boots(boots) => self.boards[b].disk.boots = boots,
                Write::Desired { head, signed } => {
                    let n = signed.as_ref().try_into().map(u64::from_le_bytes).unwrap_or(0);
                    let document = self.documents.get(n as usize).cloned();
                    self.boards[b].disk.desired = document.map(|document| Held { head, document, signed });
                    self.check_generation(b);
                }
                Write::Workload { key, record: Some(record) } => {
                    self.truth.renamed(b, &key, record.candidate);
                    self.boards[b].disk.workloads.insert(key, record);
                }
                Write::Workload { key, record: None } => {
                    self.truth.renamed(b, &key, None);
                    self.boards[b].disk.workloads.remove(&key);
                }
            }
        }
    }

    // --- effects ---

    fn perform(&mut self, b: usize, life: u64, effect: Effect) {
        let id = effect.id;
        match effect.op {
            Op::Persist(writes) => self.persist(b, life, id, writes),
            Op::Connect { epoch, will, .. } => self.connect(b, life, id, epoch, will),
            Op::Disconnect => self.disconnect(b, life, id),
            Op::Publish(message) => self.publish(b, life, id, message),
            Op::Fetch { artifact, .. } => {
                let wait = self.rng.range(20, 4_000);
                let spoiled = self.rng.chance(self.plan.fetch_faults / 4);
                self.after(wait, Ev::Fetched { b, life, id, digest: artifact.digest, spoiled });
            }
            Op::FetchData { data, .. } => {
                let wait = self.rng.range(20, 4_000);
                self.after(wait, Ev::Fetched { b, life, id, digest: data.digest, spoiled: false });
            }
            Op::Start { instance, run, assignment } => self.start(b, life, id, instance, run, *assignment),
            Op::Stop { instance, run, grace_ms, .. } => self.stop(b, life, id, instance, run, grace_ms),
            Op::Remove { instance, run } => self.remove(b, life, id, instance, run),
            Op::Probe { instance, run, which, asking } => {
                self.ask(b, life, (instance, run, which), asking.map(|asking| *asking));
                self.ends(b, life, id, 0, Outcome::Done);
            }
            Op::NoteRestarts { instance, note } => {
                match note {
                    Some(note) => drop(self.boards[b].notes.insert(instance, note)),
                    None => drop(self.boards[b].notes.remove(&instance)),
                }
                self.ends(b, life, id, 0, Outcome::Done);
            }
            Op::Serve(command) => {
                let body = ReplyBody::Done { error: None };
                let reply = Reply { id: command.id, nonce: command.nonce, seq: 1, body };
                self.send_up(b, None, FromAgent::Reply(reply));
                self.ends(b, life, id, 5, Outcome::Done);
            }
            Op::KeepArtifacts(mut keep) => {
                if self.is_mutant(Mutant::GoodsArtifactDeleted) {
                    self.drop_goods_artifacts(b, &mut keep);
                }
                self.check_kept(b, &keep);
                self.boards[b].artifacts.retain(|digest| keep.contains(digest));
                let wait = self.rng.below(50);
                self.ends(b, life, id, wait, Outcome::Done);
            }
            // Nothing in these worlds has any.
            Op::WatchDevices(_) => self.ends(b, life, id, 0, Outcome::Done),
        }
    }

    pub fn ends(&mut self, b: usize, life: u64, id: EffectId, wait: Millis, outcome: Outcome) {
        self.after(wait, Ev::AgentEffectEnds { b, life, id, outcome });
    }

    fn connect(&mut self, b: usize, life: u64, id: EffectId, epoch: Epoch, will: Presence) {
        self.check_epoch(b, epoch);
        self.truth.session_begins(b, life, epoch);
        let board = &self.boards[b];
        if !board.linked || !self.broker.up {
            let wait = self.rng.range(5, 8_000);
            return self.ends(b, life, id, wait, Outcome::Fault("no broker".into()));
        }
        let wait = self.latency();
        self.after(wait, Ev::Accepts { b, life, id, epoch, will: Box::new(will) });
    }

    fn disconnect(&mut self, b: usize, life: u64, id: EffectId) {
        let conn = self.boards[b].process.as_mut().and_then(|p| p.conn.take());
        if let Some(conn) = conn {
            self.goodbye(conn);
        }
        self.ends(b, life, id, 5, Outcome::Done);
    }

    fn publish(&mut self, b: usize, life: u64, id: EffectId, message: FromAgent) {
        self.trace(|| format!("a{b} -> {}", crate::trace::up(&message)));
        self.check_claims(b, &message);
        self.truth.said(b, &message);
        let events = match &message {
            FromAgent::Events(batch) => Some(batch.first_seq + batch.events.len() as u64 - 1),
            _ => None,
        };
        if !self.send_up(b, Some(id), message) {
            return self.ends(b, life, id, 1, Outcome::Fault("no session".into()));
        }
        if let Some(last) = events.filter(|_| self.is_mutant(Mutant::TrimAtPuback)) {
            self.forge_ack(b, last);
        }
    }

    pub fn fetched(&mut self, b: usize, life: u64, id: EffectId, digest: Digest, spoiled: bool) {
        let fault = self.rng.chance(self.plan.fetch_faults);
        if !self.is_life(b, life) {
            return;
        }
        let outcome = if !self.boards[b].linked || self.hub.core.is_none() || fault {
            Outcome::Fault("the hub does not answer".into())
        } else if spoiled {
            Outcome::Refused("the bytes are not what they should be".into())
        } else {
            self.boards[b].artifacts.insert(digest);
            Outcome::Done
        };
        self.agent_step(b, Event::Finished { id, outcome });
    }

    // --- planted bugs ---

    pub fn tamper_with_document(&mut self, b: usize, message: HubMessage) -> HubMessage {
        let HubMessage::Desired { document, signed } = message else { return message };
        let held = self.boards[b].disk.desired.as_ref().map(|h| h.document.clone());
        if let Some(held) = held.filter(|held| held.generation > document.generation)
            && self.is_mutant(Mutant::OlderGenerationTaken)
        {
            let generation = held.generation.next();
            let older = Desired { generation, term: held.term.max(document.term), ..*document };
            self.documents.push(Arc::new(older.clone()));
            let n = self.documents.len() as u64 - 1;
            return HubMessage::Desired {
                document: Box::new(older),
                signed: n.to_le_bytes().as_slice().into(),
            };
        }
        HubMessage::Desired { document, signed }
    }

    fn forge_ack(&mut self, b: usize, last: u64) {
        let Some(mut hello) = self.truth.last_hello.get(&self.boards[b].agent).cloned() else { return };
        let epoch = self.boards[b].process.as_ref().and_then(|p| p.core.state().epoch);
        if epoch != Some(hello.epoch) || hello.board != self.boards[b].id {
            return;
        }
        hello.acked.event_seq = last;
        hello.want = contract::message::Want::Nothing;
        if let Some(conn) = self.boards[b].process.as_ref().and_then(|p| p.conn) {
            self.after(0, Ev::ToAgent { conn, message: crate::broker::Down::Hello(hello) });
        }
    }

    fn overwrite_goods(&self, b: usize, writes: &mut [Write]) {
        let Some(Held { document, .. }) = &self.boards[b].disk.desired else { return };
        for write in writes {
            if let Write::Workload { key, record: Some(record) } = write
                && record.candidate.is_some()
                && let Some(assignment) = document.assignments.get(key)
            {
                record.good = Some(assignment.clone());
            }
        }
    }

    fn drop_goods_artifacts(&self, b: usize, keep: &mut BTreeSet<Digest>) {
        for record in self.boards[b].disk.workloads.values() {
            if let (Some(good), Some(_)) = (&record.good, &record.candidate) {
                keep.remove(&good.run.artifact.digest);
            }
        }
    }
}
