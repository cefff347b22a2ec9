//! Directories, their file systems, and what in them tells of time, faults and a holder.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::StatVfsMountFlags;

use crate::check::facts::Dir;

const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58f6;

pub fn dir(path: &Path) -> Dir {
    let there = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let nearest = there.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let mut dir = Dir { path: there.clone(), exists: there.is_dir(), ..Dir::default() };
    if let Ok(stat) = rustix::fs::statvfs(nearest) {
        dir.read_only = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
        dir.total_bytes = stat.f_blocks.saturating_mul(stat.f_frsize);
        dir.free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        (dir.total_inodes, dir.free_inodes) = (stat.f_files, stat.f_favail);
    }
    if let Ok(stat) = rustix::fs::statfs(nearest) {
        dir.is_volatile = matches!(stat.f_type as u64 & 0xffff_ffff, TMPFS | RAMFS);
    }
    dir
}

/// Who holds the lock, as the kernel's table has it: trying it would be in the way of a start.
pub fn holder(lock: &Path) -> Option<u32> {
    let inode = fs::metadata(lock).ok()?;
    let (major, minor) = (rustix::fs::major(inode.dev()), rustix::fs::minor(inode.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", inode.ino());
    let table = fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let found = fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&wanted.as_str());
        fields.get(4)?.parse().ok().filter(|_| found)
    })
}

pub fn set_aside(state: &Path) -> Vec<String> {
    let entries = fs::read_dir(state).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("store.corrupt-")).collect();
    names.sort();
    names
}

/// Of the files that are written once and renamed: the documents, and the board's id.
pub fn newest_record_ms(state: &Path) -> Option<u64> {
    let documents = fs::read_dir(state.join("desired")).into_iter().flatten().flatten().map(|e| e.path());
    let records = documents.chain([state.join("board-id")]);
    records.filter_map(|path| Some(unix_ms(fs::metadata(path).ok()?.modified().ok()?))).max()
}

pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
