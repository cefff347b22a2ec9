//! May this board join, as whom, and does it have to wait? The same key with the same token gets the same
//! answer as often as it asks, also after the token has ended: a join that a power cut broke is finished
//! by a second one.

use contract::identity::{Machine, PublicKey, Standing};
use contract::time::{Millis, Now};
use contract::{AgentId, Digest};

use super::{IdentityRecord, TokenRecord, Trust, TrustKey, refusal, refused, wall};
use crate::api::Answer;
use crate::core::Core;

/// Of what a board tells about its machine.
const FACTS_MAX: usize = 8;
const FACT_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, PartialEq)]
pub struct JoinAsk {
    pub secret: Digest,
    pub public: PublicKey,
    /// The name that the board asks for.
    pub id: AgentId,
    pub machine: Machine,
    /// The address it comes from.
    pub source: String,
}

/// What the hub knows of a certificate's holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub standing: Standing,
    pub reason: String,
}

impl Trust {
    /// How the holder of this key stands as this agent. The certificate's end is the shell's to judge.
    pub fn known(&self, agent: &AgentId, key: &Digest) -> Known {
        match self.identities.get(agent) {
            Some(identity) if identity.key == *key => {
                Known { standing: identity.standing, reason: identity.reason.clone() }
            }
            Some(_) => unknown(format!("another board has joined as {agent}")),
            None => unknown(format!(
                "this hub knows no board {agent}: it was removed, or the hub's store was lost"
            )),
        }
    }

    /// The expected board that this machine is.
    fn expected_as(&self, machine: &Machine) -> Option<&AgentId> {
        let same =
            |key: &String, value: &String| machine.get(key).is_some_and(|v| v.eq_ignore_ascii_case(value));
        let fits =
            |e: &super::ExpectedRecord| !e.machine.is_empty() && e.machine.iter().all(|(k, v)| same(k, v));
        self.expected.iter().find(|(_, expected)| fits(expected)).map(|(id, _)| id)
    }
}

fn unknown(reason: String) -> Known {
    Known { standing: Standing::Unknown, reason }
}

impl Core {
    pub(super) fn join(&mut self, now: Now, ask: &JoinAsk) -> Result<Answer, Answer> {
        if let Some(wait) = self.world.trust.guesses.wait_ms(now.boot_ms, &ask.source) {
            let reason =
                format!("too many wrong tokens from {}: come back in {} s", ask.source, wait / 1000 + 1);
            return Err(refused("token", reason));
        }
        if let Some(agent) = self.world.trust.keys.get(&ask.public.digest()).cloned() {
            return self.join_again(now, ask, &agent);
        }
        let token = self.good_token(now, ask)?;
        let id = self.world.trust.expected_as(&ask.machine).unwrap_or(&ask.id).clone();
        self.free_name(&id)?;
        let record = self.new_identity(now, ask, &id, &token);
        let standing = record.standing;
        self.world.trust.put_identity(id.clone(), record);
        self.touch(TrustKey::Identity(id.clone()));
        self.spend(ask.secret);
        self.relabel(&id);
        Ok(Answer::Joined { agent: id, standing })
    }

    fn new_identity(&self, now: Now, ask: &JoinAsk, id: &AgentId, token: &TokenRecord) -> IdentityRecord {
        let expected = self.world.trust.expected.get(id);
        let approved = token.approve || expected.is_some_and(|e| e.approve);
        let mut labels = token.labels.clone();
        labels.extend(expected.map(|e| e.labels.clone()).unwrap_or_default());
        let short = |text: &String| text.len() <= FACT_BYTES_MAX;
        let facts = ask.machine.iter().filter(|(k, v)| short(k) && short(v)).take(FACTS_MAX);
        IdentityRecord {
            key: ask.public.digest(),
            public: Some(ask.public.clone()),
            standing: if approved { Standing::Good } else { Standing::Waits },
            reason: String::new(),
            labels,
            machine: facts.map(|(k, v)| (k.clone(), v.clone())).collect(),
            token: ask.secret,
            source: ask.source.clone(),
            joined_wall_ms: wall(now),
            issued_wall_ms: None,
            ends_wall_ms: None,
        }
    }

    fn join_again(&mut self, now: Now, ask: &JoinAsk, agent: &AgentId) -> Result<Answer, Answer> {
        let Some(identity) = self.world.trust.identities.get(agent) else {
            return Err(refused("key", "is not known"));
        };
        let standing = identity.standing;
        if identity.token != ask.secret {
            // Another token: it must be good by itself, and the same key keeps its name.
            self.good_token(now, ask)?;
        }
        match standing {
            Standing::Good | Standing::Waits => Ok(Answer::Joined { agent: agent.clone(), standing }),
            _ => Err(refused(
                "key",
                format!(
                    "{agent} was revoked: a board joins anew with a new key ('edge-agent join --new-key')"
                ),
            )),
        }
    }

    fn good_token(&mut self, now: Now, ask: &JoinAsk) -> Result<TokenRecord, Answer> {
        let Some(token) = self.world.trust.tokens.get(&ask.secret).cloned() else {
            self.world.trust.guesses.wrong(now.boot_ms, &ask.source);
            return Err(refused("token", "is not one of this hub's, or was revoked"));
        };
        if token.ends_wall_ms <= wall(now) {
            return Err(refused("token", "has expired: 'hub join-token create' makes another"));
        }
        if token.uses_left == Some(0) {
            return Err(refused("token", "is used up: 'hub join-token create' makes another"));
        }
        Ok(token)
    }

    /// A name belongs to the board that has it until that board is sent away.
    fn free_name(&self, id: &AgentId) -> Result<(), Answer> {
        let taken = |i: &IdentityRecord| matches!(i.standing, Standing::Good | Standing::Waits);
        if self.world.trust.identities.get(id).is_some_and(taken) {
            let reason = format!(
                "{id} has joined with another key; join under another name (--id), or let this one take its place: 'hub agents revoke {id}' first"
            );
            return Err(refused("id", reason));
        }
        let known = self.world.trust.identities.len();
        if known >= self.config.agents_max {
            return Err(refused("", format!("{known} boards have joined; no more fit")));
        }
        Ok(())
    }

    pub(super) fn issued(
        &mut self,
        agent: &AgentId,
        public: PublicKey,
        issued_ms: Millis,
        ends_ms: Millis,
    ) -> Result<Answer, Answer> {
        let (key, identity) = (public.digest(), self.world.trust.identities.get_mut(agent));
        let Some(identity) = identity.filter(|i| i.key == key && i.standing == Standing::Good) else {
            return Err(Answer::Refused {
                errors: vec![refusal("agent", format!("{agent} is not to have a certificate"))],
            });
        };
        identity.public = Some(public);
        (identity.issued_wall_ms, identity.ends_wall_ms) = (Some(issued_ms), Some(ends_ms));
        self.touch(TrustKey::Identity(agent.clone()));
        Ok(Answer::Done { version: self.world.meta.version })
    }
}
