//! Small assignments for the unit tests of this crate.

use std::collections::{BTreeMap, BTreeSet};

use contract::run::{ArtifactRef, Assignment, NetworkAllowance, ResourceLimits, RunSpec};
use contract::spec::{RestartPolicy, Runtime};
use contract::{Attempt, Digest, RevisionId};

pub(crate) fn revision(n: u8) -> RevisionId {
    RevisionId(Digest::of(&[n]))
}

pub(crate) fn assignment(name: &str, n: u8, slots: &[u32]) -> Assignment {
    let digest = Digest::of(&[n, 1]);
    Assignment {
        workload: format!("plant/{name}").parse().unwrap(),
        revision: revision(n),
        attempt: Attempt(1),
        slots: slots.to_vec(),
        run: RunSpec {
            runtime: Runtime::Wasm,
            artifact: ArtifactRef { source: digest, digest, size_bytes: 1, engine: None },
            command: vec![],
            args: vec![],
            env: BTreeMap::new(),
            limits: ResourceLimits::DEFAULT,
            network: NetworkAllowance::default(),
            mounts: vec![],
            restart_policy: RestartPolicy::Always,
            stop_signal: "TERM".into(),
            stop_grace_ms: 10_000,
            healthy_after_ms: 3000,
            health_deadline_ms: 600_000,
            probes: None,
            container: None,
            data: None,
        },
        requires: BTreeSet::new(),
        restarts: 0,
    }
}
