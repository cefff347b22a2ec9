//! Which of the fields make sense that are about containers: ports, devices, users, capabilities; and
//! which fields are only for the one runtime or the other ([`fits`]).

use std::collections::BTreeMap;

use super::mounts::check_path;
use super::{Finding, Findings};
use crate::field::{self, shown};
use crate::label;
use crate::spec::{
    Capabilities, DeviceMount, Network, NetworkMode, Port, Probe, Runtime, Security, WorkloadSpec,
};

pub(super) fn check(spec: &WorkloadSpec, found: &mut Findings) {
    if let Some(Err(reason)) = spec.workdir.as_deref().map(check_path) {
        found.add("spec.workdir", reason);
    }
    if let Some(name) = spec.hostname.as_deref().filter(|name| name.len() > 63 || !label::is_dns_name(name)) {
        let shown = shown(name);
        found
            .add("spec.hostname", format!("'{shown}' is not a host name: up to 63 of a-z, 0-9, '-' and '.'"));
    }
    let mode = spec.network.as_ref().and_then(|network| network.mode);
    ports(&spec.ports, mode, found);
    devices(&spec.devices, found);
    if let Some(security) = &spec.security {
        check_security(security, found);
    }
}

/// What the runtime cannot honour. Nothing that was asked for is silently left out.
pub fn fits(spec: &WorkloadSpec, runtime: Runtime) -> Vec<Finding> {
    let mut found = Findings::default();
    let network = spec.network.as_ref();
    match runtime {
        Runtime::Wasm => {
            let fields = [
                ("command", !spec.command.is_empty()),
                ("workdir", spec.workdir.is_some()),
                ("hostname", spec.hostname.is_some()),
                ("devices", !spec.devices.is_empty()),
                ("security", spec.security.is_some()),
            ];
            for (name, _) in fields.iter().filter(|(_, used)| *used) {
                let reason = "is for containers (oci), and this is WebAssembly: leave it out";
                found.add(field::key("spec", name), reason);
            }
            for (name, probe) in spec.probes() {
                wasm_probe(probe, &field::key("spec", name), network, &mut found);
            }
            if !spec.ports.is_empty() {
                let reason =
                    "is for containers (oci), and this is WebAssembly: write network: {listen: [8080]}";
                found.add("spec.ports", reason);
            }
        }
        Runtime::Oci => {
            let fields = [
                ("connect", network.is_some_and(|n| !n.connect.is_empty())),
                ("listen", network.is_some_and(|n| !n.listen.is_empty())),
            ];
            for (name, _) in fields.iter().filter(|(_, used)| *used) {
                let reason = "binds WebAssembly only, and this is a container: it may use all of the board's network or none; leave it out";
                found.add(field::key("spec.network", name), reason);
            }
        }
    }
    super::data::fits(spec, runtime, &mut found);
    found.0
}

/// There is no second program in a WebAssembly workload, and it listens where it may and nowhere else.
fn wasm_probe(probe: &Probe, at: &str, network: Option<&Network>, found: &mut Findings) {
    if probe.exec.is_some() {
        let reason = "is for containers (oci), and this is WebAssembly: ask with httpGet or tcp on a port that it listens on";
        found.add(field::key(at, "exec"), reason);
    }
    let Some(network) = network else { return };
    let ports = [
        ("httpGet", probe.http_get.as_ref().map(|get| get.port)),
        ("tcp", probe.tcp.as_ref().map(|tcp| tcp.port)),
    ];
    for (name, port) in ports {
        let Some(port) = port.filter(|port| *port > 0 && !network.listen.contains(port)) else { continue };
        let reason = format!("is {port}, where this workload may not listen: add it to network.listen");
        found.add(field::key(&field::key(at, name), "port"), reason);
    }
}

fn ports(ports: &[Port], mode: Option<NetworkMode>, found: &mut Findings) {
    if !ports.is_empty() && mode == Some(NetworkMode::None) {
        found.add("spec.network.mode", "is none beside ports; write host, or leave mode out");
    }
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    for (n, given) in ports.iter().enumerate() {
        let at = field::item("spec.ports", n);
        for (name, port) in [("port", Some(given.port)), ("host", given.host)] {
            if port == Some(0) {
                found.add(field::key(&at, name), "is 0: write a port from 1 to 65535");
            }
        }
        if let Some(Err(e)) = given.name.as_deref().map(label::check_value) {
            found.add(field::key(&at, "name"), e.to_string());
        }
        let host = given.host.unwrap_or(given.port);
        if let Some(first) = seen.insert(host, n) {
            found.add(at, format!("reserves {host}, as spec.ports[{first}] does; remove one"));
        }
    }
}

