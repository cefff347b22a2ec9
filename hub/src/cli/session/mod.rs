//! `hub exec` and `hub cp`: a session with one instance, over one upgraded connection.

mod connect;
pub mod cp;
pub mod exec;
mod streams;
mod target;
mod terminal;

pub use cp::{CpArgs, cp};
pub use exec::{ExecArgs, exec};
