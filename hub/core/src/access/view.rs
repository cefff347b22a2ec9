//! Tokens and roles as operators see them: no secret, no digest of one.

use std::collections::BTreeSet;

use contract::Name;
use contract::time::Millis;
use serde::{Deserialize, Serialize};

use super::namespace::{forbidden, held};
use super::rights::{GIVEN, Kind, Many, Place, Rule, Verb};
use super::{Access, BOOTSTRAP, Forbidden, Namespace, Quota, Taken, TokenRecord};
use crate::api::Refusal;
use crate::core::Core;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TokenView {
    pub name: Name,
    pub roles: BTreeSet<Name>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub namespaces: Many<Name>,
    pub made_wall_ms: Millis,
    pub made_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_wall_ms: Option<Millis>,
    /// To the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_wall_ms: Option<Millis>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub used_from: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoleView {
    pub name: Name,
    /// Every hub has it, and nobody can change it.
    pub given: bool,
    pub rules: Vec<Rule>,
}

impl Access {
    pub fn token_views(&self) -> Vec<TokenView> {
        self.tokens.iter().map(|(name, token)| token_view(name, token)).collect()
    }

    pub fn role_views(&self) -> Vec<RoleView> {
        let view = |(name, role): (Name, super::Role)| {
            let given = GIVEN.contains(&name.as_str());
            RoleView { name, given, rules: role.rules }
        };
        self.all_roles().map(view).collect()
    }

    /// Roles that would do, and who could give them: what somebody who may not is told.
    pub fn who_could(&self, verb: Verb, kind: Kind) -> String {
        let has = |role: &super::Role| role.rules.iter().any(|r| r.verbs.has(&verb) && r.kinds.has(&kind));
        let roles = self.all_roles().filter(|(_, role)| has(role)).map(|(name, _)| name.to_string());
        let gives = |token: &&TokenRecord| self.grants(token).may(Verb::Apply, Kind::Tokens, Place::Hub);
        let givers = self.tokens.iter().filter(|(_, token)| gives(token)).map(|(name, _)| name.to_string());
        let givers =
            std::iter::once(format!("'{BOOTSTRAP}' (the hub's own token)")).chain(givers.take(NAMED_MAX));
        let (roles, givers) = (roles.take(NAMED_MAX).collect::<Vec<_>>(), givers.collect::<Vec<_>>());
        format!("the role {} has it; {} can give it: hub token grant", roles.join(" or "), givers.join(", "))
    }
}

/// A namespace with what it takes, and what of it its policy would not let in today.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NamespaceView {
    pub name: Name,
    pub quota: Quota,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forbid: BTreeSet<Forbidden>,
    pub taken: Taken,
    pub workloads: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaches: Vec<Refusal>,
}

impl Core {
    /// Those that have limits, and those that have workloads.
    pub fn namespaces(&self) -> Vec<NamespaceView> {
        let world = &self.world;
        let mut names: BTreeSet<&Name> = world.works.keys().map(|key| &key.namespace).collect();
        names.extend(world.access.namespaces.keys());
        names.into_iter().map(|name| self.namespace_view(name)).collect()
    }

    fn namespace_view(&self, name: &Name) -> NamespaceView {
        let Namespace { quota, forbid } = self.world.access.namespaces.get(name).cloned().unwrap_or_default();
        let works: Vec<_> = self.world.works_in(name).collect();
        let breaches = works.iter().flat_map(|(_, work)| forbidden(&self.world, &work.record.manifest));
        let breaches = breaches.collect();
        let taken = held(&self.world, name);
        NamespaceView { name: name.clone(), quota, forbid, taken, workloads: works.len(), breaches }
    }
}

/// Roles and tokens named in one message.
const NAMED_MAX: usize = 5;

fn token_view(name: &Name, token: &TokenRecord) -> TokenView {
    TokenView {
        name: name.clone(),
        roles: token.roles.clone(),
        namespaces: token.namespaces.clone(),
        made_wall_ms: token.made_wall_ms,
        made_by: token.made_by.clone(),
        ends_wall_ms: token.ends_wall_ms,
        used_wall_ms: token.used_wall_ms,
        used_from: token.used_from.clone(),
    }
}
