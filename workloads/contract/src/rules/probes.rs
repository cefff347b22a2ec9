//! Which probes can work: one question each, asked of somebody who can answer, in times and numbers that
//! make sense.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Findings, ROLLOUT_MS_MAX, span, texts};
use crate::defaults;
use crate::field::{self, shown};
use crate::quantity::Duration;
use crate::spec::{HttpGet, NetworkMode, Probe, WorkloadSpec};

/// More often than Kubernetes can ask either; each question costs the board something.
pub const PERIOD_MS_MIN: u64 = 1_000;
/// Rarer than that nobody is helped by the answer.
pub const PERIOD_MS_MAX: u64 = 3_600_000;
pub const THRESHOLD_MAX: u32 = 1_000;
/// What servers take of a request line; many take no more in all headers.
const PATH_BYTES_MAX: usize = 2_048;
const HEADERS_BYTES_MAX: usize = 4_096;

pub(super) fn check(spec: &WorkloadSpec, found: &mut Findings) {
    let offline = defaults::network(spec).mode == NetworkMode::None;
    for (name, probe) in spec.probes() {
        let at = field::key("spec", name);
        question(probe, offline, &at, found);
        times(probe, &at, found);
        thresholds(probe, name, &at, found);
    }
}

fn question(probe: &Probe, offline: bool, at: &str, found: &mut Findings) {
    let given: Vec<&str> =
        [("exec", probe.exec.is_some()), ("httpGet", probe.http_get.is_some()), ("tcp", probe.tcp.is_some())]
            .into_iter()
            .filter_map(|(name, given)| given.then_some(name))
            .collect();
    match given[..] {
        [_] => {}
        [] => found.add(at, "asks nothing: give one of exec, httpGet and tcp"),
        _ => {
            found.add(at, format!("asks {} questions ({}); keep exactly one", given.len(), given.join(", ")))
        }
    }
    if let Some(command) = &probe.exec {
        let path = field::key(at, "exec");
        if command.first().is_none_or(String::is_empty) {
            found.add(&path, "names no program: write exec: [program, argument]");
        }
        texts::arguments(command, &path, found);
    }
    let places = [
        ("httpGet", probe.http_get.as_ref().map(|get| (get.port, &get.host))),
        ("tcp", probe.tcp.as_ref().map(|tcp| (tcp.port, &tcp.host))),
    ];
    for (name, place) in places {
        let Some((port, host)) = place else { continue };
        let at = field::key(at, name);
        if offline {
            let reason = "cannot be asked: the workload has no network; write network: {mode: host} with the ports it listens on, or ask with exec (oci)";
            found.add(&at, reason);
        }
        if port == 0 {
            found.add(field::key(&at, "port"), "is 0: write a port from 1 to 65535");
        }
        if let Some(host) = host.as_deref().filter(|host| host.parse::<IpAddr>().is_err()) {
            let shown = shown(host);
            let reason = format!(
                "'{shown}' is not an address: write one like 127.0.0.1 or ::1, or leave it out; the name that a server is asked for goes into headers: {{Host: name}}"
            );
            found.add(field::key(&at, "host"), reason);
        }
    }
    if let Some(get) = &probe.http_get {
        http(get, &field::key(at, "httpGet"), found);
    }
}

fn http(get: &HttpGet, at: &str, found: &mut Findings) {
    let legal = |path: &str| path.bytes().all(|b| b.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&b));
    if let Some(path) = &get.path {
        let at = field::key(at, "path");
        let shown = shown(path);
        if !path.starts_with('/') {
            found.add(at, format!("'{shown}' does not begin with '/': write /healthz"));
        } else if path.len() > PATH_BYTES_MAX {
            found.add(at, format!("has {} bytes; at most {PATH_BYTES_MAX}", path.len()));
        } else if !legal(path) {
            found.add(at, format!("'{shown}' holds what no URL may hold: write it percent-encoded"));
        }
    }
    headers(&get.headers, &field::key(at, "headers"), found);
}

/// Those that say where a message ends are ours.
const OURS: [&str; 5] = ["connection", "content-length", "te", "transfer-encoding", "upgrade"];

