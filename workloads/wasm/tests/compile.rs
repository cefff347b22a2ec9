//! The hub's side: what is compiled for every board, what is refused and with which words.
//!
//! Leaves the compiled guests for `tests/run.rs`; run `./test.sh` for both.
#![cfg(feature = "compile")]

use std::io::Write;

use object::{Object, ObjectSection};
use skerry_wasm::compile::{CompileError, Kind, Refused, compile, inspect};
use skerry_wasm::target::{Target, native_target};

mod guests;

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Written beside and renamed, for the other test binary may be reading.
fn leave(name: &str, code: &[u8]) {
    let dir = guests::compiled_dir();
    std::fs::create_dir_all(&dir).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(&dir).unwrap();
    file.write_all(code).unwrap();
    file.persist(dir.join(name)).unwrap();
}

#[test]
fn every_guest_compiles_for_this_machine() {
    for (name, text) in guests::GUESTS {
        leave(name, &compile(&wasm(text), native_target()).unwrap());
    }
    for name in guests::SAMPLES {
        leave(name, &compile(&guests::sample(name), native_target()).unwrap());
    }
}

#[test]
fn the_samples_compile_for_every_board() {
    for target in Target::ALL {
        for (name, kind) in [("hello", Kind::Module), ("sensor", Kind::Component)] {
            let bytes = guests::sample(name);
            assert_eq!(inspect(&bytes).unwrap().kind, kind);
            let code = compile(&bytes, target).unwrap();
            assert!(code.starts_with(b"\x7fELF"), "{name} for {target}");
        }
    }
}

/// The one engine besides its own that every 64-bit machine can run.
#[test]
fn bytecode_is_left_for_the_other_side() {
    for (name, text) in guests::GUESTS.iter().filter(|(name, _)| ["empty", "grow"].contains(name)) {
        leave(&format!("{name}.pulley64"), &compile(&wasm(text), Target::Pulley64).unwrap());
    }
}

#[test]
fn the_same_input_gives_the_same_code() {
    let bytes = guests::sample("hello");
    for target in Target::ALL {
        assert_eq!(compile(&bytes, target).unwrap(), compile(&bytes, target).unwrap(), "{target}");
    }
}

/// Everything that wasmtime compares at load, as it writes it into compiled code. If this fails, settings
/// or wasmtime have changed what boards can load: let `PROFILE_VERSION` grow, then write the new text with
/// `GOLDEN=write`.
#[test]
fn the_engine_ids_stand_for_these_settings() {
    let sections: Vec<String> = Target::ALL.into_iter().map(engine_section).collect();
    let now = sections.join("\n") + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/engines.txt");
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == now, "compiled code carries other settings:\n{now}");
}

fn engine_section(target: Target) -> String {
    let code = compile(&wasm(guests::GUESTS[0].1), target).unwrap();
    let elf = object::read::elf::ElfFile64::<object::Endianness>::parse(code.as_slice()).unwrap();
    let section = elf.section_by_name(".wasmtime.engine").expect("wasmtime writes it");
    format!("{target} {}", section.data().unwrap().escape_ascii())
}

#[test]
fn the_outline_tells_what_a_guest_uses() {
    let hello = inspect(&guests::sample("hello")).unwrap();
    assert_eq!(hello.kind, Kind::Module);
    assert!(hello.imports.iter().any(|i| i == "wasi_snapshot_preview1.fd_write"), "{:?}", hello.imports);
    assert!(!hello.uses_sockets());
    assert!(hello.memory_min_bytes >= 1 << 20, "{}", hello.memory_min_bytes);

    let netcheck = inspect(&guests::sample("netcheck")).unwrap();
    assert_eq!(netcheck.kind, Kind::Component);
    assert!(netcheck.uses_sockets(), "{:?}", netcheck.imports);
}

