//! All that an agent should run: the whole picture, never a change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::id::{AgentId, Lineage, WorkloadKey};
use crate::run::Assignment;
use crate::version::{Generation, Term};

/// Retained on `agents/<a>/desired`, signed by the hub, stored verbatim by the agent.
///
/// What an agent does with one (`digest` is [`Desired::digest`] of what it holds):
/// equal generation and digest: already so. Equal generation, other digest: refused as a fork.
/// Older generation or term: refused. Other lineage: refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub lineage: Lineage,
    pub term: Term,
    /// Whom it is for; another agent refuses it.
    pub agent: AgentId,
    pub generation: Generation,
    /// By workload, so that no workload can stand in it twice.
    #[serde(with = "as_list")]
    pub assignments: BTreeMap<WorkloadKey, Assignment>,
}

/// A document without its content: what orders it and what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredHead {
    pub lineage: Lineage,
    pub term: Term,
    pub generation: Generation,
    pub digest: Digest,
}

impl Desired {
    /// Of the assignments alone: the same content has the same digest under any term.
    pub fn digest(&self) -> Digest {
        let list: Vec<&Assignment> = self.assignments.values().collect();
        Digest::of(&serde_json::to_vec(&list).expect("an assignment has only string keys"))
    }

    pub fn head(&self) -> DesiredHead {
        let digest = self.digest();
        DesiredHead { lineage: self.lineage, term: self.term, generation: self.generation, digest }
    }
}

/// On the wire a list; two entries with one key are an error, not a silent last-wins.
mod as_list {
    use super::*;

    pub fn serialize<S: serde::Serializer>(
        map: &BTreeMap<WorkloadKey, Assignment>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_seq(map.values())
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<WorkloadKey, Assignment>, D::Error> {
        let mut map = BTreeMap::new();
        for assignment in Vec::<Assignment>::deserialize(d)? {
            if let Some(old) = map.insert(assignment.workload.clone(), assignment) {
                return Err(serde::de::Error::custom(format!("workload {} is assigned twice", old.workload)));
            }
        }
        Ok(map)
    }
}
