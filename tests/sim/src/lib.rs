//! Do the promises hold in every world? Real cores, many boards, one virtual clock, one seed.
//!
//! ```text
//!            plan (which ills)      script (operator, misfortune)
//!                    │                       │
//!   board (shell) ─▶ broker (liar) ─▶ hub (shell)      runtime (workloads)
//!        │               │                │                 │
//!        └───────── invariants ◀── truth (what is so) ◀─────┘
//!                        │
//!                 heal, then settle
//! ```
//!
//! `mutant` plants bugs in the shells, to prove that the invariants see them.

pub mod board;
pub mod broker;
pub mod fleet;
pub mod hub;
mod invariants;
pub mod mutant;
pub mod plan;
pub mod probes;
pub mod rng;
pub mod runtime;
pub mod script;
mod settle;
pub mod trace;
pub mod truth;
pub mod world;

pub use mutant::Mutant;
pub use plan::Plan;
pub use world::{Failure, World};

/// Live one seed's world to its end.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Option<Failure> {
    let mut world = World::new(seed, Plan::of(seed), mutant, false);
    world.live();
    world.failure
}

/// The same once more, told: the last lines before the failure, and how to see all.
pub fn tell(seed: u64, mutant: Option<Mutant>, lines: usize) -> String {
    let mut world = World::new(seed, Plan::of(seed), mutant, true);
    world.live();
    let failure = world.failure.clone();
    let trace = world.take_trace();
    let tail = trace[trace.len().saturating_sub(lines)..].join("\n");
    let planted = mutant.map_or(String::new(), |m| format!(" --mutant {}", m.name()));
    format!(
        "seed {seed}: {failure:?}\n{tail}\nreplay: cargo run -p sim --profile ci -- --seed {seed}{planted} --trace"
    )
}

/// Live all these worlds; the first failure of each invariant, told.
pub fn run_all(seeds: std::ops::Range<u64>) -> Result<(), String> {
    let mut told: std::collections::BTreeMap<&'static str, (u64, u32)> = Default::default();
    for seed in seeds {
        if let Some(failure) = run(seed, None) {
            told.entry(failure.invariant).or_insert((seed, 0)).1 += 1;
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    let one = |(invariant, (seed, count)): (&&str, &(u64, u32))| {
        format!("--- {invariant}: {count} seeds\n{}\n", tell(*seed, None, 40))
    };
    Err(told.iter().map(one).collect())
}
