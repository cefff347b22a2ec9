//! What an instance said: a bounded ring per run, written by the shim, read by anybody.
//!
//! ```text
//! <log-dir>/<ns>.<name>.<slot>/<boots>-<number>.log    the present segment of a run
//!                              <boots>-<number>.old    the one before it
//! ```
//!
//! One record is `<unix ms> <tag> text\n`; the tag says where it came from:
//! `o` stdout, `e` stderr, `s` Skerry's own remark; a capital (`O`, `E`) goes on with that stream's last
//! line, which was longer than [`LINE_BYTES_MAX`] or was cut by another stream. Every write of the guest
//! is in the kernel before the guest goes on, so nothing is lost when its process is killed.
//!
//! Two runs are kept, two segments each: an instance never holds more than its limit, whatever it says.
//! Of instances that are gone from the board, the logs of the last few stay for a while.

mod command;
mod follow;
mod format;
mod gone;
mod read;
mod write;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::RunId;

pub(crate) use command::names;
pub use command::{LogsArgs, main};
pub use follow::Follow;
pub use format::{Origin, Record};
pub use gone::forget_gone;
pub use read::{Query, read};
pub use write::LogWriter;

/// Longer lines are cut; what follows is a record of its own.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Runs of which the log is kept: the present one and the one before.
const RUNS_KEPT: usize = 2;
const SEGMENTS: u64 = 2;

/// What one segment may hold so that all of them stay within an instance's limit.
pub fn segment_bytes(bytes_max: u64) -> u64 {
    (bytes_max / (RUNS_KEPT as u64 * SEGMENTS)).max(2 * LINE_BYTES_MAX as u64)
}

pub(crate) fn present(dir: &Path, run: RunId) -> PathBuf {
    dir.join(format!("{run}.log"))
}

pub(crate) fn previous_segment(dir: &Path, run: RunId) -> PathBuf {
    dir.join(format!("{run}.old"))
}

/// The runs that left a log, oldest first.
pub fn runs(dir: &Path) -> io::Result<Vec<RunId>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut runs = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let stem = Path::new(&name).file_stem().and_then(|s| s.to_str());
        runs.extend(stem.and_then(|s| s.parse::<RunId>().ok()));
    }
    runs.sort_unstable();
    runs.dedup();
    Ok(runs)
}

/// Before a new run: all but the newest log go, so that with the new one [`RUNS_KEPT`] are there.
pub fn make_room(dir: &Path, coming: RunId) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut old: Vec<_> = runs(dir)?.into_iter().filter(|run| *run != coming).collect();
    old.truncate(old.len().saturating_sub(RUNS_KEPT - 1));
    for run in old {
        for path in [present(dir, run), previous_segment(dir, run)] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
    }
    Ok(())
}
