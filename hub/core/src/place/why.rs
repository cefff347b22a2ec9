//! Why does a board not run it, in words; and how many boards for the same reason?

use std::collections::BTreeMap;
use std::fmt;

use contract::limits::SLOTS_PER_AGENT_MAX;
use contract::taint::{CORDONED, DRAINING, TaintEffect};
use contract::{AgentId, WorkloadKey};

use super::Lack;
use crate::charge::Shortage;
use crate::image::nothing_for;
use crate::labels::Miss;

#[derive(Debug, Clone, PartialEq)]
pub enum WhyNot<'a> {
    Selector(Miss<'a>),
    /// None of so many terms holds.
    Affinity(usize),
    Arch(&'a str),
    Taint {
        key: &'a str,
        value: &'a str,
        effect: TaintEffect,
    },
    Feature(&'a str),
    Lacks(Lack<'a>),
    Port(u16, &'a WorkloadKey),
    /// Another slot of the same workload is here, and has the port.
    OwnPort(u16),
    Short(Shortage),
    /// Its namespace has no room for it.
    Quota(String),
    Slots,
}

impl WhyNot<'_> {
    /// Somebody else has what it needs.
    pub fn is_of_room(&self) -> bool {
        matches!(self, WhyNot::Short(_) | WhyNot::Port(..))
    }

    /// It is not meant for this board; anything else may change by itself, and is waited for.
    pub fn is_not_meant(&self) -> bool {
        matches!(self, WhyNot::Selector(_) | WhyNot::Affinity(_) | WhyNot::Arch(_) | WhyNot::Taint { .. })
    }
}

impl fmt::Display for WhyNot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::Selector(miss) => write!(f, "selector wants {miss}"),
            WhyNot::Affinity(1) => f.write_str("the required affinity does not hold"),
            WhyNot::Affinity(n) => write!(f, "none of the {n} terms of the required affinity holds"),
            WhyNot::Arch(arch) => write!(f, "is not of the architecture {arch}"),
            WhyNot::Taint { key, .. } if *key == CORDONED => f.write_str("is cordoned"),
            WhyNot::Taint { key, .. } if *key == DRAINING => f.write_str("is being drained"),
            WhyNot::Taint { key, value: "", effect } => write!(f, "has the taint {key}:{effect}"),
            WhyNot::Taint { key, value, effect } => write!(f, "has the taint {key}={value}:{effect}"),
            WhyNot::Feature(feature) => write!(f, "lacks the feature '{feature}'"),
            WhyNot::Lacks(Lack::Engine("")) => f.write_str("reports no engine to compile for"),
            WhyNot::Lacks(Lack::Engine(engine)) => {
                write!(f, "its engine {engine} is served by no compile worker")
            }
            WhyNot::Lacks(Lack::Platform { arch, image }) => f.write_str(&nothing_for(arch, image)),
            WhyNot::Port(port, key) => write!(f, "waits for port {port}, which {key} has there"),
            WhyNot::OwnPort(port) => write!(f, "has an instance of it already, which has port {port}"),
            WhyNot::Short(shortage) => shortage.fmt(f),
            WhyNot::Quota(full) => f.write_str(full),
            WhyNot::Slots => write!(f, "has {SLOTS_PER_AGENT_MAX} instances of it already"),
        }
    }
}

/// Boards with the same reason, of which a few are named.
#[derive(Debug, Clone, PartialEq)]
pub struct Alike {
    pub count: usize,
    pub agents: Vec<AgentId>,
    pub reason: String,
    /// By how much at least and at most, where it is a matter of room.
    short: Option<(Shortage, Shortage)>,
}

/// Reasons by what they are about: `12 agents: cpu short by 200m`.
#[derive(Debug, Default)]
pub struct Grouped(BTreeMap<String, Alike>);

/// Agents named with each reason.
const NAMED_MAX: usize = 5;
/// Kept apart at most; what comes then counts as 'other reasons'.
const REASONS_MAX: usize = 50;

impl Grouped {
    pub fn add(&mut self, agent: &AgentId, why: &WhyNot<'_>) {
        let short = if let WhyNot::Short(short) = why { Some(*short) } else { None };
        let mut about = short.map_or_else(|| why.to_string(), |short| short.about().to_string());
        if !self.0.contains_key(&about) && self.0.len() >= REASONS_MAX {
            about = "other reasons".to_string();
        }
        let reason = if short.is_some() { why.to_string() } else { about.clone() };
        let new = || Alike { count: 0, agents: Vec::new(), reason, short: short.map(|s| (s, s)) };
        let alike = self.0.entry(about).or_insert_with(new);
        alike.count += 1;
        if alike.agents.len() < NAMED_MAX {
            alike.agents.push(agent.clone());
        }
        if let (Some((least, most)), Some(short)) = (&mut alike.short, short) {
            *least = if short.by() < least.by() { short } else { *least };
            *most = if short.by() > most.by() { short } else { *most };
        }
    }

    /// The reason that most boards have comes first.
    pub fn list(self) -> Vec<Alike> {
        let mut list: Vec<Alike> = self.0.into_values().map(Alike::told).collect();
        list.sort_by(|a, b| (b.count, &a.reason).cmp(&(a.count, &b.reason)));
        list
    }
}

impl Alike {
    fn told(mut self) -> Alike {
        if let Some((least, most)) = self.short.filter(|_| self.count > 1) {
            let most = (most.by() > least.by()).then(|| format!(" to {}", most.amount()));
            self.reason =
                format!("{} short by {}{}", least.about(), least.amount(), most.unwrap_or_default());
        }
        self
    }
}
