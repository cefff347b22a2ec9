//! Runs one compiled guest as a shim would and reports how it ended.
//!
//! `wasm-run CONFIG.json [REPORT.json]`: the config is a `RunConfig`; the report holds the end, the time
//! from `main` to the guest's first instruction, and the process's memory and threads at its end.

use std::time::Instant;

use skerry_wasm::run::run;
use skerry_wasm::spec::{Ended, RunConfig};

#[derive(serde::Serialize)]
struct Report {
    ended: Ended,
    start_micros: Option<u128>,
    end_micros: u128,
    threads: String,
    rss: String,
    private_dirty: String,
}

fn main() {
    let begin = Instant::now();
    let args: Vec<String> = std::env::args().collect();
    let [_, config, rest @ ..] = args.as_slice() else { panic!("wasm-run CONFIG.json [REPORT.json]") };
    let text = std::fs::read_to_string(config).expect("the config can be read");
    let config: RunConfig = serde_json::from_str(&text).expect("the config is a RunConfig");
    let mut start_micros = None;
    // SAFETY: a development tool: its user made the module with wasm-compile, and leaves it alone.
    let ended = unsafe { run(&config, || start_micros = Some(begin.elapsed().as_micros())) };
    let end_micros = begin.elapsed().as_micros();
    let Some(path) = rest.first() else {
        eprintln!("{ended}");
        return;
    };
    let report = Report {
        ended,
        start_micros,
        end_micros,
        threads: field("/proc/self/status", "Threads:"),
        rss: field("/proc/self/smaps_rollup", "Rss:"),
        private_dirty: field("/proc/self/smaps_rollup", "Private_Dirty:"),
    };
    std::fs::write(path, serde_json::to_vec(&report).expect("it serialises")).expect("the report is written");
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("?").trim().to_string()
}
