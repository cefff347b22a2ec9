//! The fleet: which agents are meant, in pages; how many there are by site and state.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::str::FromStr;

use contract::AgentId;
use contract::time::{Millis, Now};
use serde::{Deserialize, Serialize};

use crate::core::Core;
use crate::labels::{Labels, Query, QueryError};
use crate::view::{AgentState, AgentView};
use crate::world::Agent;

/// Which agents: all parts must hold.
#[derive(Debug, Clone, Default)]
pub struct AgentFilter {
    pub selector: Query,
    pub fields: FieldQuery,
    /// Not heard of for at least so long.
    pub offline_for_ms: Option<Millis>,
}

/// `state=offline,arch=aarch64,cordoned=true`.
#[derive(Debug, Clone, Default)]
pub struct FieldQuery(Query);

/// What `FieldQuery` may ask for.
pub const FIELDS: [&str; 6] = ["state", "arch", "version", "cordoned", "drain", "tainted"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    #[error(transparent)]
    Form(#[from] QueryError),
    #[error("there is no field '{name}'; there are {}", FIELDS.join(", "))]
    Unknown { name: String },
}

impl FromStr for FieldQuery {
    type Err = FieldError;

    fn from_str(text: &str) -> Result<FieldQuery, FieldError> {
        let query = text.parse::<Query>()?;
        let unknown = query.keys().find(|key| !FIELDS.contains(key)).map(contract::field::shown);
        unknown.map_or(Ok(FieldQuery(query)), |name| Err(FieldError::Unknown { name }))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct AgentPage {
    pub items: Vec<AgentView>,
    /// The last one looked at; more may come after it.
    pub next: Option<AgentId>,
}

/// Agents by the values of one label, and of each how many are in which state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FleetView {
    pub total: usize,
    /// By which label.
    pub label: String,
    /// The largest first.
    pub groups: Vec<FleetGroup>,
    /// Agents of the groups beyond these.
    pub more: usize,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FleetGroup {
    /// None: agents without the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub total: usize,
    pub states: BTreeMap<AgentState, usize>,
    pub cordoned: usize,
}

const GROUPS_MAX: usize = 200;

impl Core {
    /// At most `limit` agents above `after`, by id.
    pub fn agent_page(
        &self,
        now: Now,
        filter: &AgentFilter,
        after: Option<&AgentId>,
        limit: usize,
    ) -> AgentPage {
        let above = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.world.agents.range::<AgentId, _>((above, Bound::Unbounded));
        let mut wanted = rest.filter(|(_, agent)| self.is_wanted(now, filter, agent));
        let items: Vec<AgentView> =
            wanted.by_ref().take(limit).map(|(id, agent)| self.agent_view(now, id, agent)).collect();
        let next = wanted.next().and(items.last()).map(|view| view.agent.clone());
        AgentPage { items, next }
    }

    /// All of them.
    pub fn agents(&self, now: Now, filter: &AgentFilter) -> Vec<AgentView> {
        self.agent_page(now, filter, None, usize::MAX).items
    }

    pub fn fleet(&self, now: Now, filter: &AgentFilter, label: &str) -> FleetView {
        let mut groups: BTreeMap<Option<&str>, FleetGroup> = BTreeMap::new();
        let mut total = 0;
        for agent in self.world.agents.values().filter(|agent| self.is_wanted(now, filter, agent)) {
            let value = agent.record.labels.get(label).map(String::as_str);
            let group = groups.entry(value).or_default();
            (total, group.total) = (total + 1, group.total + 1);
            *group.states.entry(self.agent_state(agent)).or_default() += 1;
            group.cordoned += usize::from(agent.record.operator.as_ref().is_some_and(|o| o.cordoned));
        }
        let told = |(value, group): (Option<&str>, FleetGroup)| FleetGroup {
            value: value.map(str::to_string),
            ..group
        };
        let mut groups: Vec<FleetGroup> = groups.into_iter().map(told).collect();
        groups.sort_by(|a, b| (b.total, &a.value).cmp(&(a.total, &b.value)));
        let more = groups.iter().skip(GROUPS_MAX).map(|group| group.total).sum();
        groups.truncate(GROUPS_MAX);
        FleetView { total, label: label.to_string(), groups, more }
    }

    fn is_wanted(&self, now: Now, filter: &AgentFilter, agent: &Agent) -> bool {
        filter.selector.matches(&agent.record.labels)
            && (filter.fields.0.is_empty() || filter.fields.0.matches(&self.fields(agent)))
            && filter
                .offline_for_ms
                .is_none_or(|ms| self.unheard_for(now, agent).is_some_and(|age| age >= ms))
    }

    fn fields(&self, agent: &Agent) -> Labels {
        let record = &agent.record;
        let operator = record.operator.as_deref();
        let fields = [
            ("state", self.agent_state(agent).name().to_string()),
            ("arch", record.arch.clone()),
            ("version", record.agent_version.clone()),
            ("cordoned", operator.is_some_and(|o| o.cordoned).to_string()),
            ("drain", record.is_draining().to_string()),
            ("tainted", operator.is_some_and(|o| !o.taints.is_empty()).to_string()),
        ];
        fields.map(|(key, value)| (key.to_string(), value)).into()
    }

    /// How long an agent was not heard of; none while it is. One that has not come since the hub's start is
    /// missing for at least that long.
    fn unheard_for(&self, now: Now, agent: &Agent) -> Option<Millis> {
        match agent.session.as_deref() {
            Some(session) if session.online => None,
            Some(session) => Some(now.boot_ms.saturating_sub(session.since_ms)),
            None => Some(now.boot_ms.saturating_sub(self.started_ms)),
        }
    }
}