#[test]
fn refusals_name_the_import_and_what_is_right() {
    let cases: &[(&str, &[&str])] = &[
        (
            r#"(module (import "env" "emscripten_run" (func)) (func (export "_start")))"#,
            &["`env.emscripten_run`", "wasm32-wasip1"],
        ),
        (
            r#"(module (import "wbg" "__wbg_log" (func)) (func (export "_start")))"#,
            &["`wbg.__wbg_log`", "wasm-bindgen"],
        ),
        (r#"(module (import "wasi_unstable" "fd_write" (func)))"#, &["preview 0"]),
        (
            r#"(module (import "wasi_snapshot_preview1" "fd_wrte" (func)) (func (export "_start")))"#,
            &["`wasi_snapshot_preview1.fd_wrte`", "no such function"],
        ),
        (
            r#"(module (import "env" "memory" (memory 1)) (func (export "_start")))"#,
            &["`env.memory`", "own memory"],
        ),
        (
            r#"(component (import "wasi:sockets/types@0.3.0" (instance)))"#,
            &["`wasi:sockets/types@0.3.0`", "boards offer WASI 0.2"],
        ),
        (
            r#"(module (import "env" "memory" (memory 1 2 shared)) (func (export "_start")))"#,
            &["threads", "not wasm32-wasip1-threads"],
        ),
        (r#"(module (memory 1 2 shared) (func (export "_start")))"#, &["threads"]),
        (r#"(module (memory i64 1) (func (export "_start")))"#, &["64-bit memory"]),
        (r#"(module (tag) (func (export "_start")))"#, &["exceptions", "-fno-exceptions"]),
        (r#"(module (type (struct)) (func (export "_start")))"#, &["garbage-collected"]),
        (r#"(module (func (export "_initialize")))"#, &["reactor", "main function"]),
        (r#"(module (func (export "main")))"#, &["`_start`"]),
        (
            r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (result i32))) (func (export "_start")))"#,
            &["`memory`"],
        ),
        (
            r#"(component (import "wasi:http/types@0.2.0" (instance)))"#,
            &["`wasi:http/types@0.2.0`", "wasi:sockets"],
        ),
        (
            r#"(component (import "wasi:cli/environment@0.3.0" (instance)))"#,
            &["`wasi:cli/environment@0.3.0`", "0.2"],
        ),
        (r#"(component (import "acme:plc/io" (instance)))"#, &["`acme:plc/io`", "compose"]),
        (r#"(component (import "log" (func)))"#, &["`log`", "interfaces"]),
        (r#"(component)"#, &["wasi:cli/run@0.2"]),
        (
            r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#,
            &["HTTP handler"],
        ),
    ];
    for (text, words) in cases {
        let refused = inspect(&wasm(text)).unwrap_err().to_string();
        for word in *words {
            assert!(refused.contains(word), "{text}\n  says: {refused}\n  not: {word}");
        }
    }
}

/// An import inside a nested module is the component's own business.
#[test]
fn nested_imports_are_not_the_boards() {
    let text = r#"(component
      (core module $m (import "env" "x" (func)) (func (export "_start")))
      (instance $r) (export "wasi:cli/run@0.2.0" (instance $r)))"#;
    assert_eq!(inspect(&wasm(text)).unwrap().imports, Vec::<String>::new());
}

#[test]
fn what_is_not_wasm_is_called_what_it_is() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"\x7fELF\x02\x01", "ELF"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"\n (module)", "text format"),
        (b"#!/bin/sh", "unknown"),
    ];
    for (bytes, word) in cases {
        let refused = inspect(bytes).unwrap_err();
        assert!(matches!(&refused, Refused::NotWasm { what } if what.contains(word)), "{refused}");
    }
    let huge = vec![0u8; skerry_wasm::compile::inspect::MODULE_BYTES_MAX + 1];
    assert_eq!(inspect(&huge).unwrap_err(), Refused::TooLarge { size_bytes: huge.len() });
}

#[test]
fn no_cut_or_flipped_file_panics() {
    for name in ["hello", "netcheck"] {
        let bytes = guests::sample(name);
        for cut in (0..bytes.len()).step_by(97) {
            let _ = inspect(&bytes[..cut]);
        }
        // A simple congruential walk: many different flips, the same ones each time.
        let mut seed = 1u32;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut flipped = bytes.clone();
            let at = seed as usize % flipped.len().min(4096);
            flipped[at] ^= (seed >> 24) as u8 | 1;
            let _ = inspect(&flipped);
        }
    }
    let whole = guests::sample("hello");
    let err = inspect(&whole[..whole.len() / 2]).unwrap_err();
    assert!(matches!(err, Refused::Broken { offset, .. } if offset > 0), "{err}");
}

#[test]
fn invalid_bodies_are_the_authors_to_mend() {
    let text = r#"(module (memory (export "memory") 1) (func (export "_start") i32.add drop))"#;
    let err = compile(&wasm(text), Target::X86_64).unwrap_err();
    assert!(matches!(&err, CompileError::Invalid(why) if why.contains("type mismatch")), "{err}");
}

#[test]
fn code_says_for_which_engine_it_is() {
    for target in Target::ALL {
        let code = compile(&wasm(guests::GUESTS[0].1), target).unwrap();
        let id = target.engine_id();
        let stamped = code.windows(id.as_str().len()).any(|w| w == id.as_str().as_bytes());
        assert!(stamped, "{id} is not in the code");
    }
}
