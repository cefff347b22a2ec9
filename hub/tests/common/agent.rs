//! A board as the hub sees one, in a few lines: it comes online, answers every hello with what it
//! "runs" (all that it was told, healthy at once), and serves logs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use contract::codec::{self, Kind as Envelope};
use contract::message::{
    Capacity, Command, CommandOp, Desired, Hello, Observed, ObservedBody, Presence, Reply, ReplyBody, Want,
};
use contract::status::{InstanceState, InstanceStatus, WorkloadStatus, Workloads};
use contract::{AgentId, BoardId, Epoch, Nonce};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use transport::memory::Broker;
use transport::{Endpoint, Kind, Session, SessionConfig, SessionEvent, Topic, Will};

/// What the agent has, for the test to look at.
#[derive(Default)]
pub struct Seen {
    pub desired: Option<Desired>,
    pub hellos: Vec<Hello>,
    pub commands: Vec<Command>,
}

pub struct FakeAgent {
    pub seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What it says to a command for logs.
#[derive(Clone)]
pub enum Logs {
    /// These pieces.
    Pieces(Vec<String>),
    /// This, by HTTP to the ticket.
    Ticket(String),
    Refuse(String),
    /// Accept, and say nothing more.
    Hang,
}

impl FakeAgent {
    pub fn start(
        runtime: &tokio::runtime::Runtime,
        broker: &Broker,
        id: &str,
        key: VerifyingKey,
        logs: Logs,
    ) -> FakeAgent {
        FakeAgent::start_as(runtime, broker, id, key, logs, &["wasm"], "x86_64")
    }

    pub fn start_as(
        runtime: &tokio::runtime::Runtime,
        broker: &Broker,
        id: &str,
        key: VerifyingKey,
        logs: Logs,
        features: &[&str],
        arch: &str,
    ) -> FakeAgent {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let agent = Board {
            id: id.parse().unwrap(),
            key,
            logs,
            features: features.iter().map(ToString::to_string).collect(),
            arch: arch.to_string(),
            seen: Arc::clone(&seen),
            nonce: None,
            artifacts: String::new(),
            seq: 0,
            epoch: Epoch { boots: BOOTS.fetch_add(1, Ordering::Relaxed) + 1, session: 1 },
        };
        let broker = broker.clone();
        let task = runtime.spawn(async move { agent.run(broker).await });
        FakeAgent { seen, task }
    }
}

struct Board {
    id: AgentId,
    key: VerifyingKey,
    logs: Logs,
    features: BTreeSet<String>,
    arch: String,
    seen: Arc<Mutex<Seen>>,
    nonce: Option<Nonce>,
    artifacts: String,
    seq: u64,
    epoch: Epoch,
}

const BOARD: BoardId = BoardId([9; 16]);
/// Starts of boards in this test process: each is newer than all before it.
static BOOTS: AtomicU64 = AtomicU64::new(0);

impl Board {
    async fn run(mut self, broker: Broker) {
        let will = codec::encode(Envelope::Presence, &self.presence(false), None).unwrap();
        let will = Will { payload: will.bytes.into(), content_type: will.content_type.to_string() };
        let endpoint: Endpoint = "mqtt://localhost:1".parse().unwrap();
        let mut session = broker.connect(SessionConfig::new(endpoint, self.id.clone(), will));
        while let Some(event) = session.next().await {
            match event {
                SessionEvent::Connected => {
                    say(&session, Kind::Presence, Envelope::Presence, &self.presence(true), true)
                }
                SessionEvent::Message { topic: Topic::Agent { kind, .. }, payload, content_type, .. } => {
                    self.heard(&session, kind, &payload, &content_type).await;
                }
                _ => {}
            }
        }
    }

    fn presence(&self, online: bool) -> Presence {
        Presence {
            board: BOARD,
            epoch: self.epoch,
            online,
            contract_version: 1,
            agent_version: "0.1.0".into(),
            features: self.features.clone(),
            engines: vec![wasm::native_engine().to_string()],
            arch: self.arch.clone(),
            labels: BTreeMap::from([("site".to_string(), "north".to_string())]),
            capacity: Capacity { cpu_millis: 4000, memory_bytes: 4 << 30, storage_bytes: 16 << 30 },
        }
    }

