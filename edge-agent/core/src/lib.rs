//! What an agent decides: `step(now, event) -> effects`. No I/O, no clock, no randomness, no async.
//!
//! `api` is the seam, `core` the loop. `desired` takes documents in, `record` says which revision of
//! a workload is trusted, `reconcile` compares what should be with what is, `perform` turns the
//! plan into effects, `instance` and `restart` hold one instance's life, `trial` a candidate's.
//! `probe` says whether a run is well.
//! `session`, `report`, `spool`, `garbage` and `command` talk to the hub. `wake` says when to look
//! again.

pub mod api;
mod boot;
mod command;
mod config;
mod core;
mod desired;
mod devices;
mod fetch;
mod garbage;
mod instance;
mod outbox;
mod perform;
mod probe;
pub mod reconcile;
mod record;
mod report;
mod restart;
mod session;
mod spool;
mod status;
mod trial;
mod wake;

pub use crate::config::CoreConfig;
pub use crate::core::Core;
pub use crate::instance::{Instance, Phase, Retry, Run};
pub use crate::probe::{Health, Illness};
pub use crate::status::{HubView, SessionView, StateView, StatusView, Summary, WorkloadView};

#[cfg(test)]
mod testing;
