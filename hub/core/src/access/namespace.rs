//! How much may a namespace take, and what may not run in it? One that nobody has said anything about takes
//! what it likes. What is asked for counts, not what runs: so an apply is told, and not a board at night.

use std::collections::{BTreeMap, BTreeSet};

use contract::defaults::{effective, network};
use contract::quantity::{Bytes, Cpu};
use contract::run::MountSource;
use contract::spec::{NetworkMode, Workload};
use contract::{Name, WorkloadKey};
use serde::{Deserialize, Serialize};

use super::{AccessKey, missing, refusal};
use crate::api::{Answer, Refusal};
use crate::charge::Price;
use crate::core::Core;
use crate::place::{self, Ask};
use crate::record::WorkloadRecord;
use crate::world::{Work, World};

pub const NAMESPACES_MAX: usize = 1_000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Namespace {
    #[serde(default)]
    pub quota: Quota,
    /// What is refused at apply.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub forbid: BTreeSet<Forbidden>,
}

/// Absent: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quota {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Forbidden {
    Privileged,
    /// Any beyond Docker's usual ones.
    Capabilities,
    HostNetwork,
    HostPaths,
    Devices,
    /// Images by a tag, which somebody can move.
    UnpinnedImages,
}

/// What is taken of a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub storage_bytes: u64,
    pub instances: u64,
}

impl Taken {
    /// By one instance: limits are reservations. (Nobody dodges a quota by naming no limit: the default
    /// counts.)
    pub fn by_one(manifest: &Workload) -> Taken {
        let effective = effective(&manifest.spec);
        let volumes = effective.mounts.iter().map(|mount| match mount.from {
            MountSource::Volume { size_bytes, .. } => size_bytes,
            _ => 0,
        });
        Taken {
            cpu_millis: effective.limits.cpu_millis.into(),
            memory_bytes: effective.limits.memory_bytes,
            storage_bytes: volumes.fold(effective.limits.storage_bytes, u64::saturating_add),
            instances: 1,
        }
    }

    #[must_use]
    pub fn times(self, n: u64) -> Taken {
        self.each(self, |one, _| one.saturating_mul(n))
    }

    #[must_use]
    pub fn plus(self, other: Taken) -> Taken {
        self.each(other, u64::saturating_add)
    }

    fn each(self, other: Taken, op: impl Fn(u64, u64) -> u64) -> Taken {
        Taken {
            cpu_millis: op(self.cpu_millis, other.cpu_millis),
            memory_bytes: op(self.memory_bytes, other.memory_bytes),
            storage_bytes: op(self.storage_bytes, other.storage_bytes),
            instances: op(self.instances, other.instances),
        }
    }
}

impl Quota {
    /// (what, taken, limit) of everything that has a limit.
    fn parts(&self, taken: Taken) -> impl Iterator<Item = (&'static str, u64, u64)> {
        [
            ("cpu", taken.cpu_millis, self.cpu.map(|cpu| cpu.millis.into())),
            ("memory", taken.memory_bytes, self.memory.map(|bytes| bytes.0)),
            ("storage", taken.storage_bytes, self.storage.map(|bytes| bytes.0)),
            ("instances", taken.instances, self.instances.map(u64::from)),
        ]
        .into_iter()
        .filter_map(|(what, taken, limit)| Some((what, taken, limit?)))
    }

    /// Each part that is too small, in words.
    pub fn over(&self, taken: Taken) -> Vec<(&'static str, String)> {
        let over = self.parts(taken).filter(|(_, taken, limit)| taken > limit);
        over.map(|(what, taken, limit)| {
            (what, format!("{} of {what}, of {}", shown(what, taken), shown(what, limit)))
        })
        .collect()
    }
}

fn shown(what: &str, n: u64) -> String {
    match what {
        "cpu" => Cpu { millis: u32::try_from(n).unwrap_or(u32::MAX) }.to_string(),
        "memory" | "storage" => Bytes(n).to_string(),
        _ => n.to_string(),
    }
}

