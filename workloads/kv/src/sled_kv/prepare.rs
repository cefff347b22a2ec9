//! What must be put right in the directory before sled looks at it, and made durable after?

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::database::SEGMENT_BYTES;
use super::guard;
use crate::error::KvError;

/// A process that was just spawned shares its parent's locks until it executes its program. An agent
/// killed at that moment and started again must not take this for a second agent.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Takes the lock that makes a store the property of one handle. It is a file beside the directory,
/// since the directory itself may be moved aside while the lock is held.
pub(super) fn lock(dir: &Path) -> Result<Arc<File>, KvError> {
    let path = beside(dir, ".lock");
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| KvError::io(parent, e))?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| KvError::io(&path, e))?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Arc::new(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(KvError::Locked { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(e)) => return Err(KvError::io(&path, e)),
        }
    }
}

/// `<dir><suffix>`, in the same parent.
pub(super) fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the directory, removes what a crash left and sled stumbles over. True: there was no store.
pub(super) fn prepare(dir: &Path) -> Result<bool, KvError> {
    fs::create_dir_all(dir).map_err(|e| KvError::io(dir, e))?;
    remove_unfinished_snapshots(dir).map_err(|e| KvError::io(dir, e))?;
    let repaired = repair_conf(dir)?;
    Ok(repaired || !dir.join("db").exists())
}

/// sled writes `snap.<lsn>.generating` and renames it, but when reading leaves out only
/// `*.in___motion`: a name it never gives. One left by a crash makes every later open fail.
fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled writes `conf` once, without a sync, so a power cut soon after the first start can leave it
/// short or full of zeros. An empty one it writes anew, which is right for the parameters that we
/// always use. A whole one with other parameters is somebody else's store and is left alone.
fn repair_conf(dir: &Path) -> Result<bool, KvError> {
    let path = dir.join("conf");
    let found = match fs::read(&path) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(KvError::io(&path, e)),
    };
    if found == conf() {
        return Ok(false);
    }
    if is_whole(&found) {
        let text = String::from_utf8_lossy(&found[..found.len() - 4]).replace('\n', ", ");
        return Err(KvError::Foreign { dir: dir.to_path_buf(), why: format!("conf says {text}") });
    }
    File::create(&path).map_err(|e| KvError::io(&path, e))?;
    Ok(true)
}

fn conf() -> Vec<u8> {
    let text = format!("segment_size: {SEGMENT_BYTES}\nuse_compression: false\nversion: 0.34\n");
    let crc = crc32fast::hash(text.as_bytes()).to_le_bytes();
    [text.as_bytes(), &crc].concat()
}

fn is_whole(found: &[u8]) -> bool {
    match found.split_last_chunk::<4>() {
        Some((text, crc)) => !text.is_empty() && crc32fast::hash(text).to_le_bytes() == *crc,
        None => false,
    }
}

/// Ends an open that succeeded: the files of a new store and all names become durable, and the
/// attempt is struck out.
pub(super) fn settle(dir: &Path, fresh: bool) -> Result<(), KvError> {
    let sync =
        |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(|e| KvError::io(path, e));
    if fresh {
        for name in ["db", "conf", "blobs"] {
            sync(&dir.join(name))?;
        }
    }
    guard::strike_out(dir);
    sync(dir)?;
    match (fresh, dir.parent()) {
        (true, Some(parent)) if parent.as_os_str().is_empty() => sync(Path::new(".")),
        (true, Some(parent)) => sync(parent),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conf_of_other_parameters_is_told_from_a_torn_one() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"segment_size: 65536\nuse_compression: false\nversion: 0.34\n";
        let other = [&text[..], &crc32fast::hash(text).to_le_bytes()].concat();
        fs::write(dir.path().join("conf"), &other).unwrap();
        assert!(matches!(repair_conf(dir.path()), Err(KvError::Foreign { .. })));
        for cut in 0..conf().len() {
            fs::write(dir.path().join("conf"), &conf()[..cut]).unwrap();
            assert!(repair_conf(dir.path()).unwrap(), "cut to {cut} bytes");
            assert_eq!(fs::read(dir.path().join("conf")).unwrap(), b"");
        }
        fs::write(dir.path().join("conf"), vec![0; conf().len()]).unwrap();
        assert!(repair_conf(dir.path()).unwrap(), "zeros");
        fs::write(dir.path().join("conf"), conf()).unwrap();
        assert!(!repair_conf(dir.path()).unwrap());
    }
}
