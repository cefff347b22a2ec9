//! The files of a run, and who writes each. This is the whole contract between agent and shim.
//!
//! ```text
//! <run-dir>/instances/<ns>.<name>.<slot>/<boots>-<number>/
//!   spec.json   agent   everything the shim needs; it never looks elsewhere
//!   shim.json   shim    who it is, written before the guest is created
//!   exit.json   shim    how the guest ended; the last thing it writes
//!   shim.log    shim    its own last words (a panic), for the evidence
//!   mounts/<n>  agent   tmpfs and volumes of this run
//!   bundle/ oci/  shim  of a container: mount points, the container's socket and record
//! ```
//!
//! Each file is written beside its name and renamed: it is whole or not there. Readers ignore fields
//! they do not know; `proto` grows only when a reader must not go on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use agent_core::api::DeviceId;
use contract::run::Assignment;
use contract::status::Exit;
use contract::{Attempt, InstanceId, Millis, RevisionId, RunId};
use oci::image::Defaults;
use oci::run::{Seccomp, Writable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::ProcessId;
use crate::cgroup::Cgroup;

pub const PROTO: u32 = 1;
/// Of one record. An assignment is at most a manifest's 64 KiB; JSON escapes may double it.
const RECORD_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not what it should be: {why}")]
    Malformed { path: PathBuf, why: String },
}

/// What a shim is told. Written by the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub proto: u32,
    pub instance: InstanceId,
    pub run: RunId,
    pub assignment: Assignment,
    /// Verified by the agent, immutable.
    pub artifact: PathBuf,
    pub cgroup: Cgroup,
    pub directories: Vec<Directory>,
    pub streams: Streams,
    /// There for a container, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerSpec>,
}

/// What a container's shim needs to know besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSpec {
    /// What the image says of itself.
    pub image: Defaults,
    /// Unpacked, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Of the payload, from each hierarchy's root.
    pub cgroups_path: String,
    pub seccomp: Seccomp,
    pub writable: Writable,
    /// Where the mounts of all instances are.
    pub neighbours: PathBuf,
    /// Which nodes it was started with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, DeviceId>,
}

/// A directory of the board that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    pub host: PathBuf,
    pub guest: String,
    pub read_only: bool,
}

/// Where the guest's output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Streams {
    /// Into the bounded log of the instance: `<directory>/<run>.log`.
    Log { directory: PathBuf, bytes_max: u64 },
    /// `edge-agent try`: the terminal's own streams, and the shim dies with the one who tries.
    Inherit,
}

/// Who the shim is. Written by the shim before the guest exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShimRecord {
    pub proto: u32,
    #[serde(flatten)]
    pub process: ProcessId,
    pub instance: InstanceId,
    pub revision: RevisionId,
    pub attempt: Attempt,
}

/// How it ended. Written by the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    pub proto: u32,
    pub exit: Exit,
    /// On the boottime clock.
    pub ended_ms: Millis,
}

/// The one line that a shim says to the agent that started it, over the status pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StatusLine {
    /// The guest's first instruction comes next.
    Started,
    /// It cannot be started like this. `again`: it did not work this time, and another try may.
    Failed {
        message: String,
        #[serde(default)]
        again: bool,
    },
}

/// The directory of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir(pub PathBuf);

impl RunDir {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn mounts(&self) -> PathBuf {
        self.0.join("mounts")
    }

    /// Where a container's root is mounted, in its shim's view.
    pub fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// Of a container: what whoever joins it needs to know.
    pub fn container_state(&self) -> PathBuf {
        self.0.join("oci")
    }

    pub fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    pub fn read_spec(&self) -> Result<Option<Spec>, RecordError> {
        read(&self.0.join("spec.json"))
    }

    pub fn write_spec(&self, spec: &Spec) -> Result<(), RecordError> {
        write(&self.0, "spec.json", spec)
    }

    pub fn read_shim(&self) -> Result<Option<ShimRecord>, RecordError> {
        read(&self.0.join("shim.json"))
    }

    pub fn write_shim(&self, record: &ShimRecord) -> Result<(), RecordError> {
        write(&self.0, "shim.json", record)
    }

