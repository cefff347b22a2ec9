//! What the hub states about compiled code. Loading it is `unsafe`: an agent loads only what the key
//! it pinned has signed for the very artefact and engine it was told to run.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Signed under `Kind::Compiled`; fetched over HTTP beside the blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compiled {
    /// What was pushed.
    pub source: Digest,
    /// The engine id it was compiled for, and loads on.
    pub engine: String,
    /// The compiled bytes.
    pub digest: Digest,
    pub size_bytes: u64,
}
