//! What may somebody do? A role is a list of rules, a rule is verbs × kinds × namespaces. Nothing is
//! allowed that no rule names: there are no rules that forbid, so their order says nothing.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use contract::Name;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// See, list, watch.
    Get,
    /// Make and change.
    Apply,
    Delete,
    /// Run a command in a workload, copy files into it and out of it.
    Exec,
    /// See what a secret holds.
    Reveal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Workloads,
    Logs,
    Events,
    Configs,
    Secrets,
    Namespaces,
    Artifacts,
    Agents,
    /// Boards as they have joined.
    Identities,
    JoinTokens,
    Tokens,
    Roles,
    Audit,
    /// The hub itself.
    Hub,
}

const VERBS: [(Verb, &str); 5] = [
    (Verb::Get, "get"),
    (Verb::Apply, "apply"),
    (Verb::Delete, "delete"),
    (Verb::Exec, "exec"),
    (Verb::Reveal, "reveal"),
];

const KINDS: [(Kind, &str); 14] = [
    (Kind::Workloads, "workloads"),
    (Kind::Logs, "logs"),
    (Kind::Events, "events"),
    (Kind::Configs, "configs"),
    (Kind::Secrets, "secrets"),
    (Kind::Namespaces, "namespaces"),
    (Kind::Artifacts, "artifacts"),
    (Kind::Agents, "agents"),
    (Kind::Identities, "identities"),
    (Kind::JoinTokens, "join-tokens"),
    (Kind::Tokens, "tokens"),
    (Kind::Roles, "roles"),
    (Kind::Audit, "audit"),
    (Kind::Hub, "hub"),
];

fn word<T: Copy + PartialEq>(all: &[(T, &'static str)], value: T) -> &'static str {
    all.iter().find(|(one, _)| *one == value).map_or("", |(_, word)| word)
}

fn meant<T: Copy>(what: &str, all: &[(T, &'static str)], text: &str) -> Result<T, String> {
    let known = || all.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|(_, word)| *word == text);
    found.map(|(value, _)| *value).ok_or_else(|| format!("no {what} '{text}'; there are {}, or *", known()))
}

impl Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&VERBS, *self))
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Verb, String> {
        meant("verb", &VERBS, text)
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(&KINDS, *self))
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        meant("kind", &KINDS, text)
    }
}

/// Some, or all that there are and will be. Written as a list, `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Vec<String>", try_from = "Vec<String>")]
#[serde(bound(serialize = "T: Clone + Display", deserialize = "T: Ord + FromStr<Err: Display>"))]
pub enum Many<T> {
    All,
    These(BTreeSet<T>),
}

impl<T: Display> From<Many<T>> for Vec<String> {
    fn from(many: Many<T>) -> Vec<String> {
        match many {
            Many::All => vec!["*".into()],
            Many::These(these) => these.iter().map(ToString::to_string).collect(),
        }
    }
}

impl<T: Ord + FromStr<Err: Display>> TryFrom<Vec<String>> for Many<T> {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Many<T>, String> {
        if words.iter().any(|word| word == "*") {
            return Ok(Many::All);
        }
        let one = |word: &String| word.parse().map_err(|why| format!("{why}"));
        words.iter().map(one).collect::<Result<_, _>>().map(Many::These)
    }
}

