//! Which devices of the board are there, as far as anything needs them.
//!
//! What needs one that is not there waits for it by name, and is started when it comes. What runs with one that
//! goes is stopped: its node inside leads nowhere, even if the same thing is plugged in again. Nobody else is
//! touched.

use std::collections::{BTreeMap, BTreeSet};

use contract::message::EventKind;
use contract::run::Assignment;
use contract::{InstanceId, Now};

use crate::api::{DeviceId, Op};
use crate::core::Core;
use crate::instance::{Phase, Run};
use crate::outbox::Pending;
use crate::reconcile::Wait;

#[derive(Debug, Default)]
pub(crate) struct Devices {
    watched: BTreeSet<String>,
    /// Only what was looked for; what nobody has looked for yet is neither there nor gone.
    known: BTreeMap<String, Option<DeviceId>>,
}

fn needs(assignment: &Assignment) -> impl Iterator<Item = &String> {
    assignment.run.container.iter().flat_map(|c| &c.devices).map(|device| &device.path)
}

impl Devices {
    /// For the first that is not there.
    pub fn wait(&self, assignment: &Assignment) -> Option<Wait> {
        let missing = needs(assignment).find(|path| !matches!(self.known.get(*path), Some(Some(_))));
        missing.map(|path| Wait::Device { path: path.clone() })
    }

    /// As they are now.
    pub fn of(&self, assignment: &Assignment) -> Vec<(String, DeviceId)> {
        let found = needs(assignment).filter_map(|path| Some((path.clone(), (*self.known.get(path)?)?)));
        found.collect()
    }

    /// The first with which it was started and that is not there any more.
    fn gone<'a>(&self, run: &'a Run) -> Option<&'a str> {
        let is_gone = |path: &str, id: DeviceId| self.known.get(path).is_some_and(|now| *now != Some(id));
        run.devices.iter().find(|(path, id)| is_gone(path, *id)).map(|(path, _)| path.as_str())
    }
}

impl Core {
    pub(crate) fn watch_devices(&mut self) {
        let mut needed = BTreeSet::new();
        for workload in self.workloads.values() {
            let target = workload.target.iter().flat_map(|t| [Some(&t.assignment), t.spare.as_ref()]);
            let runs =
                workload.slots.values().flat_map(|i| i.runs.values()).map(|run| run.assignment.as_ref());
            needed.extend(target.chain(runs).flatten().flat_map(|a| needs(a)).cloned());
        }
        if needed != self.devices.watched {
            self.devices.known.retain(|path, _| needed.contains(path));
            self.devices.watched.clone_from(&needed);
            self.out.emit(Op::WatchDevices(needed), Pending::Nothing);
        }
    }

    pub(crate) fn on_devices(&mut self, now: Now, there: BTreeMap<String, Option<DeviceId>>) {
        let watched = &self.devices.watched;
        self.devices.known = there.into_iter().filter(|(path, _)| watched.contains(path)).collect();
        let mut gone = Vec::new();
        for (key, workload) in &mut self.workloads {
            for (slot, instance) in &mut workload.slots {
                let live = instance.runs.values_mut().filter(|r| r.phase != Phase::Ended && !r.unplugged);
                for run in live {
                    if let Some(path) = self.devices.gone(run).map(String::from) {
                        run.unplugged = true;
                        gone.push((InstanceId { workload: key.clone(), slot: *slot }, path));
                    }
                }
            }
        }
        for (instance, path) in gone {
            self.tell(
                now,
                EventKind::Stopped,
                Some(instance),
                format!("device {path} is gone: it is stopped"),
            );
        }
    }
}
