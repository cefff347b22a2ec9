//! What does an operator's word about agents change? Labels, taints, cordon, drain: of many agents at
//! once, all or nothing, kept with their records.

use std::collections::BTreeMap;

use contract::AgentId;
use contract::field::shown;
use contract::label;
use contract::limits::EFFECTS_PAGE_MAX;
use contract::taint::{Taint, TaintEffect};
use contract::time::{Millis, Now};
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Refusal, RequestId};
use crate::core::Core;
use crate::operator::{DrainRecord, OperatorRecord};
use crate::record::AgentRecord;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum AgentChange {
    /// Labels to set; null takes the operator's label away.
    Label(BTreeMap<String, Option<String>>),
    Taint(Vec<Taint>),
    Untaint(Vec<Untaint>),
    /// Nothing new comes here.
    Cordon(Nothing),
    /// Ends a cordon, and a drain.
    Uncordon(Nothing),
    /// Nothing new comes here, and what is here moves or stops.
    Drain(Drain),
}

/// `{}`: there is nothing more to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// After so long it waits for nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<Millis>,
}

/// Taints to take away: of this key, and of this effect if it is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Untaint {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
}

/// Labels, and taints, that operators may give one agent.
const LABELS_MAX: usize = 64;
const TAINTS_MAX: usize = 32;
/// Named in one answer.
const NAMED_MAX: usize = 20;

impl Core {
    pub(crate) fn on_change_agents(
        &mut self,
        now: Now,
        request: RequestId,
        agents: Vec<AgentId>,
        change: &AgentChange,
    ) {
        let unknown: Vec<Refusal> = agents
            .iter()
            .filter(|id| !self.world.agents.contains_key(*id))
            .take(NAMED_MAX)
            .map(|id| refusal("agents", format!("there is no agent '{id}'")))
            .collect();
        if !unknown.is_empty() {
            return self.out.answer(request, Answer::NotFound { errors: unknown });
        }
        let mut errors = wrong(change);
        if agents.is_empty() || agents.len() > EFFECTS_PAGE_MAX {
            let reason = format!("has {} names: give 1 to {EFFECTS_PAGE_MAX}", agents.len());
            errors.push(refusal("agents", reason));
        }
        let known = agents.iter().filter_map(|id| self.world.agents.get_key_value(id));
        errors.extend(known.filter_map(|(id, agent)| too_many(id, &agent.record, change)).take(NAMED_MAX));
        if !errors.is_empty() {
            return self.out.answer(request, Answer::Refused { errors });
        }
        let (mut changed, mut warnings) = (0, Vec::new());
        for id in &agents {
            changed += usize::from(self.change_agent(now, id, change, &mut warnings));
        }
        let more = warnings.len().saturating_sub(NAMED_MAX);
        warnings.truncate(NAMED_MAX);
        warnings.extend((more > 0).then(|| format!("and {more} more")));
        let version = self.world.meta.version;
        self.out.answer(request, Answer::AgentsChanged { version, changed, warnings });
    }

    fn change_agent(
        &mut self,
        now: Now,
        id: &AgentId,
        change: &AgentChange,
        warnings: &mut Vec<String>,
    ) -> bool {
        let Some(agent) = self.world.agents.get(id) else { return false };
        warnings.extend(warning(id, &agent.record, change));
        if matches!(change, AgentChange::Drain(_)) && !agent.is_online() && !agent.works.is_empty() {
            warnings.push(format!("{id} is not heard of: what runs there goes on until it is"));
        }
        let mut record = agent.record.clone();
        record.operate(|operator| operator.take(now, change));
        if record == agent.record {
            return false;
        }
        if let Some(agent) = self.world.agents.get_mut(id) {
            agent.record = record;
        }
        self.commit();
        self.out.agent(id);
        self.changes.agent(id);
        self.watch_drain(now, id);
        self.dirty_agent(id);
        true
    }
}