    async fn heard(&mut self, session: &Session, kind: Kind, payload: &[u8], content_type: &str) {
        match kind {
            Kind::Hello => {
                let hello: Hello =
                    codec::decode(Envelope::Hello, payload, content_type, Some(&self.key)).unwrap();
                self.nonce = Some(hello.nonce);
                self.artifacts = hello.artifacts.clone();
                let full = hello.want == Want::Full;
                self.seen.lock().unwrap().hellos.push(hello);
                if full {
                    self.report(session);
                }
            }
            Kind::Desired => {
                let document =
                    codec::decode(Envelope::Desired, payload, content_type, Some(&self.key)).unwrap();
                self.seen.lock().unwrap().desired = Some(document);
                self.report(session);
            }
            Kind::Command(_) => {
                let command: Command =
                    codec::decode(Envelope::Command, payload, content_type, Some(&self.key)).unwrap();
                self.serve(session, &command).await;
                self.seen.lock().unwrap().commands.push(command);
            }
            _ => {}
        }
    }

    fn report(&mut self, session: &Session) {
        if self.nonce.is_none() {
            return;
        }
        self.seq += 1;
        let desired = self.seen.lock().unwrap().desired.clone();
        let workloads = desired.as_ref().map(running).unwrap_or_default();
        let report = Observed {
            board: BOARD,
            epoch: self.epoch,
            seq: self.seq,
            nonce: self.nonce,
            now_ms: 1000,
            applied: desired.as_ref().map(Desired::head),
            refused: None,
            body: ObservedBody::Full { workloads },
        };
        say(session, Kind::Observed, Envelope::Observed, &report, false);
    }

    async fn serve(&self, session: &Session, command: &Command) {
        let reply = |seq, body| {
            let reply = Reply { id: command.id.clone(), nonce: command.nonce, seq, body };
            say(session, Kind::Reply(command.id.clone()), Envelope::Reply, &reply, false);
        };
        match &command.op {
            CommandOp::Logs(_) => {}
            CommandOp::Exec(exec) if exec.args[0] == "refuse" => {
                return reply(0, ReplyBody::Refused { reason: "not today".into() });
            }
            CommandOp::Exec(exec) => {
                reply(0, ReplyBody::Accepted);
                let (url, what) = (self.artifacts.clone(), exec.args[0].clone());
                let ticket = command.ticket.clone().unwrap();
                std::thread::spawn(move || super::session::board(&url, &ticket, &what));
                return;
            }
            CommandOp::Cancel { .. } | CommandOp::Copy(_) => return,
        }
        let mut seq = 1;
        match &self.logs {
            Logs::Refuse(reason) => return reply(0, ReplyBody::Refused { reason: reason.clone() }),
            Logs::Hang => return reply(0, ReplyBody::Accepted),
            Logs::Pieces(pieces) => {
                reply(0, ReplyBody::Accepted);
                for text in pieces {
                    reply(seq, ReplyBody::Progress { text: text.clone() });
                    seq += 1;
                }
            }
            Logs::Ticket(text) => {
                reply(0, ReplyBody::Accepted);
                let (url, text) =
                    (format!("{}{}", self.artifacts, command.ticket.as_ref().unwrap()), text.clone());
                let put = tokio::task::spawn_blocking(move || {
                    ureq::put(&url).send(text.as_bytes()).map(|r| r.status())
                });
                assert_eq!(put.await.unwrap().unwrap(), 204);
            }
        }
        reply(seq, ReplyBody::Done { error: None });
    }
}

fn running(desired: &Desired) -> Workloads {
    let one = |assignment: &contract::run::Assignment| {
        let status = InstanceStatus {
            revision: assignment.revision,
            attempt: assignment.attempt,
            state: InstanceState::Running,
            ready: true,
            unready: None,
            probe_restarts: 0,
            healthy: true,
            since_ms: 1,
            restarts: 0,
            run: None,
            pid: Some(1),
            last_exit: None,
        };
        let instances = assignment.slots.iter().map(|slot| (*slot, status.clone())).collect();
        let good = Some(assignment.revision);
        (assignment.workload.clone(), WorkloadStatus { good, instances, ..WorkloadStatus::default() })
    };
    desired.assignments.values().map(one).collect()
}

fn say<T: Serialize>(session: &Session, kind: Kind, envelope: Envelope, message: &T, retain: bool) {
    let encoded = codec::encode(envelope, message, None).unwrap();
    session.publish(kind, Bytes::from(encoded.bytes), encoded.content_type, retain).unwrap();
}
