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
    /// The Secret's name.
    pub secret: Name,
    /// One of its keys.
    pub key: String,
    /// Left out of the environment while there is no such Secret or key, instead of being refused.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct ConfigKey {
    /// The Config's name.
    pub config: Name,
    /// One of its keys.
    pub key: String,
    /// Left out of the environment while there is no such Config or key, instead of being refused.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub optional: bool,
}
