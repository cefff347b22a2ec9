//! The board's runs as the agent's loop sees them: what is alive, and a promise to say once how each ended.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use contract::status::Exit;
use contract::{InstanceId, RunId};
use oci::run::Seccomp;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::exit::conclude;
use super::identity::open_pid;
use super::pidfd::Handle;
use super::place::Places;
use super::signal;
use crate::cgroup::{Cgroup, Tree};

/// What a runtime needs to know of its board.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This binary again: `/proc/self/exe` keeps its pages shared with the agent's.
    pub shim_exe: PathBuf,
    pub places: Places,
    pub cgroups: Tree,
    /// Of containers.
    pub seccomp: Seccomp,
    /// Per instance, both runs that are kept.
    pub log_bytes_max: u64,
    /// `edge-agent try`: guests have this process's own streams, and end with it.
    pub inherit_streams: bool,
    /// From the call of `start` to the guest's first instruction, a new volume's mkfs included.
    pub start_deadline: Duration,
    /// From SIGKILL to the end: only a process in uninterruptible sleep takes longer.
    pub kill_deadline: Duration,
}

impl Settings {
    pub fn new(places: Places, cgroups: Tree) -> Settings {
        Settings {
            shim_exe: "/proc/self/exe".into(),
            places,
            cgroups,
            seccomp: Seccomp::Default,
            log_bytes_max: super::LOG_BYTES_MAX,
            inherit_streams: false,
            start_deadline: Duration::from_secs(30),
            kill_deadline: Duration::from_secs(10),
        }
    }
}

/// A run that `start` began or `scan` found has ended. Said once each.
#[derive(Debug, Clone, PartialEq)]
pub struct Exited {
    pub instance: InstanceId,
    pub run: RunId,
    pub exit: Exit,
}

/// How long the lock of an agent that died may still be seen: a process that it spawned in its last moment
/// holds a copy of the descriptor until its exec is through.
const LOCK_RETRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

fn lock(places: &Places) -> io::Result<File> {
    let path = places.run_dir.join("lock");
    let lock = File::create(&path)?;
    lock_patiently(&lock).map_err(|_| {
        let text = format!("{} is held by another agent", path.display());
        io::Error::new(io::ErrorKind::AddrInUse, text)
    })?;
    Ok(lock)
}

/// To be called before anything runs that could be held up.
pub(crate) fn lock_patiently(file: &File) -> rustix::io::Result<()> {
    for _ in 1..LOCK_RETRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    pub pid: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It can never work like this; trying again is pointless.
    #[error("{0}")]
    Refused(String),
    /// It did not work this time.
    #[error("{0}")]
    Fault(String),
    #[error("did not start within {} s", .0.as_secs())]
    Deadline(Duration),
}

#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("process {pid} still runs {} s after SIGKILL: it hangs in the kernel", .waited.as_secs())]
    Unkillable { pid: u32, waited: Duration },
}

#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error("processes {pids:?} still run {} s after SIGKILL: they hang in the kernel", .waited.as_secs())]
    Unkillable { pids: Vec<u32>, waited: Duration },
    #[error(transparent)]
    Mount(#[from] super::mounts::MountError),
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    #[error("{path}")]
    Io { path: PathBuf, source: io::Error },
}

pub(super) type Key = (InstanceId, RunId);

/// A run that is alive.
#[derive(Clone)]
pub(super) struct Live {
    pub pid: u32,
    pub handle: Handle,
    /// True after its end has been told.
    ended: watch::Receiver<bool>,
}

