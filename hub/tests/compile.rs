//! `hub compile`: the hub's compiler for people, under the hub's limits.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::MODULE;

fn compile(dir: &Path, module: &[u8], args: &[&str]) -> (Output, Option<Vec<u8>>) {
    let (input, output) = (dir.join("in.wasm"), dir.join("out"));
    std::fs::write(&input, module).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    let done = command.arg("compile").arg(&input).arg("-o").arg(&output).args(args).output().unwrap();
    let code = std::fs::read(&output).ok();
    let left = std::fs::read_dir(dir).unwrap().flatten().filter(|e| e.path() != input && e.path() != output);
    assert_eq!(left.count(), 0, "nothing half made is left");
    let _ = std::fs::remove_file(&output);
    (done, code)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_module_compiles_for_every_kind_of_board() {
    let dir = tempfile::tempdir().unwrap();
    let module = wat::parse_str(MODULE).unwrap();
    for target in wasm::Target::ALL {
        let (output, code) = compile(dir.path(), &module, &["--target", target.triple()]);
        assert!(output.status.success() && code.is_some(), "{target}: {}", said(&output));
        let (output, again) = compile(dir.path(), &module, &["--engine", target.engine_id().as_str()]);
        assert!(output.status.success() && again == code, "{target}: the same input gives the same code");
    }
}

#[test]
fn what_cannot_be_compiled_says_why_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let module = wat::parse_str(MODULE).unwrap();
    let step = "i32.const 0 i32.const 0 i32.load i32.const 3 i32.mul i32.store offset=8\n";
    let heavy = step.repeat(200_000);
    let heavy = format!(r#"(module (memory (export "memory") 1) (func (export "_start") {heavy}))"#);
    let heavy = wat::parse_str(heavy).unwrap();
    for (module, args, word) in [
        (b"hello".as_slice(), vec![], "not WebAssembly"),
        (&module, vec!["--engine", "wasmtime-1-p1-z80"], "no compiler for engine 'wasmtime-1-p1-z80'"),
        (&module, vec!["--target", "armv7-unknown-linux-musleabihf"], "pulley32"),
        (&heavy, vec!["--compile-memory", "64Mi"], "needs more than 64Mi to compile"),
    ] {
        let (output, code) = compile(dir.path(), module, &args);
        assert!(!output.status.success() && code.is_none());
        assert!(said(&output).contains(word), "{}", said(&output));
    }
}
