//! How is sled itself opened, read and written? The only file that calls it.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{room, slack};
use crate::error::KvError;
use crate::layer::{Each, Source, Writes};

/// Never to be changed: a store made with another size cannot be opened. Why this size: `layer.rs`.
pub(super) const SEGMENT_BYTES: usize = 256 << 10;

/// sled's page cache. Hub and agent read their state once, at start, and then keep it themselves.
const CACHE_BYTES: u64 = 256 << 10;

/// From here on a commit may fill the queue of sled's pool and make it start more threads.
const BIG_COMMIT_BYTES: usize = 64 << 10;

/// How long a store that was just closed in this process may still be held (see `open_sled`).
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Database {
    db: sled::Db,
    log: File,
    dir: PathBuf,
}

impl Database {
    pub fn open(dir: &Path) -> Result<Database, KvError> {
        let db = open_sled(dir)?;
        // Starts sled's pool now, on this thread, whose timer slack its threads inherit.
        db.flush().map_err(|e| sled_error(dir, e))?;
        let log = File::open(dir.join("db")).map_err(|e| KvError::io(dir, e))?;
        Ok(Database { db, log, dir: dir.to_path_buf() })
    }

    /// The only place where bytes become durable. `flush` writes the log, but on Linux with
    /// `sync_file_range`, which syncs neither the file's length nor the drive's cache: the
    /// `fdatasync` behind it is what makes the commit survive a power cut.
    pub fn store(&self, writes: Writes, bytes: usize) -> Result<(), String> {
        let _calm = (bytes > BIG_COMMIT_BYTES).then(slack::Raised::new);
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(|e| format!("apply: {e}"))?;
        self.db.flush().map_err(|e| format!("flush: {e}"))?;
        self.log.sync_data().map_err(|e| format!("sync: {e}"))
    }
}

impl Source for Database {
    fn dir(&self) -> &Path {
        &self.dir
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        let found = self.db.get(key).map_err(|e| sled_error(&self.dir, e))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn walk(&self, prefix: &[u8], each: Each<'_>) -> Result<(), KvError> {
        for found in self.db.scan_prefix(prefix) {
            let (key, value) = found.map_err(|e| sled_error(&self.dir, e))?;
            each(&key, &value)?;
        }
        Ok(())
    }
}

fn open_sled(dir: &Path) -> Result<sled::Db, KvError> {
    let config = sled::Config::new()
        .path(dir)
        .mode(sled::Mode::LowSpace)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None);
    // The last job of sled's pool may hold the file for a moment after a close in this process.
    // No other process can: it would have to hold our lock.
    let until = Instant::now() + CLOSE_PATIENCE;
    loop {
        match config.open() {
            Err(sled::Error::Io(e)) if e.to_string().contains("acquire lock") && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other.map_err(|e| sled_error(dir, e)),
        }
    }
}

fn sled_error(dir: &Path, error: sled::Error) -> KvError {
    match error {
        sled::Error::Io(e) => match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => room::full(dir),
            ErrorKind::UnexpectedEof => KvError::corrupt(dir, format!("cut short: {e}")),
            _ => KvError::io(dir, e),
        },
        sled::Error::Unsupported(why) => KvError::Foreign { dir: dir.to_path_buf(), why },
        other => KvError::corrupt(dir, other.to_string()),
    }
}
