//! Join tokens: made, spent, revoked. Only the digest of a secret is kept.

use std::collections::BTreeMap;

use contract::time::{Millis, Now};
use contract::{Digest, label};

use super::{LABELS_MAX, TOKENS_MAX, TokenRecord, TrustKey, refusal, refused, wall};
use crate::api::{Answer, Refusal};
use crate::core::Core;

/// A token that lives longer is a password that nobody changes.
pub const TTL_MAX_MS: Millis = 366 * 86_400_000;

#[derive(Debug, Clone, PartialEq)]
pub struct NewToken {
    /// The digest of its secret.
    pub secret: Digest,
    pub ttl_ms: Millis,
    pub uses: Option<u32>,
    pub labels: BTreeMap<String, String>,
    pub approve: bool,
}

impl Core {
    pub(super) fn make_token(&mut self, now: Now, new: NewToken) -> Result<Answer, Answer> {
        let mut errors = label_errors("labels", &new.labels);
        if new.ttl_ms == 0 || new.ttl_ms > TTL_MAX_MS {
            errors.push(refusal("ttl", "1s to 366 days"));
        }
        if new.uses == Some(0) {
            errors.push(refusal("uses", "at least 1; leave it out for as many as come"));
        }
        // Those that have ended make room.
        let ended: Vec<Digest> = self
            .world
            .trust
            .tokens
            .iter()
            .filter(|(_, t)| t.ends_wall_ms <= wall(now))
            .map(|(id, _)| *id)
            .collect();
        let full = self.world.trust.tokens.len() >= TOKENS_MAX;
        if full && ended.is_empty() {
            errors.push(refusal("", format!("there are {TOKENS_MAX} tokens: revoke some")));
        }
        if !errors.is_empty() {
            return Err(Answer::Refused { errors });
        }
        for id in ended.into_iter().filter(|_| full) {
            self.world.trust.tokens.remove(&id);
            self.touch(TrustKey::Token(id));
        }
        let record = TokenRecord {
            made_wall_ms: wall(now),
            ends_wall_ms: wall(now).saturating_add(new.ttl_ms),
            uses_left: new.uses,
            labels: new.labels,
            approve: new.approve,
        };
        self.world.trust.tokens.insert(new.secret, record);
        self.touch(TrustKey::Token(new.secret));
        Ok(Answer::Done { version: self.world.meta.version })
    }

    pub(super) fn revoke_token(&mut self, name: &str) -> Result<Answer, Answer> {
        let ids = self.world.trust.tokens.keys().filter(|id| id.hex().starts_with(name));
        let ids: Vec<Digest> = ids.copied().collect();
        match ids[..] {
            [id] if name.len() >= 4 => {
                self.world.trust.tokens.remove(&id);
                self.touch(TrustKey::Token(id));
                Ok(Answer::Done { version: self.world.meta.version })
            }
            [] => Err(Answer::NotFound {
                errors: vec![refusal("token", format!("there is no token '{name}'"))],
            }),
            _ => Err(refused("token", format!("'{name}' is not enough of a token's name"))),
        }
    }

    /// One use less; the last one stays at 0, so that it can be said that it is used up.
    pub(super) fn spend(&mut self, id: Digest) {
        let Some(token) = self.world.trust.tokens.get_mut(&id) else { return };
        if let Some(left) = &mut token.uses_left {
            *left = left.saturating_sub(1);
            self.touch(TrustKey::Token(id));
        }
    }
}

pub(super) fn label_errors(field: &str, labels: &BTreeMap<String, String>) -> Vec<Refusal> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        let wrong = label::check_key(key).and_then(|()| label::check_value(value));
        if let Err(why) = wrong {
            errors.push(refusal(
                field,
                format!("{}={}: {why}", contract::field::shown(key), contract::field::shown(value)),
            ));
        }
    }
    if labels.len() > LABELS_MAX {
        errors.push(refusal(field, format!("{} labels; at most {LABELS_MAX}", labels.len())));
    }
    errors
}
