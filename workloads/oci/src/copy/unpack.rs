//! A tar into a directory, under one name, and nowhere else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, mkdirat, openat,
    statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{Copied, CopyError, DEPTH_MAX, Progress, failed, refused};
use crate::tar::{Entry, Kind, TarReader};

/// What becomes of symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// As they are: where this is unpacked is the whole world of whoever follows them.
    Keep,
    /// Only those that stay below what is unpacked.
    Inside,
}

const PIECE_BYTES: usize = 64 << 10;

/// Unpacks as `name` in `parent`, over files that are there already; without one under the tar's own first name.
/// Ends before what is unpacked takes more than `bytes_max` of a disk.
pub fn unpack(
    from: impl Read,
    parent: OwnedFd,
    name: Option<&str>,
    links: Links,
    bytes_max: u64,
    progress: Progress<'_>,
) -> Result<Copied, CopyError> {
    let mut unpacker = Unpacker {
        open: vec![Open { name: Vec::new(), dir: parent, after: None }],
        top: name.map(|name| name.as_bytes().to_vec()),
        first: None,
        links,
        bytes_max,
        copied: Copied::default(),
        progress,
    };
    let mut tar = TarReader::new(from);
    while let Some(entry) = tar.next()? {
        unpacker.entry(&entry, &mut tar)?;
    }
    unpacker.close_to(1)?;
    match unpacker.first {
        Some(_) => Ok(unpacker.copied),
        None => Err(refused(name.unwrap_or_default().as_bytes(), "nothing came")),
    }
}

/// A directory that is being filled.
struct Open {
    name: Vec<u8>,
    dir: OwnedFd,
    /// What it is given when nothing more comes for it.
    after: Option<(Mode, Timestamps)>,
}

