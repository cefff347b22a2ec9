//! Which names exist, and what a legal one looks like. Each idea has its own type, so that two
//! strings cannot be swapped by accident. Every `Deserialize` here validates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused; the text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("is empty; a name has 1 to 63 characters from a-z, 0-9 and '-'")]
    Empty,
    #[error("'{0}' is longer than 63 characters")]
    TooLong(String),
    #[error("'{0}' is not a name: use a-z, 0-9 and '-', starting and ending with a letter or digit")]
    BadCharacter(String),
    #[error("'{0}' is not <namespace>/<name>")]
    NotAKey(String),
    #[error("'{0}' is not <namespace>/<name>/<slot>")]
    NotAnInstance(String),
    #[error("'{0}' is not <boots>-<number>")]
    NotARun(String),
    #[error("'{0}' is not 32 hexadecimal digits")]
    NotHex(String),
}

/// A DNS label (RFC 1123 §2.1): 1–63 of `a-z0-9-`, no dash at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Name, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > 63 {
            return Err(IdError::TooLong(text.chars().take(80).collect()));
        }
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !text.bytes().all(legal) || text.starts_with('-') || text.ends_with('-') {
            return Err(IdError::BadCharacter(text.to_string()));
        }
        Ok(Name(text.to_string()))
    }
}

/// The id of a board in the fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub Name);

impl AgentId {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for AgentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<AgentId, IdError> {
        Ok(AgentId(text.parse()?))
    }
}

/// A workload's full name, printed `<namespace>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    pub namespace: Name,
    pub name: Name,
}

impl FromStr for WorkloadKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<WorkloadKey, IdError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| IdError::NotAKey(text.to_string()))?;
        Ok(WorkloadKey { namespace: namespace.parse()?, name: name.parse()? })
    }
}

/// One running copy on an agent, printed `<namespace>/<name>/<slot>`. Slots count from 0 over the
/// whole workload: `replicas: 3` has slots 0–2 wherever they are placed; `everyAgent` has slot 0
/// on each agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    pub workload: WorkloadKey,
    pub slot: u32,
}

impl InstanceId {
    /// A file name for this instance: `<namespace>.<name>.<slot>` (names hold no dots).
    pub fn file_name(&self) -> String {
        format!("{}.{}.{}", self.workload.namespace, self.workload.name, self.slot)
    }

    /// The inverse of [`InstanceId::file_name`].
    pub fn from_file_name(text: &str) -> Result<InstanceId, IdError> {
        text.replace('.', "/").parse()
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<InstanceId, IdError> {
        let wrong = || IdError::NotAnInstance(text.to_string());
        let (workload, slot) = text.rsplit_once('/').ok_or_else(wrong)?;
        let canonical = |s: &str| s == "0" || !s.starts_with('0');
        let slot = slot.bytes().all(|b| b.is_ascii_digit()).then_some(slot).filter(|s| canonical(s));
        let slot = slot.and_then(|s| s.parse().ok()).ok_or_else(wrong)?;
        Ok(InstanceId { workload: workload.parse()?, slot })
    }
}

/// One start of one instance. Unique on the agent over crashes and reboots: `boots` is the agent's
/// durable start counter, `number` counts starts since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub boots: u64,
    pub number: u64,
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<RunId, IdError> {
        let wrong = || IdError::NotARun(text.to_string());
        let (boots, number) = text.split_once('-').ok_or_else(wrong)?;
        let run = RunId {
            boots: boots.parse().map_err(|_| wrong())?,
            number: number.parse().map_err(|_| wrong())?,
        };
        if run.to_string() == text { Ok(run) } else { Err(wrong()) }
    }
}

macro_rules! hex16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                crate::digest::from_hex::<16>(text).map($name).ok_or_else(|| IdError::NotHex(text.to_string()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&crate::digest::to_hex(&self.0))
            }
        }
    };
}

hex16! {
    /// Made once with the hub's store: two stores, two lineages.
    Lineage
}
hex16! {
    /// Made fresh by the hub for each session of an agent; a status is fresh only if it echoes it.
    Nonce
}
hex16! {
    /// Made once on the board, kept beside the agent's store: tells two boards with one id apart.
    BoardId
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.slot)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boots, self.number)
    }
}

/// All of these travel as their printed text and are validated when read.
macro_rules! text_serde {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(crate) use text_serde;

text_serde!(Name, AgentId, WorkloadKey, InstanceId, RunId, Lineage, Nonce, BoardId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label() {
        assert!("press-guard".parse::<Name>().is_ok());
        for wrong in ["", "-a", "a-", "A", "a.b", "a/b", "a+b", "ü", &"a".repeat(64)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_instance_survives_its_file_name() {
        let id: InstanceId = "plant/press-guard/12".parse().unwrap();
        assert_eq!(InstanceId::from_file_name(&id.file_name()).unwrap(), id);
        for wrong in ["plant/press/012", "plant/press/+1", "plant/press", "plant/press/", "a/b/c/1"] {
            assert!(wrong.parse::<InstanceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ids_are_validated_when_read() {
        assert!(serde_json::from_str::<Name>("\"../etc\"").is_err());
        assert!(serde_json::from_str::<RunId>("\"3-017\"").is_err());
        assert_eq!(serde_json::from_str::<RunId>("\"3-17\"").unwrap(), RunId { boots: 3, number: 17 });
    }
}
