//! Which fields are known and not built yet: they are refused by name, so that nothing that was
//! asked for is silently left out, and so that manifests keep their shape when it comes.

use super::{Finding, Findings};
use crate::field;
use crate::spec::{Network, NetworkMode, Rollout, Scheme, Workload, WorkloadSpec};

/// Every use of a feature that comes with a later version.
pub fn not_yet(workload: &Workload) -> Vec<Finding> {
    let spec = &workload.spec;
    let mut found = Findings::default();
    whole_fields(spec, &mut found);
    field_of(&mut found, "spec.security", "privileged", spec.security.as_ref().is_some_and(|s| s.privileged));
    network(spec.network.as_ref(), &mut found);
    for (n, port) in spec.ports.iter().enumerate() {
        if port.host.is_some_and(|host| host != port.port) {
            let path = field::key(&field::item("spec.ports", n), "host");
            let what = "another port on the board than the workload listens on ";
            later(&mut found, path, what);
        }
    }
    rollout(spec.rollout.as_ref(), &mut found);
    for (name, probe) in spec.probes() {
        let https = probe.http_get.as_ref().is_some_and(|get| get.scheme == Some(Scheme::Https));
        if https {
            later(&mut found, format!("spec.{name}.httpGet.scheme"), "HTTPS ");
        }
    }
    found.0
}

/// Fields of the spec that are refused as a whole, in the order of the spec.
fn whole_fields(spec: &WorkloadSpec, found: &mut Findings) {
    let fields = [
        ("disconnect", spec.disconnect.is_some()),
        ("exclusive", spec.exclusive),
        ("schedule", spec.schedule.is_some()),
        ("completions", spec.completions.is_some()),
        ("deadline", spec.deadline.is_some()),
        ("dependsOn", !spec.depends_on.is_empty()),
        ("autoscale", spec.autoscale.is_some()),
    ];
    for (name, used) in fields {
        field_of(found, "spec", name, used);
    }
}

fn network(network: Option<&Network>, found: &mut Findings) {
    if network.is_some_and(|n| n.mode == Some(NetworkMode::Private)) {
        later(found, "spec.network.mode".into(), "private ");
    }
}

fn rollout(rollout: Option<&Rollout>, found: &mut Findings) {
    let Some(given) = rollout else { return };
    let fields = [
        ("batches", !given.batches.is_empty()),
        ("successThreshold", given.success_threshold.is_some()),
        ("onFailure", given.on_failure.is_some()),
    ];
    for (name, used) in fields {
        field_of(found, "spec.rollout", name, used);
    }
}

fn field_of(found: &mut Findings, parent: &str, name: &str, used: bool) {
    if used {
        later(found, field::key(parent, name), "");
    }
}

/// The reason reads on after the path; `what` is the part of the field that is not built.
fn later(found: &mut Findings, path: String, what: &str) {
    found.add(path, format!("{what}comes with a later version; leave it out for now"));
}
