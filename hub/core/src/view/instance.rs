//! One running copy, as its agent last told, and how sure that is.

use contract::status::{Exit, InstanceState};
use contract::time::{Millis, Now};
use contract::{AgentId, Attempt, InstanceId, Name, RevisionId, WorkloadKey};
use serde::{Deserialize, Serialize};

use crate::api::Placed;
use crate::core::Core;
use crate::labels::Query;
use crate::record::PlacementRecord;
use crate::session::Session;
use crate::view::unknown;
use crate::world::Work;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    pub instance: InstanceId,
    pub workload: WorkloadKey,
    pub agent: AgentId,
    pub revision: RevisionId,
    pub attempt: Attempt,
    /// `Running`, or `unknown (last known Running)` when the report is not fresh.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known: Option<String>,
    pub ready: bool,
    /// Why it is not ready though it runs: which probe says so, and its last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unready: Option<String>,
    pub healthy: bool,
    /// Under a fresh report: everything here is so now.
    pub fresh: bool,
    /// How long it has been in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<Millis>,
    /// How old the report is that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report_age_ms: Option<Millis>,
    pub restarts: u32,
    /// How many of them were a probe's doing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub probe_restarts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// Not assigned any more: its agent is about to stop it, or has not heard so yet.
    #[serde(default)]
    pub leaving: bool,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// All parts must hold.
#[derive(Debug, Clone, Default)]
pub struct InstanceFilter {
    pub namespace: Option<Name>,
    pub workload: Option<WorkloadKey>,
    /// Of the workload's labels.
    pub selector: Query,
    pub agent: Option<AgentId>,
}

impl InstanceFilter {
    fn wants(&self, key: &WorkloadKey, work: Option<&Work>) -> bool {
        let labels = work.map(|work| &work.record.manifest.metadata.labels);
        self.namespace.as_ref().is_none_or(|ns| *ns == key.namespace)
            && self.workload.as_ref().is_none_or(|wanted| wanted == key)
            && self.selector.matches(labels.unwrap_or(&Default::default()))
    }
}

impl Core {
    pub fn instances(&self, now: Now, filter: &InstanceFilter) -> Vec<InstanceView> {
        let mut views = Vec::new();
        let wanted = self.world.works.iter().filter(|(key, work)| filter.wants(key, Some(work)));
        for (key, work) in wanted {
            let placed = work.placed.iter().filter(|(id, _)| filter.agent.as_ref().is_none_or(|a| a == *id));
            for (id, placed) in placed {
                for slot in &placed.record.slots {
                    views.push(self.instance_view(now, key, work, id, &placed.record, *slot));
                }
            }
        }
        self.leaving(now, filter, &mut views);
        views.sort_by(|a, b| (&a.instance, &a.agent).cmp(&(&b.instance, &b.agent)));
        views
    }

    /// What agents report and nobody assigned (any more).
    fn leaving(&self, now: Now, filter: &InstanceFilter, views: &mut Vec<InstanceView>) {
        let agents: Box<dyn Iterator<Item = _>> = match &filter.agent {
            Some(id) => Box::new(self.world.agents.get_key_value(id).into_iter()),
            None => Box::new(self.world.agents.iter()),
        };
        for (id, agent) in agents {
            let Some(session) = agent.session.as_deref() else { continue };
            for (key, seen) in session.seen.iter() {
                let work = self.world.works.get(key);
                if !filter.wants(key, work) {
                    continue;
                }
                let placed = work.and_then(|work| work.placed.get(id));
                for (slot, status) in &seen.instances {
                    if placed.is_some_and(|p| p.record.slots.contains(slot)) {
                        continue;
                    }
                    let instance = InstanceId { workload: key.clone(), slot: *slot };
                    let mut view = blank(instance, id, status.revision, status.attempt);
                    view.leaving = true;
                    view.tell(now, session, self.world.is_fresh(agent), *slot);
                    views.push(view);
                }
            }
        }
    }

    pub(crate) fn instance_view(
        &self,
        now: Now,
        key: &WorkloadKey,
        work: &Work,
        id: &AgentId,
        placed: &PlacementRecord,
        slot: u32,
    ) -> InstanceView {
        let instance = InstanceId { workload: key.clone(), slot };
        let mut view = blank(instance, id, placed.revision, placed.attempt);
        let Some(agent) = self.world.agents.get(id) else { return view };
        let waits = match self.world.assigned(key, placed, &agent.record) {
            Placed::Waiting(reason) => Some(reason),
            Placed::Assigned(_) if placed.revision != work.record.revision => {
                self.world.ready(&work.template, &agent.record).err().map(|waits| waits.to_string())
            }
            Placed::Assigned(_) => None,
        };
        if let Some(session) = agent.session.as_deref() {
            view.tell(now, session, self.world.is_fresh(agent), slot);
        }
        if waits.is_some() {
            view.waiting = waits;
        }
        view
    }
}

fn blank(instance: InstanceId, agent: &AgentId, revision: RevisionId, attempt: Attempt) -> InstanceView {
    InstanceView {
        workload: instance.workload.clone(),
        instance,
        agent: agent.clone(),
        revision,
        attempt,
        state: unknown(""),
        last_known: None,
        ready: false,
        unready: None,
        healthy: false,
        fresh: false,
        age_ms: None,
        report_age_ms: None,
        restarts: 0,
        probe_restarts: 0,
        last_exit: None,
        waiting: None,
        leaving: false,
    }
}

impl InstanceView {
    /// Fill in what the agent reported.
    fn tell(&mut self, now: Now, session: &Session, fresh: bool, slot: u32) {
        self.fresh = fresh;
        self.report_age_ms = session.report_age(now);
        let Some(status) = session.seen.get(&self.workload).and_then(|seen| seen.instance(slot)) else {
            self.state = if fresh { "Pending".to_string() } else { unknown("") };
            return;
        };
        let name = status.state.name();
        self.state = if fresh { name.to_string() } else { unknown(name) };
        self.last_known = (!fresh).then(|| name.to_string());
        (self.revision, self.attempt) = (status.revision, status.attempt);
        (self.ready, self.healthy) = (fresh && status.ready, fresh && status.healthy);
        (self.restarts, self.probe_restarts) = (status.restarts, status.probe_restarts);
        self.unready.clone_from(&status.unready);
        self.last_exit = status.last_exit.clone();
        self.age_ms = session
            .clock
            .map(|(agent, hub)| agent.saturating_sub(status.since_ms) + now.boot_ms.saturating_sub(hub));
        let stands_in = session.seen.get(&self.workload).and_then(|seen| seen.waiting.as_deref());
        self.waiting = match &status.state {
            InstanceState::Waiting { reason } => Some(reason.clone()),
            _ => stands_in.map(str::to_string),
        };
    }
}
