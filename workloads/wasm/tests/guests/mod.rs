//! The guests that the tests of both sides share: `tests/compile.rs` compiles them into
//! [`compiled_dir`], `tests/run.rs` runs them from there. `./test.sh` runs both in that order.

use std::path::PathBuf;

use skerry_wasm::target::native_engine;

/// Where compiled guests wait for the other side; the engine's id keeps releases apart.
pub fn compiled_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guests").join(native_engine().as_str())
}

/// Built from Rust by `workloads/samples/build.sh`.
#[allow(dead_code)]
pub const SAMPLES: &[&str] = &["hello", "misbehave", "netcheck", "sensor"];

#[allow(dead_code)]
pub fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/../samples/built/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Name and text of each.
#[allow(dead_code)]
pub const GUESTS: &[(&str, &str)] = &[
    ("empty", r#"(module (memory (export "memory") 1) (func (export "_start")))"#),
    ("exit42", EXIT42),
    ("print", PRINT),
    ("unreachable", r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#),
    (
        "wild",
        r#"(module (memory (export "memory") 1)
             (func (export "_start") (call $inner))
             (func $inner (drop (i32.load (i32.const -16)))))"#,
    ),
    (
        "div0",
        r#"(module (memory (export "memory") 1)
             (func (export "_start") (drop (i32.div_u (i32.const 1) (i32.const 0)))))"#,
    ),
    (
        "recurse",
        r#"(module (memory (export "memory") 1)
             (func $f (export "_start") (call $f) (call $f)))"#,
    ),
    ("grow", GROW),
    ("big", r#"(module (memory (export "memory") 1024) (func (export "_start")))"#),
    (
        "start_traps",
        r#"(module (memory (export "memory") 1) (func (export "_start")) (func $s unreachable) (start $s))"#,
    ),
    (
        "bad_link",
        r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param f64)))
             (memory (export "memory") 1) (func (export "_start")))"#,
    ),
    ("echo", ECHO),
    ("create", CREATE),
    ("command", COMMAND),
    ("command_fails", COMMAND_FAILS),
];

const EXIT42: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const 42))))"#;

const PRINT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00")
  (data (i32.const 16) "hello\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Passes one read from stdin on to stdout.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\40\00\00\00")
  (func (export "_start")
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Creates the file `made` in its first directory; the exit code is WASI's errno.
const CREATE: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "made")
  (func (export "_start")
    (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4)
      (i32.const 1) (i64.const 64) (i64.const 64) (i32.const 0) (i32.const 16)))))"#;

/// Grows page by page until refused, then gives up as a failed `malloc` would.
const GROW: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    unreachable))"#;

const COMMAND: &str = r#"(component
  (core module $m (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.3" (instance $r)))"#;

const COMMAND_FAILS: &str = r#"(component
  (core module $m (func (export "run") (result i32) i32.const 1))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $r (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $r)))"#;
