//! Which effects may leave now? Those marked `after: k` wait until Persist `k` is durable; all
//! others leave at once.

use std::collections::BTreeMap;

use agent_core::api::{Effect, EffectId, Op};

#[derive(Default)]
pub struct Gate {
    /// Persists are done in order, so one number says which are.
    durable: EffectId,
    waiting: BTreeMap<EffectId, Vec<Effect>>,
}

impl Gate {
    /// Takes effects in the core's order and returns those that may leave.
    pub fn admit(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut free = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect.after {
                // A Persist keeps its place in the queue of Persists whatever it is marked with.
                Some(persist) if persist > self.durable && !matches!(effect.op, Op::Persist(_)) => {
                    self.waiting.entry(persist).or_default().push(effect);
                }
                _ => free.push(effect),
            }
        }
        free
    }

    /// Persist `id` is durable: what waited for it, or for an earlier one, is free.
    pub fn durable(&mut self, id: EffectId) -> Vec<Effect> {
        self.durable = self.durable.max(id);
        let later = self.waiting.split_off(&(self.durable + 1));
        std::mem::replace(&mut self.waiting, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(id: EffectId, after: Option<EffectId>) -> Effect {
        Effect { id, after, op: Op::Disconnect }
    }

    fn ids(effects: &[Effect]) -> Vec<EffectId> {
        effects.iter().map(|e| e.id).collect()
    }

    #[test]
    fn what_must_wait_waits_and_leaves_in_order() {
        let mut gate = Gate::default();
        let free =
            gate.admit(vec![effect(2, Some(1)), effect(3, None), effect(5, Some(4)), effect(6, Some(1))]);
        assert_eq!(ids(&free), [3]);
        assert_eq!(ids(&gate.durable(1)), [2, 6]);
        assert_eq!(ids(&gate.admit(vec![effect(7, Some(1))])), [7]);
        assert_eq!(ids(&gate.durable(4)), [5]);
    }
}
