//! A writable layer of a fixed size on a disk: an ext4 in a file that has no name, through a loop device that the
//! kernel lets go of with the file system.
//!
//! What is in it is thrown away, so nothing of it waits for the disk: the file system is made in memory and
//! copied, and told not to flush. With mkfs and mount(8) on the disk a start took 200 ms and more on a busy one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, MemfdFlags, SeekFrom as Seek_, fallocate, memfd_create, seek};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::{RunError, fault, refused};

/// Below this ext4 has no room for its own structures.
const BYTES_MIN: u64 = 2 << 20;

pub fn mount_new(directory: &Path, size_bytes: u64, at: &Path) -> Result<(), RunError> {
    let size_bytes = size_bytes.max(BYTES_MIN);
    let named = || format!("a writable layer of {size_bytes} bytes in {}", directory.display());
    let made = make_ext4(size_bytes)?;
    let file = nameless(directory).and_then(|file| {
        take(&file, size_bytes)?;
        copy(made, &file)?;
        Ok(file)
    });
    let device = file.and_then(|file| attach(&file)).map_err(fault(named()))?;
    // No journal and no flush: a crash throws it away. Tables are zeroed when they are needed.
    let options = c"barrier=0,noinit_itable";
    mount(&device.path, at, "ext4", MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME, options)
        .map_err(|e| fault(format!("ext4 on {}", at.display()))(e.into()))
}

/// Nothing has to be deleted at the end, nor after a crash.
fn nameless(directory: &Path) -> io::Result<File> {
    let path = directory.join(format!(".writable.{}", std::process::id()));
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Now, so that a full disk refuses the start and not, some day, a write.
fn take(file: &File, size_bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(size_bytes),
        other => other.map_err(Into::into),
    }
}

/// In memory, for mkfs waits until the disk has all of it.
fn make_ext4(size_bytes: u64) -> Result<File, RunError> {
    let made =
        memfd_create(c"ext4", MemfdFlags::CLOEXEC).map_err(|e| fault("memory for mkfs.ext4")(e.into()))?;
    let made = File::from(made);
    made.set_len(size_bytes).map_err(fault("memory for mkfs.ext4"))?;
    let place = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].into_iter().find(|p| Path::new(p).exists());
    let mut mkfs = Command::new(place.unwrap_or("mkfs.ext4"));
    mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "nodiscard,root_owner=0:0"]);
    mkfs.arg(format!("/proc/{}/fd/{}", std::process::id(), made.as_raw_fd()));
    tool(mkfs)?;
    Ok(made)
}

fn tool(mut mkfs: Command) -> Result<(), RunError> {
    let output = match mkfs.stdin(Stdio::null()).output() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let why = "a writable layer on disk needs mkfs.ext4 (package e2fsprogs)";
            return Err(refused("storage", why));
        }
        other => other.map_err(fault("mkfs.ext4"))?,
    };
    let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect::<String>();
    match output.status.success() {
        true => Ok(()),
        false => Err(fault(format!("mkfs.ext4 ended with {}", output.status))(io::Error::other(said))),
    }
}

/// What is written of it, a few hundred KiB.
fn copy(mut from: File, mut to: &File) -> io::Result<()> {
    let mut end = 0;
    loop {
        let start = match seek(&from, Seek_::Data(end)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        end = seek(&from, Seek_::Hole(start))?;
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; (end - start) as usize];
        from.read_exact(&mut bytes)?;
        to.write_all(&bytes)?;
    }
}

struct Device {
    path: String,
    /// Until it is mounted: then the file system holds it.
    _open: File,
}

/// Another process may take the free one meanwhile.
const TRIES: u32 = 64;
const GET_FREE: libc::c_ulong = 0x4c82;
const SET_FD: libc::c_ulong = 0x4c00;
const CLEAR_FD: libc::c_ulong = 0x4c01;
const SET_STATUS: libc::c_ulong = 0x4c04;
const AUTOCLEAR: u32 = 4;

/// The kernel's `loop_info64`.
#[repr(C)]
struct Status {
    places: [u64; 5],
    numbers: [u32; 3],
    flags: u32,
    names: [u8; 64 + 64 + 32],
    init: [u64; 2],
}

fn attach(file: &File) -> io::Result<Device> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..TRIES {
        let number = ioctl(&control, GET_FREE, 0)?;
        let path = format!("/dev/loop{number}");
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        match ioctl(&device, SET_FD, file.as_raw_fd() as libc::c_ulong) {
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => continue,
            other => other?,
        };
        let status =
            Status { places: [0; 5], numbers: [0; 3], flags: AUTOCLEAR, names: [0; 160], init: [0; 2] };
        if let Err(e) = ioctl(&device, SET_STATUS, &raw const status as libc::c_ulong) {
            let _ = ioctl(&device, CLEAR_FD, 0);
            return Err(e);
        }
        return Ok(Device { path, _open: device });
    }
    Err(io::Error::other("no loop device is free"))
}

fn ioctl(file: &File, request: libc::c_ulong, value: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: a number, a descriptor, or a place that outlives the call, as each of these requests wants it.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, value) } {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}
