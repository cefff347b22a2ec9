//! What operators do with boards: approve, send away, replace, expect.

use contract::AgentId;
use contract::identity::Standing;

use super::token::label_errors;
use super::{EXPECTED_MAX, ExpectedRecord, TrustKey, refusal, refused};
use crate::api::{Answer, Refusal};
use crate::core::Core;
use crate::labels::Query;

/// Named boards, or all that wait and have these labels.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen {
    Named(Vec<AgentId>),
    Labelled(Query),
}

impl Core {
    pub(super) fn approve(&mut self, chosen: &Chosen) -> Result<Answer, Answer> {
        let agents: Vec<AgentId> = match chosen {
            Chosen::Named(agents) => agents.clone(),
            Chosen::Labelled(query) => {
                let waiting =
                    self.world.trust.identities.iter().filter(|(_, i)| i.standing == Standing::Waits);
                waiting.filter(|(_, i)| query.matches(&i.labels)).map(|(id, _)| id.clone()).collect()
            }
        };
        self.all_joined(&agents)?;
        let gone =
            agents.iter().filter(|id| !matches!(self.standing(id), Some(Standing::Good | Standing::Waits)));
        let gone: Vec<Refusal> =
            gone.map(|id| refusal("agent", format!("{id} was revoked: let it join anew"))).collect();
        if !gone.is_empty() {
            return Err(Answer::Refused { errors: gone });
        }
        for id in &agents {
            self.stand(id, Standing::Good, "");
        }
        Ok(self.agents_done(agents))
    }

    pub(super) fn end(
        &mut self,
        agents: &[AgentId],
        standing: Standing,
        reason: &str,
    ) -> Result<Answer, Answer> {
        self.all_joined(agents)?;
        for id in agents {
            self.stand(id, standing, reason);
        }
        Ok(self.agents_done(agents.to_vec()))
    }

    /// The new board gets the old one's labels, and with them its work; the old one is sent away.
    pub(super) fn replace(&mut self, old: &AgentId, new: &AgentId) -> Result<Answer, Answer> {
        if old == new {
            return Err(refused("new", "is the same board"));
        }
        self.all_joined(&[old.clone(), new.clone()])?;
        if !matches!(self.standing(new), Some(Standing::Good | Standing::Waits)) {
            return Err(refused("new", format!("{new} was revoked: let it join anew")));
        }
        let mut labels = self.world.trust.identities.get(old).map(|i| i.labels.clone()).unwrap_or_default();
        if let Some(agent) = self.world.agents.get(old) {
            labels.extend(agent.record.labels.clone());
        }
        if let Some(identity) = self.world.trust.identities.get_mut(new) {
            identity.labels.extend(labels);
        }
        self.stand(new, Standing::Good, "");
        self.stand(old, Standing::Revoked, &format!("replaced by {new}"));
        self.relabel(new);
        Ok(self.agents_done(vec![old.clone(), new.clone()]))
    }

    pub(super) fn import(&mut self, expected: Vec<(AgentId, ExpectedRecord)>) -> Result<Answer, Answer> {
        let mut errors: Vec<Refusal> = Vec::new();
        for (id, record) in &expected {
            errors.extend(label_errors(id.as_str(), &record.labels));
        }
        let new = expected.iter().filter(|(id, _)| !self.world.trust.expected.contains_key(id)).count();
        if self.world.trust.expected.len() + new > EXPECTED_MAX {
            errors.push(refusal("", format!("at most {EXPECTED_MAX} boards are expected")));
        }
        if !errors.is_empty() {
            return Err(Answer::Refused { errors });
        }
        let mut agents = Vec::with_capacity(expected.len());
        for (id, record) in expected {
            if self.world.trust.expected.get(&id) != Some(&record) {
                self.world.trust.expected.insert(id.clone(), record);
                self.touch(TrustKey::Expected(id.clone()));
            }
            agents.push(id);
        }
        Ok(self.agents_done(agents))
    }

    fn standing(&self, id: &AgentId) -> Option<Standing> {
        self.world.trust.identities.get(id).map(|i| i.standing)
    }

    fn stand(&mut self, id: &AgentId, standing: Standing, reason: &str) {
        let Some(identity) = self.world.trust.identities.get_mut(id) else { return };
        (identity.standing, identity.reason) = (standing, reason.to_string());
        self.touch(TrustKey::Identity(id.clone()));
    }

    fn all_joined(&self, agents: &[AgentId]) -> Result<(), Answer> {
        let missing = agents.iter().filter(|id| !self.world.trust.identities.contains_key(id));
        let errors: Vec<Refusal> =
            missing.map(|id| refusal("agent", format!("no board has joined as {id}"))).collect();
        if errors.is_empty() { Ok(()) } else { Err(Answer::NotFound { errors }) }
    }

    /// A board that is known gets its labels anew, and with them what should run there.
    pub(super) fn relabel(&mut self, id: &AgentId) {
        let Some(agent) = self.world.agents.get_mut(id) else { return };
        let before = agent.record.own_labels();
        let mut own = before.clone();
        self.world.trust.impose(id, &mut own);
        if own != before {
            agent.record.set_own_labels(own);
            self.out.agent(id);
            self.dirty_agent(id);
        }
    }
}
