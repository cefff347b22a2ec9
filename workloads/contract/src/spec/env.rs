//! What kind of artefact it is, and what its environment is made of.

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Name;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum Runtime {
    Wasm,
    Oci,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum EnvValue {
    /// Text as written.
    Text(String),
    /// A key of a Secret.
    Secret(SecretKey),
    /// A key of a Config.
    Config(ConfigKey),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct SecretKey {
    pub secret: Name,
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct ConfigKey {
    pub config: Name,
    pub key: String,
}
