//! What does a process cost? All from /proc, nothing asked of the process itself.

use std::collections::BTreeMap;
use std::fs;

#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub rss: f64,
    pub pss: f64,
    pub dirty: f64,
}

/// KiB, over all mappings.
pub fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .unwrap_or_else(|why| panic!("smaps_rollup of {pid}: {why}"));
    let field = |name: &str| field(&text, name).unwrap_or_else(|| panic!("no {name} in smaps_rollup"));
    Memory { rss: field("Rss:"), pss: field("Pss:"), dirty: field("Private_Dirty:") }
}

fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Thread id → name, voluntary switches so far.
pub fn switches(pid: u32) -> BTreeMap<u32, (String, u64)> {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|why| panic!("tasks of {pid}: {why}"));
    let one = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("status")).ok()?;
        let name = text.lines().next()?.split_once(":\t")?.1.to_string();
        Some((
            entry.file_name().to_str()?.parse().ok()?,
            (name, field(&text, "voluntary_ctxt_switches:")? as u64),
        ))
    };
    tasks.flatten().filter_map(one).collect()
}

/// Bytes that this process caused to be sent to a block device.
pub fn written(pid: u32) -> u64 {
    let text =
        fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_else(|why| panic!("io of {pid}: {why}"));
    field(&text, "write_bytes:").unwrap_or_else(|| panic!("no write_bytes of {pid}")) as u64
}

/// User and system time of all its threads, in ms, to the nanosecond of the scheduler.
pub fn cpu_ms(pid: u32) -> f64 {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|why| panic!("tasks of {pid}: {why}"));
    let ns = tasks.flatten().filter_map(|t| {
        fs::read_to_string(t.path().join("schedstat")).ok()?.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e6
}
