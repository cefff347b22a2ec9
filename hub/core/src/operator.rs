//! What did operators say of an agent? Labels, taints, cordon and drain: kept by the hub, whatever the
//! agent says. An operator's label wins over the agent's own of that name, which shows again when the
//! operator's is taken away.

use std::collections::BTreeMap;

use contract::taint::{CORDONED, DRAINING, Taint, TaintEffect};
use contract::time::Millis;
use serde::{Deserialize, Serialize};

use crate::labels::Labels;
use crate::record::AgentRecord;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OperatorRecord {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// What the agent itself says of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub covered: Labels,
    /// Sorted; one for each key and effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    #[serde(default)]
    pub cordoned: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainRecord>,
}

/// An agent that is being emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRecord {
    pub since_wall_ms: Option<Millis>,
    /// After so long it goes on without waiting for anything.
    pub deadline_ms: Option<Millis>,
}

impl OperatorRecord {
    /// What cordon and drain mean to the rules.
    pub fn marks(&self) -> impl Iterator<Item = (&'static str, TaintEffect)> {
        let drain = self.drain.map(|_| (DRAINING, TaintEffect::NoExecute));
        let cordon = self.cordoned.then_some((CORDONED, TaintEffect::NoSchedule));
        drain.into_iter().chain(cordon)
    }

    fn is_empty(&self) -> bool {
        *self == OperatorRecord::default()
    }
}

impl AgentRecord {
    /// What the agent says of itself, and over it what was said of it when it joined.
    pub fn own_labels(&self) -> Labels {
        let mut own = self.labels.clone();
        if let Some(operator) = &self.operator {
            own.retain(|key, _| !operator.labels.contains_key(key));
            own.extend(operator.covered.clone());
        }
        own
    }

    /// Take over what holds where no operator says anything else.
    pub fn set_own_labels(&mut self, own: Labels) {
        self.labels = own;
        let Some(operator) = &mut self.operator else { return };
        let said = operator.labels.keys().filter_map(|key| self.labels.get_key_value(key));
        operator.covered = said.map(|(k, v)| (k.clone(), v.clone())).collect();
        self.labels.extend(operator.labels.clone());
    }

    /// Change what the operator said, and all that follows from it.
    pub fn operate(&mut self, change: impl FnOnce(&mut OperatorRecord)) {
        let own = self.own_labels();
        let mut operator = self.operator.take().unwrap_or_default();
        change(&mut operator);
        operator.taints.sort();
        self.operator = Some(operator);
        self.set_own_labels(own);
        // Most agents have none, and there are many.
        self.operator = self.operator.take().filter(|operator| !operator.is_empty());
    }

    pub fn is_draining(&self) -> bool {
        self.operator.as_ref().is_some_and(|operator| operator.drain.is_some())
    }
}
