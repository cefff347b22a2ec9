//! The agent's acting half. `agent-core` decides what runs; this makes it so.
//!
//! | | |
//! |---|---|
//! | [`instance`] | start, watch, stop, remove and find runs: what the agent's loop calls |
//! | [`shim`] | the small process that owns one guest and outlives the agent |
//! | [`session`] | the process behind `hub exec` and `hub cp` |
//! | [`cgroup`] | what bounds an instance |
//! | [`probe`] | whether instances are well |
//! | [`logs`] | what an instance said |
//! | [`try_cmd`] | one artefact in the foreground |
//! | [`run`] | the agent's loop: performs what the core decides |
//! | [`identity`] | who this board is to a hub beyond this machine |
//! | [`status`] | what this board runs, with no hub |
//! | [`check`] | whether this board can do its work, and what to do if not |
//! | [`collect`] | a bundle for whoever looks for a fault |
//! | [`volumes`] | what workloads have stored here, and giving it up |
//! | [`cli`] | the command line |

pub mod cgroup;
pub mod check;
pub mod cli;
pub mod collect;
pub mod identity;
pub mod instance;
pub mod logs;
pub mod probe;
pub mod run;
pub mod session;
pub mod shim;
pub mod status;
pub mod try_cmd;
pub mod volumes;
