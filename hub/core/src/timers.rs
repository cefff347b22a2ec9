//! When must which agent be looked at again? One entry for each agent that waits for anything.

use std::collections::BTreeSet;

use contract::AgentId;
use contract::time::Millis;

#[derive(Debug, Default)]
pub struct Timers(BTreeSet<(Millis, AgentId)>);

impl Timers {
    /// `old` is what was set before; the owner keeps it.
    pub fn set(&mut self, agent: &AgentId, old: Option<Millis>, new: Option<Millis>) {
        if old == new {
            return;
        }
        if let Some(at) = old {
            self.0.remove(&(at, agent.clone()));
        }
        if let Some(at) = new {
            self.0.insert((at, agent.clone()));
        }
    }

    pub fn next(&self) -> Option<Millis> {
        self.0.first().map(|(at, _)| *at)
    }

    pub fn pop_due(&mut self, now: Millis) -> Option<AgentId> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_first().map(|(_, agent)| agent)
    }
}

#[cfg(test)]
impl Timers {
    pub fn of(&self, agent: &AgentId) -> Vec<Millis> {
        self.0.iter().filter(|(_, a)| a == agent).map(|(at, _)| *at).collect()
    }
}
