//! A file or a directory with all below it, as a tar.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use super::{Copied, CopyError, DEPTH_MAX, Progress, failed, refused};

/// `path` is followed, what lies below it is not. The tar's first part is `name`.
pub fn pack(path: &Path, name: &str, out: impl Write, progress: Progress<'_>) -> Result<Copied, CopyError> {
    let shown = path.as_os_str().as_bytes();
    let stat = rustix::fs::stat(path).map_err(failed(shown))?;
    let mut packer = Packer { tar: Builder::new(out), copied: Copied::default(), progress };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {
            let file = rustix::fs::open(path, flags, Mode::empty()).map_err(failed(shown))?;
            packer.opened(File::from(file), name.as_bytes().to_vec(), 0)?;
        }
        other => {
            return Err(refused(
                shown,
                &format!("it is neither a file nor a directory but a {}", kind(other)),
            ));
        }
    }
    packer.tar.finish().map_err(CopyError::Stream)?;
    Ok(packer.copied)
}

struct Packer<'a, W: Write> {
    tar: Builder<W>,
    copied: Copied,
    progress: Progress<'a>,
}

impl<W: Write> Packer<'_, W> {
    fn below(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: Vec<u8>,
        depth: usize,
    ) -> Result<(), CopyError> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Gone since it was listed: as if it had never been there.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.map_err(failed(&path))?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(dir, name, Vec::new()).map_err(failed(&path))?;
                self.link(&stat, &path, target.to_bytes())
            }
            FileType::RegularFile | FileType::Directory => {
                let flags =
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = openat(dir, name, flags, Mode::empty()).map_err(failed(&path))?;
                self.opened(File::from(file), path, depth)
            }
            other => {
                self.copied.leave_out(&path, kind(other));
                Ok(())
            }
        }
    }

    /// Asked again: it may be another since it was looked at.
    fn opened(&mut self, file: File, path: Vec<u8>, depth: usize) -> Result<(), CopyError> {
        let stat = rustix::fs::fstat(&file).map_err(failed(&path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(file, &stat, &path),
            FileType::Directory => self.directory(&file, &stat, path, depth),
            other => {
                self.copied.leave_out(&path, kind(other));
                Ok(())
            }
        }
    }

    fn directory(&mut self, dir: &File, stat: &Stat, path: Vec<u8>, depth: usize) -> Result<(), CopyError> {
        if depth >= DEPTH_MAX {
            return Err(refused(&path, &format!("more than {DEPTH_MAX} directories in one another")));
        }
        self.put(header(stat, EntryType::Directory, 0), &path, io::empty())?;
        for entry in Dir::read_from(dir).map_err(failed(&path))? {
            let entry = entry.map_err(failed(&path))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.below(dir.as_fd(), name, [&path[..], b"/", name].concat(), depth + 1)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: File, stat: &Stat, path: &[u8]) -> Result<(), CopyError> {
        let bytes = stat.st_size as u64;
        let mut whole = Exactly { file, left: bytes, is_short: false };
        self.put(header(stat, EntryType::Regular, bytes), path, &mut whole)?;
        self.copied.files += 1;
        if whole.is_short {
            self.copied.leave_out(path, "it became shorter while it was read; its end is zeroes");
        }
        Ok(())
    }

    fn link(&mut self, stat: &Stat, path: &[u8], target: &[u8]) -> Result<(), CopyError> {
        self.copied.count(path)?;
        let mut header = header(stat, EntryType::Symlink, 0);
        let (path, target) = (bytes_path(path), bytes_path(target));
        self.tar.append_link(&mut header, path, target).map_err(CopyError::Stream)
    }

    fn put(&mut self, mut header: Header, path: &[u8], data: impl Read) -> Result<(), CopyError> {
        self.copied.count(path)?;
        let (copied, progress) = (&mut self.copied, &mut self.progress);
        let counted = Counted { from: data, copied, progress, path };
        self.tar.append_data(&mut header, bytes_path(path), counted).map_err(CopyError::Stream)
    }
}

fn bytes_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Owners are not copied: they are numbers of another machine.
fn header(stat: &Stat, kind: EntryType, bytes: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(bytes);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        FileType::Socket => "socket",
        FileType::Fifo => "pipe",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "thing of an unknown kind",
    }
}

/// As many bytes as the header says, whatever becomes of the file meanwhile.
struct Exactly {
    file: File,
    left: u64,
    is_short: bool,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..most];
        let mut n = if self.is_short { 0 } else { self.file.read(buffer)? };
        if n == 0 && most > 0 {
            self.is_short = true;
            buffer.fill(0);
            n = most;
        }
        self.left -= n as u64;
        Ok(n)
    }
}

struct Counted<'a, 'b, R> {
    from: R,
    copied: &'a mut Copied,
    progress: &'a mut Progress<'b>,
    path: &'a [u8],
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.copied.bytes += n as u64;
        (self.progress)(self.copied, self.path);
        Ok(n)
    }
}
