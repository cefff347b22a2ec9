//! The shim's side: how guests start, what they see, and how their ends are told.
//!
//! Runs what `tests/compile.rs` left (`./test.sh` runs both), each guest in a process of its own.
#![cfg(all(feature = "run", feature = "tools"))]

use skerry_wasm::spec::{Exit, Preopen, Stage, Stdin};

mod guests;
mod process;

use process::{Guest, guest};

fn code(guest: Guest) -> i32 {
    let ran = guest.run();
    assert!(ran.start_micros.is_some(), "on_start is called for whatever starts");
    match ran.ended.exit {
        Exit::Code(code) => code,
        other => panic!("{other:?}"),
    }
}

fn trap(name: &str) -> (String, String, Vec<String>) {
    match guest(name).run().ended.exit {
        Exit::Trap { name, message, backtrace } => (name, message, backtrace),
        other => panic!("{other:?}"),
    }
}

fn failure(guest: Guest) -> (Stage, String) {
    let ran = guest.run();
    assert_eq!(ran.start_micros, None, "on_start must not be called when nothing starts");
    match ran.ended.exit {
        Exit::Failed { stage, message } => (stage, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn exit_codes_arrive() {
    assert_eq!(code(guest("empty")), 0);
    assert_eq!(code(guest("exit42")), 42);
    assert_eq!(code(guest("command")), 0);
    assert_eq!(code(guest("command_fails")), 1);
    assert_eq!(code(guest("misbehave").args(&["exit", "7"])), 7);
    assert_eq!(code(guest("misbehave").args(&["exit", "255"])), 255);
}

#[test]
fn traps_are_told_by_name_and_place() {
    assert_eq!(trap("unreachable").1, "wasm trap: wasm `unreachable` instruction executed");
    assert_eq!(trap("div0").1, "wasm trap: integer divide by zero");
    assert_eq!(trap("recurse").1, "wasm trap: call stack exhausted");
    let (name, message, backtrace) = trap("wild");
    assert_eq!(
        (name.as_str(), message.as_str()),
        ("MemoryOutOfBounds", "wasm trap: out of bounds memory access")
    );
    assert!(backtrace.len() == 2 && backtrace[0].contains("inner"), "{backtrace:?}");
    assert_eq!(trap("recurse").2.len(), skerry_wasm::spec::BACKTRACE_FRAMES_MAX);
    assert_eq!(trap("start_traps").0, "UnreachableCodeReached");
}

#[test]
fn a_refused_growth_is_named() {
    let ran = guest("grow").memory(8 << 20).run();
    assert!(matches!(&ran.ended.exit, Exit::Trap { name, .. } if name == "UnreachableCodeReached"));
    let memory = ran.ended.memory;
    assert_eq!((memory.denied, memory.peak_bytes), (1, 8 << 20));
    let line = ran.ended.to_string();
    assert!(line.contains("memory limit of 8 MiB reached 1×"), "{line}");
}

#[test]
fn a_guest_that_asks_politely_hears_no() {
    let ran = guest("misbehave").args(&["hog"]).memory(24 << 20).run();
    assert_eq!(ran.ended.exit, Exit::Code(3));
    assert!(ran.ended.memory.denied >= 1 && ran.ended.memory.peak_bytes <= 24 << 20);
    let mib: u32 = ran.stdout.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!((18..24).contains(&mib), "{}", ran.stdout);
}

#[test]
fn a_guest_that_does_not_ask_aborts_and_the_limit_is_named() {
    let ran = guest("misbehave").args(&["oom"]).memory(16 << 20).run();
    let line = ran.ended.to_string();
    assert!(matches!(ran.ended.exit, Exit::Trap { .. }) && line.contains("limit of 16 MiB"), "{line}");
    assert!(ran.stderr.contains("memory allocation of"), "{}", ran.stderr);
}

#[test]
fn too_little_memory_to_start_is_said_in_numbers() {
    let (stage, message) = failure(guest("big").memory(32 << 20));
    assert_eq!(stage, Stage::Instantiate);
    assert_eq!(message, "it needs 64 MiB of memory at the start, and the limit is 32 MiB");
    assert_eq!(code(guest("big").memory(64 << 20)), 0);
}

#[test]
fn arguments_environment_and_output_are_passed() {
    assert_eq!(guest("print").run().stdout, "hello\n");
    let ran = guest("hello").args(&["to", "all", "--exit", "5", "--after", "30", "--every", "10"]);
    let ran = ran.env("GREETING", "ahoy").run();
    assert_eq!(ran.ended.exit, Exit::Code(5));
    let mut lines = ran.stdout.lines();
    assert_eq!(lines.next(), Some("ahoy from hello to all"));
    assert_eq!(lines.next(), Some("1"));
    // What the process itself has in its environment stays outside.
    let ran = guest("hello").args(&["--exit", "0"]).outer_env("GREETING", "leak").run();
    assert_eq!(ran.stdout, "hello from hello \n");
}

#[test]
fn stdin_is_empty_unless_inherited() {
    assert_eq!(guest("echo").input("secret\n").run().stdout, "");
    assert_eq!(guest("echo").input("open\n").stdin(Stdin::Inherit).run().stdout, "open\n");
}

#[test]
fn directories_are_what_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let preopen = |read_only| Preopen { host_dir: dir.path().into(), guest_path: "/data".into(), read_only };
    const BADF: i32 = 8;
    assert_eq!(code(guest("create")), BADF, "no directory at all");
    assert_ne!(code(guest("create").preopen(preopen(true))), 0);
    assert!(!dir.path().join("made").exists());
    assert_eq!(code(guest("create").preopen(preopen(false))), 0);
    assert!(dir.path().join("made").exists());

    let ran = guest("misbehave").args(&["fill", "/data/../../etc/passwd"]).preopen(preopen(false)).run();
    assert_eq!(ran.ended.exit, Exit::Code(5), "{}", ran.stderr);
}

#[test]
fn a_missing_directory_is_named() {
    let preopen = Preopen { host_dir: "/no/such".into(), guest_path: "/data".into(), read_only: true };
    let (stage, message) = failure(guest("empty").preopen(preopen));
    assert_eq!(stage, Stage::Mount);
    assert!(message.starts_with("/no/such as /data: No such file"), "{message}");
}

#[test]
fn what_does_not_load_says_why() {
    let (stage, message) = failure(guest("no_such_guest"));
    assert!(stage == Stage::Load && message.contains("No such file"), "{message}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plain.wasm");
    std::fs::write(&file, guests::sample("hello")).unwrap();
    let (stage, message) = failure(guest("hello").module(&file));
    assert!(stage == Stage::Load && message.contains("not code compiled by the hub"), "{message}");

    let (stage, message) = failure(guest("bad_link"));
    assert!(stage == Stage::Link && message.contains("fd_write"), "{message}");

    let (stage, message) = failure(guest("empty.pulley64"));
    assert_eq!(stage, Stage::Load);
    assert!(message.contains("pulley64"), "the foreign engine is not named: {message}");
}

#[test]
fn arguments_start_with_a_name() {
    let (stage, message) = failure(guest("empty").no_name());
    assert!(stage == Stage::Config && message.starts_with("args"), "{message}");
}

/// The settings of the interpreter fit, too: code of the other side loads and runs.
#[test]
fn bytecode_runs_where_it_is_the_engine() {
    use skerry_wasm::{Target, profile};
    let engine = profile::engine(Target::Pulley64).unwrap();
    for (name, traps) in [("empty.pulley64", false), ("grow.pulley64", true)] {
        // SAFETY: written by the other test, and nobody changes it.
        let module =
            unsafe { wasmtime::Module::deserialize_file(&engine, guests::compiled_dir().join(name)) };
        let limits = wasmtime::StoreLimitsBuilder::new().memory_size(40 << 20).build();
        let mut store = wasmtime::Store::new(&engine, limits);
        store.limiter(|l| l);
        let instance = wasmtime::Instance::new(&mut store, &module.unwrap(), &[]).unwrap();
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
        assert_eq!(start.call(&mut store, ()).is_err(), traps, "{name}");
    }
}

/// As the agent's shim takes it: no pipe between the guest and the log.
#[test]
fn output_may_go_to_a_function() {
    use skerry_wasm::run::{Output, Stream, run_with};
    use std::sync::{Arc, Mutex};
    for (guest, stdout, stderr) in [
        (guest("print").connect(&["127.0.0.1:1"]), "hello\n", "cannot open sockets"),
        (guest("netcheck").args(&["nothing"]), "no: Other", ""),
        (guest("misbehave").args(&["nothing"]), "", "misbehave spin"),
    ] {
        let heard = Arc::new(Mutex::new((String::new(), String::new())));
        let ear = heard.clone();
        let output = Output::Sink(Arc::new(move |stream, bytes: &[u8]| {
            let mut heard = ear.lock().unwrap();
            let text = if stream == Stream::Stdout { &mut heard.0 } else { &mut heard.1 };
            text.push_str(std::str::from_utf8(bytes).unwrap());
        }));
        // SAFETY: written by the other test, and nobody changes it.
        let ended = unsafe { run_with(guest.config(), &output, || ()) };
        assert!(matches!(ended.exit, Exit::Code(_)), "{ended}");
        let heard = heard.lock().unwrap();
        assert!(heard.0.contains(stdout) && heard.1.contains(stderr), "{heard:?}");
        assert_eq!((heard.0.is_empty(), heard.1.is_empty()), (stdout.is_empty(), stderr.is_empty()));
    }
}

#[test]
fn a_guest_is_one_thread() {
    for (name, args) in [("misbehave", ["spin"]), ("hello", ["x"])] {
        let running = guest(name).args(&args).spawn();
        running.line(|_| true);
        assert_eq!(running.status("Threads:"), "1", "{name}");
    }
    assert_eq!(guest("command").run().threads, "1");
    assert_eq!(guest("exit42").run().threads, "1");
}
