#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skerry_contract_fuzz::manifest::fuzz_one(data));
