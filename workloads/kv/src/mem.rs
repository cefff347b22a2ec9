//! How do tests and the simulator get a store that keeps every promise, or breaks exactly when told?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::batch::Batch;
use crate::error::KvError;
use crate::layer::{self, Each, Engine, Source, Writes};
use crate::{Kv, Record};

/// The disk under a [`MemKv`]: it outlives the handle, as a file outlives its process.
#[derive(Debug, Clone, Default)]
pub struct MemDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    data: BTreeMap<Vec<u8>, Vec<u8>>,
    full: bool,
    fail_next: Option<KvError>,
    crash_next: Option<Crash>,
    in_use: bool,
    commits: u64,
}

/// Where the process dies in a commit. Both look alike to it: no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing of the batch is on disk.
    BeforeCommit,
    /// The whole batch is on disk, but nobody was told.
    AfterCommit,
}

impl MemDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the store; refused as [`KvError::Locked`] while another handle lives.
    pub fn open(&self) -> Result<MemKv, KvError> {
        let mut disk = self.lock();
        if disk.in_use {
            return Err(KvError::Locked { dir: place() });
        }
        disk.in_use = true;
        Ok(MemKv { disk: self.clone(), dead: None, dir: place() })
    }

    /// The next commit that would write answers with this. A refusal leaves the store working; any
    /// other error also kills the handle, as a real fault does.
    pub fn fail_next(&self, error: KvError) {
        self.lock().fail_next = Some(error);
    }

    /// Whether each commit that would write is refused for want of room.
    pub fn fill(&self, full: bool) {
        self.lock().full = full;
    }

    /// The process dies in the next commit that would write.
    pub fn crash_next(&self, crash: Crash) {
        self.lock().crash_next = Some(crash);
    }

    /// Durable writes so far: what a test counts to see that nothing is written at idle.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn place() -> PathBuf {
    PathBuf::from("memory")
}

/// A store in memory. Dropping it closes it; what was committed stays on its [`MemDisk`].
#[derive(Debug)]
pub struct MemKv {
    disk: MemDisk,
    dead: Option<KvError>,
    dir: PathBuf,
}

impl MemKv {
    /// A store on a disk of its own, for tests that never open twice.
    pub fn new() -> Self {
        let disk = MemDisk(Arc::new(Mutex::new(Disk { in_use: true, ..Disk::default() })));
        MemKv { disk, dead: None, dir: place() }
    }

    pub fn disk(&self) -> &MemDisk {
        &self.disk
    }

    fn alive(&self) -> Result<(), KvError> {
        self.dead.clone().map_or(Ok(()), Err)
    }

    fn die(&mut self, why: &str) -> KvError {
        let error = KvError::Broken { dir: place(), why: why.to_owned() };
        self.dead = Some(error.clone());
        error
    }
}

impl Default for MemKv {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemKv {
    fn drop(&mut self) {
        self.disk.lock().in_use = false;
    }
}

impl Kv for MemKv {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        layer::get(self, key)
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<Record>, KvError> {
        layer::scan(self, prefix)
    }

    fn commit_all(&mut self, batches: Vec<Batch>) -> Vec<Result<(), KvError>> {
        layer::commit_all(self, batches)
    }
}

impl Source for MemKv {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.alive()?;
        Ok(self.disk.lock().data.get(key).cloned())
    }

    fn walk(&self, prefix: &[u8], each: Each<'_>) -> Result<(), KvError> {
        self.alive()?;
        let under = |(key, _): &(&Vec<u8>, &Vec<u8>)| key.starts_with(prefix);
        // Copied, because `each` reads pieces from the same disk.
        let found: Vec<Record> = (self.disk.lock().data.range(prefix.to_vec()..))
            .take_while(under)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        found.iter().try_for_each(|(key, value)| each(key, value))
    }
}

impl Engine for MemKv {
    fn write(&mut self, writes: Writes) -> Result<(), KvError> {
        self.alive()?;
        let (fail, crash) = {
            let mut disk = self.disk.lock();
            if disk.full {
                return Err(KvError::Full { dir: place(), needed: 1, free: 0 });
            }
            (disk.fail_next.take(), disk.crash_next.take())
        };
        if let Some(error) = fail {
            if !error.is_refusal() {
                self.dead = Some(error.clone());
            }
            return Err(error);
        }
        if crash == Some(Crash::BeforeCommit) {
            return Err(self.die("crashed before the commit"));
        }
        self.disk.lock().apply(writes);
        match crash {
            Some(_) => Err(self.die("crashed after the commit")),
            None => Ok(()),
        }
    }
}

impl Disk {
    fn apply(&mut self, writes: Writes) {
        self.commits += 1;
        for (key, value) in writes {
            match value {
                Some(value) => self.data.insert(key, value),
                None => self.data.remove(&key),
            };
        }
    }
}
