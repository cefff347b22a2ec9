//! Can this kernel bound and isolate workloads, and if not, which flag or option does it lack?

use crate::cgroup::Controller;
use crate::check::facts::{Facts, System};
use crate::check::finding::{Finding, fail, ok, warn};

/// pidfd_open (5.3) and waiting on a pidfd (5.4): how ends are seen.
const KERNEL_MIN: (u32, u32) = (5, 4);
/// The oldest that is still maintained; what is older is not tested.
const KERNEL_GOOD: (u32, u32) = (5, 10);

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let system = &facts.system;
    let mut all = vec![version(system), root(system)];
    all.extend(Controller::ALL.into_iter().map(|c| controller(facts, c)));
    all.extend([overlayfs(facts), seccomp(facts), namespaces(facts), loop_devices(system)]);
    all
}

fn version(system: &System) -> Finding {
    let mut parts = system.release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        return warn("kernel", format!("'{}' is no version that is known", system.release), newer());
    };
    let found = format!("Linux {} on {}", system.release, system.arch);
    match (major, minor) {
        version if version < KERNEL_MIN => fail("kernel", found, newer()),
        version if version < KERNEL_GOOD => warn("kernel", found, newer()),
        _ => ok("kernel", found),
    }
}

fn newer() -> String {
    let ((major, minor), good) = (KERNEL_MIN, KERNEL_GOOD);
    format!("at least {major}.{minor} is needed, {}.{} or newer is tested", good.0, good.1)
}

fn root(system: &System) -> Finding {
    if system.is_root {
        return ok("root", "runs as root");
    }
    fail("root", "does not run as root", "run as root: cgroups and mounts need it (sudo edge-agent check)")
}

fn controller(facts: &Facts, controller: Controller) -> Finding {
    let name = match controller {
        Controller::Memory => "cgroup-memory",
        Controller::Cpu => "cgroup-cpu",
        Controller::Pids => "cgroup-pids",
    };
    if let Some(offered) = facts.controllers.iter().find(|o| o.controller == controller) {
        return ok(name, format!("{:?} at {}", offered.version, offered.path.display()).to_lowercase());
    }
    let off = format!("cgroup_disable={}", controller.name());
    let mut found = format!("this kernel offers no {} controller", controller.name());
    if facts.system.cmdline.split_whitespace().any(|word| word == off) {
        found += &format!(" (its command line says {off})");
    }
    if let Some(model) = facts.system.model.as_deref().filter(|m| m.contains("Raspberry Pi")) {
        found += &format!("; {model} boots without it unless told");
    }
    let remedy = controller.remedy();
    if facts.allowed_missing.contains(&controller) {
        return warn(name, found + "; allowed: its limits are not enforced", remedy);
    }
    fail(name, found, format!("{remedy}; or run with --allow-missing-cgroup {}", controller.name()))
}

/// What only containers need. Without it the agent does not report `oci`, and the hub places none here; one that
/// has been placed all the same waits.
fn for_containers(facts: &Facts, name: &'static str, lack: String, remedy: impl Into<String>) -> Finding {
    if facts.has_containers() {
        return fail(name, lack + ": containers that are placed here are not run", remedy);
    }
    warn(name, lack + ": the agent reports no `oci`, containers are not run; WASM is", remedy)
}

fn overlayfs(facts: &Facts) -> Finding {
    if facts.system.has_overlay {
        return ok("overlayfs", "the kernel has it");
    }
    for_containers(
        facts,
        "overlayfs",
        "neither in the kernel nor as a module".to_string(),
        "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS",
    )
}

fn seccomp(facts: &Facts) -> Finding {
    let system = &facts.system;
    let (found, remedy) = if !system.has_seccomp {
        ("the kernel has no seccomp filters".to_string(), "a kernel with CONFIG_SECCOMP_FILTER")
    } else if !has_filter(system) {
        (format!("filters cannot be built for {}", system.arch), "a 64-bit system has them; WASM needs none")
    } else {
        return ok("seccomp", "filters can be loaded");
    };
    if facts.allowed_missing_seccomp {
        return warn("seccomp", found + "; allowed: containers run without", remedy);
    }
    let remedy = format!("{remedy}; or run with --allow-missing-seccomp");
    for_containers(facts, "seccomp", found, remedy)
}

/// As `oci::run::seccomp` has them, for boards that are not at hand too.
pub fn has_filter(system: &System) -> bool {
    system.has_seccomp && matches!(system.arch.as_str(), "x86_64" | "aarch64")
}

fn namespaces(facts: &Facts) -> Finding {
    let system = &facts.system;
    let wanted = crate::run::containers::NAMESPACES;
    let missing: Vec<_> = wanted.into_iter().filter(|w| !system.namespaces.iter().any(|n| n == w)).collect();
    if missing.is_empty() {
        return ok("namespaces", wanted.join(", "));
    }
    let options = missing.iter().map(|n| match *n {
        "mnt" => "CONFIG_NAMESPACES".to_string(),
        "cgroup" => "CONFIG_CGROUPS".to_string(),
        n => format!("CONFIG_{}_NS", n.to_uppercase()),
    });
    let options = options.collect::<Vec<_>>().join(", ");
    for_containers(
        facts,
        "namespaces",
        format!("the kernel lacks {}", missing.join(", ")),
        format!("a kernel with {options}"),
    )
}

fn loop_devices(system: &System) -> Finding {
    if system.has_loop {
        return ok("loop-devices", "/dev/loop-control is there");
    }
    warn(
        "loop-devices",
        "no /dev/loop-control: workloads with a volume cannot start, containers write to memory",
        "modprobe loop, or a kernel with CONFIG_BLK_DEV_LOOP",
    )
}