/// What these records, once written (`None` deletes), would take of quotas that have no room for it. Told of
/// those that ask for more than before: what asks for less is never refused, it is the way back.
pub fn over_quota(world: &World, records: &BTreeMap<WorkloadKey, Option<WorkloadRecord>>) -> Vec<Refusal> {
    let concerned: BTreeSet<&Name> = records.keys().map(|key| &key.namespace).collect();
    let mut refusals = Vec::new();
    for name in concerned {
        let Some(namespace) = world.access.namespaces.get(name) else { continue };
        for (what, over) in namespace.quota.over(asked(world, name, records)) {
            let own = records.iter().filter(|(key, _)| key.namespace == *name);
            let grown =
                own.filter(|(key, record)| grows(world, &namespace.quota, what, key, record.as_ref()));
            let field = match what {
                "instances" => "spec.replicas".to_string(),
                what => format!("spec.resources.{what}"),
            };
            let reason = format!("the namespace '{name}' would take {over} by its quota");
            refusals.extend(grown.map(|(key, _)| Refusal {
                workload: Some(key.clone()),
                field: field.clone(),
                reason: reason.clone(),
            }));
        }
    }
    refusals
}

/// Whether it could come to have more of this than it has. (Of `everyAgent` more boards are no growth: each
/// asks for room when it is its turn.)
fn grows(
    world: &World,
    quota: &Quota,
    what: &str,
    key: &WorkloadKey,
    record: Option<&WorkloadRecord>,
) -> bool {
    let Some(record) = record else { return false };
    let part = |taken: Taken| quota.parts(taken).find(|part| part.0 == what).map_or(0, |part| part.1);
    match world.works.get(key) {
        Some(work) if work.every_agent() && record.manifest.spec.every_agent => {
            part(Taken::by_one(&record.manifest)) > part(work.template.taken)
        }
        work => part(taken_by(world, &record.manifest)) > work.map_or(0, |work| part(held_by(work))),
    }
}

fn taken_by(world: &World, manifest: &Workload) -> Taken {
    Taken::by_one(manifest).times(wanted(world, manifest))
}

/// What a namespace asks for, with these records instead of those that are there.
pub fn asked(world: &World, name: &Name, records: &BTreeMap<WorkloadKey, Option<WorkloadRecord>>) -> Taken {
    let kept = world.works_in(name).filter(|(key, _)| !records.contains_key(*key));
    let kept = kept.map(|(_, work)| &*work.record);
    let new = records.iter().filter(|(key, _)| key.namespace == *name);
    let new = new.filter_map(|(_, record)| record.as_ref());
    kept.chain(new).map(|record| taken_by(world, &record.manifest)).fold(Taken::default(), Taken::plus)
}

/// What it has for certain: replicas as they are asked for, placed or not, and of `everyAgent` what is
/// placed. Boards that come take what this leaves, so that no replica finds its place taken by them.
pub fn held(world: &World, name: &Name) -> Taken {
    world.works_in(name).map(|(_, work)| held_by(work)).fold(Taken::default(), Taken::plus)
}

fn held_by(work: &Work) -> Taken {
    match work.every_agent() {
        true => work.template.taken.times(work.placed.len() as u64),
        false => work.template.taken.times(work.replicas().into()),
    }
}

/// Why a board that comes gets no instance of it: what its namespace has no room for.
pub fn no_room(world: &World, work: &Work) -> Option<String> {
    let name = &work.template.key.namespace;
    let namespace = world.access.namespaces.get(name)?;
    let over = namespace.quota.over(held(world, name).plus(work.template.taken));
    let (_, over) = over.first()?;
    Some(format!("the namespace '{name}' would take {over} by its quota"))
}

/// How many instances it asks for, of the boards that are known.
fn wanted(world: &World, manifest: &Workload) -> u64 {
    let spec = &manifest.spec;
    if !spec.every_agent {
        return spec.replicas.unwrap_or(0).into();
    }
    let (requires, price) = (BTreeSet::new(), Price::default());
    let ask = Ask { placement: spec.placement.as_ref(), requires: &requires, price, ports: &[] };
    world.agents.values().filter(|agent| place::suits(&ask, &agent.record).is_ok()).count() as u64
}

/// What of a manifest the policy of its namespace does not allow.
pub fn forbidden(world: &World, workload: &Workload) -> Vec<Refusal> {
    let key = workload.key();
    let Some(namespace) = world.access.namespaces.get(&key.namespace) else { return Vec::new() };
    let found =
        namespace.forbid.iter().flat_map(|rule| rule.found(workload).into_iter().map(move |at| (rule, at)));
    let refusal = |(rule, (field, what)): (&Forbidden, (String, String))| {
        let reason =
            format!("{what}: the policy of the namespace '{}' forbids {}", key.namespace, rule.word());
        Refusal { workload: Some(key.clone()), field, reason }
    };
    found.map(refusal).collect()
}