fn devices(devices: &[DeviceMount], found: &mut Findings) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (n, device) in devices.iter().enumerate() {
        let at = field::item("spec.devices", n);
        for (name, path) in [("path", Some(&device.path)), ("as", device.inside.as_ref())] {
            if let Some(Err(reason)) = path.map(|path| check_path(path)) {
                found.add(field::key(&at, name), reason);
            }
        }
        let inside = device.inside.as_deref().unwrap_or(&device.path);
        if let Some(first) = seen.insert(inside, n) {
            found.add(&at, format!("has the same path inside as spec.devices[{first}]; write another 'as'"));
        }
        if let Some(access) = device.access.as_deref().filter(|access| !is_access(access)) {
            let shown = shown(access);
            found.add(field::key(&at, "access"), format!("'{shown}' is not r, w or rw, with m for mknod"));
        }
    }
}

fn is_access(text: &str) -> bool {
    let each_once = |letter: char| text.matches(letter).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && each_once(c))
}

fn check_security(security: &Security, found: &mut Findings) {
    if let Some(user) = security.user.as_deref().filter(|user| !is_user(user)) {
        let shown = shown(user);
        found.add(
            "spec.security.user",
            format!("'{shown}' is not user or user:group, such as 101, \"101:101\" or www-data"),
        );
    }
    if let Some(capabilities) = &security.capabilities {
        check_capabilities(capabilities, found);
    }
}

fn is_user(text: &str) -> bool {
    // The kernel's own -1 means "unchanged" and is nobody's number.
    let number = |part: &str| part.parse::<u32>().is_ok_and(|n| n < u32::MAX);
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let name = |part: &str| {
        part.len() <= 32
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-$".contains(&b))
    };
    let part = |part: &str| !part.is_empty() && if digits(part) { number(part) } else { name(part) };
    match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(text),
    }
}

/// Linux 5.9 and later have these.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

fn check_capabilities(given: &Capabilities, found: &mut Findings) {
    for (list, names) in [("add", &given.add), ("drop", &given.drop)] {
        let path = field::key("spec.security.capabilities", list);
        for (n, name) in names.iter().enumerate() {
            let at = field::item(&path, n);
            if let Err(reason) = check_capability(name, list == "drop") {
                found.add(at, reason);
            } else if names[..n].contains(name) {
                found.add(at, format!("{name} is listed twice; remove one"));
            } else if list == "drop" && given.add.contains(name) {
                found.add(at, format!("{name} is added as well; remove one"));
            }
        }
    }
}

