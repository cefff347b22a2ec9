//! Who this board is to a hub beyond this machine: a key that is made here and never leaves, and what a
//! hub gave for it.
//!
//! ```text
//! <state>/identity/key.pem        0600, made once          join.json      a join that is not finished
//! <state>/identity/identity.json  0600, the certificate, the hub's CA and key, where the hub is
//! <state>/identity/floor          the highest time that the hub has told
//! <state>/identity/decommissioned why this board was sent away
//! ```
//! Each file is written whole or not at all, in this order: join.json, key.pem, identity.json, and join.json
//! removed. A power cut between any two leaves what a second join finishes: the hub gives the same key with
//! the same token the same answer.

pub mod command;
pub mod join;
pub mod machine;
pub mod store;
pub mod trust;
pub mod wipe;

pub use store::{Identity, IdentityDir};
pub use trust::Trust;
