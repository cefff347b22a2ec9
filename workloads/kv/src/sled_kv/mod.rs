//! How does sled become a store that can be trusted? Each file here settles one part: `database`
//! (the calls into sled), `prepare` (what must be put right before it looks), `guard` (an open that
//! panics or hangs), `aside` (a store that cannot be opened), `room` (the full disk), `slack`
//! (sled's idle threads). README.md tells for each workaround why it is there.

mod aside;
mod database;
mod guard;
mod prepare;
mod room;
mod slack;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::error::KvError;
use crate::layer::{self, Each, Engine, Source, Writes};
use crate::{Kv, Record};
use database::Database;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of the file that keeps room for the last commits on a full disk; 0 for none.
    pub reserve_bytes: u64,
    /// An open that takes longer counts as hung. Opening reads every record once.
    pub open_deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { reserve_bytes: 1 << 20, open_deadline: Duration::from_secs(60) }
    }
}

/// What was found at the place of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing; a new store was made.
    Fresh,
    /// A store with whatever was committed to it.
    Existing,
    /// A store that cannot be opened. It was moved to `path`, and a new, empty one was made.
    SetAside { path: PathBuf, reason: String },
}

/// What [`check`] found in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub records: u64,
    pub bytes: u64,
}

/// The durable store. Dropping it closes it, unless a write failed: then nothing of sled is run any
/// more, and the store stays locked until the process is gone.
pub struct SledKv {
    dir: PathBuf,
    /// Always there until `drop`.
    live: Option<Live>,
    room: room::Room,
    broken: Option<String>,
}

/// Dropped in this order: sled lets go of its files before the lock does.
struct Live {
    database: Database,
    _lock: Arc<File>,
}

/// Opens a store, reads every record and closes it again. For a diagnostic or hidden subcommand,
/// since a damaged store may kill the process that looks (sled panics, and release builds abort).
pub fn check(dir: &Path) -> Result<Summary, KvError> {
    if !dir.join("db").exists() {
        return Err(KvError::corrupt(dir, "there is no store"));
    }
    let lock = prepare::lock(dir)?;
    let options = Options { reserve_bytes: 0, ..Options::default() };
    SledKv::open_locked(dir, &options, lock).map(|(_, summary)| summary)
}

impl SledKv {
    /// Opens the store in `dir`, or makes one there. A store that cannot be opened is an error and
    /// stays as it is.
    pub fn open(dir: &Path, options: &Options) -> Result<SledKv, KvError> {
        let lock = prepare::lock(dir)?;
        Self::open_locked(dir, options, lock).map(|(kv, _)| kv)
    }

    /// As [`open`](Self::open), but a damaged store, or one whose opening killed its process, is
    /// moved to `<dir>.corrupt-<n>` (the newest two are kept) and a new one takes its place. A full
    /// disk, a store in use or one of another version is an error: the data there is fine.
    pub fn open_or_set_aside(dir: &Path, options: &Options) -> Result<(SledKv, Opened), KvError> {
        let lock = prepare::lock(dir)?;
        let found = if dir.join("db").exists() { Opened::Existing } else { Opened::Fresh };
        let reason = match guard::verdict(dir) {
            Some(reason) => reason,
            None => match Self::open_locked(dir, options, lock.clone()) {
                Ok((kv, _)) => return Ok((kv, found)),
                Err(KvError::Corrupt { why, .. }) => why,
                Err(other) => return Err(other),
            },
        };
        let path = aside::set_aside(dir, &reason)?;
        let (kv, _) = Self::open_locked(dir, options, lock)?;
        Ok((kv, Opened::SetAside { path, reason }))
    }

    fn open_locked(dir: &Path, options: &Options, lock: Arc<File>) -> Result<(SledKv, Summary), KvError> {
        let fresh = prepare::prepare(dir)?;
        let mut room = room::Room::new(dir, options.reserve_bytes);
        room.make_for_open();
        let here = dir.to_path_buf();
        let opened = guard::run(dir, options.open_deadline, move || open_and_read_all(&here));
        if matches!(&opened, Err(error) if error.must_exit()) {
            // The thread that hangs in sled goes on using the files: nobody else may.
            std::mem::forget(lock.clone());
        }
        let (database, summary) = opened?;
        prepare::settle(dir, fresh)?;
        room.restore();
        let live = Some(Live { database, _lock: lock });
        Ok((SledKv { dir: dir.to_path_buf(), live, room, broken: None }, summary))
    }

    fn database(&self) -> Result<&Database, KvError> {
        match (&self.live, &self.broken) {
            (Some(live), None) => Ok(&live.database),
            (_, why) => {
                let why = why.clone().unwrap_or_else(|| "closed".to_owned());
                Err(KvError::Broken { dir: self.dir.clone(), why })
            }
        }
    }
}

/// Runs on the guard's thread. Reading everything once finds a damaged page here, where a panic is
/// an answer, and not in the middle of the work.
fn open_and_read_all(dir: &Path) -> Result<(Database, Summary), KvError> {
    let database = Database::open(dir)?;
    let mut summary = Summary { records: 0, bytes: 0 };
    layer::visit(&database, b"", &mut |key, value| {
        summary.records += 1;
        summary.bytes += (key.len() + value.len()) as u64;
    })?;
    Ok((database, summary))
}

impl Kv for SledKv {
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

impl Source for SledKv {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.database()?.read(key)
    }

    fn walk(&self, prefix: &[u8], each: Each<'_>) -> Result<(), KvError> {
        self.database()?.walk(prefix, each)
    }
}

impl Engine for SledKv {
    fn write(&mut self, writes: Writes) -> Result<(), KvError> {
        let bytes = writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        self.database()?;
        self.room.claim(writes.len(), bytes)?;
        let database = self.database()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| database.store(writes, bytes)));
        // After a failed write sled shows data that never became durable, and a failed fsync must
        // not be repeated (the kernel has dropped the pages). So the first failure is the last.
        match outcome.unwrap_or_else(|panic| Err(guard::panic_text(&*panic))) {
            Ok(()) => Ok(()),
            Err(why) => {
                self.broken = Some(why);
                self.database().map(|_| ())
            }
        }
    }
}

impl Drop for SledKv {
    fn drop(&mut self) {
        let Some(live) = self.live.take() else { return };
        if self.broken.is_some() {
            // sled's drop hangs after a failed write: memory, files and lock are left to the exit.
            std::mem::forget(live);
            return;
        }
        // sled unwraps a last fsync in its drop. All that was acknowledged is durable already.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(live)));
    }
}
