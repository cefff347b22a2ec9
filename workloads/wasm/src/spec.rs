//! Plain data between an agent and its shim: what to run, and how it ended. No wasmtime in here.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One instance of a guest, ready to run: everything is resolved, nothing is looked up any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunConfig {
    /// Code that the hub compiled for [`crate::native_engine`]; see the safety note of `run::run`.
    pub module: PathBuf,
    /// `args[0]` is the workload's name.
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<(String, String)>,
    #[serde(default)]
    pub preopens: Vec<Preopen>,
    #[serde(default)]
    pub network: Network,
    /// All linear memories and tables together. A growth above it fails inside the guest (its `malloc`
    /// returns NULL), well before the cgroup kills; leave about 4 MiB below the cgroup's limit.
    pub memory_limit_bytes: u64,
    #[serde(default)]
    pub stdin: Stdin,
}

/// A directory of the host that the guest sees. WASI knows directories only: to offer one file, put it
/// into a directory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preopen {
    pub host_dir: PathBuf,
    pub guest_path: String,
    #[serde(default)]
    pub read_only: bool,
}

/// Sockets by these lists and no others. Only preview 2 components can use them: preview 1 has no calls
/// that open a socket, and wasmtime does not implement its `sock_accept`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    #[serde(default)]
    pub mode: NetworkMode,
    /// `host:port`; the host is a name, an IPv4 address or an IPv6 address in brackets.
    #[serde(default)]
    pub connect: Vec<String>,
    /// Ports to listen on, TCP and UDP.
    #[serde(default)]
    pub listen: Vec<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    /// No sockets and no name lookup, whatever the lists say.
    #[default]
    None,
    /// The host's network, within the lists.
    Host,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stdin {
    #[default]
    Null,
    /// The process's own. A guest that reads it costs one more thread.
    Inherit,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It returned (0) or left by itself.
    Code(i32),
    /// The guest did what WebAssembly or WASI forbids.
    Trap {
        /// wasmtime's name of the trap, `OutOfBoundsMemory…`; `Host` for a fault in a host call.
        name: String,
        /// `wasm trap: out of bounds memory access`
        message: String,
        /// Innermost frames first, at most [`BACKTRACE_FRAMES_MAX`].
        backtrace: Vec<String>,
    },
    /// It never ran.
    Failed { stage: Stage, message: String },
}

pub const BACKTRACE_FRAMES_MAX: usize = 8;

/// What a start had reached when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    Config,
    Mount,
    Load,
    Link,
    Instantiate,
}

/// The exit and what stood around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    pub exit: Exit,
    pub memory: MemoryUse,
}

/// Linear memories and tables; `denied > 0` with a trap or a code ≠ 0 reads as "out of memory".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUse {
    pub limit_bytes: u64,
    pub peak_bytes: u64,
    /// How often a growth was refused, and what the last one would have made of the total.
    pub denied: u64,
    pub denied_bytes: u64,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Config => "read its configuration",
            Stage::Mount => "mount",
            Stage::Load => "load",
            Stage::Link => "link",
            Stage::Instantiate => "instantiate",
        })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Trap { message, .. } => f.write_str(message),
            Exit::Failed { stage, message } => write!(f, "could not {stage}: {message}"),
        }
    }
}

/// One line for events and status.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.exit)?;
        let m = self.memory;
        if m.denied > 0 && self.exit != Exit::Code(0) && !matches!(self.exit, Exit::Failed { .. }) {
            write!(
                f,
                " (memory limit of {} reached {}×, last asked for {})",
                Mebibytes(m.limit_bytes),
                m.denied,
                Mebibytes(m.denied_bytes)
            )?;
        }
        Ok(())
    }
}

/// Bytes as people write them.
pub(crate) struct Mebibytes(pub u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.0 as f64 / f64::from(1 << 20);
        if mib.fract() == 0.0 { write!(f, "{mib} MiB") } else { write!(f, "{mib:.1} MiB") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_reads_as_one_line() {
        let memory =
            MemoryUse { limit_bytes: 8 << 20, peak_bytes: 7 << 20, denied: 2, denied_bytes: 9 << 20 };
        let trap = |memory| Ended {
            exit: Exit::Trap {
                name: "X".into(),
                message: "wasm trap: unreachable".into(),
                backtrace: vec![],
            },
            memory,
        };
        assert_eq!(
            trap(memory).to_string(),
            "wasm trap: unreachable (memory limit of 8 MiB reached 2×, last asked for 9 MiB)"
        );
        assert_eq!(trap(MemoryUse::default()).to_string(), "wasm trap: unreachable");
        assert_eq!(Ended { exit: Exit::Code(0), memory }.to_string(), "exit code 0");
        let failed = Exit::Failed { stage: Stage::Mount, message: "no /data".into() };
        assert_eq!(Ended { exit: failed, memory }.to_string(), "could not mount: no /data");
    }

    #[test]
    fn what_is_left_out_is_the_strict_side() {
        let text = r#"{"module":"/m","args":["x"],"memoryLimitBytes":1,"preopens":[
            {"hostDir":"/d","guestPath":"/d"}],"later":1}"#;
        let config: RunConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.network.mode, config.stdin), (NetworkMode::None, Stdin::Null));
        assert_eq!(
            serde_json::from_str::<RunConfig>(&serde_json::to_string(&config).unwrap()).unwrap(),
            config
        );
    }
}
