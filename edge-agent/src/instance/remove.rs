//! Remove: processes, mounts, cgroup, directory, in this order, so that the name goes last. May be
//! repeated after a crash at any point; all waits are bounded.

use std::fs;
use std::io;
use std::time::Duration;

use contract::{InstanceId, RunId};
use tokio::time::{Instant, sleep, timeout_at};

use super::failpoint::reach;
use super::identity::open_pid;
use super::mounts;
use super::pidfd::Handle;
use super::place::cgroup_name;
use super::record::RunDir;
use super::runtime::{RemoveError, Runtime};
use crate::cgroup::{Cgroup, CgroupError};

/// A cgroup is busy for a moment after its last process ended: 1, 2, 4 … 128 ms, 0.25 s in all.
const BUSY_RETRIES: u32 = 8;

impl Runtime {
    /// Clears what a run left, and kills it if it lives. The log stays, and volumes stay.
    pub async fn remove(&self, instance: &InstanceId, run: RunId) -> Result<(), RemoveError> {
        let dir = self.0.settings.places.run(instance, run);
        reach("before-remove");
        let cgroup = self.cgroup_of(&dir, instance, run);
        self.kill_all(&dir, &cgroup).await?;
        if let Some(live) = self.live(&(instance.clone(), run)) {
            // Its end is told before its records go.
            live.told().await;
        }
        reach("after-kill");
        unmount(&dir).await?;
        reach("after-unmount");
        self.remove_cgroup(&dir, &cgroup).await?;
        reach("after-cgroup-removed");
        self.remove_directory(&dir, &cgroup).await?;
        // Gone with its last run; never when another run is in it.
        let _ = fs::remove_dir(self.0.settings.places.instance(instance));
        Ok(())
    }

    /// As the spec names it, for the agent's settings may have changed since.
    fn cgroup_of(&self, dir: &RunDir, instance: &InstanceId, run: RunId) -> Cgroup {
        match dir.read_spec() {
            Ok(Some(spec)) => spec.cgroup,
            _ => self.0.settings.cgroups.split_leaf(&cgroup_name(instance, run)),
        }
    }

    /// A process may be born while others are killed: again until none is there.
    async fn kill_all(&self, dir: &RunDir, cgroup: &Cgroup) -> Result<(), RemoveError> {
        let waited = self.0.settings.kill_deadline;
        let deadline = Instant::now() + waited;
        cgroup.thaw();
        loop {
            let alive = alive(dir, cgroup);
            if alive.is_empty() {
                return Ok(());
            }
            let pids: Vec<u32> = alive.iter().map(|(pid, _)| *pid).collect();
            alive.iter().for_each(|(_, handle)| handle.kill());
            let shim = dir.read_shim().ok().flatten().map(|shim| shim.process.pid);
            for (pid, handle) in alive {
                timeout_at(deadline, handle.ended())
                    .await
                    .map_err(|_| RemoveError::Unkillable { pids: pids.clone(), waited })?;
                // What a shim leaves behind comes to this process. The shim's own end is asked for elsewhere.
                if Some(pid) != shim {
                    let _ = handle.ending();
                }
            }
        }
    }

    async fn remove_cgroup(&self, dir: &RunDir, cgroup: &Cgroup) -> Result<(), RemoveError> {
        for retry in 0..BUSY_RETRIES {
            match cgroup.remove() {
                Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                    self.kill_all(dir, cgroup).await?;
                    sleep(Duration::from_millis(1 << retry)).await;
                }
                other => return Ok(other?),
            }
        }
        Ok(cgroup.remove()?)
    }

    /// A shim that was spawned a moment before its agent died may still write why it cannot begin.
    async fn remove_directory(&self, dir: &RunDir, cgroup: &Cgroup) -> Result<(), RemoveError> {
        let path = dir.path();
        let io = |source| RemoveError::Io { path: path.to_path_buf(), source };
        for retry in 0..BUSY_RETRIES {
            match fs::remove_dir_all(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    self.kill_all(dir, cgroup).await?;
                    sleep(Duration::from_millis(1 << retry)).await;
                }
                other => return other.map_err(io),
            }
        }
        fs::remove_dir_all(path).map_err(io)
    }
}

/// What is in the cgroup, and the shim even if it never got there.
fn alive(dir: &RunDir, cgroup: &Cgroup) -> Vec<(u32, Handle)> {
    let inside = cgroup.processes().into_iter().filter_map(|pid| Some((pid, open_pid(pid).ok()?)));
    let shim = dir.read_shim().ok().flatten().and_then(|s| Some((s.process.pid, s.process.open()?)));
    inside.chain(shim).filter_map(|(pid, fd)| Some((pid, Handle::new(fd).ok()?))).collect()
}

async fn unmount(dir: &RunDir) -> Result<(), RemoveError> {
    let io = |source| RemoveError::Io { path: dir.mounts(), source };
    let points = mounts::present(dir).map_err(io)?;
    if points.is_empty() {
        return Ok(());
    }
    tokio::task::spawn_blocking(move || mounts::unmake(&points))
        .await
        .map_err(|e| io(io::Error::other(e)))??;
    // The directory is deleted next; never through a mount.
    match mounts::present(dir).map_err(io)?.as_slice() {
        [] => Ok(()),
        [still, ..] => {
            Err(RemoveError::Io { path: still.clone(), source: io::ErrorKind::ResourceBusy.into() })
        }
    }
}
