//! What the core is told at the start: everything on the board, each thing checked where it lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use agent_core::api::{BootFacts, StoreState, WorkloadRecord};
use anyhow::Context as _;
use contract::message::{CONTRACT_VERSION, Capacity, CommandOp, Desired, Presence};
use contract::{Digest, Epoch, WorkloadKey, codec, limits};
use ed25519_dalek::VerifyingKey;
use kv::{Kv, KvError, Opened, Options, SledKv};

use super::args::RunArgs;
use super::artifacts::Artifacts;
use super::board::Board;
use super::notes::Notes;
use super::persist::{BOOTS, DESIRED, DesiredPointer, WORKLOAD, desired_path};
use crate::instance::Runtime;

/// What this agent can do; an assignment that requires more is marked unsupported, by name.
const FEATURES: [&str; 7] =
    ["wasm", "volume-mounts", "host-path-mounts", "tmpfs-mounts", "probes", "data", CommandOp::SESSIONS];

pub fn open_store(dir: &Path) -> Result<(Box<dyn Kv>, StoreState), KvError> {
    let (store, opened) = SledKv::open_or_set_aside(dir, &Options::default())?;
    let state = match opened {
        Opened::Fresh => StoreState::Fresh,
        Opened::Existing => StoreState::Opened,
        Opened::SetAside { path, reason } => {
            StoreState::SetAside { path: path.display().to_string(), reason }
        }
    };
    Ok((Box::new(store), state))
}

#[allow(clippy::too_many_arguments, reason = "one call, at the start, of everything there is")]
pub fn gather(
    args: &RunArgs,
    board: &Board,
    store: &dyn Kv,
    opened: StoreState,
    runtime: &Runtime,
    notes: &Notes,
    artifacts: &Artifacts,
    key: &VerifyingKey,
) -> anyhow::Result<BootFacts> {
    let boots = store.get(BOOTS)?.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or(0);
    Ok(BootFacts {
        agent: board.agent.clone(),
        board: board.id,
        presence: presence(args, board)?,
        boots,
        store: opened,
        desired: desired(board, store, key)?,
        workloads: workloads(store)?,
        found: runtime.scan().context("cannot list what runs here")?,
        restarts: notes.read_all(),
        artifacts: artifacts.list(),
    })
}

/// A document and its signed bytes, verbatim.
type Signed = (Box<Desired>, Arc<[u8]>);

/// The document as it was signed, verified anew: what lies on a disk is not trusted either.
fn desired(board: &Board, store: &dyn Kv, key: &VerifyingKey) -> anyhow::Result<Option<Signed>> {
    let Some(pointer) = store.get(DESIRED)? else { return Ok(None) };
    let read = || -> Result<(Desired, Vec<u8>), String> {
        let pointer: DesiredPointer = serde_json::from_slice(&pointer).map_err(|why| why.to_string())?;
        let path = desired_path(&board.state, &pointer.file);
        let signed = fs::read(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        if Digest::of(&signed) != pointer.file {
            return Err(format!("{} has changed", path.display()));
        }
        let document =
            codec::open(codec::Kind::Desired, &signed, Some(key)).map_err(|why| why.to_string())?;
        Ok((document, signed))
    };
    match read() {
        Ok((document, signed)) => Ok(Some((Box::new(document), Arc::from(signed)))),
        Err(why) => {
            eprintln!(
                "edge-agent: the stored document cannot be used; what runs is kept, the hub will send it again: {why}"
            );
            Ok(None)
        }
    }
}

/// A record that cannot be read is dropped, by name: its workload is then tried as if it were new.
fn workloads(store: &dyn Kv) -> anyhow::Result<BTreeMap<WorkloadKey, WorkloadRecord>> {
    let mut records = BTreeMap::new();
    for (name, value) in store.scan(WORKLOAD)? {
        let name = String::from_utf8_lossy(&name[WORKLOAD.len()..]).into_owned();
        match (name.parse::<WorkloadKey>(), serde_json::from_slice(&value)) {
            (Ok(key), Ok(record)) => drop(records.insert(key, record)),
            (Err(why), _) => eprintln!("edge-agent: record of workload {name} dropped: {why}"),
            (_, Err(why)) => eprintln!("edge-agent: record of workload {name} dropped: {why}"),
        }
    }
    Ok(records)
}

fn presence(args: &RunArgs, board: &Board) -> anyhow::Result<Presence> {
    Ok(Presence {
        board: board.id,
        epoch: Epoch::default(),
        online: true,
        contract_version: CONTRACT_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_string(),
        features: FEATURES.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
        engines: vec![wasm::native_engine().to_string()],
        arch: contract::platform::native_arch().to_string(),
        labels: args.labels.iter().map(|label| (label.0.clone(), limits::clip(&label.1))).collect(),
        capacity: capacity(args, board)?,
    })
}

/// All cores, three quarters of the memory: the rest is the kernel's and ours.
fn capacity(args: &RunArgs, board: &Board) -> anyhow::Result<Capacity> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let memory = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let total_kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let total = total_kib.context("/proc/meminfo has no MemTotal")? * 1024;
    let disk = rustix::fs::statvfs(&board.state)?;
    Ok(Capacity {
        cpu_millis: args.cpu.map_or(cores * 1000, |cpu| cpu.millis),
        memory_bytes: args.memory.map_or(total / 4 * 3, |memory| memory.0),
        storage_bytes: disk.f_blocks * disk.f_frsize,
    })
}
