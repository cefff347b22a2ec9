//! Which effects left, which still owe their end, and what waits to be written.
//!
//! Records changed in one step leave in one Persist. While `PERSISTS_MAX` are on their way, further
//! writes are held and merged, so that a slow disk costs memory for one record per workload and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use contract::message::DesiredHead;
use contract::{Digest, Epoch, InstanceId, Name, RunId, WorkloadKey};

use crate::api::{Effect, EffectId, Op, WorkloadRecord, Write};

const PERSISTS_MAX: usize = 4;

/// What an effect under way was for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pending {
    Persist,
    Connect,
    Disconnect,
    Presence(Epoch),
    Observed(Epoch),
    Events(Epoch),
    Reply(Epoch),
    Fetch(Digest),
    Start(InstanceId, RunId),
    Stop(InstanceId, RunId),
    Remove(InstanceId, RunId),
    Serve(Name),
    Sweep,
    /// Its end changes nothing: a note in `/run`.
    Nothing,
}

#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub boots: Option<u64>,
    pub desired: Option<(DesiredHead, Arc<[u8]>)>,
    pub records: BTreeMap<WorkloadKey, Option<WorkloadRecord>>,
}

impl Writes {
    pub fn is_empty(&self) -> bool {
        self.boots.is_none() && self.desired.is_none() && self.records.is_empty()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    last_id: EffectId,
    effects: Vec<Effect>,
    pending: BTreeMap<EffectId, Pending>,
    persists: BTreeSet<EffectId>,
    pub writes: Writes,
}

impl Outbox {
    pub fn emit(&mut self, op: Op, pending: Pending) -> EffectId {
        self.emit_after(None, op, pending)
    }

    pub fn emit_after(&mut self, after: Option<EffectId>, op: Op, pending: Pending) -> EffectId {
        self.last_id += 1;
        self.effects.push(Effect { id: self.last_id, after, op });
        self.pending.insert(self.last_id, pending);
        self.last_id
    }

    /// Commit what is held, unless the disk is far behind.
    pub fn flush(&mut self) -> Option<EffectId> {
        if self.writes.is_empty() || self.persists.len() >= PERSISTS_MAX {
            return None;
        }
        let writes = std::mem::take(&mut self.writes);
        let boots = writes.boots.map(Write::Boots);
        let desired = writes.desired.map(|(head, signed)| Write::Desired { head, signed });
        let records = writes.records.into_iter().map(|(key, record)| Write::Workload { key, record });
        let list = boots.into_iter().chain(desired).chain(records).collect();
        let id = self.emit(Op::Persist(list), Pending::Persist);
        self.persists.insert(id);
        Some(id)
    }

    /// The newest commit on its way: whatever tells of our state leaves after it.
    pub fn last_persist(&self) -> Option<EffectId> {
        self.persists.last().copied()
    }

    /// An effect ended; none when it is unknown or nobody waits for it any more.
    pub fn finish(&mut self, id: EffectId) -> Option<Pending> {
        self.persists.remove(&id);
        self.pending.remove(&id)
    }

    /// What was under way on a session that is gone ends for nobody.
    pub fn forget_session(&mut self) {
        use Pending::{Events, Observed, Presence, Reply};
        self.pending.retain(|_, what| !matches!(what, Presence(_) | Observed(_) | Events(_) | Reply(_)));
    }

    pub fn count(&self, of: impl Fn(&Pending) -> bool) -> usize {
        self.pending.values().filter(|what| of(what)).count()
    }

    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}
