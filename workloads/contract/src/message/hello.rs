//! The hub's answer to every presence and every gap; and its own announcement.

use serde::{Deserialize, Serialize};

use crate::id::{BoardId, Lineage, Nonce};
use crate::time::Millis;
use crate::version::{Epoch, Term};

/// On `agents/<a>/hello`, not retained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub lineage: Lineage,
    pub term: Term,
    /// The board it is for. Another board under the same id keeps its work running and stays quiet.
    pub board: BoardId,
    /// The session it answers; the agent ignores a hello for another epoch.
    pub epoch: Epoch,
    /// Echoed in every report of this session; that is what makes a status fresh.
    pub nonce: Nonce,
    /// Counts the hub's hellos under this term: an agent takes none twice, nor an older one. 0: of a hub
    /// that does not count.
    #[serde(default, skip_serializing_if = "is_uncounted")]
    pub said: u64,
    /// An agent below this has lost its counter and jumps above it.
    pub epoch_floor: u64,
    /// What the hub has: the agent trims its spool to this and to nothing else.
    pub acked: Acked,
    pub want: Want,
    pub heartbeat_ms: Millis,
    /// The hub's wall clock, for boards without one. Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<Millis>,
    /// Where artefacts are fetched: `http://host:port`.
    pub artifacts: String,
}

fn is_uncounted(said: &u64) -> bool {
    *said == 0
}

/// The newest the hub has of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Acked {
    pub epoch: Epoch,
    /// The last report taken in, in order, of that epoch.
    pub observed_seq: u64,
    /// The last event durably kept; over all epochs, as event numbers never restart.
    pub event_seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// A full report, now.
    Full,
    Nothing,
}

/// Retained on `hub`. A changed term makes agents report in full, each at its own moment (by a hash
/// of its id) within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubAnnounce {
    pub lineage: Lineage,
    pub term: Term,
    pub window_ms: Millis,
}
