//! How an image is to be run: everything that is not in the image, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Names the container on this board.
    pub id: String,
    /// Instead of the image's entrypoint; then its arguments do not count either.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Hidden>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(default)]
    pub user: Option<String>,
    #[serde(default)]
    pub workdir: Option<String>,
    #[serde(default)]
    pub hostname: Option<String>,
    #[serde(default)]
    pub read_only_root: bool,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub devices: Vec<Device>,
    #[serde(default)]
    pub capabilities: Capabilities,
    pub seccomp: Seccomp,
    pub limits: Limits,
    pub network: Network,
    /// Absolute. A relative one lands elsewhere, depending on who asks.
    pub cgroups_path: String,
    pub writable: Writable,
}

impl Settings {
    pub fn hostname(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.id)
    }
}

/// Variables in `env` whose values are written to no disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    pub names: BTreeSet<String>,
    /// Where whoever joins later finds them, as a JSON object: a file in memory, out of the container's sight. The
    /// first process's own environment would not do; servers write their titles over it.
    pub file: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    pub from: MountSource,
    /// In the container; absolute.
    pub path: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MountSource {
    /// A file or directory of the board.
    Bind {
        host: PathBuf,
    },
    /// A directory that is the container's own, and given to its user while it is empty.
    Volume {
        host: PathBuf,
    },
    /// A file or directory of the board that the container only reads, with its files given to the user that
    /// it begins as.
    Given {
        host: PathBuf,
    },
    Tmpfs {
        size_bytes: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Links are followed, as in `/dev/serial/by-id`.
    pub host: PathBuf,
    /// In the container.
    pub path: String,
    /// Some of `r`, `w`, `m`.
    pub access: String,
}

/// Over Docker's fourteen; names with or without `CAP_`, or `ALL`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    #[serde(default)]
    pub add: Vec<String>,
    #[serde(default)]
    pub drop: Vec<String>,
}

/// A kernel filter on system calls. With it nobody in the container gains privileges from setuid programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Seccomp {
    /// What Docker allows by default.
    Default,
    /// Somebody's decision: for 32-bit ARM, for which there is no filter, or for what needs all calls.
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    pub memory_bytes: u64,
    pub cpu_millis: u32,
    pub pids: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    /// Nothing but its own loopback.
    None,
    /// The board's own.
    Host,
}

/// Where what the container changes of its root goes; thrown away at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Writable {
    /// Counts as the container's memory.
    Memory { size_bytes: u64 },
    /// A file of that size on the disk of `directory`, ext4 inside.
    Disk { directory: PathBuf, size_bytes: u64 },
}
