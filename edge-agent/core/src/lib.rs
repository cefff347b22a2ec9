//! What an agent decides: `step(now, event) -> effects`. No I/O, no clock, no randomness, no async.

pub mod api;
