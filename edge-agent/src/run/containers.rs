//! Can this board run containers, and in which degraded mode?

use std::fs;

use oci::run::{Seccomp, seccomp};

use crate::check::facts::System;
use crate::instance::Places;

/// What an agent that can run containers reports.
pub const FEATURES: [&str; 2] = ["oci", "devices"];
/// Without one of these a container would share with the board what it must not.
pub const NAMESPACES: [&str; 6] = ["mnt", "pid", "ipc", "uts", "net", "cgroup"];

/// What is missing, by name; nothing when they can be run.
pub fn lacks(allow_missing_seccomp: bool) -> Vec<String> {
    lacks_of(&crate::check::system(), seccomp::AVAILABLE, allow_missing_seccomp)
}

fn lacks_of(system: &System, has_filter: bool, allow_missing_seccomp: bool) -> Vec<String> {
    let mut lacks = Vec::new();
    if !system.has_overlay {
        lacks.push("the kernel has no overlayfs".to_string());
    }
    let missing = NAMESPACES.iter().filter(|kind| !system.namespaces.iter().any(|has| has == *kind));
    lacks.extend(missing.map(|kind| format!("the kernel has no {kind} namespaces")));
    let is_filtered = system.has_seccomp && has_filter;
    if !is_filtered && !allow_missing_seccomp {
        lacks.push("there is no system call filter; --allow-missing-seccomp runs them without".to_string());
    }
    lacks
}

pub fn seccomp(allow_missing: bool) -> Seccomp {
    let has_filter = seccomp::AVAILABLE && crate::check::system().has_seccomp;
    if allow_missing && !has_filter { Seccomp::Off } else { Seccomp::Default }
}

/// A shim that died between making a writable layer and mounting it leaves a file that nobody will use.
/// One that is mounted has no name.
pub fn forget_writable(places: &Places) {
    for entry in fs::read_dir(places.writable()).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> System {
        let namespaces = NAMESPACES.map(String::from).to_vec();
        System { has_overlay: true, has_seccomp: true, namespaces, ..System::default() }
    }

    #[test]
    fn what_is_missing_is_named_and_a_filter_may_be_missing_by_name() {
        assert_eq!(lacks_of(&good(), true, false), Vec::<String>::new());
        let bare = System { has_overlay: false, namespaces: vec!["mnt".into()], ..good() };
        let told = lacks_of(&bare, true, false).join("; ");
        assert!(told.contains("overlayfs") && told.contains("pid namespaces"), "{told}");
        assert!(lacks_of(&good(), false, false)[0].contains("--allow-missing-seccomp"));
        assert!(lacks_of(&good(), false, true).is_empty());
    }
}
