//! What has to be looked at again? The highest priority goes first, so that room goes to whom it belongs
//! and nobody has to yield it again; among equals the least key, so that the order of events does not show.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use contract::{AgentId, WorkloadKey};

#[derive(Debug, Default)]
pub struct Dirty {
    keys: BTreeMap<(Reverse<i32>, WorkloadKey), Scope>,
    /// Of those that have another priority than 0.
    priorities: BTreeMap<WorkloadKey, i32>,
    /// Begun, and not through all its agents: goes on before any other, so that it does not show
    /// either where a step ended. (Room that it freed goes to the best, not to the first freed.)
    begun: Option<WorkloadKey>,
}

#[derive(Debug, Default)]
pub struct Scope {
    /// All agents from here on.
    pub from: Option<From>,
    pub some: BTreeSet<AgentId>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    Start,
    Above(AgentId),
}

impl Dirty {
    fn rank(&self, key: &WorkloadKey) -> (Reverse<i32>, WorkloadKey) {
        (Reverse(self.priorities.get(key).copied().unwrap_or(0)), key.clone())
    }

    pub fn set_priority(&mut self, key: &WorkloadKey, priority: i32) {
        let scope = self.keys.remove(&self.rank(key));
        if priority == 0 {
            self.priorities.remove(key);
        } else {
            self.priorities.insert(key.clone(), priority);
        }
        if let Some(scope) = scope {
            self.keys.insert(self.rank(key), scope);
        }
    }

    pub fn all(&mut self, key: &WorkloadKey) {
        let scope = Scope { from: Some(From::Start), some: BTreeSet::new() };
        self.keys.insert(self.rank(key), scope);
    }

    pub fn agent(&mut self, key: &WorkloadKey, agent: &AgentId) {
        let scope = self.keys.entry(self.rank(key)).or_default();
        if scope.from != Some(From::Start) {
            scope.some.insert(agent.clone());
        }
    }

    pub fn pop(&mut self) -> Option<(WorkloadKey, Scope)> {
        let begun = self.begun.take().and_then(|key| self.keys.remove_entry(&self.rank(&key)));
        begun.or_else(|| self.keys.pop_first()).map(|((_, key), scope)| (key, scope))
    }

    pub fn go_on(&mut self, key: &WorkloadKey, scope: Scope) {
        self.begun = Some(key.clone());
        self.keys.insert(self.rank(key), scope);
    }

    pub fn forget(&mut self, key: &WorkloadKey) {
        self.keys.remove(&self.rank(key));
        self.priorities.remove(key);
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
