//! Which engines there are, what they are called, and which one this binary runs.
//!
//! An engine id names everything that decides whether compiled code loads: wasmtime's version, the
//! version of our settings, and the target. wasmtime has a hash for this purpose
//! (`Engine::precompile_compatibility_hash`), but only in builds with a compiler *and* a runtime, which is
//! neither side here. The id is therefore made from stable parts that both sides know; it is stamped into
//! each compiled file and compared by wasmtime at load, and a golden test ties it to the settings that
//! wasmtime writes into compiled code.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The exact wasmtime release; a test compares it with `Cargo.lock`.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// Grows with every change of [`crate::profile`] that changes compiled code.
pub const PROFILE_VERSION: u32 = 1;

/// What code is compiled for. Always named in full: without an explicit target the compiling machine's
/// own CPU features are baked in, and without an OS the code is refused at load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Target {
    #[serde(rename = "x86_64-unknown-linux-musl")]
    X86_64,
    #[serde(rename = "aarch64-unknown-linux-musl")]
    Aarch64,
    #[serde(rename = "riscv64gc-unknown-linux-musl")]
    Riscv64,
    /// Bytecode for 32-bit boards (armv7): Cranelift has no 32-bit ARM.
    #[serde(rename = "pulley32")]
    Pulley32,
    /// Bytecode for 64-bit little-endian boards that Cranelift does not know.
    #[serde(rename = "pulley64")]
    Pulley64,
}

/// How much address space a guest's memory may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// 4 GiB reserved and guarded: no bounds checks, traps come as signals.
    Std64,
    /// A small reservation and explicit bounds checks; for the interpreter and for 32 bits.
    Small,
}

impl Target {
    pub const ALL: [Target; 5] =
        [Target::X86_64, Target::Aarch64, Target::Riscv64, Target::Pulley32, Target::Pulley64];

    /// The name that wasmtime gets. gnu or musl makes no difference to it; architecture and OS do.
    pub fn triple(self) -> &'static str {
        match self {
            Target::X86_64 => "x86_64-unknown-linux-musl",
            Target::Aarch64 => "aarch64-unknown-linux-musl",
            Target::Riscv64 => "riscv64gc-unknown-linux-musl",
            Target::Pulley32 => "pulley32",
            Target::Pulley64 => "pulley64",
        }
    }

    pub fn profile(self) -> Profile {
        if self.is_interpreted() { Profile::Small } else { Profile::Std64 }
    }

    pub fn is_interpreted(self) -> bool {
        matches!(self, Target::Pulley32 | Target::Pulley64)
    }

    /// The engine of *this* release for that target.
    pub fn engine_id(self) -> EngineId {
        EngineId(format!("wasmtime-{WASMTIME_VERSION}-p{PROFILE_VERSION}-{}", self.triple()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.triple())
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no engine for target `{0}`; there are {names}", names = Target::ALL.map(Target::triple).join(", "))]
pub struct UnknownTarget(pub String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Self, UnknownTarget> {
        Target::ALL.into_iter().find(|t| t.triple() == name).ok_or_else(|| UnknownTarget(name.to_string()))
    }
}

/// Names one engine: code compiled under an id loads exactly there. Fit for file names and topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EngineId(String);

impl EngineId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The target if this release's worker serves that id; `None` is a board of another release.
    pub fn served_target(&self) -> Option<Target> {
        Target::ALL.into_iter().find(|t| t.engine_id() == *self)
    }
}

impl From<String> for EngineId {
    fn from(id: String) -> Self {
        EngineId(id)
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The target whose code this binary runs.
pub const fn native_target() -> Target {
    if cfg!(target_arch = "x86_64") {
        Target::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Target::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        Target::Riscv64
    } else if cfg!(target_pointer_width = "32") {
        Target::Pulley32
    } else {
        Target::Pulley64
    }
}

#[cfg(not(all(target_os = "linux", target_endian = "little")))]
compile_error!("the engines are for little-endian Linux only");

/// The engine that this binary runs; what an agent reports to its hub.
pub fn native_engine() -> EngineId {
    native_target().engine_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for target in Target::ALL {
            assert_eq!(target.triple().parse::<Target>(), Ok(target));
            assert_eq!(serde_json::to_string(&target).unwrap(), format!("\"{target}\""));
            assert_eq!(target.engine_id().served_target(), Some(target));
        }
        let err = "armv7-unknown-linux-musleabihf".parse::<Target>().unwrap_err().to_string();
        assert!(err.contains("armv7") && err.contains("pulley32"), "{err}");
    }

    #[test]
    fn an_id_of_another_release_is_not_served() {
        let other = EngineId::from(native_engine().as_str().replace(WASMTIME_VERSION, "47.0.0"));
        assert_eq!(other.served_target(), None);
    }

    #[test]
    fn the_version_in_the_id_is_the_locked_one() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&entry), "WASMTIME_VERSION is not what Cargo.lock pins");
    }
}
