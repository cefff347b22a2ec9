//! Tokens and roles: made, changed, taken away. What is given must be the giver's own.

use std::collections::BTreeSet;

use contract::time::{Millis, Now};
use contract::{Digest, Name};

use super::rights::{Grants, Many, Role, given};
use super::{
    AccessKey, BOOTSTRAP, By, ROLES_MAX, RULES_MAX, TOKENS_MAX, TokenRecord, USED_APART_MS, missing, refusal,
    refused,
};
use crate::api::{Answer, Refusal};
use crate::core::Core;

/// Who wants longer wants `never`, and should say so.
pub const TTL_MAX_MS: Millis = 3_660 * 86_400_000;

#[derive(Debug, Clone, PartialEq)]
pub struct NewToken {
    pub name: Name,
    /// The digest of its secret.
    pub secret: Digest,
    pub roles: BTreeSet<Name>,
    pub namespaces: Many<Name>,
    /// None: it does not end.
    pub ttl_ms: Option<Millis>,
}

impl Core {
    pub(super) fn make_operator(&mut self, now: Now, by: &By, new: NewToken) -> Result<Answer, Answer> {
        let wall_ms = now.wall_ms.unwrap_or(0);
        let mut errors = self.wrong_grant(by, &new.roles, &new.namespaces);
        if new.name.as_str() == BOOTSTRAP {
            errors.push(refusal("name", format!("'{BOOTSTRAP}' is the hub's own token: take another name")));
        }
        if self.world.access.tokens.contains_key(&new.name) {
            let reason =
                format!("'{}' is taken: 'hub token revoke' it first, or take another name", new.name);
            errors.push(refusal("name", reason));
        }
        if new.ttl_ms.is_some_and(|ttl| ttl == 0 || ttl > TTL_MAX_MS) {
            errors.push(refusal("expires", "1s to 3660 days, or never"));
        }
        if self.world.access.tokens.len() >= TOKENS_MAX {
            errors.push(refusal("", format!("there are {TOKENS_MAX} tokens: revoke some")));
        }
        if !errors.is_empty() {
            return Err(Answer::Refused { errors });
        }
        let record = TokenRecord {
            secret: new.secret,
            roles: new.roles,
            namespaces: new.namespaces,
            made_wall_ms: wall_ms,
            made_by: who(by),
            ends_wall_ms: new.ttl_ms.map(|ttl| wall_ms.saturating_add(ttl)),
            used_wall_ms: None,
            used_from: String::new(),
        };
        self.world.access.tokens.insert(new.name.clone(), record);
        Ok(self.access_changed(AccessKey::Token(new.name)))
    }

    pub(super) fn change_operator(
        &mut self,
        by: &By,
        name: &Name,
        roles: BTreeSet<Name>,
        namespaces: Many<Name>,
    ) -> Result<Answer, Answer> {
        self.above(by, name)?;
        let errors = self.wrong_grant(by, &roles, &namespaces);
        if !errors.is_empty() {
            return Err(Answer::Refused { errors });
        }
        if let Some(token) = self.world.access.tokens.get_mut(name) {
            (token.roles, token.namespaces) = (roles, namespaces);
        }
        Ok(self.access_changed(AccessKey::Token(name.clone())))
    }

    pub(super) fn revoke_operator(&mut self, by: &By, name: &Name) -> Result<Answer, Answer> {
        self.above(by, name)?;
        self.world.access.tokens.remove(name);
        Ok(self.access_changed(AccessKey::Token(name.clone())))
    }

    pub(super) fn used(&mut self, now: Now, name: &Name, from: String) -> Result<Answer, Answer> {
        let wall_ms = now.wall_ms.unwrap_or(0);
        let Some(token) = self.world.access.tokens.get_mut(name) else { return Err(missing("token", name)) };
        let version = self.world.meta.version;
        if token.used_wall_ms.is_some_and(|used| wall_ms < used.saturating_add(USED_APART_MS)) {
            return Ok(Answer::Done { version });
        }
        (token.used_wall_ms, token.used_from) = (Some(wall_ms), from);
        Ok(self.access_changed(AccessKey::Token(name.clone())))
    }

