//! On what was it measured, and how busy was that?

use std::fs;
use std::path::Path;

use e2e::{Value, binary, json};

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The three load averages.
pub fn load() -> String {
    text("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

pub fn describe(load_before: &str) -> Value {
    let info = text("/proc/cpuinfo");
    let model = info
        .lines()
        .find(|l| l.starts_with("model name"))
        .and_then(|l| l.split_once(": "))
        .map_or("unknown", |(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = text("/proc/meminfo");
    let kib: u64 = memory.lines().next().and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
    let cgroup = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    let binaries = binary("hub").parent().map(|p| p.display().to_string()).unwrap_or_default();
    json!({
        "processor": format!("{cores} × {model}"),
        "memory": format!("{:.1} GiB", kib as f64 / 1024.0 / 1024.0),
        "kernel": format!("Linux {}, {}, cgroup {cgroup}", text("/proc/sys/kernel/osrelease").trim(), std::env::consts::ARCH),
        "binaries": binaries,
        "load before": load_before,
        "load after": load(),
    })
}
