//! A small honest agent: answers hellos, applies documents, reports its instances as healthy.

use std::collections::BTreeMap;

use contract::message::*;
use contract::status::{InstanceState, InstanceStatus, WorkloadStatus, Workloads};
use contract::{AgentId, BoardId, Epoch, Nonce};

use super::bed::*;
use crate::api::Op;

#[derive(Debug, Clone)]
pub struct Board {
    pub id: AgentId,
    pub presence: Presence,
    pub seq: u64,
    pub nonce: Option<Nonce>,
    pub desired: Option<Desired>,
    pub workloads: Workloads,
    /// Does not answer.
    pub mute: bool,
}

impl Board {
    pub fn new(name: &str) -> Board {
        let presence = Presence {
            board: BoardId([name.bytes().last().unwrap(); 16]),
            epoch: Epoch { boots: 1, session: 1 },
            online: true,
            contract_version: CONTRACT_VERSION,
            agent_version: "0.1.0".into(),
            features: ["wasm".to_string()].into(),
            engines: vec![ENGINE.into()],
            arch: "x86_64".into(),
            labels: BTreeMap::new(),
            capacity: capacity(4000, 1024),
        };
        let (nonce, desired, workloads) = (None, None, Workloads::new());
        Board { id: id(name), presence, seq: 0, nonce, desired, workloads, mute: false }
    }

    pub fn labelled(name: &str, pairs: &[(&str, &str)]) -> Board {
        let mut board = Board::new(name);
        board.presence.labels = labels(pairs);
        board
    }

    pub fn connect(&mut self, bed: &mut Bed) {
        self.presence.online = true;
        (self.seq, self.nonce) = (0, None);
        bed.message(&self.id, FromAgent::Presence(self.presence.clone()));
        self.converse(bed);
    }

    pub fn reconnect(&mut self, bed: &mut Bed) {
        self.presence.epoch.session += 1;
        self.connect(bed);
    }

    pub fn reboot(&mut self, bed: &mut Bed) {
        self.presence.epoch = Epoch { boots: self.presence.epoch.boots + 1, session: 1 };
        self.connect(bed);
    }

    pub fn leave(&self, bed: &mut Bed) {
        let will = Presence { online: false, ..self.presence.clone() };
        bed.message(&self.id, FromAgent::Presence(will));
    }

    /// Answer everything that the hub has sent to this board, until nothing is left.
    pub fn converse(&mut self, bed: &mut Bed) {
        for _ in 0..100 {
            let mine = |op: &Op| match op {
                Op::PublishHello { agent, hello } => *agent == self.id && hello.board == self.presence.board,
                Op::PublishDesired { agent, .. } => *agent == self.id,
                _ => false,
            };
            let Some(n) = bed.ops.iter().position(mine) else { return };
            let op = bed.ops.remove(n);
            self.hear(bed, op);
        }
        panic!("it talks for ever");
    }

    pub fn hear(&mut self, bed: &mut Bed, op: Op) {
        match op {
            _ if self.mute => {}
            Op::PublishHello { hello, .. } => self.on_hello(bed, &hello),
            Op::PublishDesired { document, .. } => self.on_desired(bed, *document),
            _ => {}
        }
    }

    fn on_hello(&mut self, bed: &mut Bed, hello: &Hello) {
        if hello.board != self.presence.board || hello.epoch != self.presence.epoch {
            return;
        }
        if hello.epoch_floor > self.presence.epoch.boots {
            self.presence.epoch = Epoch { boots: hello.epoch_floor + 1, session: 1 };
            return self.connect(bed);
        }
        let known = self.nonce == Some(hello.nonce);
        self.nonce = Some(hello.nonce);
        match hello.want {
            Want::Full => self.full(bed),
            Want::Nothing if !known => self.heartbeat(bed, 0),
            Want::Nothing => {}
        }
    }

    fn on_desired(&mut self, bed: &mut Bed, document: Desired) {
        if self.desired.as_ref().is_some_and(|d| d.generation >= document.generation) {
            return;
        }
        self.run(&document);
        self.desired = Some(document);
        if self.nonce.is_some() {
            self.full(bed);
        }
    }

    /// Everything assigned is healthy at once.
    pub fn run(&mut self, document: &Desired) {
        let statuses = document.assignments.iter().map(|(key, assignment)| {
            let instance = |slot: &u32| {
                let status = InstanceStatus {
                    revision: assignment.revision,
                    attempt: assignment.attempt,
                    state: InstanceState::Running,
                    ready: true,
                    unready: None,
                    probe_restarts: 0,
                    healthy: true,
                    since_ms: 5,
                    restarts: 0,
                    run: None,
                    pid: Some(7),
                    last_exit: None,
                };
                (*slot, status)
            };
            let instances = assignment.slots.iter().map(instance).collect();
            let good = Some(assignment.revision);
            (key.clone(), WorkloadStatus { good, instances, ..WorkloadStatus::default() })
        });
        self.workloads = statuses.collect();
    }

    pub fn observed(&mut self, body: ObservedBody) -> Observed {
        self.seq += 1;
        Observed {
            board: self.presence.board,
            epoch: self.presence.epoch,
            seq: self.seq,
            nonce: self.nonce,
            now_ms: 100,
            applied: self.desired.as_ref().map(Desired::head),
            refused: None,
            body,
        }
    }

    pub fn full(&mut self, bed: &mut Bed) {
        let report = self.observed(ObservedBody::Full { workloads: self.workloads.clone() });
        bed.message(&self.id, FromAgent::Observed(report));
    }

    pub fn heartbeat(&mut self, bed: &mut Bed, spooled: u32) {
        let state = Observed::state_digest(&self.workloads);
        let report = self.observed(ObservedBody::Heartbeat { state, spooled });
        bed.message(&self.id, FromAgent::Observed(report));
    }

    pub fn event(&self, text: &str) -> AgentEvent {
        AgentEvent {
            at_ms: 1,
            boots: self.presence.epoch.boots,
            wall_ms: None,
            instance: None,
            kind: EventKind::Started,
            text: text.into(),
        }
    }

    /// Events numbered from `n` of this start.
    pub fn batch(&self, n: u64, count: usize) -> Events {
        Events {
            board: self.presence.board,
            epoch: self.presence.epoch,
            first_seq: self.presence.epoch.boots << 32 | n,
            now_ms: 1,
            events: (0..count).map(|i| self.event(&format!("e{}", n + i as u64))).collect(),
        }
    }
}

pub fn fleet(bed: &mut Bed, names: &[&str]) -> Vec<Board> {
    names
        .iter()
        .map(|name| {
            let mut board = Board::new(name);
            board.connect(bed);
            board
        })
        .collect()
}
