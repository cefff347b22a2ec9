//! Following a log as it grows, over rotations and into the next run: inotify, no polling.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::RunId;
use rustix::fs::inotify;

use super::format::{Record, parse};
use super::read::open;
use super::{LINE_BYTES_MAX, present, previous_segment, runs};

/// Reads what is new each time the directory changes. The caller waits until [`Follow::as_fd`] is
/// readable, by whatever it waits with, then calls [`Follow::news`].
pub struct Follow {
    dir: PathBuf,
    notify: OwnedFd,
    run: Option<RunId>,
    file: Option<File>,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
}

impl Follow {
    /// From the end of `run`'s log as it is now; `None` waits for the first run. Open this before reading
    /// the past, or what is said in between is missed.
    pub fn from_end(dir: &Path, run: Option<RunId>) -> io::Result<Follow> {
        let mut follow = Follow::watch(dir, run)?;
        if let Some(file) = &mut follow.file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(follow)
    }

    /// All that `run` says from its beginning.
    pub fn from_start(dir: &Path, run: RunId) -> io::Result<Follow> {
        Follow::watch(dir, Some(run))
    }

    fn watch(dir: &Path, run: Option<RunId>) -> io::Result<Follow> {
        let notify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let changes =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&notify, dir, changes)?;
        let file = run.map(|run| open(&present(dir, run))).transpose()?.flatten();
        Ok(Follow { dir: dir.to_path_buf(), notify, run, file, line: Vec::new() })
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }

    /// Every whole line since the last call, of this run and of runs that began meanwhile.
    pub fn news(&mut self) -> io::Result<Vec<Record>> {
        self.drain_notices();
        let mut news = Vec::new();
        loop {
            self.read_file(&mut news)?;
            if !self.next_file()? {
                return Ok(news);
            }
        }
    }

    /// What stands after the last line end: shown when the one who wrote it is gone.
    pub fn unfinished(&mut self) -> Option<Record> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| parse(&line))
    }

    /// The notices only wake; what happened is read from the files.
    fn drain_notices(&self) {
        let mut buffer = [0u8; 4096];
        while rustix::io::read(&self.notify, &mut buffer).is_ok_and(|n| n > 0) {}
    }

    fn read_file(&mut self, news: &mut Vec<Record>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut buffer = [0u8; 8192];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            for byte in &buffer[..n] {
                let too_long = self.line.len() >= 2 * LINE_BYTES_MAX;
                if (*byte == b'\n' || too_long) && !self.line.is_empty() {
                    news.push(parse(&self.line));
                    self.line.clear();
                }
                if *byte != b'\n' {
                    self.line.push(*byte);
                }
            }
        }
    }

    /// Moves on when the file at the end of the name is another one: after a rotation, or a new run.
    /// The present file has been read to its end; if two rotations happened since, what lay between is
    /// gone, as it is for everybody.
    fn next_file(&mut self) -> io::Result<bool> {
        let inode = |f: &File| f.metadata().map(|m| m.ino());
        if let Some(run) = self.run {
            let now = open(&present(&self.dir, run))?;
            let same = match (&self.file, &now) {
                (Some(held), Some(now)) => inode(held)? == inode(now)?,
                _ => now.is_none(),
            };
            if !same {
                self.file = now;
                return Ok(true);
            }
        }
        let newer = runs(&self.dir)?.into_iter().find(|r| self.run.is_none_or(|held| *r > held));
        let Some(newer) = newer else { return Ok(false) };
        self.run = Some(newer);
        // It may have rotated already.
        let oldest = open(&previous_segment(&self.dir, newer))?;
        self.file = match oldest {
            Some(file) => Some(file),
            None => open(&present(&self.dir, newer))?,
        };
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogWriter, Origin};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn wait(follow: &Follow) {
        let mut fds = [PollFd::new(follow, PollFlags::IN)];
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "nothing came in 5 s");
    }

    impl AsFd for Follow {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.notify.as_fd()
        }
    }

    fn texts(records: Vec<Record>) -> Vec<String> {
        records.into_iter().map(|r| r.text).collect()
    }

    #[test]
    fn it_follows_over_rotations_and_runs() {
        let tmp = tempfile::tempdir().unwrap();
        let run = |number| RunId { boots: 1, number };
        let mut log = LogWriter::create(tmp.path(), run(1), 256 << 10).unwrap();
        log.write(Origin::Stdout, b"past\n");
        let mut follow = Follow::from_end(tmp.path(), Some(run(1))).unwrap();
        log.write(Origin::Stdout, b"one\nhal");
        wait(&follow);
        assert_eq!(texts(follow.news().unwrap()), ["one"]);
        log.write(Origin::Stdout, b"f\n");
        let mut seen = texts(follow.news().unwrap());
        for n in 0..10_000 {
            log.write(Origin::Stdout, format!("{n}\n").as_bytes());
            if n % 500 == 0 {
                seen.extend(texts(follow.news().unwrap()));
            }
        }
        seen.extend(texts(follow.news().unwrap()));
        let expected: Vec<String> =
            std::iter::once("half".to_string()).chain((0..10_000).map(|n| n.to_string())).collect();
        assert_eq!(seen, expected);

        let mut next = LogWriter::create(tmp.path(), run(2), 256 << 10).unwrap();
        next.write(Origin::Stdout, b"again");
        wait(&follow);
        assert_eq!(texts(follow.news().unwrap()), [""; 0]);
        assert_eq!(follow.unfinished().unwrap().text, "again");
    }

    #[test]
    fn it_waits_for_the_first_run() {
        let tmp = tempfile::tempdir().unwrap();
        let mut follow = Follow::from_end(tmp.path(), None).unwrap();
        assert_eq!(follow.news().unwrap(), []);
        let run = RunId { boots: 1, number: 0 };
        LogWriter::create(tmp.path(), run, 256 << 10).unwrap().write(Origin::Stderr, b"hi\n");
        wait(&follow);
        assert_eq!(texts(follow.news().unwrap()), ["hi"]);
    }
}