struct Unpacker<'a> {
    open: Vec<Open>,
    top: Option<Vec<u8>>,
    /// The tar's own name for what is unpacked as `top`.
    first: Option<Vec<u8>>,
    links: Links,
    bytes_max: u64,
    copied: Copied,
    progress: Progress<'a>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> Result<(), CopyError> {
        let path = &entry.path;
        self.copied.count(path)?;
        let bytes = if entry.kind == Kind::File { entry.size } else { 0 };
        self.copied.room_for(bytes, self.bytes_max, path)?;
        let parts = self.parts(path)?;
        let (name, above) = parts.split_last().expect("there is a first part");
        self.go_to(above, path)?;
        match entry.kind {
            Kind::Directory => self.directory(name, entry),
            Kind::File if entry.segments.is_some() => Err(refused(path, "sparse files are not copied so")),
            Kind::File => self.file(name, entry, tar),
            Kind::Symlink => self.link(name, entry, above.len()),
            _ => {
                self.copied.leave_out(path, "neither a file nor a directory nor a symbolic link");
                Ok(())
            }
        }
    }

    /// With our own name in the place of the tar's first.
    fn parts(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, CopyError> {
        if path.starts_with(b"/") {
            return Err(refused(path, "an absolute name; nothing more of this tar is unpacked"));
        }
        let parts: Vec<Vec<u8>> =
            path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").map(<[u8]>::to_vec).collect();
        if parts.iter().any(|p| p == b"..") {
            return Err(refused(path, "a name that leads out; nothing more of this tar is unpacked"));
        }
        let Some((first, rest)) = parts.split_first() else {
            return Err(refused(path, "a name without a part"));
        };
        if self.first.get_or_insert_with(|| first.clone()) != first {
            return Err(refused(
                path,
                "a second name beside the first; nothing more of this tar is unpacked",
            ));
        }
        if parts.len() > DEPTH_MAX {
            return Err(refused(path, &format!("more than {DEPTH_MAX} directories in one another")));
        }
        let top = self.top.clone().unwrap_or_else(|| first.clone());
        Ok([&[top], rest].concat())
    }

    /// The directory of that name becomes the last one open. A link is never followed.
    fn go_to(&mut self, above: &[Vec<u8>], path: &[u8]) -> Result<(), CopyError> {
        let same = self.open[1..].iter().zip(above).take_while(|(open, part)| open.name == **part).count();
        self.close_to(same + 1)?;
        for part in &above[same..] {
            let dir = open_below(self.here(), part).map_err(|e| match e {
                Errno::LOOP | Errno::NOTDIR => {
                    refused(path, &format!("'{}' is no directory here", super::shown(part)))
                }
                e => failed(path)(e),
            })?;
            self.open.push(Open { name: part.clone(), dir, after: None });
        }
        Ok(())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().expect("the parent is always open").dir.as_fd()
    }

    fn close_to(&mut self, length: usize) -> Result<(), CopyError> {
        while self.open.len() > length.max(1) {
            let Some(Open { name, dir, after }) = self.open.pop() else { break };
            if let Some((mode, times)) = after {
                fchmod(&dir, mode).and_then(|()| futimens(&dir, &times)).map_err(failed(&name))?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, name: &[u8], entry: &Entry) -> Result<(), CopyError> {
        match mkdirat(self.here(), name, Mode::RWXU) {
            Err(Errno::EXIST) => {}
            other => other.map_err(failed(&entry.path))?,
        }
        let dir = open_below(self.here(), name).map_err(|e| match e {
            Errno::LOOP | Errno::NOTDIR => {
                refused(&entry.path, "here is no directory under that name, but something else")
            }
            e => failed(&entry.path)(e),
        })?;
        self.open.push(Open { name: name.to_vec(), dir, after: Some((self.mode(entry), times(entry))) });
        (self.progress)(&self.copied, &entry.path);
        Ok(())
    }

    fn file<R: Read>(&mut self, name: &[u8], entry: &Entry, tar: &mut TarReader<R>) -> Result<(), CopyError> {
        self.make_room(name, entry)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.here(), name, flags, Mode::RUSR | Mode::WUSR).map_err(failed(&entry.path))?;
        let mut file = File::from(file);
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let n = tar.read(&mut buffer).map_err(CopyError::Stream)?;
            if n == 0 {
                break;
            }
            let io = |source: io::Error| CopyError::File { path: super::shown(&entry.path), source };
            file.write_all(&buffer[..n]).map_err(io)?;
            self.copied.bytes += n as u64;
            (self.progress)(&self.copied, &entry.path);
        }
        self.copied.files += 1;
        fchmod(&file, self.mode(entry))
            .and_then(|()| futimens(&file, &times(entry)))
            .map_err(failed(&entry.path))
    }

    fn link(&mut self, name: &[u8], entry: &Entry, depth: usize) -> Result<(), CopyError> {
        if self.links == Links::Inside && !stays(&entry.link, depth.saturating_sub(1), depth == 0) {
            let why = format!("a link out of what is copied, to {}", super::shown(&entry.link));
            self.copied.leave_out(&entry.path, &why);
            return Ok(());
        }
        self.make_room(name, entry)?;
        symlinkat(&entry.link[..], self.here(), name).map_err(failed(&entry.path))?;
        let _ = utimensat(self.here(), name, &times(entry), AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }

    /// What is under that name is replaced, unless it is a directory.
    fn make_room(&self, name: &[u8], entry: &Entry) -> Result<(), CopyError> {
        match statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(failed(&entry.path)(e)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Err(refused(&entry.path, "here is a directory under that name; it is not replaced"))
            }
            Ok(_) => unlinkat(self.here(), name, AtFlags::empty()).map_err(failed(&entry.path)),
        }
    }

    /// Nobody becomes somebody else by what was copied.
    fn mode(&self, entry: &Entry) -> Mode {
        Mode::from_raw_mode(entry.mode & 0o777)
    }
}

fn open_below(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

fn times(entry: &Entry) -> Timestamps {
    let (seconds, nanos) = entry.mtime;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos as _ },
    }
}

/// Whether a link that lies `depth` directories below what is copied leads to something in it. Steps up may stand at
/// the beginning only, where they are those of real directories; behind a name, which may be a link, they would be
/// anybody's guess.
fn stays(target: &[u8], depth: usize, is_top: bool) -> bool {
    if is_top || target.starts_with(b"/") {
        return false;
    }
    let parts: Vec<&[u8]> = target.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    let up = parts.iter().take_while(|p| **p == b"..").count();
    up <= depth && !parts[up..].contains(&&b".."[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_stay() {
        for (target, depth, expected) in [
            ("a", 0, true),
            ("a/b/c", 0, true),
            ("../a", 1, true),
            ("../../a", 2, true),
            ("./../a", 1, true),
            ("..", 0, false),
            ("../a", 0, false),
            ("../../a", 1, false),
            ("a/../b", 3, false),
            ("/etc/passwd", 9, false),
        ] {
            assert_eq!(stays(target.as_bytes(), depth, false), expected, "{target} at {depth}");
        }
        assert!(!stays(b"a", 0, true), "what is copied is no link itself");
    }
}
