//! What is on this board after a crash: every run that left a directory or a cgroup, alive or not.

use std::collections::BTreeSet;
use std::io;

use agent_core::api::{FoundRun, FoundState};

use super::exit::conclude;
use super::pidfd::Handle;
use super::place::from_cgroup_name;
use super::runtime::{Key, Runtime};

impl Runtime {
    /// Once, at the agent's start. Runs that are alive are watched from here on, untouched: their `Exited`
    /// will come. The others are told with their end, and wait for `remove`.
    ///
    /// A shim that was spawned a moment before its agent died, and has not written its name yet, counts as
    /// ended: `remove` takes its cgroup and directory away, without which it cannot begin.
    pub fn scan(&self) -> io::Result<Vec<FoundRun>> {
        let settings = &self.0.settings;
        let mut keys: BTreeSet<Key> = settings.places.runs()?.into_iter().collect();
        let leaves = settings.cgroups.leaves().map_err(io::Error::other)?;
        keys.extend(leaves.iter().filter_map(|name| from_cgroup_name(name)));
        Ok(keys.into_iter().map(|key| self.found(key)).collect())
    }

    fn found(&self, key: Key) -> FoundRun {
        let dir = self.0.settings.places.run(&key.0, key.1);
        let spec = dir.read_spec().unwrap_or_else(|e| {
            eprintln!("edge-agent: {} {}: {}", key.0, key.1, super::told(&e));
            None
        });
        let state = match self.alive(&key) {
            Some(running) => running,
            None => FoundState::Ended(conclude(&dir, None)),
        };
        let devices =
            spec.as_ref().and_then(|s| Some(s.container.as_ref()?.devices.clone())).unwrap_or_default();
        let assignment = spec.map(|s| s.assignment);
        FoundRun { instance: key.0, run: key.1, assignment, devices, state }
    }

    fn alive(&self, key: &Key) -> Option<FoundState> {
        let dir = self.0.settings.places.run(&key.0, key.1);
        if matches!(dir.read_exit(), Ok(Some(_))) {
            return None;
        }
        let shim = dir.read_shim().ok().flatten()?;
        let handle = Handle::new(shim.process.open()?).ok()?;
        let pid = shim.process.pid;
        if self.live(key).is_none() {
            self.watch(key.clone(), pid, handle);
        }
        Some(FoundState::Running { pid, started_ms: shim.process.started_ms() })
    }
}
