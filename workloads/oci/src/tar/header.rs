//! One entry of a tar: its header and everything that long names and pax records say instead.

use super::pax::Pax;
use super::sparse::Segment;
use super::stream::TarError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Fifo,
    Character,
    Block,
}

#[derive(Debug, Clone)]
pub struct Entry {
    /// As it stands there: may be absolute, hold `..`, or be no UTF-8.
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    /// Of the file, holes included.
    pub size: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// `None` when all of the file is data.
    pub segments: Option<Vec<Segment>>,
}

/// What came before a header and speaks about it.
#[derive(Default)]
pub struct Before {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub pax: Pax,
}

impl Entry {
    pub fn new(header: &tar::Header, before: Before) -> Result<Entry, TarError> {
        let Before { name, link, pax } = before;
        let own = || header.path_bytes().into_owned();
        let path = pax.get("path").map(<[u8]>::to_vec).or(name).unwrap_or_else(own);
        let own = || header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default();
        let link = pax.get("linkpath").map(<[u8]>::to_vec).or(link).unwrap_or_else(own);
        for text in [&path, &link] {
            check_name(text)?;
        }
        let named = |e: std::io::Error| TarError::Broken(format!("{}: {e}", String::from_utf8_lossy(&path)));
        let old = header.as_old();
        let uid = pax.number("uid")?.map_or_else(|| blank_or(&old.uid, header.uid()), Ok).map_err(named)?;
        let gid = pax.number("gid")?.map_or_else(|| blank_or(&old.gid, header.gid()), Ok).map_err(named)?;
        let own_time = || {
            let seconds = blank_or(&old.mtime, header.mtime())?;
            Ok((i64::try_from(seconds).unwrap_or(i64::MAX), 0))
        };
        let mtime = pax.time("mtime")?.map_or_else(own_time, Ok).map_err(named)?;
        Ok(Entry {
            kind: kind(header, &path)?,
            mode: blank_or(&old.mode, header.mode()).map_err(named)? & 0o7777,
            uid: id(uid, "uid", &path)?,
            gid: id(gid, "gid", &path)?,
            mtime,
            size: 0,
            device: device(header).map_err(named)?,
            xattrs: pax.xattrs().map(|(k, v)| (k.to_string(), v.to_vec())).collect(),
            segments: None,
            path,
            link,
        })
    }
}

fn check_name(name: &[u8]) -> Result<(), TarError> {
    const NAME_BYTES_MAX: usize = 4096;
    match name.contains(&0) || name.len() > NAME_BYTES_MAX {
        true => {
            Err(TarError::broken(&format!("a name holds a NUL or is longer than {NAME_BYTES_MAX} bytes")))
        }
        false => Ok(()),
    }
}

/// The highest number means "nobody given" to the kernel.
fn id(number: u64, what: &str, path: &[u8]) -> Result<u32, TarError> {
    let id = u32::try_from(number).ok().filter(|n| *n != u32::MAX);
    id.ok_or_else(|| {
        TarError::Broken(format!("{}: {what} {number} is too large", String::from_utf8_lossy(path)))
    })
}

fn device(header: &tar::Header) -> std::io::Result<(u32, u32)> {
    // GNU's and ustar's stand at the same place.
    let Some(fields) = header
        .as_ustar()
        .map(|u| (&u.dev_major, &u.dev_minor))
        .or(header.as_gnu().map(|g| (&g.dev_major, &g.dev_minor)))
    else {
        return Ok((0, 0));
    };
    let major = blank_or(fields.0, header.device_major().map(Option::unwrap_or_default))?;
    Ok((major, blank_or(fields.1, header.device_minor().map(Option::unwrap_or_default))?))
}

/// Some writers leave a number's field empty where it says nothing, and readers take it for 0.
pub fn blank_or<T: Default>(field: &[u8], number: std::io::Result<T>) -> std::io::Result<T> {
    match field.iter().all(|b| matches!(b, 0 | b' ')) {
        true => Ok(T::default()),
        false => number,
    }
}

fn kind(header: &tar::Header, path: &[u8]) -> Result<Kind, TarError> {
    match header.entry_type().as_byte() {
        // Before ustar a directory was told by its name.
        b'\0' | b'0' | b'7' if path.ends_with(b"/") => Ok(Kind::Directory),
        b'\0' | b'0' | b'7' | b'S' => Ok(Kind::File),
        b'1' => Ok(Kind::HardLink),
        b'2' => Ok(Kind::Symlink),
        b'3' => Ok(Kind::Character),
        b'4' => Ok(Kind::Block),
        b'5' => Ok(Kind::Directory),
        b'6' => Ok(Kind::Fifo),
        other => Err(TarError::Broken(format!(
            "{}: entries of type '{}' belong into no image",
            String::from_utf8_lossy(path),
            other.escape_ascii()
        ))),
    }
}
