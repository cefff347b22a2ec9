//! Does systemd keep the agent, and leave its workloads alone; and which degraded modes are on?

use crate::check::facts::{Agent, Facts, Unit};
use crate::check::finding::{Finding, fail, ok, skipped, warn};

pub fn judge(facts: &Facts) -> Finding {
    const NAME: &str = "systemd-unit";
    let Some(unit) = &facts.unit else { return skipped(NAME, "systemd does not run here") };
    let name = &unit.name;
    if value(unit, "LoadState") != "loaded" {
        let remedy = "install the package, or a unit with Restart=always";
        return warn(NAME, format!("there is no {name}: nothing starts the agent at boot"), remedy);
    }
    if let Some((found, remedy)) = harmful(unit) {
        return fail(NAME, format!("{name}: {found}"), remedy);
    }
    if let Some((found, remedy)) = faint(unit) {
        return warn(NAME, format!("{name} {found}"), remedy);
    }
    ok(NAME, format!("{name} may be restarted without touching workloads"))
}

/// Shapes under which a restart of the agent harms what runs.
fn harmful(unit: &Unit) -> Option<(&'static str, &'static str)> {
    let own = value(unit, "ControlGroup");
    let command = value(unit, "ExecStart");
    let mut words = command.split_whitespace();
    let parent = words.find(|w| *w == "--cgroup").and_then(|_| words.next()).unwrap_or_default();
    if !own.is_empty() && (parent == own || parent.starts_with(&format!("{own}/"))) {
        return Some((
            "workloads lie in the agent's own cgroup and die with it",
            "--cgroup below a unit of their own, such as /system.slice/skerry-workloads.service/agent",
        ));
    }
    if value(unit, "Delegate") == "yes" {
        return Some((
            "Delegate=yes: it cannot be restarted while workloads run (219/CGROUP)",
            "delegate a unit of its own, without processes, and leave the agent's alone",
        ));
    }
    let preserve = value(unit, "RuntimeDirectoryPreserve");
    if !value(unit, "RuntimeDirectory").is_empty() && preserve == "no" {
        return Some((
            "its run directory goes with it: what runs is not found again",
            "RuntimeDirectoryPreserve=yes",
        ));
    }
    let sandbox = ["PrivateMounts", "PrivateTmp", "PrivateDevices", "ProtectHome"];
    let strict = matches!(value(unit, "ProtectSystem"), "yes" | "full" | "strict");
    if strict || sandbox.iter().any(|name| !matches!(value(unit, name), "" | "no")) {
        return Some((
            "its sandbox is a mount namespace: a workload's mounts are lost to the next agent",
            "remove PrivateMounts, PrivateTmp, PrivateDevices, ProtectHome and ProtectSystem",
        ));
    }
    None
}

/// Shapes under which the agent stays away although systemd could start it.
fn faint(unit: &Unit) -> Option<(&'static str, &'static str)> {
    if value(unit, "Restart") == "no" {
        return Some(("is not restarted when it fails", "Restart=always"));
    }
    if value(unit, "StartLimitIntervalUSec") != "0" {
        return Some((
            "is given up after a few failures in a row: nobody starts it again before the next boot",
            "StartLimitIntervalSec=0 in its [Unit] section",
        ));
    }
    if matches!(value(unit, "WatchdogUSec"), "" | "0" | "infinity") {
        return Some((
            "is not missed when it is stuck: work runs on, and nobody heals or changes it",
            "Type=notify and WatchdogSec=60",
        ));
    }
    None
}

fn value<'u>(unit: &'u Unit, name: &str) -> &'u str {
    unit.properties.get(name).map_or("", |value| value.as_str())
}

pub fn degraded(facts: &Facts) -> Finding {
    const NAME: &str = "degraded";
    let mut modes: Vec<String> = Vec::new();
    for controller in &facts.allowed_missing {
        if !facts.controllers.iter().any(|o| o.controller == *controller) {
            modes.push(format!("{} limits are not enforced", controller.name()));
        }
    }
    if facts.allowed_missing_seccomp && !super::kernel::has_filter(&facts.system) {
        modes.push("containers run without a system call filter".to_string());
    }
    if let Agent::Answers { status, store_waits, .. } = &facts.agent {
        modes.extend(store_waits.iter().map(|why| format!("records wait for the disk ({why})")));
        if status.provisional {
            modes.push("no verified document: what was found running stands in for it".to_string());
        }
        for (key, work) in &status.workloads {
            let missing = work.status.unsupported.iter();
            modes.extend(missing.map(|missing| format!("{key} needs {missing}, which this agent lacks")));
        }
    }
    if modes.is_empty() {
        return ok(NAME, "no degraded mode is on");
    }
    warn(
        NAME,
        modes.join("; "),
        "see the other checks; `edge-agent status` tells what each workload waits for",
    )
}
