//! What a file is besides its content: owner, permissions, extended attributes, time.
//!
//! In this order, for the kernel takes setuid and file capabilities away when the owner changes, and
//! every change moves the time.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fgetxattr, flistxattr,
    flistxattr_query, lgetxattr, llistxattr, llistxattr_query, lsetxattr, utimensat,
};
use rustix::io::Errno;

use super::Stop;
use crate::tar::Entry;

pub const OPAQUE: &str = "trusted.overlay.opaque";
/// The largest that the kernel takes.
const XATTR_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Meta {
    /// Of a directory that a layer only implies; the same on every board.
    pub fn implied() -> Meta {
        Meta { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }

    pub fn of(entry: &mut Entry) -> Meta {
        let xattrs = std::mem::take(&mut entry.xattrs);
        Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs }
    }

    pub fn of_stat(stat: &Stat, xattrs: Vec<(String, Vec<u8>)>) -> Meta {
        Meta {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            xattrs,
        }
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 as _ };
        Timestamps { last_access: time, last_modification: time }
    }

    /// Gives all of it to `name` in `dir`, which is not followed. What attribute the file system does not
    /// take is returned by name.
    pub fn give(&self, dir: &OwnedFd, name: &[u8], is_link: bool) -> Result<Vec<String>, Stop> {
        let fault = |what: &str| {
            let what = format!("{what} of '{}'", String::from_utf8_lossy(name));
            move |e: Errno| Stop::Fault(what, e.into())
        };
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fault("owner"))?;
        if !is_link {
            chmodat(dir, name, Mode::from_raw_mode(self.mode), AtFlags::empty())
                .map_err(fault("permissions"))?;
        }
        let left_out = self.give_xattrs(&through(dir, name))?;
        utimensat(dir, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW).map_err(fault("time"))?;
        Ok(left_out)
    }

    fn give_xattrs(&self, path: &[u8]) -> Result<Vec<String>, Stop> {
        let mut left_out = Vec::new();
        for (key, value) in &self.xattrs {
            match is_ours(key).then(|| lsetxattr(path, key.as_str(), value, XattrFlags::empty())) {
                Some(Ok(())) => {}
                None | Some(Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL)) => left_out.push(key.clone()),
                Some(Err(e)) => return Err(Stop::Fault(format!("attribute {key}"), e.into())),
            }
        }
        Ok(left_out)
    }
}

/// Those of overlayfs would let a layer reach into others; those of security modules belong to the host.
fn is_ours(key: &str) -> bool {
    let foreign = [
        "trusted.overlay.",
        "user.overlay.",
        "security.selinux",
        "security.ima",
        "security.evm",
        "system.nfs4_acl",
    ];
    !foreign.iter().any(|f| key.starts_with(f))
}

/// A path to `name` in `dir` for calls that have no form with a descriptor; `name` is not followed.
pub fn through(dir: &OwnedFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
}

pub fn is_opaque(dir: impl AsFd) -> bool {
    let mut value = [0u8; 1];
    matches!(fgetxattr(dir, OPAQUE, &mut value[..]), Ok(1)) && value == *b"y"
}

pub fn set_opaque(dir: impl AsFd) -> Result<(), Stop> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty())
        .map_err(|e| Stop::Fault(format!("attribute {OPAQUE}; the file system must take it"), e.into()))
}

/// All attributes but those of overlayfs; for copies.
pub fn xattrs_at(dir: &OwnedFd, name: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    let path = through(dir, name);
    let there = llistxattr_query(path.as_slice());
    read_xattrs(there, |to| llistxattr(path.as_slice(), to), |key, to| lgetxattr(path.as_slice(), key, to))
}

pub fn xattrs_of(dir: impl AsFd + Copy) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    read_xattrs(flistxattr_query(dir), |to| flistxattr(dir, to), |key, to| fgetxattr(dir, key, to))
}

fn read_xattrs(
    there: rustix::io::Result<usize>,
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<(String, Vec<u8>)>, Stop> {
    let fault = |e: Errno| Stop::Fault("attributes of a lower layer".into(), e.into());
    // Nearly nothing has attributes, so the large buffer is for later.
    match there {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(fault)?,
    };
    let mut buffer = vec![0; XATTR_BYTES_MAX];
    let length = list(&mut buffer).map_err(fault)?;
    let names = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let mut found = Vec::new();
    for key in names.split('\0').filter(|k| !k.is_empty() && is_ours(k)) {
        let length = get(key, &mut buffer).map_err(fault)?;
        found.push((key.to_string(), buffer[..length].to_vec()));
    }
    Ok(found)
}
