//! Which directories a runtime uses, and what the names in them mean.

use std::fs;
use std::io;
use std::path::PathBuf;

use contract::{InstanceId, RunId};

use super::record::RunDir;

/// Bytes of log kept per instance when nothing else is said: the present run's two segments and the
/// previous run's, a quarter each.
pub const LOG_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Volatile, best a tmpfs: `/run/skerry/<agent>`.
    pub run_dir: PathBuf,
    /// Durable; volumes live in it.
    pub state_dir: PathBuf,
    pub log_dir: PathBuf,
}

impl Places {
    /// The usual arrangement: logs are kept on the state directory's disk and survive a reboot.
    pub fn new(run_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>) -> Places {
        let state_dir = state_dir.into();
        Places { run_dir: run_dir.into(), log_dir: state_dir.join("logs"), state_dir }
    }

    pub fn instances(&self) -> PathBuf {
        self.run_dir.join("instances")
    }

    pub fn instance(&self, instance: &InstanceId) -> PathBuf {
        self.instances().join(instance.file_name())
    }

    pub fn run(&self, instance: &InstanceId, run: RunId) -> RunDir {
        RunDir(self.instance(instance).join(run.to_string()))
    }

    pub fn volumes(&self, instance: &InstanceId) -> PathBuf {
        self.state_dir.join("volumes").join(instance.file_name())
    }

    /// Where containers' writable layers are made; each loses its name when it is mounted.
    pub fn writable(&self) -> PathBuf {
        self.state_dir.join("writable")
    }

    pub fn logs(&self, instance: &InstanceId) -> PathBuf {
        self.log_dir.join(instance.file_name())
    }

    /// Every run that has a directory. Names that no agent gave are left alone.
    pub fn runs(&self) -> io::Result<Vec<(InstanceId, RunId)>> {
        let mut runs = Vec::new();
        for instance in names(self.instances())? {
            let Ok(id) = InstanceId::from_file_name(&instance) else { continue };
            let run_names = names(self.instances().join(&instance))?;
            runs.extend(run_names.iter().filter_map(|n| n.parse().ok()).map(|run| (id.clone(), run)));
        }
        runs.sort();
        Ok(runs)
    }
}

fn names(dir: PathBuf) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other?,
    };
    entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
}

/// The name of a run's cgroup. Flat, one level below the parent: each level costs on every charge.
pub fn cgroup_name(instance: &InstanceId, run: RunId) -> String {
    format!("{}.{run}", instance.file_name())
}

/// The inverse of [`cgroup_name`].
pub fn from_cgroup_name(name: &str) -> Option<(InstanceId, RunId)> {
    let (instance, run) = name.rsplit_once('.')?;
    Some((InstanceId::from_file_name(instance).ok()?, run.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_strangers_are_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let places = Places::new(tmp.path(), tmp.path());
        assert_eq!(places.runs().unwrap(), []);
        let id: InstanceId = "plant/press/3".parse().unwrap();
        let run = RunId { boots: 2, number: 9 };
        assert_eq!(from_cgroup_name(&cgroup_name(&id, run)), Some((id.clone(), run)));
        fs::create_dir_all(places.run(&id, run).path()).unwrap();
        fs::create_dir_all(places.instances().join("lost+found/x")).unwrap();
        fs::create_dir_all(places.instance(&id).join("note")).unwrap();
        fs::write(places.instances().join("plant.file.0"), "").unwrap();
        assert_eq!(places.runs().unwrap(), [(id, run)]);
    }
}
