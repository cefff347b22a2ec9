//! What a starting hub finds in its store. Anything that cannot be read is named, all of it at once;
//! a hub that dropped such a record silently would delete work from a fleet.

use std::collections::BTreeMap;

use contract::{AgentId, DataId, Digest, WorkloadKey};
use hub_core::access::AccessFacts;
use hub_core::record::{
    AgentRecord, ArtifactRecord, DataRecord, EventRecord, Meta, PlacementRecord, WorkloadRecord,
};
use hub_core::trust::TrustFacts;
use kv::{Kv, KvError, Record};

use super::{FORMAT, Key, decode};

#[derive(Debug, Default)]
pub struct Loaded {
    pub meta: Option<Meta>,
    pub workloads: BTreeMap<WorkloadKey, WorkloadRecord>,
    pub placements: BTreeMap<(WorkloadKey, AgentId), PlacementRecord>,
    pub agents: BTreeMap<AgentId, AgentRecord>,
    pub artifacts: BTreeMap<Digest, ArtifactRecord>,
    pub data: BTreeMap<DataId, DataRecord>,
    pub trust: TrustFacts,
    pub access: AccessFacts,
    pub events: Vec<EventRecord>,
    /// The lowest event that is stored, or the first that will be.
    pub oldest_event: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Store(#[from] KvError),
    #[error("the store has format {0}; this hub reads format 1: use the release that wrote it")]
    Format(String),
    #[error("{} records cannot be read: {}", .0.len(), .0.join("; "))]
    Corrupt(Vec<String>),
}

/// Named at most; the rest is counted.
const NAMED_MAX: usize = 20;

pub fn load(kv: &dyn Kv) -> Result<Loaded, LoadError> {
    let format = kv.get(&Key::Format.bytes())?;
    if let Some(other) = format.filter(|format| format != FORMAT) {
        return Err(LoadError::Format(String::from_utf8_lossy(&other).into_owned()));
    }
    let (mut loaded, mut wrong) = (Loaded::default(), Vec::new());
    for record in kv.scan(b"")? {
        if let Err(reason) = loaded.take(&record) {
            wrong.push(format!("\"{}\": {reason}", record.0.escape_ascii()));
        }
    }
    if wrong.is_empty() {
        loaded.oldest_event = loaded.events.first().map_or(0, |event| event.seq);
        return Ok(loaded);
    }
    let more = wrong.len().saturating_sub(NAMED_MAX);
    wrong.truncate(NAMED_MAX);
    if more > 0 {
        wrong.push(format!("and {more} more"));
    }
    Err(LoadError::Corrupt(wrong))
}

impl Loaded {
    fn take(&mut self, (key, value): &Record) -> Result<(), String> {
        match Key::parse(key).ok_or("no such kind of record")? {
            Key::Format => {}
            Key::Meta => self.meta = Some(decode(value)?),
            Key::Workload(key) => drop(self.workloads.insert(key, decode(value)?)),
            Key::Placement(key, agent) => drop(self.placements.insert((key, agent), decode(value)?)),
            Key::Agent(agent) => drop(self.agents.insert(agent, decode(value)?)),
            Key::Artifact(digest) => drop(self.artifacts.insert(digest, decode(value)?)),
            Key::Data(id) => drop(self.data.insert(id, decode(value)?)),
            Key::Trust(key) => drop(self.trust.insert(key, decode(value)?)),
            Key::Access(key) => drop(self.access.insert(key, decode(value)?)),
            // In the order of their keys, which is that of their numbers.
            Key::Event(_) => self.events.push(decode(value)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::changes;
    use contract::{Lineage, Term, Version};
    use hub_core::api::Write;
    use kv::{Batch, MemDisk};

    #[test]
    fn what_was_written_is_loaded_and_the_unreadable_is_named() {
        let mut kv = MemDisk::new().open().unwrap();
        let meta = Meta { lineage: Lineage([1; 16]), term: Term(2), version: Version(3) };
        let placement = PlacementRecord {
            slots: [0, 4].into(),
            revision: contract::RevisionId(Digest::of(b"r")),
            attempt: contract::Attempt(1),
            restarts: 0,
            ended: Vec::new(),
        };
        let (key, agent): (WorkloadKey, AgentId) = ("a/b".parse().unwrap(), "c".parse().unwrap());
        let mut batch = Batch::new();
        let mut oldest = 0;
        let record = Some(placement.clone());
        let write = Write::Placement { key: key.clone(), agent: agent.clone(), record };
        for (key, value) in [Write::Meta(meta), write].iter().flat_map(|w| changes(w, &mut oldest)) {
            batch.put(key, value.unwrap());
        }
        kv.commit(batch).unwrap();
        let loaded = load(&kv).unwrap();
        assert_eq!(loaded.meta, Some(meta));
        assert_eq!(loaded.placements[&(key, agent)], placement);

        let mut batch = Batch::new();
        batch.put(b"wa/b".to_vec(), b"{".to_vec()).put(b"?".to_vec(), b"".to_vec());
        kv.commit(batch).unwrap();
        let Err(LoadError::Corrupt(named)) = load(&kv) else { panic!("it loaded") };
        assert!(named.len() == 2 && named.iter().any(|n| n.starts_with("\"wa/b\"")), "{named:?}");
    }

    #[test]
    fn a_newer_format_is_left_alone() {
        let mut kv = MemDisk::new().open().unwrap();
        let mut batch = Batch::new();
        batch.put(Key::Format.bytes(), b"2".to_vec());
        kv.commit(batch).unwrap();
        assert!(matches!(load(&kv), Err(LoadError::Format(f)) if f == "2"));
    }
}