fn headers(headers: &BTreeMap<String, String>, at: &str, found: &mut Findings) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in headers {
        let at = field::key(at, name);
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            found.add(&at, format!("'{}' cannot name a header", shown(name)));
        }
        if !value.bytes().all(|b| b == b'\t' || (b' '..0x7f).contains(&b)) {
            found.add(&at, "holds what no header may hold: write plain ASCII on one line");
        }
        let lower = name.to_ascii_lowercase();
        if OURS.contains(&lower.as_str()) {
            found.add(&at, "is written by the board itself: leave it out");
        }
        if let Some(first) = seen.insert(lower, name) {
            found.add(&at, format!("is the same header as {}; keep one", shown(first)));
        }
    }
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if size > HEADERS_BYTES_MAX {
        found.add(at, format!("have {size} bytes; at most {HEADERS_BYTES_MAX}"));
    }
}

fn times(probe: &Probe, at: &str, found: &mut Findings) {
    let period = probe.period.unwrap_or(Duration { ms: defaults::PROBE_PERIOD_MS });
    let timeout = probe.timeout.unwrap_or(Duration { ms: defaults::PROBE_TIMEOUT_MS });
    let before = found.0.len();
    let path = field::key(at, "period");
    span(probe.period, PERIOD_MS_MAX, &path, found);
    if (1..PERIOD_MS_MIN).contains(&period.ms) {
        found.add(&path, format!("is {period}; at least {}", Duration { ms: PERIOD_MS_MIN }));
    }
    span(probe.timeout, PERIOD_MS_MAX, &field::key(at, "timeout"), found);
    if found.0.len() == before && timeout.ms > period.ms {
        let path = if probe.timeout.is_some() { "timeout" } else { "period" };
        let reason =
            format!("is too much: timeout is {timeout}, period {period}; make period the longer one");
        found.add(
            field::key(at, path),
            reason.replace("is too much", if path == "timeout" { "is too long" } else { "is too short" }),
        );
    }
    if let Some(delay) = probe.initial_delay.filter(|delay| delay.ms > ROLLOUT_MS_MAX) {
        let reason = format!("is {delay}; at most {}", Duration { ms: ROLLOUT_MS_MAX });
        found.add(field::key(at, "initialDelay"), reason);
    }
}

