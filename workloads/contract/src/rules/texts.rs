//! Which texts within a spec are legal: labels, arguments, environment, addresses, signals.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::Findings;
use crate::field::{self, shown};
use crate::label;
use crate::spec::{EnvValue, Network, NetworkMode};

pub(super) fn labels(map: &BTreeMap<String, String>, path: &str, found: &mut Findings) {
    for (key, value) in map {
        let at = field::key(path, key);
        if let Err(e) = label::check_key(key) {
            found.add(&at, format!("'{}': {e}", shown(key)));
        }
        if let Err(e) = label::check_value(value) {
            found.add(&at, format!("'{}': {e}", shown(value)));
        }
    }
}

/// Keys like those of labels; values are free.
pub(super) fn annotations(map: &BTreeMap<String, String>, path: &str, found: &mut Findings) {
    for key in map.keys() {
        if let Err(e) = label::check_key(key) {
            found.add(field::key(path, key), format!("'{}': {e}", shown(key)));
        }
    }
}

pub(super) fn arguments(list: &[String], path: &str, found: &mut Findings) {
    for (n, text) in list.iter().enumerate() {
        if text.contains('\0') {
            found.add(field::item(path, n), "holds a NUL character, which no program can be given");
        }
    }
}

pub(super) fn env(env: &BTreeMap<String, EnvValue>, path: &str, found: &mut Findings) {
    for (name, value) in env {
        let at = field::key(path, name);
        if name.is_empty() || name.contains(['=', '\0']) {
            found.add(
                &at,
                format!(
                    "'{}' cannot name a variable: it needs at least one character, none of them '=' or NUL",
                    shown(name)
                ),
            );
        }
        super::data::env(value.of_data(), &at, found);
        let EnvValue::Text(text) = value else { continue };
        if text.contains('\0') {
            found.add(&at, "holds a NUL character, which no program can be given");
        }
        if let Err(e) = crate::env::check_env(text) {
            found.add(&at, e.to_string());
        }
    }
}

pub(super) fn network(network: Option<&Network>, found: &mut Findings) {
    let Some(network) = network else { return };
    let uses = !network.connect.is_empty() || !network.listen.is_empty();
    if uses && network.mode == Some(NetworkMode::None) {
        found.add("spec.network.mode", "is none beside connect or listen; write host, or leave mode out");
    }
    let mut seen = BTreeSet::new();
    for (n, place) in network.connect.iter().enumerate() {
        let at = field::item("spec.network.connect", n);
        if let Err(reason) = host_port(place) {
            found.add(at, reason);
        } else if !seen.insert(place) {
            found.add(at, format!("{} is listed twice; remove one", shown(place)));
        }
    }
    let mut seen = BTreeSet::new();
    for (n, port) in network.listen.iter().enumerate() {
        let at = field::item("spec.network.listen", n);
        if *port == 0 {
            found.add(at, "is 0: write a port from 1 to 65535");
        } else if !seen.insert(port) {
            found.add(at, format!("{port} is listed twice; remove one"));
        }
    }
}

/// `name:port`, `1.2.3.4:port` or `[::1]:port`.
fn host_port(text: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("'{}' {what}", shown(text)));
    if text.contains("://") {
        return wrong("is a URL: write host:port alone, like broker.local:1883");
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| bracketed(host)) else {
        return wrong("is not host:port: write like broker.local:1883, 10.0.0.5:1883 or [fd00::5]:1883");
    };
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    if !digits || port.parse::<u16>().is_err() {
        return wrong("has no legal port: write one from 1 to 65535");
    }
    let v6 = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let legal = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') => host.parse::<Ipv4Addr>().is_ok(),
        None => label::is_dns_name(&host.to_ascii_lowercase()),
    };
    if legal { Ok(()) } else { wrong("has no legal host: a DNS name, an IPv4 address, or [IPv6]") }
}

/// Without brackets an IPv6 address and a port cannot be told apart.
fn bracketed(host: &str) -> bool {
    !host.contains(':') || (host.starts_with('[') && host.ends_with(']'))
}

const SIGNALS: [&str; 30] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "KILL", "PIPE", "PROF", "PWR",
    "QUIT", "SEGV", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM",
    "WINCH", "XCPU", "XFSZ",
];

/// How the signal is called here that others write `SIGQUIT`, `quit` or `3`; none for one that is not known.
pub fn signal_name(text: &str) -> Option<&'static str> {
    const NUMBERS: [(&str, &str); 10] = [
        ("1", "HUP"),
        ("2", "INT"),
        ("3", "QUIT"),
        ("6", "ABRT"),
        ("9", "KILL"),
        ("10", "USR1"),
        ("12", "USR2"),
        ("14", "ALRM"),
        ("15", "TERM"),
        ("28", "WINCH"),
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let name = NUMBERS.iter().find(|(number, _)| *number == name).map_or(name, |(_, name)| name);
    SIGNALS.into_iter().find(|known| *known == name)
}

pub(super) fn signal(text: &str, path: &str, found: &mut Findings) {
    if SIGNALS.contains(&text) {
        return;
    }
    let right = match signal_name(text) {
        Some(name) => format!("write {name}"),
        None => "write a name such as TERM, INT, QUIT, HUP, USR1 or KILL".to_string(),
    };
    found.add(path, format!("'{}' is not a signal's name here: {right}", shown(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_one_name_however_others_write_it() {
        for text in ["QUIT", "SIGQUIT", "sigquit", "3"] {
            assert_eq!(signal_name(text), Some("QUIT"), "{text}");
        }
        for text in ["", "SIG", "SIGRTMIN+3", "99"] {
            assert_eq!(signal_name(text), None, "{text}");
        }
    }
}
