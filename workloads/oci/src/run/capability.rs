//! Which capabilities a container's process has.

use std::collections::BTreeSet;

use super::settings::Capabilities;
use super::{RunError, refused};

/// Docker's default since 2014.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// In the kernel's order.
const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// With `CAP_`, sorted.
    pub all: BTreeSet<String>,
    /// Asked for by name: these reach a process that is not root too.
    pub added: BTreeSet<String>,
}

/// `device_filter`: whether the kernel asks which devices a container may open (cgroup v1 here). Without,
/// whoever can make a node can open any disk, so making nodes must be asked for by name.
/// `possible`: what this process has itself; more cannot be given.
pub fn grant(asked: &Capabilities, device_filter: bool, possible: u64) -> Result<Granted, RunError> {
    let drop = expand(&asked.drop, "capabilities.drop", possible)?;
    // `drop: [ALL]` takes the usual ones; what is asked for by name stays, as with Docker.
    let named: Vec<_> = asked.drop.iter().filter(|name| !is_all(name)).cloned().collect();
    let dropped_by_name = expand(&named, "capabilities.drop", possible)?;
    let added: BTreeSet<_> = &expand(&asked.add, "capabilities.add", possible)? - &dropped_by_name;
    let usual = DEFAULT.iter().filter(|c| device_filter || **c != "MKNOD");
    let usual: BTreeSet<String> = usual.filter(|c| has(possible, c)).map(|c| format!("CAP_{c}")).collect();
    let all = &(&usual - &drop) | &added;
    Ok(Granted { all, added })
}

fn is_all(name: &str) -> bool {
    matches!(name.to_ascii_uppercase().as_str(), "ALL" | "CAP_ALL")
}

fn has(possible: u64, name: &str) -> bool {
    ALL.iter().position(|c| c == &name).is_some_and(|bit| possible >> bit & 1 == 1)
}

fn expand(names: &[String], field: &'static str, possible: u64) -> Result<BTreeSet<String>, RunError> {
    let mut found = BTreeSet::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if plain == "ALL" {
            found.extend(ALL.iter().filter(|c| has(possible, c)).map(|c| format!("CAP_{c}")));
        } else if !ALL.contains(&plain) {
            return Err(refused(field, format!("'{name}' is no capability; such as NET_ADMIN, or ALL")));
        } else if field == "capabilities.add" && !has(possible, plain) {
            return Err(refused(
                field,
                format!("{plain} cannot be given, for the agent does not have it itself"),
            ));
        } else {
            found.insert(format!("CAP_{plain}"));
        }
    }
    Ok(found)
}

/// As the kernel numbers them; names with `CAP_`.
pub fn bits(names: &BTreeSet<String>) -> u64 {
    let bit = |name: &String| ALL.iter().position(|c| name.strip_prefix("CAP_") == Some(c));
    names.iter().filter_map(bit).fold(0, |all, bit| all | 1 << bit)
}

/// Of this process, as the kernel numbers them.
pub fn own() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
    line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(add: &[&str], drop: &[&str]) -> Capabilities {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        Capabilities { add: own(add), drop: own(drop) }
    }

    #[test]
    fn what_is_asked_for_is_added_to_the_usual_and_dropping_by_name_wins() {
        let grant = |add: &[&str], drop: &[&str]| grant(&asked(add, drop), true, u64::MAX).unwrap();
        assert_eq!(grant(&[], &[]).all.len(), 14);
        assert_eq!(grant(&["cap_net_admin"], &["chown", "MKNOD"]).all.len(), 13);
        assert_eq!(grant(&["ALL"], &[]).all.len(), 41);
        assert_eq!(grant(&["NET_ADMIN"], &["ALL"]).all, ["CAP_NET_ADMIN".to_string()].into());
        assert_eq!(grant(&["ALL"], &["SYS_ADMIN"]).all.len(), 40);
        assert_eq!(grant(&["NET_ADMIN"], &[]).added.len(), 1);
    }

    #[test]
    fn making_nodes_needs_a_device_filter_or_a_name() {
        let mknod = "CAP_MKNOD".to_string();
        assert!(!grant(&asked(&[], &[]), false, u64::MAX).unwrap().all.contains(&mknod));
        assert!(grant(&asked(&["MKNOD"], &[]), false, u64::MAX).unwrap().all.contains(&mknod));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let error = grant(&asked(&["NET_ADMON"], &[]), true, u64::MAX).unwrap_err().to_string();
        assert!(error.contains("capabilities.add: 'NET_ADMON' is no capability"), "{error}");
        let error = grant(&asked(&["SYS_RESOURCE"], &[]), true, !(1 << 24)).unwrap_err().to_string();
        assert!(error.contains("SYS_RESOURCE cannot be given"), "{error}");
    }
}