fn thresholds(probe: &Probe, name: &str, at: &str, found: &mut Findings) {
    for (name, given) in
        [("successThreshold", probe.success_threshold), ("failureThreshold", probe.failure_threshold)]
    {
        match given {
            Some(0) => found.add(field::key(at, name), "is 0: write 1 or more"),
            Some(n) if n > THRESHOLD_MAX => {
                found.add(field::key(at, name), format!("is {n}; at most {THRESHOLD_MAX}"));
            }
            _ => {}
        }
    }
    if name != "readinessProbe" && probe.success_threshold.is_some_and(|n| n > 1) {
        found.add(
            field::key(at, "successThreshold"),
            "must be 1: only a readinessProbe may ask for more successes in a row",
        );
    }
    let budget = defaults::probe(probe).map_or(0, |probe| probe.budget_ms());
    if name == "startupProbe" && budget > ROLLOUT_MS_MAX {
        let (budget, max) = (Duration { ms: budget }, Duration { ms: ROLLOUT_MS_MAX });
        found.add(
            field::key(at, "failureThreshold"),
            format!("lets a start take {budget} (initialDelay + period × failureThreshold); at most {max}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Network, Port, TcpProbe};

    fn findings(probe: Probe) -> Vec<String> {
        let ports = vec![Port { name: None, port: 80, host: None }];
        told(&WorkloadSpec { liveness_probe: Some(probe), ports, ..WorkloadSpec::default() })
    }

    fn told(spec: &WorkloadSpec) -> Vec<String> {
        let mut found = Findings::default();
        check(spec, &mut found);
        found
            .0
            .iter()
            .map(|f| format!("{} {}", f.path.trim_start_matches("spec.livenessProbe"), f.reason))
            .collect()
    }

    fn named(probe: Probe, wanted: &[&str]) {
        let found = findings(probe);
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
        for wanted in wanted {
            assert!(found.iter().any(|f| f.starts_with(wanted)), "{wanted}: {found:#?}");
        }
    }

    fn http(get: HttpGet) -> Probe {
        Probe { http_get: Some(get), ..Probe::default() }
    }

    fn tcp() -> Probe {
        Probe { tcp: Some(TcpProbe { port: 80, host: None }), ..Probe::default() }
    }

    fn seconds(n: u64) -> Option<Duration> {
        Some(Duration { ms: n * 1000 })
    }

    #[test]
    fn one_question_each() {
        named(tcp(), &[]);
        named(Probe::default(), &[" asks nothing"]);
        named(Probe { exec: Some(vec!["true".into()]), ..tcp() }, &[" asks 2 questions (exec, tcp)"]);
        named(Probe { exec: Some(vec![]), ..Probe::default() }, &[".exec names no program"]);
        let nul = Probe { exec: Some(vec!["a".into(), "b\0".into()]), ..Probe::default() };
        named(nul, &[".exec[1] holds a NUL"]);
    }

    #[test]
    fn a_place_that_can_answer() {
        let get = HttpGet {
            port: 0,
            host: Some("web.local".into()),
            path: Some("healthz".into()),
            ..HttpGet::default()
        };
        named(
            http(get),
            &[
                ".httpGet.port is 0",
                ".httpGet.host 'web.local' is not an address",
                ".httpGet.path 'healthz' does not begin",
            ],
        );
        let fine = HttpGet {
            port: 80,
            host: Some("::1".into()),
            path: Some("/a/b?c=%20d&e".into()),
            ..HttpGet::default()
        };
        named(http(fine), &[]);
        let spaced = HttpGet { port: 80, path: Some("/a b".into()), ..HttpGet::default() };
        named(http(spaced), &[".httpGet.path '/a b' holds what no URL"]);
        let none = WorkloadSpec { liveness_probe: Some(tcp()), ..WorkloadSpec::default() };
        assert!(
            told(&none)[0].starts_with(".tcp cannot be asked: the workload has no network"),
            "{:?}",
            told(&none)
        );
        let network = Some(Network { listen: vec![80], ..Network::default() });
        assert!(told(&WorkloadSpec { network, ..none }).is_empty());
        let exec = Probe { exec: Some(vec!["true".into()]), ..Probe::default() };
        assert!(told(&WorkloadSpec { liveness_probe: Some(exec), ..WorkloadSpec::default() }).is_empty());
    }

    #[test]
    fn headers_that_can_be_sent() {
        let headers = |list: &[(&str, &str)]| {
            let headers = list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            http(HttpGet { port: 80, headers, ..HttpGet::default() })
        };
        named(headers(&[("Host", "shop.example"), ("X-Probe", "1, 2")]), &[]);
        named(
            headers(&[
                ("a b", "c"),
                ("X", "a\r\nY: b"),
                ("Content-Length", "5"),
                ("host", "a"),
                ("Host", "b"),
            ]),
            &[
                ".httpGet.headers['a b'] 'a b' cannot name a header",
                ".httpGet.headers.X holds what no header",
                ".httpGet.headers.Content-Length is written by the board",
                ".httpGet.headers.host is the same header as Host",
            ],
        );
        named(headers(&[("X", &"a".repeat(5000))]), &[".httpGet.headers have 5005 bytes"]);
    }

    #[test]
    fn times_and_numbers_that_make_sense() {
        named(Probe { timeout: seconds(11), ..tcp() }, &[".timeout is too long: timeout is 11s, period 10s"]);
        named(
            Probe { period: seconds(2), timeout: seconds(3), ..tcp() },
            &[".timeout is too long: timeout is 3s, period 2s"],
        );
        named(Probe { period: seconds(0), timeout: seconds(0), ..tcp() }, &[".period is 0", ".timeout is 0"]);
        named(Probe { period: Some(Duration { ms: 200 }), ..tcp() }, &[".period is 200ms; at least 1s"]);
        named(Probe { period: seconds(4000), ..tcp() }, &[".period is 1h6m40s; at most 1h"]);
        named(Probe { initial_delay: seconds(90_000), ..tcp() }, &[".initialDelay is 1d1h; at most 1d"]);
        let none = Probe { success_threshold: Some(0), failure_threshold: Some(0), ..tcp() };
        named(none, &[".successThreshold is 0", ".failureThreshold is 0"]);
        named(Probe { success_threshold: Some(2), ..tcp() }, &[".successThreshold must be 1"]);
        named(Probe { failure_threshold: Some(2000), ..tcp() }, &[".failureThreshold is 2000; at most 1000"]);
        let ready = Probe { success_threshold: Some(2), ..tcp() };
        let ports = vec![Port { name: None, port: 80, host: None }];
        let spec = WorkloadSpec { readiness_probe: Some(ready), ports, ..WorkloadSpec::default() };
        assert!(told(&spec).is_empty());
        let slow = Probe { period: seconds(3600), failure_threshold: Some(24), ..tcp() };
        let spec = WorkloadSpec { startup_probe: Some(slow), readiness_probe: None, ..spec };
        assert!(told(&spec)[0].contains("lets a start take 1d1s"), "{:?}", told(&spec));
    }
}
