//! Named files in a directory or a tar, the same to whoever reads them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{ArchiveError, Blob};
use crate::layer::decompress;
use crate::tar::{Kind, TarError, TarReader};

/// A layout has three files and one for each piece of content.
const FILES_MAX: usize = 100_000;
/// Old `docker save` writes a link where two images share a layer; one leads to a file.
const LINKS_MAX: usize = 8;

#[derive(Debug)]
pub enum Files {
    Directory(PathBuf),
    Tar { file: File, index: BTreeMap<String, Place> },
}

#[derive(Debug)]
pub enum Place {
    At { offset: u64, bytes: u64 },
    Link(String),
}

impl Files {
    /// A packed tar is unpacked into a file without a name in `scratch`, of at most `bytes_max`.
    pub fn open(path: &Path, scratch: &Path, bytes_max: u64) -> Result<Files, ArchiveError> {
        let io = |source| ArchiveError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Ok(Files::Directory(path.into()));
        }
        let file = plain(file, scratch, bytes_max).map_err(io)?;
        let index = index(&file).map_err(|e| match e {
            TarError::Read(source) => ArchiveError::Io { path: path.into(), source },
            TarError::Broken(why) => {
                ArchiveError::Refused { path: path.into(), why: format!("not a usable tar: {why}") }
            }
        })?;
        Ok(Files::Tar { file, index })
    }

    /// `None` when there is none of that name.
    pub fn open_file(&self, name: &str) -> Result<Option<Blob<'_>>, ArchiveError> {
        match self {
            Files::Directory(root) => {
                // What stands in a file of the archive names files of the archive only.
                let Some(name) = normal(name) else { return Ok(None) };
                open_in(&root.join(name))
            }
            Files::Tar { file, index } => Ok(find(index, name).map(|(offset, bytes)| {
                let part: Blob<'_> = (Box::new(Part { file, offset, left: bytes }), bytes);
                part
            })),
        }
    }
}

fn open_in(path: &Path) -> Result<Option<Blob<'static>>, ArchiveError> {
    let io = |source| ArchiveError::Io { path: path.into(), source };
    let file = match File::open(path) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        other => other.map_err(io)?,
    };
    let data = file.metadata().map_err(io)?;
    Ok(data.is_file().then(|| -> Blob<'static> { (Box::new(file), data.len()) }))
}

fn find(index: &BTreeMap<String, Place>, name: &str) -> Option<(u64, u64)> {
    let mut name = normal(name)?;
    for _ in 0..LINKS_MAX {
        match index.get(&name)? {
            Place::At { offset, bytes } => return Some((*offset, *bytes)),
            Place::Link(target) => name = target.clone(),
        }
    }
    None
}

/// `./a//b/../c` is `a/c`; nothing when it leads out.
fn normal(name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    (!parts.is_empty() && !name.starts_with('/')).then(|| parts.join("/"))
}

fn index(file: &File) -> Result<BTreeMap<String, Place>, TarError> {
    let mut tar = TarReader::new(file);
    let mut index = BTreeMap::new();
    while let Some(entry) = tar.next()? {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let Some(name) = text(&entry.path).as_deref().and_then(normal) else { continue };
        let place = match entry.kind {
            Kind::File if entry.segments.is_none() => Place::At { offset: tar.position(), bytes: entry.size },
            Kind::Symlink => {
                let Some(target) = text(&entry.link).and_then(|l| normal(&format!("{name}/../{l}"))) else {
                    continue;
                };
                Place::Link(target)
            }
            Kind::HardLink => {
                let Some(target) = text(&entry.link).as_deref().and_then(normal) else { continue };
                Place::Link(target)
            }
            _ => continue,
        };
        if index.len() == FILES_MAX {
            return Err(TarError::Broken(format!("more than {FILES_MAX} files; that is no image archive")));
        }
        index.insert(name, place);
    }
    Ok(index)
}

/// A packed archive is unpacked into a file without a name, for it is read here and there.
fn plain(mut file: File, scratch: &Path, bytes_max: u64) -> io::Result<File> {
    let mut start = [0; 4];
    let n = file.read(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    if !decompress::is_packed(&start[..n]) {
        return Ok(file);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let unpacked = rustix::fs::open(scratch, flags, Mode::RUSR | Mode::WUSR)?;
    let mut unpacked = File::from(unpacked);
    let mut packed = decompress::open(file)?;
    if io::copy(&mut (&mut packed).take(bytes_max), &mut unpacked)? == bytes_max && packed.read(&mut [0])? > 0
    {
        let why = format!("unpacked it has more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    unpacked.seek(SeekFrom::Start(0))?;
    Ok(unpacked)
}

struct Part<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
