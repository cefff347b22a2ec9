//! What `edge-agent check` and `collect` can be told: as `run` is told it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use contract::AgentId;

use crate::cli::{RunDir, StateDir};

/// Which board. Flags left out are as the running agent was told, if one runs.
#[derive(Debug, Clone, Args)]
pub struct BoardArgs {
    #[command(flatten)]
    pub state: StateDir,
    #[command(flatten)]
    pub run: RunDir,
    /// The board's name in the fleet; the host name when left out
    #[arg(long, env = "SKERRY_AGENT_ID")]
    pub id: Option<AgentId>,
    /// The broker: mqtt://host:port of the hub; not looked for when left out and no agent runs
    #[arg(long, env = "SKERRY_BROKER")]
    pub broker: Option<String>,
    /// What all topics begin with
    #[arg(long, default_value = "skerry/v1")]
    pub prefix: String,
    /// The hub's public key (its file hub.pub)
    #[arg(long, env = "SKERRY_HUB_KEY", value_name = "FILE")]
    pub hub_key: Option<PathBuf>,
    /// The file with the broker's password for agents (the hub's file agent-token)
    #[arg(long, env = "SKERRY_AGENT_TOKEN", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// This cgroup controller (memory, cpu or pids) may be missing
    #[arg(long, value_name = "CONTROLLER")]
    pub allow_missing_cgroup: Vec<crate::cgroup::Controller>,
    /// Containers may run without a system call filter
    #[arg(long)]
    pub allow_missing_seccomp: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub board: BoardArgs,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}