fn check_capability(name: &str, drop: bool) -> Result<(), String> {
    if CAPABILITIES.contains(&name) || (drop && name == "ALL") {
        return Ok(());
    }
    if name == "ALL" {
        return Err("ALL would be everything the kernel guards: name those that are needed".to_string());
    }
    let upper = name.to_ascii_uppercase();
    let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Err(match CAPABILITIES.contains(&plain) {
        true => format!("'{}' is not how a capability is written here: write {plain}", shown(name)),
        false => format!("'{}' is not a capability: write a name such as NET_ADMIN", shown(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{HttpGet, TcpProbe};

    fn findings(spec: &WorkloadSpec) -> Vec<String> {
        let mut found = Findings::default();
        check(spec, &mut found);
        found.0.iter().map(|f| format!("{} {}", f.path, f.reason)).collect()
    }

    fn port(port: u16, host: Option<u16>) -> Port {
        Port { name: None, port, host }
    }

    fn named(spec: WorkloadSpec, wanted: &[&str]) {
        let found = findings(&spec);
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{wanted}: {found}");
        }
    }

    #[test]
    fn ports_are_those_of_the_board() {
        let fine = vec![port(80, None), port(81, Some(81))];
        named(WorkloadSpec { ports: fine.clone(), ..WorkloadSpec::default() }, &[]);
        let none = Some(Network { mode: Some(NetworkMode::None), ..Network::default() });
        named(
            WorkloadSpec { ports: fine, network: none, ..WorkloadSpec::default() },
            &["spec.network.mode is none beside ports"],
        );
        let wrong = vec![port(8, Some(8)), port(0, None), port(9, None), port(9, None)];
        named(
            WorkloadSpec { ports: wrong, ..WorkloadSpec::default() },
            &["spec.ports[1].port is 0", "spec.ports[3] reserves 9, as spec.ports[2] does"],
        );
    }

    #[test]
    fn devices_users_and_names() {
        let device = |path: &str, inside: Option<&str>, access: Option<&str>| DeviceMount {
            path: path.into(),
            inside: inside.map(String::from),
            access: access.map(String::from),
        };
        let devices = vec![
            device("/dev/serial/by-id/plc0", Some("/dev/plc"), Some("rwm")),
            device("dev/x", None, Some("rr")),
            device("/dev/y", Some("/dev/plc"), None),
        ];
        named(
            WorkloadSpec { devices, ..WorkloadSpec::default() },
            &[
                "spec.devices[1].path 'dev/x' is not absolute",
                "spec.devices[1].access 'rr' is not r, w or rw",
                "spec.devices[2] has the same path inside as spec.devices[0]",
            ],
        );
        for user in ["0", "101:101", "www-data", "app:0", "4294967294"] {
            assert!(is_user(user), "{user}");
        }
        for user in ["", ":", "a:", ":1", "1:2:3", "a b", "4294967295", "-x"] {
            assert!(!is_user(user), "{user}");
        }
        let (workdir, hostname) = (Some("srv".into()), Some("Board_1".into()));
        named(
            WorkloadSpec { workdir, hostname, ..WorkloadSpec::default() },
            &["spec.workdir 'srv' is not absolute", "spec.hostname 'Board_1' is not a host name"],
        );
    }

    #[test]
    fn capabilities_have_one_spelling() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let spec = |add: &[&str], drop: &[&str]| {
            let capabilities = Some(Capabilities { add: list(add), drop: list(drop) });
            let security = Some(Security { capabilities, ..Security::default() });
            WorkloadSpec { security, ..WorkloadSpec::default() }
        };
        named(spec(&["NET_ADMIN"], &["ALL"]), &[]);
        named(
            spec(&["CAP_NET_ADMIN", "ALL", "FLY"], &["chown"]),
            &[
                "spec.security.capabilities.add[0] 'CAP_NET_ADMIN' is not how a capability is written here: write NET_ADMIN",
                "spec.security.capabilities.add[1] ALL would be",
                "spec.security.capabilities.add[2] 'FLY' is not a capability",
                "spec.security.capabilities.drop[0] 'chown' is not how a capability is written here: write CHOWN",
            ],
        );
        named(spec(&["SYS_TIME"], &["SYS_TIME"]), &["spec.security.capabilities.drop[0] SYS_TIME is added"]);
    }

    #[test]
    fn each_runtime_refuses_the_others_fields_by_name() {
        let network = Some(Network { connect: vec!["a:1".into()], listen: vec![80], ..Network::default() });
        let spec = WorkloadSpec {
            command: vec!["sh".into()],
            workdir: Some("/srv".into()),
            hostname: Some("x".into()),
            ports: vec![port(80, None)],
            security: Some(Security::default()),
            devices: vec![DeviceMount { path: "/dev/x".into(), inside: None, access: None }],
            network,
            liveness_probe: Some(Probe { exec: Some(vec!["true".into()]), ..Probe::default() }),
            readiness_probe: Some(Probe {
                http_get: Some(HttpGet { port: 81, ..HttpGet::default() }),
                ..Probe::default()
            }),
            startup_probe: Some(Probe { tcp: Some(TcpProbe { port: 80, host: None }), ..Probe::default() }),
            ..WorkloadSpec::default()
        };
        let paths = |runtime| fits(&spec, runtime).into_iter().map(|f| f.path).collect::<Vec<_>>();
        let wasm = [
            "command",
            "workdir",
            "hostname",
            "devices",
            "security",
            "livenessProbe.exec",
            "readinessProbe.httpGet.port",
            "ports",
        ];
        assert_eq!(paths(Runtime::Wasm), wasm.map(|name| format!("spec.{name}")));
        assert_eq!(paths(Runtime::Oci), ["spec.network.connect", "spec.network.listen"]);
        assert!(fits(&WorkloadSpec::default(), Runtime::Oci).is_empty());
    }
}
