//! What is still to be done, and how much of it in one step? Everything that may concern the whole
//! fleet leaves in pages, so that no step is long and no queue of the shell outgrows its memory.

use std::collections::{BTreeMap, BTreeSet};

use contract::AgentId;
use contract::time::Now;

use crate::api::Op;
use crate::core::Core;
use crate::dirty::Dirty;

#[derive(Debug, Default)]
pub struct Queues {
    pub dirty: Dirty,
    pub hello: BTreeSet<AgentId>,
    /// Documents to compose; true: publish even if nothing changed.
    pub publish: BTreeMap<AgentId, bool>,
}

impl Queues {
    pub fn hello(&mut self, id: &AgentId) {
        if !self.hello.contains(id) {
            self.hello.insert(id.clone());
        }
    }

    pub fn publish(&mut self, id: &AgentId, again: bool) {
        match self.publish.get_mut(id) {
            Some(is) => *is |= again,
            None => drop(self.publish.insert(id.clone(), again)),
        }
    }

    pub fn forget(&mut self, id: &AgentId) {
        self.hello.remove(id);
        self.publish.remove(id);
    }
}

impl Core {
    pub(crate) fn pump(&mut self, now: Now) {
        self.reconcile();
        if self.queues.dirty.is_empty() {
            self.pump_drains();
        }
        self.start_compiles();
        self.start_fetches();
        if self.world.bus_up {
            self.pump_hellos(now);
            self.pump_documents(now);
        }
        self.pump_changes();
    }

    fn room(&self) -> usize {
        // The Persist and the Changed of this step come on top.
        self.config.page_max.saturating_sub(self.out.len() + 2)
    }

    fn pump_hellos(&mut self, now: Now) {
        while self.room() > 0 && self.may_send() {
            let Some(id) = self.queues.hello.pop_first() else { return };
            self.publish_hello(now, &id);
        }
    }

    /// Documents wait until every placement is decided: one document instead of one for each
    /// workload of an apply. And no more messages are under way than two pages.
    fn pump_documents(&mut self, now: Now) {
        let mut looks = 0;
        while self.may_publish() && self.room() > 0 && looks < self.config.page_max {
            let Some((id, again)) = self.queues.publish.pop_first() else { return };
            self.publish_desired(now, &id, again);
            looks += 1;
        }
    }

    fn may_publish(&self) -> bool {
        self.queues.dirty.is_empty() && self.may_send()
    }

    fn may_send(&self) -> bool {
        self.publishing.len() < 2 * self.config.page_max
    }

    fn pump_changes(&mut self) {
        let page = self.changes.page(self.config.page_max);
        if !page.is_empty() {
            self.out.after(Op::Changed(page));
        }
    }

    /// Whether another step right now would do something.
    pub(crate) fn has_work(&self) -> bool {
        let sends = self.world.bus_up
            && (self.may_send() && !self.queues.hello.is_empty()
                || self.may_publish() && !self.queues.publish.is_empty());
        let drains = !self.drains.is_empty() && self.changes.has_moved();
        sends
            || drains
            || !self.queues.dirty.is_empty()
            || !self.changes.is_empty()
            || self.compiles.has_work()
            || self.fetches.has_work()
    }
}
