//! The agent's unit, as systemd has it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::output_within;
use crate::check::facts::Unit;

const USUAL: &str = "edge-agent.service";
const PROPERTIES: &str = "LoadState,Restart,StartLimitIntervalUSec,WatchdogUSec,KillMode,Delegate,ControlGroup,ExecStart,RuntimeDirectory,\
                          RuntimeDirectoryPreserve,PrivateMounts,PrivateTmp,PrivateDevices,ProtectHome,ProtectSystem";

pub fn unit(agent: Option<u32>) -> Option<Unit> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let name = agent.and_then(unit_of).unwrap_or_else(|| USUAL.to_string());
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property", PROPERTIES, "--", &name]);
    let said = output_within(command, Duration::from_secs(3), 64 << 10)?;
    let pairs = said.lines().filter_map(|line| line.split_once('='));
    Some(Unit { name, properties: pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect() })
}

/// Of the last path element that is a service, in whichever hierarchy systemd keeps.
fn unit_of(pid: u32) -> Option<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let paths = table.lines().filter(|line| line.starts_with("0::") || line.contains(":name=systemd:"));
    paths.flat_map(|line| line.rsplit('/')).find(|part| part.ends_with(".service")).map(ToString::to_string)
}
