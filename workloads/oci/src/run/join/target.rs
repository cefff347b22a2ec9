//! The container that is to be joined: what it was created as, and its first process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use libcontainer::oci_spec::runtime::Spec;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use seccompiler::BpfProgram;
use serde::Deserialize;
use serde_json::json;

use crate::run::cgroup::Cgroups;
use crate::run::settings::{Hidden, Seccomp, Settings};
use crate::run::{RunError, fault, refused, seccomp};

const OWN_PIDS: &str = "/proc/self/ns/pid";

const RECORD: &str = "container.json";

/// What a further process has in common with the first.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    process: Process,
    cgroups_path: String,
    #[serde(default)]
    hidden: Option<Hidden>,
}

/// Before there is a process that could be joined. No fsync: it is gone with the container.
pub fn write_record(state: &Path, spec: &Spec, settings: &Settings) -> Result<(), RunError> {
    let path = state.join(RECORD);
    let mut process = json!(spec.process());
    if let Some(env) = process["env"].as_array_mut() {
        let hidden = |name: &str| settings.hidden.as_ref().is_some_and(|hidden| hidden.names.contains(name));
        let is_hidden = |text: &str| text.split_once('=').is_some_and(|(name, _)| hidden(name));
        env.retain(|entry| !entry.as_str().is_some_and(is_hidden));
    }
    let record = json!({"process": process, "cgroupsPath": settings.cgroups_path, "hidden": settings.hidden});
    fs::write(&path, record.to_string()).map_err(fault(path.display().to_string()))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub user: Ids,
    #[serde(default)]
    pub env: Vec<String>,
    pub cwd: String,
    #[serde(default)]
    no_new_privileges: bool,
    #[serde(default)]
    pub capabilities: Capabilities,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub additional_gids: Vec<u32>,
}

/// Names with `CAP_`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub bounding: BTreeSet<String>,
    pub effective: BTreeSet<String>,
    pub permitted: BTreeSet<String>,
    pub inheritable: BTreeSet<String>,
    pub ambient: BTreeSet<String>,
}

pub struct Target {
    pub process: Process,
    pub cgroups: Cgroups,
    /// Of the first process, as this process numbers it.
    pub pid: u32,
    pids: File,
    own_pids: File,
    /// The mount namespace last: from there on paths are the container's.
    others: Vec<(LinkNameSpaceType, File)>,
}

impl Target {
    pub fn find(state: &Path) -> Result<Target, RunError> {
        let mut record = read(&state.join(RECORD))?;
        let cgroups = Cgroups::at(&record.cgroups_path)?;
        let gone = || refused("container", "it does not run");
        let pid = first_process(&cgroups).ok_or_else(gone)?;
        let open = |kind: &str| {
            let path = format!("/proc/{pid}/ns/{kind}");
            File::open(&path).map_err(fault(path))
        };
        use LinkNameSpaceType::{
            ControlGroup, HostNameAndNISDomainName, InterProcessCommunication, Mount, Network,
        };
        let mut others = Vec::new();
        for (kind, name) in [
            (InterProcessCommunication, "ipc"),
            (HostNameAndNISDomainName, "uts"),
            (Network, "net"),
            (ControlGroup, "cgroup"),
            (Mount, "mnt"),
        ] {
            others.push((kind, open(name)?));
        }
        record.process.env.extend(record.hidden.iter().map(values).collect::<Result<Vec<_>, _>>()?.concat());
        let own_pids = File::open(OWN_PIDS).map_err(fault(OWN_PIDS))?;
        let target = Target { process: record.process, pid, pids: open("pid")?, own_pids, others, cgroups };
        // Were the number another's by now, all of the above would be another's too.
        let same = first_process(&target.cgroups) == Some(pid);
        if same { Ok(target) } else { Err(gone()) }
    }

    /// From here on this process's children are the container's.
    pub fn enter_pids(&self) -> Result<(), RunError> {
        let entered = move_into_link_name_space(self.pids.as_fd(), Some(LinkNameSpaceType::ProcessID));
        entered.map_err(|e| fault("the container's process ids")(e.into()))
    }

    /// And not any more: threads could not be started either.
    pub fn leave_pids(&self) -> Result<(), RunError> {
        let left = move_into_link_name_space(self.own_pids.as_fd(), Some(LinkNameSpaceType::ProcessID));
        left.map_err(|e| fault("back from the container's process ids")(e.into()))
    }

    /// All others. What the container shares with the board is joined like what is its own.
    pub fn enter(&self) -> rustix::io::Result<()> {
        self.others.iter().try_for_each(|(kind, file)| move_into_link_name_space(file.as_fd(), Some(*kind)))
    }

    /// The same as the container's: one setting says both.
    pub fn filters(&self) -> Result<Vec<BpfProgram>, RunError> {
        let seccomp = if self.process.no_new_privileges { Seccomp::Default } else { Seccomp::Off };
        seccomp::filters(seccomp, &self.process.capabilities.bounding)
    }
}

/// `NAME=value` of each.
fn values(hidden: &Hidden) -> Result<Vec<String>, RunError> {
    let text = fs::read(&hidden.file).map_err(fault(hidden.file.display().to_string()))?;
    let values: BTreeMap<String, String> =
        serde_json::from_slice(&text).map_err(|e| fault(hidden.file.display().to_string())(e.into()))?;
    Ok(values.iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn read(path: &Path) -> Result<Record, RunError> {
    let bytes = match fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(refused("container", format!("none runs here: there is no {}", path.display())));
        }
        other => other.map_err(fault(path.display().to_string()))?,
    };
    serde_json::from_slice(&bytes).map_err(|e| refused("container", format!("{}: {e}", path.display())))
}

/// Number 1 of the container's own process ids. Whoever is in its cgroup is of the container: no record could be
/// older than this.
fn first_process(cgroups: &Cgroups) -> Option<u32> {
    let own = depth(std::process::id())?;
    cgroups
        .processes()
        .into_iter()
        .find(|pid| numbers(*pid).is_some_and(|n| n.len() == own + 1 && n[own] == 1))
}

fn depth(pid: u32) -> Option<usize> {
    Some(numbers(pid)?.len())
}

/// A process has a number in each namespace that it is in, the outermost first.
fn numbers(pid: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|n| n.parse().ok()).collect()
}
