//! What a workload gets of the board, and no more: limits, network, mounts, devices, rights.

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_false;
use crate::id::Name;
use crate::quantity::{Bytes, Cpu};

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Resources {
    /// Share of a core: 250m, 1, 1.5. Default 500m as a limit, which reserves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory: 64Mi. Default 64Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processes and threads. Default 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Disk for the writable layer and the volumes without a size. Default 64Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Port {
    /// A name for the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port that the workload listens on.
    pub port: u16,
    /// The port on the board; the same one with network host, where it may be left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Network {
    /// none, host or private. Default none; host when `connect`, `listen` or `ports` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,
    /// The only places a WASM workload may connect to: host:port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    /// The only ports a WASM workload may listen on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum NetworkMode {
    #[default]
    None,
    Host,
    Private,
}

/// Exactly one of volume, hostPath, tmpfs, config and secret says what is mounted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Mount {
    /// A directory on the board that outlives instances and revisions, named within the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// A path of the board.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Memory of this size, gone with the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Bytes>,
    /// A Config: a directory with a file for each key, or one key as one file. It cannot be written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Name>,
    /// A Secret, in the same way; on the board it is in memory only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<Name>,
    /// One key of the Config or Secret, as the file at `path`; without it all of them, in a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Of a Config's or Secret's files, in octal. Default 0444 for a Config, 0400 for a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Of a Config's or Secret's files, as numbers: uid or uid:gid. Default the user that the container
    /// begins as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Left out while there is no such Config, Secret or key, instead of being refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
    /// Where the workload sees it: an absolute path.
    pub path: String,
    /// The volume's size; `resources.storage` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Bytes>,
    /// Refuses writes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct DeviceMount {
    /// The device on the board.
    pub path: String,
    /// Its path inside; the same when absent.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub inside: Option<String>,
    /// r, w, rw, with m for mknod. Default rw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Security {
    /// user or user:group, by number or name; the image's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The root file system refuses writes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only_root: bool,
    /// Changes to Docker's usual set of capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// All capabilities and devices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Capabilities {
    /// Such as NET_ADMIN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Such as NET_RAW; ALL for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}
