//! What `edge-agent run` can be told.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use contract::AgentId;
use contract::label::{self, LabelError};

/// Runs the agent: starts the last-known-good work at once, then looks for the hub.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The board's name in the fleet: 1 to 63 of a-z, 0-9 and '-'. The host name when left out; on a board
    /// that has joined, what the hub calls it.
    #[arg(long, env = "SKERRY_AGENT_ID")]
    pub id: Option<AgentId>,

    /// The broker of a hub on this machine: mqtt://host:port. A board that has joined knows its own.
    #[arg(long, env = "SKERRY_BROKER", default_value = "mqtt://127.0.0.1:1883")]
    pub broker: String,

    /// What all topics begin with.
    #[arg(long, default_value = "skerry/v1")]
    pub prefix: String,

    /// The public key of a hub on this machine (its file hub.pub), instead of joining: documents and code
    /// signed by another are refused.
    #[arg(long, env = "SKERRY_HUB_KEY", value_name = "FILE")]
    pub hub_key: Option<PathBuf>,

    /// A file with a join token, on a board that has not joined; it is removed once it was read. When left
    /// out: skerry-join.json on the boot partition (/boot/firmware or /boot).
    #[arg(long, value_name = "FILE")]
    pub join_file: Option<PathBuf>,

    /// The file with the broker's password for agents (the hub's file agent-token).
    #[arg(long, env = "SKERRY_AGENT_TOKEN", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    #[command(flatten)]
    pub place: crate::cli::StateDir,

    /// What must survive the agent but not the board.
    #[arg(long, env = "SKERRY_RUN_DIR", default_value = "/run/skerry/agent", value_name = "DIR")]
    pub run_dir: PathBuf,

    /// The cgroup below which workloads run, in each controller. /skerry/<id> when left out.
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// A label of this board, key=value; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,

    /// What the board gives to workloads, such as 1500m; all its cores when left out.
    #[arg(long)]
    pub cpu: Option<contract::quantity::Cpu>,

    /// What the board gives to workloads, such as 192Mi; three quarters of its memory when left out.
    #[arg(long)]
    pub memory: Option<contract::quantity::Bytes>,

    /// Seconds between MQTT pings. A day of pings at 900 costs some 20 KiB.
    #[arg(long, default_value_t = 900, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub keep_alive: u64,

    /// The longest pause, in seconds, between attempts to reach a broker that is not there. They begin
    /// with one second and double.
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub reconnect_max: u64,

    /// Go on although this cgroup controller is missing (memory, cpu or pids): its limits are then
    /// not enforced. May be given several times.
    #[arg(long, value_name = "CONTROLLER")]
    pub allow_missing_cgroup: Vec<crate::cgroup::Controller>,

    /// Run containers although there is no system call filter for this board (32-bit ARM has none).
    #[arg(long)]
    pub allow_missing_seccomp: bool,
}

#[derive(Debug, Clone)]
pub struct Label(pub String, pub String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Label, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not key=value"))?;
        let refused = |why: LabelError| format!("'{text}': {why}");
        label::check_key(key).map_err(refused)?;
        label::check_value(value).map_err(refused)?;
        Ok(Label(key.to_string(), value.to_string()))
    }
}

/// The host name as an id, when it is one.
pub fn agent_id(given: &Option<AgentId>) -> Result<AgentId, String> {
    if let Some(id) = given {
        return Ok(id.clone());
    }
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy().to_lowercase();
    let host = host.split('.').next().unwrap_or_default().to_string();
    host.parse().map_err(|why| format!("the host name cannot be this board's id ({why}); give one with --id"))
}

/// Loopback, as far as one can tell without asking anybody.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
