//! Writing the ring: one system call per write of the guest, never more bytes than the limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use contract::RunId;

use super::format::{Origin, head, unix_ms};
use super::{LINE_BYTES_MAX, present, previous_segment, segment_bytes};

/// The log of one run. There is one writer, the shim.
pub struct LogWriter {
    file: File,
    path: PathBuf,
    old: PathBuf,
    segment_bytes: u64,
    written: u64,
    /// The line that has no end yet: whose it is and how long it is.
    open: Option<(Origin, usize)>,
    /// Whose line the file ends in the middle of.
    torn: Option<Origin>,
    /// Streams whose last line was cut by another stream, so that the rest is marked as going on.
    cut: [bool; 2],
    /// Bytes that could not be written, told once writing works again.
    lost: u64,
    buffer: Vec<u8>,
}

impl LogWriter {
    pub fn create(dir: &Path, run: RunId, bytes_max: u64) -> io::Result<LogWriter> {
        fs::create_dir_all(dir)?;
        let path = present(dir, run);
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(LogWriter {
            file,
            path,
            old: previous_segment(dir, run),
            segment_bytes: segment_bytes(bytes_max),
            written,
            open: None,
            torn: None,
            cut: [false; 2],
            lost: 0,
            buffer: Vec::new(),
        })
    }