impl<T: Display> Display for Many<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Many::All => f.write_str("*"),
            Many::These(these) => {
                f.write_str(&these.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl<T: Ord + Clone> Many<T> {
    pub fn none() -> Many<T> {
        Many::These(BTreeSet::new())
    }

    pub fn has(&self, one: &T) -> bool {
        match self {
            Many::All => true,
            Many::These(these) => these.contains(one),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Many::These(these) if these.is_empty())
    }

    pub fn covers(&self, other: &Many<T>) -> bool {
        match (self, other) {
            (Many::All, _) => true,
            (Many::These(_), Many::All) => false,
            (Many::These(these), Many::These(others)) => others.is_subset(these),
        }
    }

    fn and(&self, other: &Many<T>) -> Many<T> {
        match (self, other) {
            (Many::All, many) | (many, Many::All) => many.clone(),
            (Many::These(a), Many::These(b)) => Many::These(a.intersection(b).cloned().collect()),
        }
    }

    fn or(self, other: Many<T>) -> Many<T> {
        match (self, other) {
            (Many::These(mut a), Many::These(b)) => {
                a.extend(b);
                Many::These(a)
            }
            _ => Many::All,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub verbs: Many<Verb>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub kinds: Many<Kind>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub namespaces: Many<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Role {
    pub rules: Vec<Rule>,
}

/// Where something is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    In(&'a Name),
    /// What belongs to no namespace.
    Hub,
    /// Wherever it is allowed, if anywhere: what is shown or done is cut down to that.
    Somewhere,
}

/// What somebody may do: the rules of all roles, within some namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    pub rules: Vec<Rule>,
    pub within: Many<Name>,
}

/// What everybody who works in a namespace has to see of the hub: boards to run on, images to run.
const SHARED: [Kind; 3] = [Kind::Artifacts, Kind::Agents, Kind::Hub];

impl Grants {
    pub fn all() -> Grants {
        Grants { rules: given_rules("admin").unwrap_or_default(), within: Many::All }
    }

    /// The namespaces in which this is allowed.
    pub fn reach(&self, verb: Verb, kind: Kind) -> Many<Name> {
        let rules = self.rules.iter().filter(|rule| rule.verbs.has(&verb) && rule.kinds.has(&kind));
        rules.map(|rule| rule.namespaces.and(&self.within)).fold(Many::none(), Many::or)
    }

    pub fn may(&self, verb: Verb, kind: Kind, place: Place<'_>) -> bool {
        let reach = self.reach(verb, kind);
        match place {
            Place::In(namespace) => reach.has(namespace),
            Place::Somewhere => !reach.is_empty(),
            Place::Hub => {
                reach == Many::All || verb == Verb::Get && SHARED.contains(&kind) && !reach.is_empty()
            }
        }
    }

    /// Whether these give nothing that `self` does not have. Who may make tokens may not make one that
    /// can more than he can himself.
    pub fn covers(&self, other: &Grants) -> Result<(), (Verb, Kind)> {
        for (verb, _) in VERBS {
            for (kind, _) in KINDS {
                if !self.reach(verb, kind).covers(&other.reach(verb, kind)) {
                    return Err((verb, kind));
                }
            }
        }
        Ok(())
    }
}

/// Roles that every hub has, and nobody can change.
pub const GIVEN: [&str; 3] = ["viewer", "operator", "admin"];

pub fn given(name: &str) -> Option<Role> {
    given_rules(name).map(|rules| Role { rules })
}

fn given_rules(name: &str) -> Option<Vec<Rule>> {
    use Kind::{Agents, Artifacts, Configs, Events, Hub, Identities, Logs, Namespaces, Secrets, Workloads};
    use Verb::{Apply, Delete, Exec, Get};
    let rule = |verbs: &[Verb], kinds: &[Kind]| Rule {
        verbs: Many::These(verbs.iter().copied().collect()),
        kinds: Many::These(kinds.iter().copied().collect()),
        namespaces: Many::All,
    };
    let seen = || {
        let kinds =
            [Workloads, Logs, Events, Configs, Secrets, Namespaces, Artifacts, Agents, Identities, Hub];
        rule(&[Get], &kinds)
    };
    match name {
        "viewer" => Some(vec![seen()]),
        "operator" => Some(vec![
            seen(),
            rule(&[Apply, Delete], &[Workloads, Configs, Secrets, Artifacts]),
            rule(&[Apply], &[Agents]),
            rule(&[Exec], &[Workloads]),
        ]),
        "admin" => Some(vec![Rule { verbs: Many::All, kinds: Many::All, namespaces: Many::All }]),
        _ => None,
    }
}

/// `get,apply:workloads,logs:plant`; without the last part, in all namespaces.
impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Rule, String> {
        let list = |text: &str| text.split(',').map(|word| word.trim().to_string()).collect::<Vec<_>>();
        let parts: Vec<&str> = text.split(':').collect();
        let (verbs, kinds, namespaces) = match parts[..] {
            [verbs, kinds] => (verbs, kinds, "*"),
            [verbs, kinds, namespaces] => (verbs, kinds, namespaces),
            _ => return Err(format!("'{text}' is not verbs:kinds or verbs:kinds:namespaces")),
        };
        Ok(Rule {
            verbs: list(verbs).try_into()?,
            kinds: list(kinds).try_into()?,
            namespaces: list(namespaces).try_into().map_err(|why| format!("namespace {why}"))?,
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.verbs, self.kinds, self.namespaces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(rules: &[&str], within: &str) -> Grants {
        let within = within.split(',').map(str::to_string).collect::<Vec<_>>().try_into().unwrap();
        Grants { rules: rules.iter().map(|rule| rule.parse().unwrap()).collect(), within }
    }

    #[test]
    fn a_rule_is_read_as_it_is_written_and_its_mistakes_are_named() {
        for text in ["get:workloads:plant", "apply,delete:configs,secrets:a,b", "*:*:*"] {
            let rule: Rule = text.parse().unwrap();
            let mut words: Vec<&str> = text.split(',').collect();
            words.sort_unstable();
            assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule, "{text}");
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
        }
        let why = |text: &str| text.parse::<Rule>().unwrap_err();
        assert!(why("see:workloads").contains("no verb 'see'; there are get, apply"));
        assert!(why("get:pods").contains("no kind 'pods'"));
        assert!(why("get:workloads:A").contains("namespace"));
        assert!(why("get").contains("verbs:kinds"));
    }

    #[test]
    fn a_right_holds_where_rule_and_token_say_so() {
        let plant: Name = "plant".parse().unwrap();
        let line: Name = "line".parse().unwrap();
        let some = grants(&["apply:workloads:plant,line", "get:*", "apply:namespaces"], "plant");
        assert!(some.may(Verb::Apply, Kind::Workloads, Place::In(&plant)));
        assert!(!some.may(Verb::Apply, Kind::Workloads, Place::In(&line)));
        assert!(!some.may(Verb::Delete, Kind::Workloads, Place::Somewhere));
        // What belongs to no namespace is out of reach of a token that has some, but for what it needs.
        assert!(!some.may(Verb::Apply, Kind::Namespaces, Place::Hub));
        assert!(!some.may(Verb::Get, Kind::Tokens, Place::Hub));
        assert!(some.may(Verb::Get, Kind::Agents, Place::Hub));
        assert!(Grants::all().may(Verb::Delete, Kind::Tokens, Place::Hub));
    }

    #[test]
    fn nobody_gives_more_than_he_has() {
        let all = Grants::all();
        let operator = Grants { rules: given("operator").unwrap().rules, within: Many::All };
        let viewer = Grants { rules: given("viewer").unwrap().rules, within: Many::All };
        assert_eq!(all.covers(&operator), Ok(()));
        assert_eq!(operator.covers(&viewer), Ok(()));
        assert_eq!(viewer.covers(&operator), Err((Verb::Apply, Kind::Workloads)));
        let narrow = grants(&["get:*"], "plant");
        assert_eq!(viewer.covers(&narrow), Err((Verb::Get, Kind::JoinTokens)));
        assert_eq!(narrow.covers(&viewer), Err((Verb::Get, Kind::Workloads)));
    }
}
