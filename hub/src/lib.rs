//! The hub: what runs behind `hub serve`, and the tools that need no hub. Decisions are made in
//! `hub-core`; here is what acts.

pub mod api;
pub mod artifact;
pub mod audit;
pub mod cli;
pub mod compile;
pub mod data;
pub mod failpoint;
pub mod fetch;
pub mod secrets;
pub mod serve;
pub mod store;
pub mod trust;