impl Forbidden {
    pub const ALL: [Forbidden; 6] = [
        Forbidden::Privileged,
        Forbidden::Capabilities,
        Forbidden::HostNetwork,
        Forbidden::HostPaths,
        Forbidden::Devices,
        Forbidden::UnpinnedImages,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Forbidden::Privileged => "privileged",
            Forbidden::Capabilities => "capabilities",
            Forbidden::HostNetwork => "host-network",
            Forbidden::HostPaths => "host-paths",
            Forbidden::Devices => "devices",
            Forbidden::UnpinnedImages => "unpinned-images",
        }
    }

    /// Field and what stands there.
    fn found(self, workload: &Workload) -> Vec<(String, String)> {
        let spec = &workload.spec;
        let security = spec.security.clone().unwrap_or_default();
        let one = |field: &str, what: String| vec![(field.to_string(), what)];
        match self {
            Forbidden::Privileged if security.privileged => one("spec.security.privileged", "is true".into()),
            Forbidden::Capabilities => match security.capabilities.unwrap_or_default().add {
                add if add.is_empty() => Vec::new(),
                add => one("spec.security.capabilities.add", format!("asks for {}", add.join(", "))),
            },
            Forbidden::HostNetwork if network(spec).mode == NetworkMode::Host => {
                let field = if spec.ports.is_empty() { "spec.network" } else { "spec.ports" };
                one(field, "uses the board's network".into())
            }
            Forbidden::HostPaths => {
                let paths = spec.mounts.iter().enumerate();
                let paths = paths.filter_map(|(n, mount)| Some((n, mount.host_path.as_ref()?)));
                paths
                    .map(|(n, path)| (format!("spec.mounts[{n}].hostPath"), format!("mounts {path}")))
                    .collect()
            }
            Forbidden::Devices => {
                let devices = spec.devices.iter().enumerate();
                devices
                    .map(|(n, d)| (format!("spec.devices[{n}].path"), format!("wants {}", d.path)))
                    .collect()
            }
            Forbidden::UnpinnedImages if !spec.image.contains("@sha256:") => {
                one("spec.image", format!("'{}' names no digest", spec.image))
            }
            _ => Vec::new(),
        }
    }
}

impl Core {
    pub(super) fn put_namespace(&mut self, name: &Name, namespace: Namespace) -> Result<Answer, Answer> {
        let namespaces = &self.world.access.namespaces;
        let mut errors = Vec::new();
        if !namespaces.contains_key(name) && namespaces.len() >= NAMESPACES_MAX {
            errors.push(refusal("", format!("there are {NAMESPACES_MAX} namespaces: delete some")));
        }
        // What is there is thrown out of no namespace, so a quota never was broken.
        for (what, over) in namespace.quota.over(held(&self.world, name)) {
            errors.push(refusal(&format!("quota.{what}"), format!("'{name}' takes {over}: make room first")));
        }
        if !errors.is_empty() {
            return Err(Answer::Refused { errors });
        }
        self.world.access.namespaces.insert(name.clone(), namespace);
        self.dirty_namespace(name);
        Ok(self.access_changed(AccessKey::Namespace(name.clone())))
    }

    pub(super) fn drop_namespace(&mut self, name: &Name) -> Result<Answer, Answer> {
        if self.world.access.namespaces.remove(name).is_none() {
            return Err(missing("limits of the namespace", name));
        }
        self.dirty_namespace(name);
        Ok(self.access_changed(AccessKey::Namespace(name.clone())))
    }

    /// There may be room in it now.
    pub(crate) fn dirty_namespace(&mut self, name: &Name) {
        // Without limits nobody waits for them; those that had some are looked at once more.
        if self.world.starving.is_empty() {
            return;
        }
        let starving = self.world.starving.iter().filter(|key| key.namespace == *name);
        starving.for_each(|key| self.queues.dirty.all(key));
    }
}

impl std::str::FromStr for Forbidden {
    type Err = String;

    fn from_str(text: &str) -> Result<Forbidden, String> {
        let known = || Forbidden::ALL.map(Forbidden::word).join(", ");
        let found = Forbidden::ALL.into_iter().find(|rule| rule.word() == text);
        found.ok_or_else(|| format!("no policy '{text}'; there are {}", known()))
    }
}
