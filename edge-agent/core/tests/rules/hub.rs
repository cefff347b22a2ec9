//! What a hub would say, for tests.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::{Acked, Command, CommandOp, Desired, Hello, LogQuery, Want};
use contract::run::{ArtifactRef, Assignment, NetworkAllowance, ResourceLimits, RunSpec};
use contract::spec::{RestartPolicy, Runtime};
use contract::{
    AgentId, Attempt, BoardId, Digest, Epoch, Generation, InstanceId, Lineage, Nonce, RevisionId, Term,
    WorkloadKey,
};

pub const BOARD: BoardId = BoardId([7; 16]);
pub const LINEAGE: Lineage = Lineage([1; 16]);

pub fn agent() -> AgentId {
    "press-1".parse().unwrap()
}

pub fn key(name: &str) -> WorkloadKey {
    format!("plant/{name}").parse().unwrap()
}

pub fn instance(name: &str, slot: u32) -> InstanceId {
    InstanceId { workload: key(name), slot }
}

pub fn revision(n: u8) -> RevisionId {
    RevisionId(Digest::of(&[n]))
}

pub fn artifact(n: u8) -> Digest {
    Digest::of(&[n, 1])
}

pub fn assignment(name: &str, n: u8, slots: &[u32]) -> Assignment {
    Assignment {
        workload: key(name),
        revision: revision(n),
        attempt: Attempt(1),
        slots: slots.to_vec(),
        run: run_spec(n),
        requires: BTreeSet::new(),
        restarts: 0,
    }
}

fn run_spec(n: u8) -> RunSpec {
    RunSpec {
        runtime: Runtime::Wasm,
        artifact: ArtifactRef { source: artifact(n), digest: artifact(n), size_bytes: 1, engine: None },
        command: vec![],
        args: vec![format!("revision {n}")],
        env: BTreeMap::new(),
        limits: ResourceLimits::DEFAULT,
        network: NetworkAllowance::default(),
        mounts: vec![],
        restart_policy: RestartPolicy::Always,
        stop_signal: "TERM".into(),
        stop_grace_ms: 10_000,
        healthy_after_ms: 3000,
        health_deadline_ms: 600_000,
        probes: None,
        container: None,
        data: None,
    }
}

pub fn document(generation: u64, assignments: impl IntoIterator<Item = Assignment>) -> Desired {
    Desired {
        lineage: LINEAGE,
        term: Term(1),
        agent: agent(),
        generation: Generation(generation),
        assignments: assignments.into_iter().map(|a| (a.workload.clone(), a)).collect(),
    }
}

pub fn hello(epoch: Epoch, nonce: u8) -> Hello {
    Hello {
        lineage: LINEAGE,
        term: Term(1),
        board: BOARD,
        epoch,
        nonce: Nonce([nonce; 16]),
        said: 0,
        epoch_floor: 0,
        acked: Acked::default(),
        want: Want::Full,
        heartbeat_ms: 600_000,
        wall_ms: None,
        artifacts: "http://127.0.0.1:1".into(),
    }
}

pub fn logs(id: &str, nonce: u8, of: InstanceId) -> Command {
    let query = LogQuery { instance: of, tail: None, since_ms: None, previous: false, follow: false };
    Command {
        id: id.parse().unwrap(),
        nonce: Nonce([nonce; 16]),
        deadline_ms: 1000,
        until_ms: None,
        ticket: None,
        op: CommandOp::Logs(query),
    }
}

pub fn trap() -> contract::status::Exit {
    contract::status::Exit::Trap { message: "unreachable".into() }
}
