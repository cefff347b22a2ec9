//! What a hub decides: `step(now, event) -> effects`. No I/O, no clock, no randomness, no async.
//!
//! ```text
//!   presence, reports ─▶ session, resync, restore ─▶ soft state (observed, freshness)
//!   tokens, identities ─▶ trust (which boards may speak at all)
//!   operators, roles ─▶ access (who may ask for what)
//!   requests ─▶ admit (pure) ─▶ request ─▶ records ─▶ dirty keys
//!   dirty keys ─▶ reconcile (place, pure) ─▶ placements ─▶ agents to publish to
//!   agents to publish to ─▶ compose ─▶ one Persist ─▶ documents, hellos, answers
//! ```

pub mod access;
pub mod admit;
pub mod api;
mod artifact;
mod changes;
mod charge;
mod command;
mod compose;
mod core;
pub mod data;
mod dirty;
mod displace;
mod drain;
mod duplicate;
mod ended;
mod event_log;
mod fetch;
pub mod fleet;
mod hello;
pub mod image;
pub mod labels;
mod observed;
pub mod operator;
mod outbox;
pub mod place;
mod pump;
mod reconcile;
pub mod record;
pub mod refused;
mod request;
mod reserve;
pub mod resolve;
mod restore;
mod resync;
mod revision;
mod rollout;
mod sanitize;
mod session;
mod settle;
mod template;
#[cfg(test)]
mod tests;
mod timers;
pub mod trust;
pub mod view;
mod world;

pub use crate::artifact::check_tag;
pub use crate::core::{Config, Core};
