//! What a module costs that was made to hurt its compiler, and that the worker's limits hold.
//!
//! `cargo test … --features compile,tools --test hostile -- --ignored --nocapture` prints the figures
//! behind the defaults in `src/compile/limits.rs`.
#![cfg(all(feature = "compile", feature = "tools"))]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::Instant;

use skerry_wasm::compile::limits;

const ABRT: i32 = 6;
const XCPU: i32 = 24;

/// A module with these function bodies, each without parameters and results; the first is `_start`.
fn module(bodies: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let count = bodies.len() as u32;
    let mut out = b"\0asm\x01\0\0\0".to_vec();
    section(&mut out, 1, &[1, 0x60, 0, 0]);
    let mut functions = leb(count);
    functions.extend(std::iter::repeat_n(0u8, count as usize));
    section(&mut out, 3, &functions);
    section(&mut out, 7, b"\x01\x06_start\x00\x00");
    let mut code = leb(count);
    for body in bodies {
        code.extend(leb(body.len() as u32));
        code.extend(body);
    }
    section(&mut out, 10, &code);
    out
}

fn section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    out.extend(leb(content.len() as u32));
    out.extend(content);
}

fn leb(mut n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        out.push(if n > 0 { low | 0x80 } else { low });
        if n == 0 {
            return out;
        }
    }
}

/// `locals` counters, each changed in each of `rounds` rounds of a loop: all alive everywhere.
fn tangled(locals: u32, rounds: u32) -> Vec<u8> {
    let mut body = vec![1];
    body.extend(leb(locals));
    body.extend([0x7e, 0x03, 0x40]); // i64, loop
    for round in 0..rounds {
        for local in 0..locals {
            let other = (local.wrapping_mul(7) + round * 13 + 1) % locals;
            body.push(0x20);
            body.extend(leb(local));
            body.push(0x20);
            body.extend(leb(other));
            body.extend([0x7c, 0x21]); // i64.add, local.set
            body.extend(leb(local));
        }
        body.push(0x20);
        body.extend(leb(round % locals));
        body.extend([0x50, 0x0d, 0]); // i64.eqz, br_if: another edge for all of them
    }
    body.extend([0x0b, 0x0b]);
    body
}

/// Straight on, `bytes` long: `i32.const 1, drop`, again and again.
fn straight(bytes: usize) -> Vec<u8> {
    let mut body = vec![0];
    body.extend([0x41, 1, 0x1a].repeat(bytes / 3));
    body.push(0x0b);
    body
}

/// Jump tables of the greatest size, `tables` of them.
fn tables(tables: usize) -> Vec<u8> {
    const TARGETS: u32 = 60_000;
    let mut body = vec![1, 1, 0x7f];
    for _ in 0..tables {
        body.extend([0x02, 0x40, 0x20, 0, 0x0e]); // block, local.get 0, br_table
        body.extend(leb(TARGETS));
        body.extend(std::iter::repeat_n(0u8, TARGETS as usize + 1));
        body.push(0x0b);
    }
    body.push(0x0b);
    body
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("one straight function of 7 MB", module([straight(7_000_000)].into_iter())),
        ("60 MB of straight functions", module((0..60).map(|_| straight(1_000_000)))),
        ("50,000 tiny functions", module((0..50_000).map(|_| vec![0, 0x0b]))),
        ("900,000 tiny functions", module((0..900_000).map(|_| vec![0, 0x0b]))),
        ("100 jump tables of 60,000", module([tables(100)].into_iter())),
        ("40,000 locals x 10 rounds", module([tangled(40_000, 10)].into_iter())),
        ("400 locals x 100 rounds", module([tangled(400, 100)].into_iter())),
        ("400 locals x 1,000 rounds", module([tangled(400, 1000)].into_iter())),
    ]
}

fn worker(wasm: &[u8], target: &str, memory_bytes: u64, cpu_secs: u64) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.wasm");
    std::fs::write(&input, wasm).unwrap();
    Command::new(env!("CARGO_BIN_EXE_wasm-compile"))
        .args([input, dir.path().join("out.cwasm")])
        .arg(target)
        .env("MEMORY_BYTES", memory_bytes.to_string())
        .env("CPU_SECS", cpu_secs.to_string())
        .output()
        .unwrap()
}

#[test]
fn too_much_memory_ends_the_worker_and_says_so() {
    let ended =
        worker(&module((0..300_000).map(|_| vec![0, 0x0b])), "x86_64-unknown-linux-musl", 64 << 20, 60);
    assert_eq!(ended.status.signal(), Some(ABRT), "{ended:?}");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("memory allocation of"), "{text}");
}

#[test]
fn too_much_time_ends_the_worker() {
    let ended = worker(&module([tangled(400, 1000)].into_iter()), "x86_64-unknown-linux-musl", 4 << 30, 1);
    assert_eq!(ended.status.signal(), Some(XCPU), "{ended:?}");
}

#[test]
#[ignore = "prints figures; takes minutes"]
fn figures() {
    for (name, wasm) in cases() {
        let begin = Instant::now();
        let (memory, cpu) = (limits::MEMORY_BYTES_DEFAULT, limits::CPU_SECS_DEFAULT);
        let ended = worker(&wasm, "x86_64-unknown-linux-musl", memory, cpu);
        println!(
            "{name} ({} KB): {:.1} s, {} {}{}",
            wasm.len() / 1000,
            begin.elapsed().as_secs_f64(),
            ended.status,
            String::from_utf8_lossy(&ended.stdout).trim(),
            String::from_utf8_lossy(&ended.stderr).lines().next().unwrap_or_default(),
        );
    }
}
