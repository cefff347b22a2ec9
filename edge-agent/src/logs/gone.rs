//! Which logs of instances that are no longer on this board are kept? A person who looks for the cause
//! the day after a deletion finds them; a board that changes its work for years does not fill up.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use contract::InstanceId;

/// The instances that said something last. Each has at most its limit of bytes, so this bounds all.
const GONE_KEPT: usize = 16;
/// A board whose clock is wrong keeps them longer; the number bounds them all the same.
const GONE_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// Names that no agent gave are left alone. What cannot be removed now is the next time.
pub fn forget_gone(log_dir: &Path, is_here: impl Fn(&InstanceId) -> bool) {
    let Ok(entries) = fs::read_dir(log_dir) else { return };
    let gone = |entry: fs::DirEntry| {
        let instance = InstanceId::from_file_name(entry.file_name().to_str()?).ok()?;
        (!is_here(&instance)).then(|| (last_said(&entry.path()), entry.path()))
    };
    let mut gone: Vec<(SystemTime, PathBuf)> = entries.flatten().filter_map(gone).collect();
    gone.sort_by(|a, b| b.cmp(a));
    let is_old = |said: &SystemTime| said.elapsed().is_ok_and(|age| age > GONE_AGE_MAX);
    for (n, (said, path)) in gone.iter().enumerate() {
        if n >= GONE_KEPT || is_old(said) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn last_said(dir: &Path) -> SystemTime {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let times = files.filter_map(|file| file.metadata().ok()?.modified().ok());
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn said(log_dir: &Path, name: &str, ago: Duration) {
        let dir = log_dir.join(name);
        fs::create_dir(&dir).unwrap();
        let log = fs::File::create(dir.join("1-1.log")).unwrap();
        log.set_modified(SystemTime::now() - ago).unwrap();
    }

    #[test]
    fn the_newest_of_the_gone_stay_and_what_is_here_is_never_touched() {
        let tmp = tempfile::tempdir().unwrap();
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for n in 0..GONE_KEPT as u64 + 5 {
            said(tmp.path(), &format!("plant.old.{n}"), minutes(n + 10));
        }
        said(tmp.path(), "plant.stale.0", GONE_AGE_MAX + minutes(1));
        said(tmp.path(), "plant.here.0", GONE_AGE_MAX + minutes(1));
        said(tmp.path(), "a stranger's", GONE_AGE_MAX + minutes(1));
        let here: BTreeSet<InstanceId> = BTreeSet::from(["plant/here/0".parse().unwrap()]);
        forget_gone(tmp.path(), |id| here.contains(id));
        let left = || {
            let names =
                fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.collect::<BTreeSet<_>>()
        };
        let mut expected: BTreeSet<String> = (0..GONE_KEPT).map(|n| format!("plant.old.{n}")).collect();
        expected.extend(["plant.here.0".into(), "a stranger's".into()]);
        assert_eq!(left(), expected);
        forget_gone(tmp.path(), |id| here.contains(id));
        assert_eq!(left(), expected);
    }
}
