//! `hub cp` inside the container: this program's own code in its root, so that an image needs no tar. What leads out
//! of the root does not exist for it.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::FromRawFd as _;
use std::path::{Path, PathBuf};

use contract::message::{CopyTo, FileCopy};
use oci::copy::{Copied, CopyError, Links, open_dir, pack, unpack};
use oci::run::join::Work;

const FAILURE: u8 = 1;

pub fn work(asked: FileCopy) -> Work {
    Work::Own(Box::new(move || {
        let done = match asked.to {
            CopyTo::Operator => out(Path::new(&asked.path)),
            CopyTo::Container => into(&asked.path),
        };
        match done {
            Ok(copied) => {
                copied.notes.iter().for_each(|note| eprintln!("{note}"));
                let more = copied.left_out().saturating_sub(copied.notes.len() as u64);
                if more > 0 {
                    eprintln!("left out {more} more");
                }
                if copied.left_out() > 0 { FAILURE } else { 0 }
            }
            Err(e) => {
                eprintln!("{e}");
                FAILURE
            }
        }
    }))
}

/// The name in the tar is the path's last; of `/`, which has none, any.
fn out(path: &Path) -> Result<Copied, CopyError> {
    let name = path.file_name().map_or("root".into(), |n| n.to_string_lossy());
    // SAFETY: this process is for this alone, and nothing else of it writes there.
    let stdout = BufWriter::with_capacity(64 << 10, unsafe { File::from_raw_fd(1) });
    pack(path, &name, stdout, &mut |_, _| {})
}

/// How much of it there may be, the container's own disk says. Into a directory that is there, under the tar's own name; else under the path's, in a directory that is there.
fn into(path: &str) -> Result<Copied, CopyError> {
    // SAFETY: as above; nothing else of it reads there.
    let stdin = unsafe { File::from_raw_fd(0) };
    let path = PathBuf::from(path);
    if path.is_dir() {
        return unpack(stdin, open_dir(&path)?, None, Links::Keep, u64::MAX, &mut |_, _| {});
    }
    let refused = |why: &str| CopyError::Refused { path: path.display().to_string(), why: why.into() };
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(refused("there is no such directory in the container"));
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(refused("it ends in '..': name a file or a directory"));
    };
    let above = open_dir(above)?;
    unpack(stdin, above, Some(&name.to_string_lossy()), Links::Keep, u64::MAX, &mut |_, _| {})
}
