//! Whose is a new volume, and whose are the files that are made for a container? A volume's file system is made for root; a container that runs as another user could not
//! write to it.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, openat2};

use super::settings::{MountSource, Settings};
use super::{RunError, fault};

/// `root` is the container's root as this process sees it.
pub fn give_all(settings: &Settings, root: &Path, user: (u32, u32)) -> Result<(), RunError> {
    for mount in settings.mounts.iter().filter(|m| !m.read_only) {
        if let MountSource::Volume { host } = &mount.from {
            give(root, &mount.path, host, user).map_err(fault(format!("volume at {}", mount.path)))?;
        }
    }
    Ok(())
}

/// Whoever reads them is the one that the container begins as.
pub fn hand_over(settings: &Settings, (uid, gid): (u32, u32)) -> Result<(), RunError> {
    for mount in &settings.mounts {
        let MountSource::Given { host } = &mount.from else { continue };
        let give = || {
            let files =
                if host.is_dir() { fs::read_dir(host)?.collect::<io::Result<Vec<_>>>()? } else { Vec::new() };
            let paths = files.iter().map(fs::DirEntry::path).chain([host.clone()]);
            paths.into_iter().try_for_each(|path| lchown(path, Some(uid), Some(gid)))
        };
        give().map_err(fault(format!("files at {}", mount.path)))?;
    }
    Ok(())
}

/// To the user; where that is root, to whom the image's own directory of that name belongs, for entrypoints
/// that begin as root and go on as that one. Never again when something is in it.
fn give(root: &Path, path: &str, host: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    if fs::read_dir(host)?.next().is_some() {
        return Ok(());
    }
    if uid != 0 {
        return chown(host, Some(uid), Some(gid));
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(dir) = openat2(root, path, flags, Mode::empty(), resolve) else { return Ok(()) };
    let found = fstat(dir)?;
    chown(host, Some(found.st_uid), Some(found.st_gid))?;
    fs::set_permissions(host, fs::Permissions::from_mode(found.st_mode & 0o7777))
}
