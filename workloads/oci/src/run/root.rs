//! The container's root: the image's directories below, a bounded writable one above.
//!
//! Mounted in a mount namespace of this process alone: when it and the container are gone, killed or
//! not, so are the mounts.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use super::points::mount_points;
use super::settings::Writable;
use super::{RunError, disk, fault, refused};
use crate::layer::Rootfs;

#[derive(Debug)]
pub struct Root {
    /// What the container sees as `/`.
    pub path: PathBuf,
    upper: PathBuf,
}

/// From here on mounts of this process are its own; what the board mounts later is still seen.
pub fn own_mounts() -> Result<(), RunError> {
    // SAFETY: this process has one thread, and shares no file system state with another.
    let unshared = unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) };
    unshared.map_err(|e| fault("a mount namespace")(e.into()))?;
    let flags = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", flags).map_err(|e| fault("a mount namespace of its own")(e.into()))
}

/// Of a copy of the board's mounts, those below `all` that are not below `own`.
pub fn let_go(all: &Path, own: &Path) -> Result<(), RunError> {
    let points = mount_points().map_err(fault("/proc/self/mountinfo"))?;
    for point in points.iter().filter(|p| p.starts_with(all) && !p.starts_with(own)) {
        match unmount(point, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(e) => return Err(fault(format!("let go of {}", point.display()))(e.into())),
        }
    }
    Ok(())
}

impl Root {
    /// `place` is a directory of this container alone.
    pub fn at(place: &Path) -> Root {
        Root { path: place.join("rootfs"), upper: place.join("upper") }
    }

    pub fn mount(&self, rootfs: &Rootfs, writable: &Writable) -> Result<(), RunError> {
        for dir in [&self.path, &self.upper] {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(fault(dir.display().to_string()))?;
        }
        match writable {
            Writable::Memory { size_bytes } => self.mount_memory(*size_bytes)?,
            Writable::Disk { directory, size_bytes } => disk::mount_new(directory, *size_bytes, &self.upper)?,
        }
        self.mount_overlay(rootfs)
    }

    fn mount_memory(&self, size_bytes: u64) -> Result<(), RunError> {
        // Inodes cost kernel memory too: one per page, and some for the small.
        let options = format!("size={size_bytes},nr_inodes={},mode=700", size_bytes / 4096 + 64);
        self.mount_upper("tmpfs", "tmpfs".as_ref(), &options)
    }

    fn mount_upper(&self, kind: &str, source: &Path, options: &str) -> Result<(), RunError> {
        let options = std::ffi::CString::new(options).expect("digits hold no NUL");
        let flags = MountFlags::NODEV | MountFlags::NOATIME;
        mount(source, &self.upper, kind, flags, options.as_c_str())
            .map_err(|e| fault(format!("{kind} on {}", self.upper.display()))(e.into()))
    }

    fn mount_overlay(&self, rootfs: &Rootfs) -> Result<(), RunError> {
        let (data, work) = (self.upper.join("data"), self.upper.join("work"));
        for dir in [&data, &work] {
            fs::create_dir(dir).map_err(fault(dir.display().to_string()))?;
        }
        let top =
            rootfs.layers.last().ok_or_else(|| refused("image", "it has no layers, so nothing to run"))?;
        like(top, &data).map_err(fault(top.display().to_string()))?;
        // A page holds all options, and 127 paths are longer than that; descriptors are short.
        let lowers =
            rootfs.layers.iter().rev().map(|layer| open_dir(layer)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<_> = lowers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
        let options =
            format!("lowerdir={},upperdir={},workdir={}", names.join(":"), data.display(), work.display());
        // Nothing of it is needed after a crash, so the kernel need not sync (since 5.10).
        let volatile = format!("{options},volatile");
        self.overlay(&volatile)
            .or_else(|_| self.overlay(&options))
            .map_err(fault(format!("overlay on {}", self.path.display())))
    }

    fn overlay(&self, options: &str) -> io::Result<()> {
        let options = std::ffi::CString::new(options)?;
        // Device nodes of images lead nowhere; those of the spec are in /dev, which is its own mount.
        Ok(mount("overlay", &self.path, "overlay", MountFlags::NODEV, options.as_c_str())?)
    }

    pub fn unmount(self) -> Result<(), RunError> {
        for path in [&self.path, &self.upper] {
            let flags = UnmountFlags::NOFOLLOW;
            match unmount(path, flags).or_else(|_| unmount(path, flags | UnmountFlags::DETACH)) {
                // Never mounted, or not even made.
                Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
                Err(e) => return Err(fault(format!("unmount {}", path.display()))(e.into())),
            }
        }
        Ok(())
    }
}

/// The root of an overlay is that of its uppermost directory.
fn like(from: &Path, to: &Path) -> io::Result<()> {
    let data = fs::metadata(from)?;
    chown(to, Some(data.uid()), Some(data.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(data.mode() & 0o7777))
}

fn open_dir(path: &Path) -> Result<OwnedFd, RunError> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| fault(format!("layer {}", path.display()))(e.into()))
}