impl OperatorRecord {
    fn take(&mut self, now: Now, change: &AgentChange) {
        match change {
            AgentChange::Label(labels) => {
                for (key, value) in labels {
                    match value {
                        Some(value) => drop(self.labels.insert(key.clone(), value.clone())),
                        None => drop(self.labels.remove(key)),
                    }
                }
            }
            AgentChange::Taint(taints) => {
                for taint in taints {
                    self.taints.retain(|old| (&old.key, old.effect) != (&taint.key, taint.effect));
                    self.taints.push(taint.clone());
                }
            }
            AgentChange::Untaint(gone) => {
                let goes = |taint: &Taint| {
                    gone.iter().any(|g| g.key == taint.key && g.effect.is_none_or(|e| e == taint.effect))
                };
                self.taints.retain(|taint| !goes(taint));
            }
            AgentChange::Cordon(Nothing {}) => self.cordoned = true,
            AgentChange::Uncordon(Nothing {}) => (self.cordoned, self.drain) = (false, None),
            AgentChange::Drain(Drain { deadline_ms }) => {
                self.cordoned = true;
                let same = self.drain.is_some_and(|drain| drain.deadline_ms == *deadline_ms);
                if !same {
                    self.drain = Some(DrainRecord { since_wall_ms: now.wall_ms, deadline_ms: *deadline_ms });
                }
            }
        }
    }
}

fn refusal(field: &str, reason: String) -> Refusal {
    Refusal { workload: None, field: field.into(), reason }
}

/// Everything that is wrong with it, whatever the agents are.
fn wrong(change: &AgentChange) -> Vec<Refusal> {
    match change {
        AgentChange::Label(labels) => {
            let keys = labels.keys().filter_map(|key| Some((key, label::check_key(key).err()?)));
            let values = labels.values().flatten();
            let values = values.filter_map(|value| Some((value, label::check_value(value).err()?)));
            let told =
                |(text, e): (&String, label::LabelError)| refusal("label", format!("'{}': {e}", shown(text)));
            keys.chain(values).map(told).collect()
        }
        AgentChange::Taint(taints) => {
            taints.iter().filter_map(|t| Some(refusal("taint", t.check().err()?.to_string()))).collect()
        }
        _ => Vec::new(),
    }
}

fn too_many(id: &AgentId, record: &AgentRecord, change: &AgentChange) -> Option<Refusal> {
    let mut operator = record.operator.as_deref().cloned().unwrap_or_default();
    operator.take(Now { boot_ms: 0, wall_ms: None }, change);
    let (labels, taints) = (operator.labels.len(), operator.taints.len());
    if labels > LABELS_MAX {
        return Some(refusal(
            "label",
            format!("{id} would have {labels} labels of operators; at most {LABELS_MAX}"),
        ));
    }
    (taints > TAINTS_MAX)
        .then(|| refusal("taint", format!("{id} would have {taints} taints; at most {TAINTS_MAX}")))
}

/// What was asked for and changes nothing here.
fn warning(id: &AgentId, record: &AgentRecord, change: &AgentChange) -> Option<String> {
    let operator = record.operator.as_deref().cloned().unwrap_or_default();
    match change {
        AgentChange::Label(labels) => {
            let gone = labels.iter().filter(|(_, value)| value.is_none()).map(|(key, _)| key);
            let key = gone.into_iter().find(|key| !operator.labels.contains_key(*key))?;
            Some(match record.labels.get(key) {
                Some(value) => format!(
                    "{id} has {key}={value} from itself or from its joining: that can be covered, not removed"
                ),
                None => format!("{id} has no label {key}"),
            })
        }
        AgentChange::Untaint(gone) => {
            let has = |g: &Untaint| operator.taints.iter().any(|t| t.key == g.key);
            let missing = gone.iter().find(|g| !has(g))?;
            Some(format!("{id} has no taint {}", shown(&missing.key)))
        }
        _ => None,
    }
}