    pub(super) fn put_role(&mut self, by: &By, name: &Name, role: Role) -> Result<Answer, Answer> {
        let access = &self.world.access;
        let mut errors = Vec::new();
        if given(name.as_str()).is_some() {
            errors.push(refusal("name", format!("'{name}' is a role that every hub has: take another name")));
        }
        if role.rules.is_empty() || role.rules.len() > RULES_MAX {
            errors.push(refusal("rules", format!("1 to {RULES_MAX}; there are {}", role.rules.len())));
        }
        if !access.roles.contains_key(name) && access.roles.len() >= ROLES_MAX {
            errors.push(refusal("", format!("there are {ROLES_MAX} roles: delete some")));
        }
        let rules = role.rules.clone();
        errors.extend(self.beyond(by, "rules", &Grants { rules, within: Many::All }));
        if !errors.is_empty() {
            return Err(Answer::Refused { errors });
        }
        self.world.access.roles.insert(name.clone(), role);
        Ok(self.access_changed(AccessKey::Role(name.clone())))
    }

    pub(super) fn drop_role(&mut self, name: &Name) -> Result<Answer, Answer> {
        if given(name.as_str()).is_some() {
            return Err(refused("name", format!("'{name}' is a role that every hub has")));
        }
        let holders = self.world.access.tokens.iter().filter(|(_, token)| token.roles.contains(name));
        let holders: Vec<&str> = holders.map(|(name, _)| name.as_str()).collect();
        if !holders.is_empty() {
            return Err(refused("name", format!("'{name}' is had by the tokens {}", holders.join(", "))));
        }
        if self.world.access.roles.remove(name).is_none() {
            return Err(missing("role", name));
        }
        Ok(self.access_changed(AccessKey::Role(name.clone())))
    }

    fn grants_of(&self, by: &By) -> Grants {
        match by {
            None => Grants::all(),
            // One that was revoked while it asked has nothing.
            Some(name) => {
                let token = self.world.access.tokens.get(name);
                let nothing = || Grants { rules: Vec::new(), within: Many::none() };
                token.map_or_else(nothing, |token| self.world.access.grants(token))
            }
        }
    }

    fn wrong_grant(&self, by: &By, roles: &BTreeSet<Name>, namespaces: &Many<Name>) -> Vec<Refusal> {
        let access = &self.world.access;
        let known = || access.all_roles().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ");
        let unknown = roles.iter().filter(|name| access.role(name).is_none());
        let unknown =
            unknown.map(|name| refusal("roles", format!("no role '{name}'; there are {}", known())));
        let mut errors: Vec<Refusal> = unknown.collect();
        if roles.is_empty() {
            errors.push(refusal("roles", format!("at least one of {}", known())));
        }
        if namespaces.is_empty() {
            errors.push(refusal("namespaces", "at least one, or * for all"));
        }
        errors.extend(self.beyond(by, "roles", &access.granted(roles, namespaces)));
        errors
    }

    /// What would be given and is not the giver's.
    fn beyond(&self, by: &By, field: &str, grants: &Grants) -> Option<Refusal> {
        let (verb, kind) = self.grants_of(by).covers(grants).err()?;
        let reason = format!(
            "would give '{verb} {kind}' where {} does not have it: nobody gives more than he has",
            who(by)
        );
        Some(refusal(field, reason))
    }

    /// Only a token that can no more than oneself is changed or taken away.
    fn above(&self, by: &By, name: &Name) -> Result<(), Answer> {
        let access = &self.world.access;
        let Some(token) = access.tokens.get(name) else { return Err(missing("token", name)) };
        let Err((verb, kind)) = self.grants_of(by).covers(&access.grants(token)) else { return Ok(()) };
        let reason = format!("'{name}' has '{verb} {kind}' where {} does not have it", who(by));
        Err(refused("name", reason))
    }

    pub(super) fn access_changed(&mut self, key: AccessKey) -> Answer {
        self.commit();
        self.out.access(key);
        Answer::Done { version: self.world.meta.version }
    }
}

fn who(by: &By) -> String {
    by.as_ref().map_or_else(|| BOOTSTRAP.to_string(), ToString::to_string)
}
