//! What is fuzzed, apart from who drives it: libFuzzer here, a bounded deterministic run in the
//! contract's ordinary tests (`tests/fuzz_smoke.rs`).

pub mod codec;
pub mod manifest;
