//! What hub, agent and operator say to each other: pure data, no I/O, no clock, no async.
//!
//! `spec` is what an operator writes, `run` what an agent is told to run, `message` what travels
//! over MQTT, `status` what an agent saw, `codec` how bytes are framed, sized and signed.
//! `manifest` (feature) turns YAML or JSON into `spec` and names every mistake with its line; `rules`
//! refuses specs that make no sense, `defaults` says what holds where a spec is silent.

#[cfg(feature = "codec")]
pub mod codec;
pub mod data;
pub mod defaults;
pub mod digest;
pub mod env;
pub mod field;
pub mod id;
pub mod identity;
pub mod image;
pub mod label;
pub mod limits;
#[cfg(feature = "manifest")]
pub mod manifest;
pub mod message;
pub mod platform;
pub mod quantity;
pub mod rules;
pub mod run;
#[cfg(feature = "manifest")]
mod schema;
#[cfg(feature = "codec")]
pub mod seal;
pub mod session;
#[cfg(feature = "codec")]
pub mod signature;
pub mod spec;
pub mod status;
pub mod taint;
pub mod time;
pub mod version;

pub use data::{DataId, DataKind, DataName};
pub use digest::{Digest, RevisionId};
pub use id::{AgentId, BoardId, InstanceId, Lineage, Name, Nonce, RunId, WorkloadKey};
pub use platform::Platform;
pub use taint::{Taint, TaintEffect};
pub use time::{Millis, Now};
pub use version::{Attempt, Epoch, Generation, Term, Version};
