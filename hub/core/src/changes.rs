//! What do watchers have to look at again? Collected over a step, told in pages.

use std::collections::BTreeSet;

use contract::{AgentId, Digest, WorkloadKey};

use crate::api::Change;

#[derive(Debug, Default)]
pub struct Changes {
    workloads: BTreeSet<WorkloadKey>,
    /// The same, for agents that are drained: what came of it may let something go.
    moved: BTreeSet<WorkloadKey>,
    agents: BTreeSet<AgentId>,
    artifacts: BTreeSet<Digest>,
    events: BTreeSet<u64>,
}

impl Changes {
    pub fn workload(&mut self, key: &WorkloadKey) {
        if !self.workloads.contains(key) {
            self.workloads.insert(key.clone());
        }
        if !self.moved.contains(key) {
            self.moved.insert(key.clone());
        }
    }

    pub fn take_moved(&mut self) -> BTreeSet<WorkloadKey> {
        std::mem::take(&mut self.moved)
    }

    pub fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    pub fn agent(&mut self, agent: &AgentId) {
        if !self.agents.contains(agent) {
            self.agents.insert(agent.clone());
        }
    }

    pub fn artifact(&mut self, digest: Digest) {
        self.artifacts.insert(digest);
    }

    pub fn event(&mut self, seq: u64) {
        self.events.insert(seq);
    }

    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
            && self.agents.is_empty()
            && self.artifacts.is_empty()
            && self.events.is_empty()
    }

    pub fn page(&mut self, max: usize) -> Vec<Change> {
        let mut page = Vec::new();
        let mut pull = |next: &mut dyn FnMut() -> Option<Change>| {
            while page.len() < max {
                match next() {
                    Some(change) => page.push(change),
                    None => break,
                }
            }
        };
        pull(&mut || self.workloads.pop_first().map(|workload| Change::Workload { workload }));
        pull(&mut || self.artifacts.pop_first().map(|digest| Change::Artifact { digest }));
        pull(&mut || self.agents.pop_first().map(|agent| Change::Agent { agent }));
        pull(&mut || self.events.pop_first().map(|seq| Change::Event { seq }));
        page
    }
}
