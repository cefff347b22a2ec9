//! Volumes: directories that outlive runs and revisions and cannot outgrow their size.
//!
//! Each is an ext4 image of exactly that size at `<state>/volumes/<instance>/<name>.ext4`, its blocks
//! reserved when it is made, mounted for the run. What was weighed: a directory with accounting polls
//! and is late; RLIMIT_FSIZE bounds a file, not their number; project quotas need a file system mounted
//! for them. An image needs mkfs.ext4 (e2fsprogs) and the loop driver, which boards have; it costs 6 ms
//! once, 9 ms a start, and about 5 % of its size. A writer without end gets ENOSPC and hurts nobody;
//! outsiders who fill the disk cannot take the reserved blocks away.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use contract::Name;
use rustix::fs::FallocateFlags;

use super::mounts::{MountError, fault};

/// Below this ext4 has no room for its own structures.
const SIZE_BYTES_MIN: u64 = 2 << 20;

pub fn mount(volumes: &Path, name: &Name, size_bytes: u64, target: &Path) -> Result<(), MountError> {
    let size_bytes = size_bytes.max(SIZE_BYTES_MIN);
    let image = volumes.join(format!("{name}.ext4"));
    match image.try_exists() {
        Ok(true) => {}
        Ok(false) => make(volumes, name, &image, size_bytes)?,
        Err(e) => return Err(fault(image.display().to_string())(e)),
    }
    refuse_if_mounted(&image)?;
    grow(&image, size_bytes)?;
    // mount(8) finds a loop device, and detaches it when the file system goes.
    let mut command = Command::new("mount");
    command.args(["-t", "ext4", "-o", "loop,nosuid,nodev,noexec,noatime"]).arg(&image).arg(target);
    run(command, "mount", "util-linux")?;
    // Only fsck needs it, and makes it anew; a guest expects its volume to be empty at first.
    let _ = fs::remove_dir(target.join("lost+found"));
    Ok(())
}

/// Made beside its name: an image that is there is whole.
fn make(volumes: &Path, name: &Name, image: &Path, size_bytes: u64) -> Result<(), MountError> {
    let tmp = volumes.join(format!(".{name}.ext4.tmp"));
    let what = || format!("volume {name} of {} bytes in {}", size_bytes, volumes.display());
    let made = (|| {
        fs::create_dir_all(volumes)?;
        reserve(&OpenOptions::new().create(true).write(true).truncate(true).open(&tmp)?, size_bytes)
    })();
    if let Err(e) = made {
        let _ = fs::remove_file(&tmp);
        return Err(fault(what())(e));
    }
    let mut mkfs = Command::new(tool("mkfs.ext4"));
    // nodiscard: mkfs would give the reserved blocks back. root_owner: nobody else writes in it.
    mkfs.args(["-q", "-F", "-m", "0", "-E", "nodiscard,root_owner=0:0", "-L"]).arg(label(name)).arg(&tmp);
    run(mkfs, "mkfs.ext4", "e2fsprogs")?;
    let kept = File::open(&tmp).and_then(|f| f.sync_all()).and_then(|()| fs::rename(&tmp, image));
    kept.map_err(fault(what()))
}

/// Space is taken now, so that a full disk refuses the volume and not, some day, the write. A file
/// system that cannot reserve gets a sparse file.
fn reserve(file: &File, size_bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size_bytes),
        other => Ok(other?),
    }
}

/// A spec that asks for more gets it at its next start; one that asks for less keeps what there is. Not
/// mounted, for the kernel grows a mounted one only with CAP_SYS_RESOURCE. What counts is the file
/// system's own size, so that a crash in between is made good.
fn grow(image: &Path, wants_bytes: u64) -> Result<(), MountError> {
    let named = || format!("grow {} to {wants_bytes} bytes", image.display());
    let open = OpenOptions::new().read(true).write(true).open(image);
    let file = open.map_err(fault(named()))?;
    // ext4 takes whole blocks only.
    if file_system_bytes(&file).map_err(fault(named()))? + BLOCK_BYTES_MAX > wants_bytes {
        return Ok(());
    }
    reserve(&file, wants_bytes).map_err(fault(named()))?;
    drop(file);
    let mut check = Command::new(tool("e2fsck"));
    check.args(["-f", "-p"]).arg(image);
    // 1: it found something and put it right.
    run_to(check, "e2fsck", "e2fsprogs", &[0, 1])?;
    let mut resize = Command::new(tool("resize2fs"));
    resize.arg(image);
    run(resize, "resize2fs", "e2fsprogs")
}

const BLOCK_BYTES_MAX: u64 = 64 << 10;

/// From the superblock: blocks (low half; a volume has less than 2^32) and the block's size.
fn file_system_bytes(image: &File) -> io::Result<u64> {
    const SUPERBLOCK: u64 = 1024;
    let read = |at: u64| {
        let mut field = [0u8; 4];
        image.read_exact_at(&mut field, SUPERBLOCK + at)?;
        io::Result::Ok(u64::from(u32::from_le_bytes(field)))
    };
    Ok((read(4)? << 10) << read(24)?.min(6))
}

/// Two mounts of one image destroy it. The kernel lets go of a loop device a moment after the unmount.
fn refuse_if_mounted(image: &Path) -> Result<(), MountError> {
    for _ in 0..RELEASE_RETRIES {
        if attached_to(image).is_none() {
            return Ok(());
        }
        // In a thread of its own, which blocks on disks anyway.
        std::thread::sleep(RELEASE_PAUSE);
    }
    let Some(device) = attached_to(image) else { return Ok(()) };
    Err(MountError::Fault {
        what: format!("{} is still attached to {device}", image.display()),
        source: io::ErrorKind::ResourceBusy.into(),
    })
}

const RELEASE_RETRIES: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(20);

/// The loop device that has it, while it is mounted.
pub fn attached_to(image: &Path) -> Option<String> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|device| {
        let backing = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        let is_it = Path::new(backing.trim_end_matches('\n')) == image;
        is_it.then(|| device.file_name().to_string_lossy().into_owned())
    })
}

/// At most 16 bytes; for people who look at the image.
fn label(name: &Name) -> String {
    name.as_str().chars().take(16).collect()
}

/// Not always in the PATH of a service.
fn tool(name: &str) -> PathBuf {
    let places = ["/usr/sbin", "/sbin"];
    places.iter().map(|p| Path::new(p).join(name)).find(|p| p.exists()).unwrap_or_else(|| PathBuf::from(name))
}

fn run(command: Command, name: &str, package: &str) -> Result<(), MountError> {
    run_to(command, name, package, &[0])
}

fn run_to(mut command: Command, name: &str, package: &str, good: &[i32]) -> Result<(), MountError> {
    let output = command.stdin(Stdio::null()).output();
    let output = match output {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(MountError::Refused(format!(
                "a volume needs {name} on this board (package {package})"
            )));
        }
        other => other.map_err(fault(name))?,
    };
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect::<String>();
    Err(MountError::Fault {
        what: format!("{name} ended with {}", output.status),
        source: io::Error::other(said),
    })
}
