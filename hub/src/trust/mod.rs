//! How the hub's shell knows who is at the other end: its CA, its own certificate, those of boards, and
//! the one port where both protocols come in encrypted. What a board may do is the core's to say
//! (`hub_core::trust`); here it is asked.

pub mod ca;
pub mod door;
pub mod front;
pub mod peer;
pub mod places;
pub mod relay;
pub mod server;

use std::time::{SystemTime, UNIX_EPOCH};

use contract::time::Millis;

pub use ca::Ca;
pub use door::Door;
pub use front::Front;
pub use peer::{Peer, Via};

/// The hub's clock. Unix milliseconds; one that stands before 1970 reads as 1970.
pub fn wall_ms() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
