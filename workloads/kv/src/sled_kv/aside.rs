//! Where does a store go that cannot be opened? Beside itself, for whoever wants to look at it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::prepare::beside;
use super::room;
use crate::error::KvError;

/// Two: the one that tells what happened, and the one before, in case it happened again.
const KEPT: usize = 2;

/// Moves `dir` to `<dir>.corrupt-<n>` and removes all but the newest two such directories.
pub(super) fn set_aside(dir: &Path, reason: &str) -> Result<PathBuf, KvError> {
    let mut earlier = earlier(dir);
    let number = earlier.last().map_or(1, |(number, _)| number + 1);
    let target = beside(dir, &format!(".corrupt-{number}"));
    fs::rename(dir, &target).map_err(|e| KvError::io(&target, e))?;
    room::remove_reserve(&target);
    let _ = fs::write(target.join("reason"), reason); // a help to the reader, no more
    earlier.push((number, target.clone()));
    for (_, old) in &earlier[..earlier.len().saturating_sub(KEPT)] {
        let _ = fs::remove_dir_all(old); // tried again at the next time
    }
    // The move must be durable before the new store is: or a power cut brings back the damaged one,
    // and what was committed to the new one since is lost.
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|e| KvError::io(parent, e))?;
    Ok(target)
}

/// The directories set aside before, by number.
fn earlier(dir: &Path) -> Vec<(u64, PathBuf)> {
    let prefix = beside(dir, ".corrupt-");
    let (Some(parent), Some(prefix)) = (prefix.parent(), prefix.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse().ok();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<(u64, PathBuf)> =
        entries.filter_map(|path| number(&path).map(|number| (number, path))).collect();
    found.sort();
    found
}
