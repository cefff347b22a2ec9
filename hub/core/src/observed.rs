//! What an agent last said about its work, stored tightly: a `BTreeMap` node has room for eleven
//! entries, and a board has one or two; at 100,000 boards that is the difference of gigabytes.

use contract::message::ObservedBody;
use contract::status::{InstanceStatus, Rejected, WorkloadStatus, Workloads};
use contract::{Attempt, Digest, RevisionId, WorkloadKey};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen(Vec<(WorkloadKey, SeenWorkload)>);

#[derive(Debug, Clone, PartialEq)]
pub struct SeenWorkload {
    pub good: Option<RevisionId>,
    pub candidate: Option<(RevisionId, Attempt)>,
    pub rejected: Option<Box<Rejected>>,
    pub unsupported: Option<Box<str>>,
    pub waiting: Option<Box<str>>,
    pub instances: Box<[(u32, InstanceStatus)]>,
}

impl From<WorkloadStatus> for SeenWorkload {
    fn from(status: WorkloadStatus) -> SeenWorkload {
        SeenWorkload {
            good: status.good,
            candidate: status.candidate,
            rejected: status.rejected.map(Box::new),
            unsupported: status.unsupported.map(String::into_boxed_str),
            waiting: status.waiting.map(String::into_boxed_str),
            instances: status.instances.into_iter().collect(),
        }
    }
}

impl From<SeenWorkload> for WorkloadStatus {
    fn from(seen: SeenWorkload) -> WorkloadStatus {
        WorkloadStatus {
            good: seen.good,
            candidate: seen.candidate,
            rejected: seen.rejected.map(|r| *r),
            unsupported: seen.unsupported.map(String::from),
            waiting: seen.waiting.map(String::from),
            instances: seen.instances.into_vec().into_iter().collect(),
        }
    }
}

impl SeenWorkload {
    pub fn instance(&self, slot: u32) -> Option<&InstanceStatus> {
        let at = self.instances.binary_search_by_key(&slot, |(slot, _)| *slot).ok()?;
        Some(&self.instances[at].1)
    }

    pub fn rejects(&self, revision: RevisionId, attempt: Attempt) -> Option<&Rejected> {
        self.rejected.as_deref().filter(|r| r.revision == revision && r.attempt >= attempt)
    }
}

impl Seen {
    pub fn get(&self, key: &WorkloadKey) -> Option<&SeenWorkload> {
        let at = self.0.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&WorkloadKey, &SeenWorkload)> {
        self.0.iter().map(|(key, seen)| (key, seen))
    }

    /// Replace everything. Returns the keys whose status changed.
    pub fn replace(&mut self, workloads: Workloads) -> Vec<WorkloadKey> {
        let list = workloads.into_iter().map(|(key, status)| (key, status.into()));
        let new = Seen(list.collect());
        let gone = self.0.iter().filter(|(key, _)| new.get(key).is_none()).map(|(key, _)| key);
        let changed = new.0.iter().filter(|(key, seen)| self.get(key) != Some(seen)).map(|(key, _)| key);
        let keys = gone.chain(changed).cloned().collect();
        *self = new;
        keys
    }

    pub fn set(&mut self, key: WorkloadKey, status: Option<WorkloadStatus>) {
        let at = self.0.binary_search_by(|(k, _)| k.cmp(&key));
        match (at, status) {
            (Ok(n), Some(status)) => self.0[n].1 = status.into(),
            (Ok(n), None) => drop(self.0.remove(n)),
            (Err(n), Some(status)) => {
                self.0.reserve_exact(1);
                self.0.insert(n, (key, status.into()));
            }
            (Err(_), None) => {}
        }
    }

    /// Compared with what a heartbeat says.
    pub fn digest(&self) -> Digest {
        let whole: Workloads = self.0.iter().map(|(key, seen)| (key.clone(), seen.clone().into())).collect();
        contract::message::Observed::state_digest(&whole)
    }
}

/// Why a report is not taken in at all. An honest agent keeps these limits; what it says beyond
/// them is not worth the hub's memory.
pub fn refusal(body: &ObservedBody) -> Option<String> {
    let all: Vec<&WorkloadStatus> = match body {
        ObservedBody::Full { workloads } => workloads.values().collect(),
        ObservedBody::Changes { workloads } => workloads.values().flatten().collect(),
        ObservedBody::Heartbeat { .. } => return None,
    };
    // Twice the assignments: those that are, and those that are just stopping.
    let max = 2 * contract::limits::ASSIGNMENTS_MAX;
    if all.len() > max {
        return Some(format!("its report has {} workloads; at most {max} are taken", all.len()));
    }
    let slots = 2 * contract::limits::SLOTS_PER_AGENT_MAX;
    if let Some(many) = all.iter().map(|w| w.instances.len()).find(|n| *n > slots) {
        return Some(format!("its report has {many} instances of one workload; at most {slots} are taken"));
    }
    None
}
