//! What a hub decides: `step(now, event) -> effects`. No I/O, no clock, no randomness, no async.

pub mod api;
pub mod record;
