//! Compiles one guest for one target: `wasm-compile IN.wasm OUT.cwasm [TARGET]`.
//!
//! `MEMORY_BYTES` and `CPU_SECS` in the environment limit it as the hub's worker would be.

use std::process::ExitCode;
use std::time::Instant;

use skerry_wasm::compile::{compile, inspect, limits};
use skerry_wasm::target::{Target, native_target};

fn main() -> ExitCode {
    match work() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<String, String> {
    let args: Vec<String> = std::env::args().collect();
    let [_, input, output, rest @ ..] = args.as_slice() else {
        return Err("wasm-compile IN.wasm OUT.cwasm [TARGET]".into());
    };
    let target =
        rest.first().map_or(Ok(native_target()), |t| t.parse::<Target>()).map_err(|e| e.to_string())?;
    limits::apply(
        number("MEMORY_BYTES", limits::MEMORY_BYTES_DEFAULT)?,
        number("CPU_SECS", limits::CPU_SECS_DEFAULT)?,
    )
    .map_err(|e| e.to_string())?;
    let bytes = std::fs::read(input).map_err(|e| format!("{input}: {e}"))?;
    let inspected = inspect(&bytes).map_err(|e| format!("{input}: {e}"))?;
    let begin = Instant::now();
    let code = compile(&bytes, target).map_err(|e| format!("{input}: {e}"))?;
    let took = begin.elapsed();
    std::fs::write(output, &code).map_err(|e| format!("{output}: {e}"))?;
    Ok(format!(
        "{} {:?} {} -> {} bytes, {} imports, {} ms, peak {}",
        target.engine_id(),
        inspected.kind,
        bytes.len(),
        code.len(),
        inspected.imports.len(),
        took.as_millis(),
        peak(),
    ))
}

fn number(name: &str, default: u64) -> Result<u64, String> {
    std::env::var(name).map_or(Ok(default), |v| v.parse().map_err(|_| format!("{name}={v} is not a number")))
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".into(), |l| l.trim().to_string())
}
