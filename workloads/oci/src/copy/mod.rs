//! Files from one tree to another as one tar, for `hub cp`: packed on one side, unpacked on the other.
//!
//! Neither side trusts the other. No name in a tar leads out of where it is unpacked: every part is opened by
//! itself, relative to the one before, never following; what is packed is what lies there, with links as links.
//! Constant memory, whatever the size. Regular files, directories and links are copied, with permissions and times;
//! devices, sockets and pipes are left out, by name. The tar's first part is one name for all of it, which whoever
//! unpacks replaces by its own.

mod pack;
mod unpack;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

pub use pack::pack;
pub use unpack::{Links, unpack};

use crate::tar::TarError;

/// Names in one copy.
const ENTRIES_MAX: u64 = 1 << 20;
/// Directories in one another: as many descriptors are open.
const DEPTH_MAX: usize = 128;
/// What a name costs a disk, at least, by itself.
const ENTRY_BYTES: u64 = 4096;
/// Of what was left out, so many are told by name.
const NOTES_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path}: {why}")]
    Refused { path: String, why: String },
    #[error("{path}: it would be more than {bytes_max} bytes in all; what came before it is there")]
    TooMuch { path: String, bytes_max: u64 },
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Whoever takes the tar is gone, or its disk is full.
    #[error("the tar breaks off: {0}")]
    Stream(io::Error),
}

/// What has been copied so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Copied {
    pub files: u64,
    pub bytes: u64,
    entries: u64,
    left_out: u64,
    /// What was left out and why, the first ones by name.
    pub notes: Vec<String>,
}

impl Copied {
    fn leave_out(&mut self, path: &[u8], why: &str) {
        self.left_out += 1;
        if self.notes.len() < NOTES_MAX {
            self.notes.push(format!("left out {}: {why}", shown(path)));
        }
    }

    fn count(&mut self, path: &[u8]) -> Result<(), CopyError> {
        self.entries += 1;
        match self.entries > ENTRIES_MAX {
            true => Err(refused(path, &format!("more than {ENTRIES_MAX} names are too many for one copy"))),
            false => Ok(()),
        }
    }

    /// Before anything of it is written, whatever its header says of its size.
    fn room_for(&self, bytes: u64, bytes_max: u64, path: &[u8]) -> Result<(), CopyError> {
        let all = self.entries.saturating_mul(ENTRY_BYTES).saturating_add(self.bytes).saturating_add(bytes);
        match all > bytes_max {
            true => Err(CopyError::TooMuch { path: shown(path), bytes_max }),
            false => Ok(()),
        }
    }

    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// Told after every piece, with the name in hand.
pub type Progress<'a> = &'a mut dyn FnMut(&Copied, &[u8]);

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn refused(path: &[u8], why: &str) -> CopyError {
    CopyError::Refused { path: shown(path), why: why.into() }
}

fn failed(path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> CopyError {
    let path = shown(path);
    move |e| CopyError::File { path, source: e.into() }
}

/// A directory by its name, links followed: whoever names it means where it leads.
pub fn open_dir(path: &Path) -> Result<OwnedFd, CopyError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(failed(path.as_os_str().as_encoded_bytes()))
}
