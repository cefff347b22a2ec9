//! What when the disk is full?
//!
//! sled does not survive a write that fails: it reports the error for ever after, shows data that
//! never became durable, and its drop can hang. So the room is looked at *before* each commit, and a
//! full disk is a refusal that leaves the store whole. A reserve file keeps room for the last
//! commits, and for the next open, which writes too. Others can still take the last bytes between
//! the look and the write: then the commit ends in [`KvError::Broken`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::database::SEGMENT_BYTES;
use crate::error::KvError;

/// Kept free beside what a commit itself needs: sled may begin a segment and move what is left in an
/// old one in the same commit; the next open writes a snapshot.
const HEADROOM_BYTES: u64 = 2 * SEGMENT_BYTES as u64;

/// What one changed record may add to the log beside its own bytes. Its page, at most a quarter of a
/// segment, is written whole after ten changes, and when it splits or merges, which takes eight:
/// 64 KiB (1/10 + 1/8) = 14.4 KiB. Much more than usual, but too little would break the store.
const RECORD_BYTES: u64 = 15 << 10;

pub(super) struct Room {
    dir: PathBuf,
    reserve_bytes: u64,
    /// Root may use the blocks that file systems hold back from others.
    is_root: bool,
}

impl Room {
    pub fn new(dir: &Path, reserve_bytes: u64) -> Room {
        let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        Room { dir: dir.to_path_buf(), reserve_bytes, is_root }
    }

    /// Makes sure that a commit of so many records finds room, at the price of the reserve.
    pub fn claim(&mut self, records: usize, bytes: usize) -> Result<(), KvError> {
        let needed = HEADROOM_BYTES + RECORD_BYTES * records as u64 + bytes as u64;
        let free = self.free();
        if free >= needed {
            if free >= needed + 2 * self.reserve_bytes {
                self.restore();
            }
            return Ok(());
        }
        remove_reserve(&self.dir);
        match self.free() {
            free if free >= needed => Ok(()),
            free => Err(KvError::Full { dir: self.dir.clone(), needed, free }),
        }
    }

    /// Gives the reserve up if an open could want for room. Even with none the open is tried: a
    /// store with free segments needs little.
    pub fn make_for_open(&mut self) {
        if self.free() < HEADROOM_BYTES {
            remove_reserve(&self.dir);
        }
    }

    /// Makes the reserve again, unless that would itself fill the disk.
    pub fn restore(&mut self) {
        let path = reserve_path(&self.dir);
        if self.reserve_bytes == 0 || path.exists() || self.free() < HEADROOM_BYTES + 2 * self.reserve_bytes {
            return;
        }
        if make_reserve(&path, self.reserve_bytes).is_err() {
            remove_reserve(&self.dir); // half a reserve is only in the way; the next commit tries again
        }
    }

    fn free(&self) -> u64 {
        free_for(&self.dir, self.is_root)
    }
}

/// Bytes that an ordinary user could still write.
pub(super) fn free(dir: &Path) -> u64 {
    free_for(dir, false)
}

fn free_for(dir: &Path, root: bool) -> u64 {
    match rustix::fs::statvfs(dir) {
        Ok(stat) => stat.f_frsize.saturating_mul(if root { stat.f_bfree } else { stat.f_bavail }),
        Err(_) => u64::MAX, // unknown is not full: the write itself will tell
    }
}

/// An open that found no room.
pub(super) fn full(dir: &Path) -> KvError {
    KvError::Full { dir: dir.to_path_buf(), needed: HEADROOM_BYTES, free: free(dir) }
}

pub(super) fn remove_reserve(dir: &Path) {
    let _ = fs::remove_file(reserve_path(dir)); // mostly: there is none any more
}

fn reserve_path(dir: &Path) -> PathBuf {
    dir.join("reserve")
}

/// Blocks are allocated without writing them where the file system can; else they are written, not
/// with zeros, which some compress to nothing.
fn make_reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    if rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_ok() {
        return file.sync_all();
    }
    let mut noise = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = [0_u8; 4096];
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        for word in block.chunks_exact_mut(8) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            word.copy_from_slice(&noise.to_ne_bytes());
        }
        file.write_all(&block)?;
    }
    file.sync_all()
}