    pub fn read_exit(&self) -> Result<Option<ExitRecord>, RecordError> {
        read(&self.0.join("exit.json"))
    }

    pub fn write_exit(&self, record: &ExitRecord) -> Result<(), RecordError> {
        write(&self.0, "exit.json", record)
    }

    /// The end of what the shim said in distress.
    pub fn last_words(&self) -> Option<String> {
        let mut text = Vec::new();
        File::open(self.shim_log()).ok()?.take(RECORD_BYTES_MAX).read_to_end(&mut text).ok()?;
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        (!lines.is_empty()).then(|| lines.into_iter().rev().collect::<Vec<_>>().join("; "))
    }
}

/// `None` when the file is not there.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let io = |source| RecordError::Io { path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(io)?,
    };
    // Most are smaller, and are read at once.
    let mut bytes = Vec::with_capacity(4 << 10);
    file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    let malformed = |why| RecordError::Malformed { path: path.to_path_buf(), why };
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(malformed(format!("longer than {RECORD_BYTES_MAX} bytes")));
    }
    let proto: Proto = serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
    if proto.proto > PROTO {
        return Err(malformed(format!("proto {} is newer than {PROTO}", proto.proto)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|e| malformed(e.to_string()))
}

#[derive(Deserialize)]
struct Proto {
    proto: u32,
}

/// No fsync: a run does not survive a reboot, and neither need its records (F4). The directory must
/// exist: a shim whose directory was removed finds out here and ends.
pub fn write<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), RecordError> {
    let path = dir.join(name);
    let tmp = dir.join(format!(".{name}.tmp"));
    let bytes = serde_json::to_vec(value).expect("records have string keys only");
    let put = File::create(&tmp).and_then(|mut f| f.write_all(&bytes)).and_then(|()| fs::rename(&tmp, &path));
    put.map_err(|source| RecordError::Io { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Controller, Version};

    fn exit_record() -> ExitRecord {
        ExitRecord { proto: PROTO, exit: Exit::Code { code: 3 }, ended_ms: 7 }
    }

    #[test]
    fn a_record_is_whole_absent_or_named() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = RunDir(tmp.path().to_path_buf());
        assert_eq!(dir.read_exit().unwrap(), None);
        dir.write_exit(&exit_record()).unwrap();
        assert_eq!(dir.read_exit().unwrap(), Some(exit_record()));
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);

        fs::write(tmp.path().join("exit.json"), "{\"proto\":1,\"exi").unwrap();
        assert!(dir.read_exit().unwrap_err().to_string().contains("exit.json"));
        fs::write(tmp.path().join("exit.json"), "{\"proto\":2}").unwrap();
        assert!(dir.read_exit().unwrap_err().to_string().contains("newer"));
        fs::write(tmp.path().join("exit.json"), vec![b' '; RECORD_BYTES_MAX as usize + 1]).unwrap();
        assert!(dir.read_exit().unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let text = r#"{"proto":1,"exit":{"name":"code","code":3},"endedMs":7,"later":true}"#;
        assert_eq!(serde_json::from_str::<ExitRecord>(text).unwrap(), exit_record());
    }

    /// A run outlives the agent that wrote its spec, and is cleared by the next version.
    #[test]
    fn a_spec_of_version_0_1_0_is_read_and_written_alike() {
        let text = include_str!("../../tests/golden/spec.json");
        let spec: Spec = serde_json::from_str(text).unwrap();
        let dirs = spec.cgroup.dirs.iter().map(|d| (d.version, d.controllers.as_slice()));
        let (cpu, rest) = ([Controller::Cpu], [Controller::Memory, Controller::Pids]);
        assert_eq!(dirs.collect::<Vec<_>>(), [(Version::V1, &cpu[..]), (Version::V2, &rest[..])]);
        assert_eq!(serde_json::to_string(&spec).unwrap(), text.trim_end());
    }

    #[test]
    fn a_removed_directory_stops_a_late_shim() {
        let dir = RunDir(PathBuf::from("/nonexistent/run"));
        assert!(matches!(dir.write_exit(&exit_record()), Err(RecordError::Io { .. })));
    }
}
