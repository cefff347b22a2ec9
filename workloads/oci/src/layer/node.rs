//! Making and removing single files of a layer's directory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    AtFlags, Dev, FileType, Mode, OFlags, Stat, Timespec, Timestamps, futimens, makedev, mknodat, openat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Stop;
use super::meta::{Meta, through, xattrs_at};
use super::tree::{Dir, Found, fault, read_link};
use crate::tar::{Entry, Segment};

const COPY_BYTES: usize = 128 << 10;

pub fn make_file(dir: &Dir, name: &[u8]) -> Result<File, Stop> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        openat(&*dir.fd, name, flags, Mode::RUSR | Mode::WUSR).map_err(fault("make", &dir.path, name))?;
    Ok(File::from(file))
}

/// Data comes in the order of its segments; between them are holes.
pub fn fill(file: &mut File, entry: &Entry, from: &mut impl Read) -> Result<(), Stop> {
    let whole = [Segment { offset: 0, bytes: entry.size }];
    let mut buffer = vec![0; entry.size.min(COPY_BYTES as u64) as usize];
    for segment in entry.segments.as_deref().unwrap_or(&whole) {
        let named =
            |e: std::io::Error| Stop::Fault(format!("write {}", String::from_utf8_lossy(&entry.path)), e);
        file.seek(SeekFrom::Start(segment.offset)).map_err(named)?;
        let mut left = segment.bytes;
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            let n = from.read(&mut buffer[..most]).map_err(crate::tar::TarError::Read)?;
            file.write_all(&buffer[..n]).map_err(named)?;
            left -= n as u64;
        }
    }
    if entry.segments.is_some() {
        let named = |e| Stop::Fault(format!("size of {}", String::from_utf8_lossy(&entry.path)), e);
        file.set_len(entry.size).map_err(named)?;
    }
    Ok(())
}

pub fn make_link(dir: &Dir, name: &[u8], target: &[u8]) -> Result<(), Stop> {
    if target.is_empty() {
        return Err(Stop::Refused(format!("the link '{}' leads nowhere", String::from_utf8_lossy(name))));
    }
    symlinkat(target, &*dir.fd, name).map_err(fault("make the link", &dir.path, name))
}

pub fn make_node(dir: &Dir, name: &[u8], kind: FileType, device: Dev) -> Result<(), Stop> {
    mknodat(&*dir.fd, name, kind, Mode::RUSR | Mode::WUSR, device).map_err(fault(
        "make the node",
        &dir.path,
        name,
    ))
}

/// What overlayfs takes for "not there any more".
pub fn make_whiteout(dir: &Dir, name: &[u8]) -> Result<(), Stop> {
    make_node(dir, name, FileType::CharacterDevice, makedev(0, 0))
}

pub fn remove(dir: &Dir, name: &[u8], stat: &Stat) -> Result<(), Stop> {
    let named = fault("remove", &dir.path, name);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return unlinkat(&*dir.fd, name, AtFlags::empty()).map_err(named);
    }
    let path = through(&dir.fd, name);
    std::fs::remove_dir_all(std::ffi::OsStr::from_bytes(&path))
        .map_err(|e| Stop::Fault(format!("remove {}", String::from_utf8_lossy(name)), e))
}

/// A file of a lower layer that this layer links to: it must be in this layer for the two to be one.
pub fn copy_up(found: &Found, dir: &Dir, name: &[u8]) -> Result<(), Stop> {
    let stat = &found.stat;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_file(&found.dir, dir, name)?,
        FileType::Symlink => make_link(dir, name, &read_link(&found.dir, name)?)?,
        FileType::Directory => {
            return Err(Stop::Refused(format!(
                "a hard link to the directory '{}'",
                String::from_utf8_lossy(name)
            )));
        }
        other => make_node(dir, name, other, stat.st_rdev)?,
    }
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    Meta::of_stat(stat, xattrs_at(&found.dir, name)?).give(&dir.fd, name, is_link).map(drop)
}

fn copy_file(from: &OwnedFd, dir: &Dir, name: &[u8]) -> Result<(), Stop> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = openat(from, name, flags, Mode::empty()).map_err(fault("open", &dir.path, name))?;
    let copied = std::io::copy(&mut File::from(from), &mut make_file(dir, name)?);
    copied.map(drop).map_err(|e| Stop::Fault(format!("copy {}", String::from_utf8_lossy(name)), e))
}

pub fn set_time(fd: impl AsFd, mtime: (i64, u32)) -> Result<(), Errno> {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1 as _ };
    futimens(fd, &Timestamps { last_access: time, last_modification: time })
}