    /// What the guest wrote, in pieces of any size. Never fails: a full disk loses lines, counts them and
    /// does not stop the guest.
    pub fn write(&mut self, origin: Origin, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.open_length(origin);
            let newline = bytes.iter().take(room + 1).position(|b| *b == b'\n');
            let (text, used, ends) = match newline {
                Some(at) => (&bytes[..at], at + 1, true),
                None if bytes.len() > room => (&bytes[..room], room, true),
                None => (bytes, bytes.len(), false),
            };
            self.piece(origin, text, ends, newline.is_none() && ends);
            bytes = &bytes[used..];
            if self.buffer.len() as u64 >= self.segment_bytes / 4 {
                self.flush();
            }
        }
        self.flush();
    }

    /// A remark of our own, a whole line each.
    pub fn remark(&mut self, text: &str) {
        for line in text.lines() {
            self.write(Origin::Skerry, line.as_bytes());
            self.write(Origin::Skerry, b"\n");
        }
    }

    fn open_length(&self, origin: Origin) -> usize {
        self.open.filter(|(whose, _)| *whose == origin).map_or(0, |(_, length)| length)
    }

    /// `too_long`: the line ends here only because it has to.
    fn piece(&mut self, origin: Origin, text: &[u8], ends: bool, too_long: bool) {
        let length = self.open_length(origin);
        if let Some((other, _)) = self.open.filter(|(whose, _)| *whose != origin) {
            self.buffer.push(b'\n');
            self.mark(other, true);
        }
        if self.open.is_none_or(|(whose, _)| whose != origin) {
            let goes_on = self.is_marked(origin);
            self.buffer.extend_from_slice(head(origin, goes_on, unix_ms()).as_bytes());
        }
        self.buffer.extend_from_slice(text);
        self.open = Some((origin, length + text.len()));
        self.mark(origin, too_long);
        if ends {
            self.buffer.push(b'\n');
            self.open = None;
        }
    }

    fn mark(&mut self, origin: Origin, cut: bool) {
        match origin {
            Origin::Stdout => self.cut[0] = cut,
            Origin::Stderr => self.cut[1] = cut,
            Origin::Skerry => {}
        }
    }

    fn is_marked(&self, origin: Origin) -> bool {
        match origin {
            Origin::Stdout => self.cut[0],
            Origin::Stderr => self.cut[1],
            Origin::Skerry => false,
        }
    }

    fn flush(&mut self) {
        if self.written + self.buffer.len() as u64 > self.segment_bytes {
            self.rotate();
            if let Some(origin) = self.torn {
                self.buffer.splice(0..0, head(origin, true, unix_ms()).into_bytes());
            }
        }
        if self.lost > 0 {
            let note = format!(
                "\n{}{} bytes of log were lost here\n",
                head(Origin::Skerry, false, unix_ms()),
                self.lost
            );
            if self.file.write_all(note.as_bytes()).is_ok() {
                self.written += note.len() as u64;
                self.lost = 0;
            }
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.written += self.buffer.len() as u64,
            Err(_) => self.lost += self.buffer.len() as u64,
        }
        self.buffer.clear();
        self.torn = self.open.map(|(origin, _)| origin);
    }

    fn rotate(&mut self) {
        if self.torn.is_some() {
            let _ = self.file.write_all(b"\n");
        }
        if fs::rename(&self.path, &self.old).is_err() {
            // Not even a rename: keep the bound and lose what is there.
            let _ = self.file.set_len(0);
            self.written = 0;
            return;
        }
        match OpenOptions::new().create(true).append(true).open(&self.path) {
            Ok(file) => self.file = file,
            Err(_) => {
                let _ = self.file.set_len(0);
            }
        }
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{Query, make_room, read, runs};

    const RUN: RunId = RunId { boots: 1, number: 2 };

    fn texts(dir: &Path) -> Vec<(Origin, String)> {
        let records = read(dir, RUN, &Query::default()).unwrap();
        records.into_iter().map(|r| (r.origin, r.text)).collect()
    }

    #[test]
    fn pieces_become_lines_and_nothing_waits_for_a_newline() {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(tmp.path(), RUN, 1 << 20).unwrap();
        log.write(Origin::Stdout, b"one\ntw");
        assert_eq!(texts(tmp.path()), [(Origin::Stdout, "one".into()), (Origin::Stdout, "tw".into())]);
        log.write(Origin::Stdout, b"o");
        log.write(Origin::Stderr, b"oops\n");
        log.write(Origin::Stdout, b"!\n\n");
        log.remark("ended");
        let raw = fs::read_to_string(present(tmp.path(), RUN)).unwrap();
        assert!(raw.contains(" O !\n") && raw.contains(" o two\n"), "{raw}");
        let expected = [
            (Origin::Stdout, "one"),
            (Origin::Stdout, "two"),
            (Origin::Stderr, "oops"),
            (Origin::Stdout, "!"),
            (Origin::Stdout, ""),
            (Origin::Skerry, "ended"),
        ];
        assert_eq!(texts(tmp.path()), expected.map(|(o, t)| (o, t.to_string())));
    }

    #[test]
    fn a_flood_is_bounded_and_the_newest_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let limit = 256 << 10;
        let mut log = LogWriter::create(tmp.path(), RUN, limit).unwrap();
        for n in 0..20_000 {
            log.write(Origin::Stdout, format!("line {n}\n").as_bytes());
        }
        log.write(Origin::Stdout, &vec![b'x'; 1 << 20]);
        log.write(Origin::Stdout, b"\nlast\n");
        let size: u64 = fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        // Half of an instance's limit: the other half is the previous run's.
        assert!(size <= limit / 2 + LINE_BYTES_MAX as u64 + 100, "{size}");
        assert_eq!(texts(tmp.path()).last().unwrap().1, "last");
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(tmp.path(), RUN, 1 << 20).unwrap();
        let long = "y".repeat(LINE_BYTES_MAX + 5);
        log.write(Origin::Stderr, long.as_bytes());
        log.write(Origin::Stderr, b"\nnext\n");
        let raw = fs::read_to_string(present(tmp.path(), RUN)).unwrap();
        assert!(raw.contains(" E yyyyy\n") && raw.contains(" e next\n"));
        assert!(raw.lines().all(|l| l.len() <= LINE_BYTES_MAX + 20));
        // A line of exactly the limit is not followed by an empty one.
        let exact = "z".repeat(LINE_BYTES_MAX) + "\n";
        log.write(Origin::Stderr, exact.as_bytes());
        let all = texts(tmp.path());
        assert_eq!(all.last().unwrap().1.len(), LINE_BYTES_MAX);
    }

    #[test]
    fn what_is_lost_is_told() {
        let tmp = tempfile::tempdir().unwrap();
        let mut log = LogWriter::create(tmp.path(), RUN, 1 << 20).unwrap();
        let good =
            std::mem::replace(&mut log.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.write(Origin::Stdout, b"gone\n");
        log.file = good;
        log.write(Origin::Stdout, b"back\n");
        let all: Vec<String> = texts(tmp.path()).into_iter().map(|(_, text)| text).collect();
        assert!(all.iter().any(|t| t.ends_with("bytes of log were lost here")), "{all:?}");
        assert_eq!(all.last().unwrap(), "back");
    }

    #[test]
    fn two_runs_are_kept() {
        let tmp = tempfile::tempdir().unwrap();
        for number in 0..5 {
            let run = RunId { boots: 1, number };
            make_room(tmp.path(), run).unwrap();
            LogWriter::create(tmp.path(), run, 1 << 20).unwrap().remark("x");
        }
        assert_eq!(runs(tmp.path()).unwrap(), [3, 4].map(|number| RunId { boots: 1, number }));
    }
}
