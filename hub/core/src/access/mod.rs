//! Which operators are there, and what may each do? Tokens by name, roles that they have, and how much a
//! namespace may take. The hub's shell asks this before it does anything for anybody.

pub mod guesses;
mod manage;
mod namespace;
pub mod rights;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};

use contract::time::{Millis, Now};
use contract::{Digest, Name};
use serde::{Deserialize, Serialize};

use crate::api::{Answer, Refusal, RequestId};
use crate::core::Core;
pub use manage::{NewToken, TTL_MAX_MS};
pub use namespace::{Forbidden, NAMESPACES_MAX, Namespace, Quota, Taken};
pub(crate) use namespace::{forbidden, no_room, over_quota};
use rights::{GIVEN, Grants, Many, Role, given};

pub const TOKENS_MAX: usize = 1_000;
pub const ROLES_MAX: usize = 200;
pub const RULES_MAX: usize = 50;

/// The name under which the hub's own token is known; no other can have it.
pub const BOOTSTRAP: &str = "admin";
/// A token's last use is written at most so often: a flood of requests wears no flash.
pub const USED_APART_MS: Millis = 3_600_000;

/// An operator's, or a program's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Of the secret.
    pub secret: Digest,
    pub roles: BTreeSet<Name>,
    /// Nothing outside these, whatever the roles say.
    pub namespaces: Many<Name>,
    pub made_wall_ms: Millis,
    pub made_by: String,
    /// None: never.
    pub ends_wall_ms: Option<Millis>,
    #[serde(default)]
    pub used_wall_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub used_from: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessKey {
    Token(Name),
    Role(Name),
    Namespace(Name),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum AccessRecord {
    Token(TokenRecord),
    Role(Role),
    Namespace(Namespace),
}

pub type AccessFacts = BTreeMap<AccessKey, AccessRecord>;

/// Who asks: `None` is the hub's own token.
pub type By = Option<Name>;

#[derive(Debug, Clone, PartialEq)]
pub enum AccessRequest {
    MakeToken {
        by: By,
        new: NewToken,
    },
    /// Give a token other roles or namespaces; its secret stays.
    ChangeToken {
        by: By,
        name: Name,
        roles: BTreeSet<Name>,
        namespaces: Many<Name>,
    },
    RevokeToken {
        by: By,
        name: Name,
    },
    /// It was used: written if it was not for a while.
    Used {
        name: Name,
        from: String,
    },
    PutRole {
        by: By,
        name: Name,
        role: Role,
    },
    DropRole {
        name: Name,
    },
    PutNamespace {
        name: Name,
        namespace: Namespace,
    },
    /// Its limits; what is in it stays.
    DropNamespace {
        name: Name,
    },
}

#[derive(Debug, Clone, Default)]
pub struct Access {
    pub tokens: BTreeMap<Name, TokenRecord>,
    pub roles: BTreeMap<Name, Role>,
    pub namespaces: BTreeMap<Name, Namespace>,
}

impl Access {
    pub fn load(facts: AccessFacts) -> Access {
        let mut access = Access::default();
        for (key, record) in facts {
            match (key, record) {
                (AccessKey::Token(name), AccessRecord::Token(record)) => {
                    drop(access.tokens.insert(name, record));
                }
                (AccessKey::Role(name), AccessRecord::Role(role)) => drop(access.roles.insert(name, role)),
                (AccessKey::Namespace(name), AccessRecord::Namespace(namespace)) => {
                    drop(access.namespaces.insert(name, namespace));
                }
                // A record under another kind's key: the store names what it cannot read, this is none.
                _ => {}
            }
        }
        access
    }

    pub fn record(&self, key: &AccessKey) -> Option<AccessRecord> {
        match key {
            AccessKey::Token(name) => self.tokens.get(name).cloned().map(AccessRecord::Token),
            AccessKey::Role(name) => self.roles.get(name).cloned().map(AccessRecord::Role),
            AccessKey::Namespace(name) => self.namespaces.get(name).cloned().map(AccessRecord::Namespace),
        }
    }

    pub fn role(&self, name: &Name) -> Option<Role> {
        given(name.as_str()).or_else(|| self.roles.get(name).cloned())
    }

    /// What a token may do now.
    pub fn grants(&self, token: &TokenRecord) -> Grants {
        self.granted(&token.roles, &token.namespaces)
    }

    fn granted(&self, roles: &BTreeSet<Name>, namespaces: &Many<Name>) -> Grants {
        let rules = roles.iter().filter_map(|name| self.role(name)).flat_map(|role| role.rules);
        Grants { rules: rules.collect(), within: namespaces.clone() }
    }

    /// Roles by name, those that every hub has first.
    pub fn all_roles(&self) -> impl Iterator<Item = (Name, Role)> + '_ {
        let named = |name: &&str| Some((name.parse().ok()?, given(name)?));
        GIVEN.iter().filter_map(named).chain(self.roles.iter().map(|(n, r)| (n.clone(), r.clone())))
    }
}

impl Core {
    pub fn access(&self) -> &Access {
        &self.world.access
    }

    pub(crate) fn on_access(&mut self, now: Now, id: RequestId, request: AccessRequest) {
        let done = match request {
            AccessRequest::MakeToken { by, new } => self.make_operator(now, &by, new),
            AccessRequest::ChangeToken { by, name, roles, namespaces } => {
                self.change_operator(&by, &name, roles, namespaces)
            }
            AccessRequest::RevokeToken { by, name } => self.revoke_operator(&by, &name),
            AccessRequest::Used { name, from } => self.used(now, &name, from),
            AccessRequest::PutRole { by, name, role } => self.put_role(&by, &name, role),
            AccessRequest::DropRole { name } => self.drop_role(&name),
            AccessRequest::PutNamespace { name, namespace } => self.put_namespace(&name, namespace),
            AccessRequest::DropNamespace { name } => self.drop_namespace(&name),
        };
        self.out.answer(id, done.unwrap_or_else(|refused| refused));
    }
}

fn refused(field: &str, reason: impl Into<String>) -> Answer {
    Answer::Refused { errors: vec![refusal(field, reason)] }
}

fn missing(what: &str, name: &Name) -> Answer {
    Answer::NotFound { errors: vec![refusal(what, format!("there is no {what} '{name}'"))] }
}

fn refusal(field: &str, reason: impl Into<String>) -> Refusal {
    Refusal { workload: None, field: field.into(), reason: reason.into() }
}
