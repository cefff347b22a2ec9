//! How is the fleet, in numbers? What a monitoring system asks for every few seconds.

use std::collections::BTreeMap;

use contract::Name;

use crate::core::Core;
use crate::view::StatusView;

#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    pub status: StatusView,
    pub namespaces: BTreeMap<Name, NamespaceNumbers>,
}

/// Of one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceNumbers {
    pub workloads: u64,
    /// Of these all instances are as wanted.
    pub workloads_steady: u64,
    pub instances: u64,
    pub instances_steady: u64,
    /// Their agent is offline.
    pub instances_offline: u64,
}

impl Core {
    /// One walk over the workloads.
    pub fn numbers(&self) -> Numbers {
        let mut namespaces: BTreeMap<Name, NamespaceNumbers> = BTreeMap::new();
        for (key, work) in &self.world.works {
            let (targets, _) = self.targets(key, work);
            let numbers = namespaces.entry(key.namespace.clone()).or_default();
            numbers.workloads += 1;
            numbers.workloads_steady += u64::from(targets.is_steady());
            numbers.instances += u64::from(targets.total);
            numbers.instances_steady += u64::from(targets.steady);
            numbers.instances_offline += u64::from(targets.offline);
        }
        Numbers { status: self.status(), namespaces }
    }
}
