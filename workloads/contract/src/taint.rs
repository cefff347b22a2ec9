//! What keeps work away from an agent, and what work does not mind? The words are those of Kubernetes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::label;
use crate::spec::{Toleration, TolerationOperator};

/// A mark that an operator puts on an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub struct Taint {
    pub key: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    pub effect: TaintEffect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "manifest", derive(schemars::JsonSchema))]
pub enum TaintEffect {
    // Nothing new comes here; what is here stays. (No doc comments: the schema would be one of three.)
    NoSchedule,
    // Something new comes here only when it has no other place.
    PreferNoSchedule,
    // Nothing new comes here, and what is here goes.
    NoExecute,
}

/// What `cordon` means to the rules.
pub const CORDONED: &str = "skerry/cordoned";
/// What `drain` means to the rules.
pub const DRAINING: &str = "skerry/draining";
/// Before the '/' of keys that only the hub gives.
pub const RESERVED: &str = "skerry/";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaintError {
    #[error(
        "'{0}' is not a taint: write key=value:Effect or key:Effect, with NoSchedule, PreferNoSchedule or NoExecute"
    )]
    Form(String),
    #[error("taint '{0}': {1}")]
    Label(String, label::LabelError),
    #[error("taint '{0}': keys that begin with {RESERVED} are the hub's own; there are cordon and drain")]
    Reserved(String),
}

impl Taint {
    pub fn check(&self) -> Result<(), TaintError> {
        let wrong = |e| TaintError::Label(crate::field::shown(&self.key), e);
        label::check_key(&self.key).map_err(wrong)?;
        label::check_value(&self.value).map_err(wrong)?;
        if self.key.starts_with(RESERVED) { Err(TaintError::Reserved(self.key.clone())) } else { Ok(()) }
    }
}

impl FromStr for TaintEffect {
    type Err = TaintError;

    fn from_str(text: &str) -> Result<TaintEffect, TaintError> {
        match text {
            "NoSchedule" => Ok(TaintEffect::NoSchedule),
            "PreferNoSchedule" => Ok(TaintEffect::PreferNoSchedule),
            "NoExecute" => Ok(TaintEffect::NoExecute),
            _ => Err(TaintError::Form(crate::field::shown(text))),
        }
    }
}

impl FromStr for Taint {
    type Err = TaintError;

    fn from_str(text: &str) -> Result<Taint, TaintError> {
        let form = || TaintError::Form(crate::field::shown(text));
        let (label, effect) = text.rsplit_once(':').ok_or_else(form)?;
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        let effect = effect.parse().map_err(|_| form())?;
        let taint = Taint { key: key.into(), value: value.into(), effect };
        taint.check().map(|()| taint)
    }
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equals = if self.value.is_empty() { "" } else { "=" };
        write!(f, "{}{equals}{}:{}", self.key, self.value, self.effect)
    }
}

impl Toleration {
    pub fn tolerates(&self, key: &str, value: &str, effect: TaintEffect) -> bool {
        let any = self.operator == Some(TolerationOperator::Exists);
        self.effect.is_none_or(|own| own == effect)
            && self.key.as_deref().map_or(any, |own| own == key)
            && (any || self.value.as_deref().unwrap_or("") == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_read_as_they_are_printed() {
        for text in ["gpu=yes:NoSchedule", "example.com/old:NoExecute", "a:PreferNoSchedule"] {
            assert_eq!(text.parse::<Taint>().unwrap().to_string(), text);
        }
        for text in ["", "gpu", "gpu=yes", "gpu:noschedule", "a b:NoExecute", ":NoExecute"] {
            assert!(text.parse::<Taint>().is_err(), "{text}");
        }
        let reserved = "skerry/cordoned:NoSchedule".parse::<Taint>().unwrap_err();
        assert!(reserved.to_string().contains("cordon and drain"), "{reserved}");
    }

    #[test]
    fn what_a_toleration_leaves_out_holds_for_all() {
        use TaintEffect::{NoExecute, NoSchedule};
        let toleration = |key: Option<&str>, operator, value: Option<&str>, effect| Toleration {
            key: key.map(str::to_string),
            operator,
            value: value.map(str::to_string),
            effect,
        };
        let exists = Some(TolerationOperator::Exists);
        let all = toleration(None, exists, None, None);
        assert!(all.tolerates("a", "b", NoExecute) && all.tolerates(DRAINING, "", NoExecute));
        let key = toleration(Some("a"), exists, None, Some(NoSchedule));
        assert!(key.tolerates("a", "b", NoSchedule) && !key.tolerates("a", "b", NoExecute));
        assert!(!key.tolerates("c", "b", NoSchedule));
        let equal = toleration(Some("a"), None, Some("b"), None);
        assert!(equal.tolerates("a", "b", NoSchedule) && !equal.tolerates("a", "c", NoSchedule));
        assert!(!toleration(None, None, None, None).tolerates("a", "", NoSchedule));
    }
}
