//! The engine settings that compiled code depends on: written once, used by hub and shim.
//!
//! wasmtime's defaults differ with the pointer width and with cargo features, and a mismatch shows only
//! on the board; so everything that `wasmtime/src/engine/serialization.rs` compares is set here by hand.
//! No epoch and no fuel (27–70 % slower): the guest's process is bounded by its cgroup and by SIGKILL.
//!
//! Change anything that reaches compiled code and `PROFILE_VERSION` must grow; the golden test in
//! `tests/compile.rs` fails until it does.

use wasmtime::{Config, Engine, ModuleVersionStrategy};

use crate::target::{Profile, Target};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The configuration for one target, the same on both sides.
pub fn engine_config(target: Target) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    // The shim of a native target must not name it: wasmtime compares the whole triple with the host's,
    // and a gnu build is not "musl". The code itself is only compared by architecture and OS.
    if cfg!(feature = "compile") || target.is_interpreted() {
        config.target(target.triple())?;
    }
    config.module_version(ModuleVersionStrategy::Custom(target.engine_id().to_string()))?;
    set_memory(&mut config, target.profile());
    set_features(&mut config);
    Ok(config)
}

/// An engine for `target`. In a shim this works for the native target only.
pub fn engine(target: Target) -> wasmtime::Result<Engine> {
    Engine::new(&engine_config(target)?)
}

fn set_memory(config: &mut Config, profile: Profile) {
    config.memory_may_move(true).memory_init_cow(true).table_lazy_init(true).guard_before_linear_memory(true);
    match profile {
        Profile::Std64 => config
            .signals_based_traps(true)
            .memory_reservation(4 * GIB)
            .memory_guard_size(32 * MIB)
            .memory_reservation_for_growth(2 * GIB),
        // Pulley can use neither signals nor guard pages. The reservation is address space only, one
        // instance a process, so 16 MiB spares most growth a copy without hurting a 32-bit board.
        Profile::Small => config
            .signals_based_traps(false)
            .memory_reservation(16 * MIB)
            .memory_guard_size(0)
            .memory_reservation_for_growth(16 * MIB),
    };
}

/// Only what both builds of wasmtime carry; threads and garbage collection are compiled into neither.
fn set_features(config: &mut Config) {
    config
        .consume_fuel(false)
        .epoch_interruption(false)
        .debug_info(false)
        .relaxed_simd_deterministic(false)
        .generate_address_map(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_tail_call(true)
        .wasm_extended_const(true)
        .wasm_memory64(false)
        .wasm_component_model(true)
        .max_wasm_stack(512 * KIB as usize);
}