impl Live {
    /// Until its `Exited` is in the channel.
    pub async fn told(&self) {
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

/// Cheap to clone; all clones are one. Lives in a tokio runtime with I/O and time enabled, of any flavour.
///
/// Every future of it may be dropped at any time: a start that is dropped kills what it spawned, and what
/// is left is named by the directory and cleared by `remove`, which may be called as often as one likes.
#[derive(Clone)]
pub struct Runtime(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub settings: Settings,
    live: Mutex<HashMap<Key, Live>>,
    exits: mpsc::UnboundedSender<Exited>,
    /// Held for as long as this process lives.
    _lock: File,
}

impl Runtime {
    /// One runtime per run directory: a second agent is refused. The channel holds at most one message per
    /// run, so it is bounded by what the caller starts.
    pub fn open(mut settings: Settings) -> io::Result<(Runtime, mpsc::UnboundedReceiver<Exited>)> {
        let places = &mut settings.places;
        for dir in [&mut places.run_dir, &mut places.state_dir, &mut places.log_dir] {
            *dir = std::path::absolute(&dir)?;
        }
        // Specs hold what workloads are told, secrets too.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(places.instances())?;
        let lock = lock(places)?;
        // Orphans of a shim that died come to us and can be reaped.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (exits, ends) = mpsc::unbounded_channel();
        let inner = Inner { settings, live: Mutex::default(), exits, _lock: lock };
        Ok((Runtime(Arc::new(inner)), ends))
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The run's process, if it lives.
    pub fn pid(&self, instance: &InstanceId, run: RunId) -> Option<u32> {
        self.live(&(instance.clone(), run)).map(|l| l.pid)
    }

    /// Sends the signal, waits out the grace, kills. Returns when the run has ended and its `Exited` is in
    /// the channel; at once when it is not alive. A name that is no signal counts as TERM: `start` refuses
    /// it long before.
    pub async fn stop(
        &self,
        instance: &InstanceId,
        run: RunId,
        signal_name: &str,
        grace: Duration,
    ) -> Result<(), StopError> {
        let Some(live) = self.live(&(instance.clone(), run)) else { return Ok(()) };
        let container = self.container_of(instance, run);
        let number = signal::number(signal_name).unwrap_or(libc::SIGTERM);
        // A container's shim hands signals on; these two it would not live to see.
        let passes = container.is_none() || number != libc::SIGKILL && number != libc::SIGSTOP;
        if passes {
            live.handle.signal(number);
            if timeout(grace, live.told()).await.is_ok() {
                return Ok(());
            }
        }
        let waited = self.0.settings.kill_deadline;
        if let Some(cgroup) = container {
            // So that its shim can tell the end.
            kill_payload(&cgroup);
            if timeout(waited / 2, live.told()).await.is_ok() {
                return Ok(());
            }
        }
        live.handle.kill();
        timeout(waited, live.told()).await.map_err(|_| StopError::Unkillable { pid: live.pid, waited })
    }

    /// The cgroup, when it is a container's.
    fn container_of(&self, instance: &InstanceId, run: RunId) -> Option<Cgroup> {
        let spec = self.0.settings.places.run(instance, run).read_spec().ok()??;
        Some(spec.cgroup).filter(|cgroup| cgroup.split)
    }

    pub(super) fn live(&self, key: &Key) -> Option<Live> {
        self.table().get(key).cloned()
    }

    /// Another run of the same instance that is still alive.
    pub(super) fn other_live_run(&self, instance: &InstanceId) -> Option<RunId> {
        self.table().keys().find(|(id, _)| id == instance).map(|(_, run)| *run)
    }

    /// From now on the end of this run will be told.
    pub(super) fn watch(&self, key: Key, pid: u32, handle: Handle) {
        let (told, ended) = watch::channel(false);
        self.table().insert(key.clone(), Live { pid, handle: handle.clone(), ended });
        let runtime = self.clone();
        tokio::spawn(async move {
            handle.ended().await;
            let dir = runtime.0.settings.places.run(&key.0, key.1);
            let exit = conclude(&dir, handle.ending());
            runtime.table().remove(&key);
            // The receiver is gone only when the agent is going down.
            let _ = runtime.0.exits.send(Exited { instance: key.0, run: key.1, exit });
            let _ = told.send(true);
        });
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kill_payload(cgroup: &Cgroup) {
    cgroup.thaw();
    for pid in cgroup.payload() {
        if let Ok(handle) = open_pid(pid).and_then(Handle::new) {
            handle.kill();
        }
    }
}
