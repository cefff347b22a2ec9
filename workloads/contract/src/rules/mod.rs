//! Which specs are refused whatever the fleet looks like: what makes no sense ([`check`]) and what
//! is not built yet ([`not_yet`]), or is for the other runtime ([`fits`]). Rules that need facts of the fleet are the hub core's admission.

mod container;
mod data;
mod mounts;
mod not_yet;
mod place;
mod probes;
mod texts;

pub use container::fits;
pub use data::{check as check_data, file_mode, file_owner};
pub use not_yet::not_yet;
pub use texts::signal_name;

use crate::field;
use crate::limits::REPLICAS_MAX;
use crate::quantity::{Bytes, Cpu, Duration};
use crate::run::ResourceLimits;
use crate::spec::{Disruption, Resources, Stop, Workload, WorkloadSpec};

/// One thing that is wrong: where (`spec.mounts[2].path`), and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    pub reason: String,
}

/// The longest `stop.grace`: an agent's own shutdown must not wait for longer.
pub const STOP_GRACE_MS_MAX: u64 = 600_000;
/// The longest `rollout.healthyAfter` and `rollout.deadline`: a day.
pub const ROLLOUT_MS_MAX: u64 = 86_400_000;
/// The kernel's own limit (PID_MAX_LIMIT).
pub const PIDS_MAX: u32 = 4_194_304;

#[derive(Default)]
pub(crate) struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Finding { path: path.into(), reason: reason.into() });
    }
}

/// Everything that is wrong with `workload` whatever the fleet looks like, in no particular order.
pub fn check(workload: &Workload) -> Vec<Finding> {
    let mut found = Findings::default();
    let (metadata, spec) = (&workload.metadata, &workload.spec);
    texts::labels(&metadata.labels, "metadata.labels", &mut found);
    texts::annotations(&metadata.annotations, "metadata.annotations", &mut found);
    if let Err(e) = spec.image.parse::<crate::image::ImageRef>() {
        found.add("spec.image", e.to_string());
    }
    count(spec, &mut found);
    texts::arguments(&spec.command, "spec.command", &mut found);
    texts::arguments(&spec.args, "spec.args", &mut found);
    texts::env(&spec.env, "spec.env", &mut found);
    place::check(spec, &mut found);
    if let Some(resources) = &spec.resources {
        check_resources(resources, &mut found);
    }
    texts::network(spec.network.as_ref(), &mut found);
    mounts::check(&spec.mounts, &mut found);
    container::check(spec, &mut found);
    if let Some(stop) = &spec.stop {
        check_stop(stop, &mut found);
    }
    check_rollout(spec, &mut found);
    probes::check(spec, &mut found);
    found.0
}

fn count(spec: &WorkloadSpec, found: &mut Findings) {
    match (spec.replicas, spec.every_agent) {
        (None, false) => found.add(
            "spec",
            "says neither how many instances nor where: give replicas (a number over the fleet) or everyAgent: true (one on each agent)",
        ),
        (Some(_), true) => found.add(
            "spec.replicas",
            "stands beside everyAgent: true; give exactly one of the two",
        ),
        (Some(n), false) if n > REPLICAS_MAX => {
            found.add("spec.replicas", format!("is {n}; at most {REPLICAS_MAX}"));
        }
        _ => {}
    }
}

fn check_resources(resources: &Resources, found: &mut Findings) {
    let least = |least: String| format!("is below the least that works: {least}");
    if resources.cpu.is_some_and(|cpu| cpu.millis < ResourceLimits::CPU_MILLIS_MIN) {
        let min = Cpu { millis: ResourceLimits::CPU_MILLIS_MIN };
        found.add("spec.resources.cpu", least(min.to_string()));
    }
    if resources.memory.is_some_and(|memory| memory.0 < ResourceLimits::MEMORY_BYTES_MIN) {
        let min = Bytes(ResourceLimits::MEMORY_BYTES_MIN);
        found.add("spec.resources.memory", least(min.to_string()));
    }
    match resources.pids {
        Some(pids) if pids < ResourceLimits::PIDS_MIN => {
            found.add("spec.resources.pids", least(ResourceLimits::PIDS_MIN.to_string()));
        }
        Some(pids) if pids > PIDS_MAX => {
            found.add("spec.resources.pids", format!("is more than the kernel has: at most {PIDS_MAX}"));
        }
        _ => {}
    }
    if resources.storage == Some(Bytes(0)) {
        found.add("spec.resources.storage", "is 0: give some, like 64Mi");
    }
}

fn check_stop(stop: &Stop, found: &mut Findings) {
    if let Some(signal) = &stop.signal {
        texts::signal(signal, "spec.stop.signal", found);
    }
    span(stop.grace, STOP_GRACE_MS_MAX, "spec.stop.grace", found);
}

fn check_rollout(spec: &WorkloadSpec, found: &mut Findings) {
    let given = spec.rollout.clone().unwrap_or_default();
    span(given.healthy_after, ROLLOUT_MS_MAX, "spec.rollout.healthyAfter", found);
    span(given.deadline, ROLLOUT_MS_MAX, "spec.rollout.deadline", found);
    if let Some(disruption) = &given.disruption {
        check_disruption(disruption, found);
    }
    let unready = crate::defaults::unready_ms(spec);
    let after = given.healthy_after.map_or(crate::defaults::HEALTHY_AFTER_MS, |d| d.ms);
    let deadline = crate::defaults::effective(spec).health_deadline_ms;
    if deadline == 0 || after > ROLLOUT_MS_MAX || after.saturating_add(unready) < deadline {
        return;
    }
    let (after, deadline, unready) =
        (Duration { ms: after }, Duration { ms: deadline }, Duration { ms: unready });
    let probes = match unready.ms {
        0 => String::new(),
        _ => format!("its probes may take {unready} until it is ready, "),
    };
    let path = if given.deadline.is_some() { "deadline" } else { "healthyAfter" };
    found.add(
        field::key("spec.rollout", path),
        format!(
            "no instance could be healthy in time: {probes}healthyAfter is {after}, deadline {deadline}; make deadline the longer one"
        ),
    );
}

fn check_disruption(disruption: &Disruption, found: &mut Findings) {
    if let Some(label) = &disruption.group_by {
        place::key(label, "spec.rollout.disruption.groupBy", found);
    }
    if disruption.max_unavailable == Some(0) {
        found.add(
            "spec.rollout.disruption.maxUnavailable",
            "is 0, with which nothing could ever move: give 1 or more",
        );
    }
}

pub(crate) fn span(duration: Option<Duration>, max_ms: u64, path: &str, found: &mut Findings) {
    match duration {
        Some(Duration { ms: 0 }) => found.add(path, "is 0: give some time, like 1s"),
        Some(given) if given.ms > max_ms => {
            found.add(path, format!("is {given}; at most {}", Duration { ms: max_ms }));
        }
        _ => {}
    }
}
