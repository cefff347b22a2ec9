//! What goes into a bundle, and what of it stays out.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{PART_BYTES_MAX, Part};
use crate::check::{BoardArgs, output_within};
use crate::instance::Places;
use crate::logs::{Query, read};

/// Of each run's log, and of the agent's own.
const LINES: usize = 500;
/// A foreign program's time.
const PATIENCE: Duration = Duration::from_secs(3);
/// Facts of kernel, board, cgroups and mounts. Nothing in them is ours.
const KERNEL: [&str; 14] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/mounts",
    "/proc/cgroups",
    "/proc/filesystems",
    "/proc/swaps",
    "/proc/pressure/memory",
    "/proc/device-tree/model",
    "/sys/fs/cgroup/cgroup.controllers",
    "/etc/os-release",
];

pub fn all(args: &BoardArgs, with_logs: bool) -> Vec<Part> {
    let (facts, report) = crate::check::look(args);
    let places = Places::new(&args.run.run_dir, &args.state.state_dir);
    let version = format!("edge-agent {}\nengine {}\n", env!("CARGO_PKG_VERSION"), wasm::native_engine());
    let mut parts = vec![
        part("check.json", pretty(&report), "what `edge-agent check` says"),
        part("facts.json", pretty(&facts), "what it rests on"),
        part("version", version.into_bytes(), "of this program"),
    ];
    let status = crate::status::ask(&args.run.run_dir);
    let status = status.unwrap_or_else(|why| format!("{why:#}\n"));
    parts.push(part("status.json", redacted(status.as_bytes()), "what the agent says of itself"));
    parts.extend(programs());
    let kernel =
        KERNEL.iter().filter_map(|file| Some(part(&file[1..], tail(Path::new(file))?, "kernel, board")));
    parts.extend(kernel);
    parts.extend(runs(&places));
    parts.push(part("images", images(&places).into_bytes(), "pieces of container images on the disk"));
    if with_logs {
        parts.extend(logs(&places));
    }
    parts
}

fn part(name: &str, bytes: Vec<u8>, about: &'static str) -> Part {
    Part { name: name.to_string(), bytes, about }
}

fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_else(|why| why.to_string().into_bytes())
}

/// The end of a file; nothing when it is not there.
fn tail(path: &Path) -> Option<Vec<u8>> {
    let mut file = fs::File::open(path).ok()?;
    let from = file.metadata().ok()?.len().saturating_sub(PART_BYTES_MAX as u64);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(PART_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn programs() -> Vec<Part> {
    let lines = LINES.to_string();
    let wanted: [(&str, &str, &[&str]); 3] = [
        ("agent.log", "journalctl", &["-u", "edge-agent.service", "-n", &lines, "--no-pager"]),
        ("dmesg", "dmesg", &[]),
        ("unit", "systemctl", &["cat", "--no-pager", "edge-agent.service"]),
    ];
    let said = wanted.into_iter().filter_map(|(name, program, args)| {
        let mut command = Command::new(program);
        command.args(args);
        let text = output_within(command, PATIENCE, PART_BYTES_MAX as u64)?;
        // Their values may be passwords.
        let text = without_variables(&text);
        (!text.is_empty()).then(|| part(name, text.into_bytes(), "what that program prints"))
    });
    said.collect()
}

fn without_variables(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.trim_start().starts_with("Environment="));
    kept.map(|line| format!("{line}\n")).collect()
}

/// The records of each run: how it was started, by whom it is owned, how it ended.
fn runs(places: &Places) -> Vec<Part> {
    let mut parts = Vec::new();
    for (instance, run) in places.runs().unwrap_or_default() {
        let dir = places.run(&instance, run);
        for file in ["spec.json", "shim.json", "exit.json"] {
            let Some(bytes) = tail(&dir.path().join(file)) else { continue };
            let name = format!("runs/{}/{run}/{file}", instance.file_name());
            parts.push(part(&name, redacted(&bytes), "a run's record, without its variables"));
        }
        if let Some(bytes) = tail(&dir.shim_log()).filter(|bytes| !bytes.is_empty()) {
            let name = format!("runs/{}/{run}/shim.log", instance.file_name());
            parts.push(part(&name, bytes, "what its shim had to say"));
        }
    }
    parts
}

/// What is here of images, complete or not, and how much has been written besides.
fn images(places: &Places) -> String {
    let kinds = ["ready", "blobs/sha256", "partial", "layers/diff", "layers/chain", "layers/work"];
    let dirs = kinds.map(|kind| places.state_dir.join("images").join(kind));
    let mut list = String::new();
    for dir in dirs.into_iter().chain([places.writable()]) {
        list += &format!("{}\n", dir.display());
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let size = entry.metadata().map_or(0, |meta| meta.len());
            list += &format!("  {:>12} {}\n", size, entry.file_name().to_string_lossy());
        }
    }
    list
}

fn logs(places: &Places) -> Vec<Part> {
    let query = Query { tail: Some(LINES), ..Query::default() };
    let runs = places.runs().unwrap_or_default().into_iter();
    let said = runs.filter_map(|(instance, run)| {
        let records = read(&places.logs(&instance), run, &query).ok()?;
        let text: String = records.iter().map(|record| format!("{}\n", record.text)).collect();
        Some(part(&format!("logs/{}/{run}", instance.file_name()), text.into_bytes(), "what a workload said"))
    });
    said.collect()
}

/// Variables and arguments are where people put passwords: their names stay, their values go.
fn redacted(text: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else {
        return b"not JSON, left out\n".to_vec();
    };
    hide(&mut value);
    pretty(&value)
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "env" | "args" | "command" => veil(value),
                    _ => hide(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

fn veil(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(veil),
        Value::Array(items) => items.iter_mut().for_each(veil),
        other => *other = Value::String("…".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_arguments_lose_their_values() {
        let text =
            br#"{"run":{"env":{"PASSWORD":"hunter2"},"args":["--token","hunter2"],"limits":{"pids":4}}}"#;
        let shown = String::from_utf8(redacted(text)).unwrap();
        assert!(shown.contains("PASSWORD") && shown.contains("\"pids\": 4"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!String::from_utf8(redacted(b"hunter2")).unwrap().contains("hunter2"));
    }
}
