//! Reading a run's log: the last n lines, since a time, torn lines and rotations included.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use contract::RunId;

use super::format::{Record, parse};
use super::{LINE_BYTES_MAX, present, previous_segment};

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Only lines at or after this time. A torn line counts as old as the one before it.
    pub since_unix_ms: Option<u64>,
}

/// A writer's lines are shorter; a foreign file in this place is read all the same, in pieces.
const PIECE_BYTES_MAX: usize = 2 * LINE_BYTES_MAX;

/// All records of `run` that match, oldest first. At most an instance's limit of bytes is held.
pub fn read(dir: &Path, run: RunId, query: &Query) -> io::Result<Vec<Record>> {
    // The old segment is opened first: a rotation in between shows lines twice rather than never, and
    // the second open then has the newer file.
    let old = open(&previous_segment(dir, run))?;
    let new = open(&present(dir, run))?;
    let mut kept = Kept { query, shown: VecDeque::new(), after_since: query.since_unix_ms.is_none() };
    for file in [old, new].into_iter().flatten() {
        each_line(BufReader::new(file), |line| kept.take(parse(line)))?;
    }
    Ok(kept.shown.into())
}

struct Kept<'q> {
    query: &'q Query,
    shown: VecDeque<Record>,
    after_since: bool,
}

impl Kept<'_> {
    fn take(&mut self, record: Record) {
        if let (Some(since), Some(at)) = (self.query.since_unix_ms, record.unix_ms) {
            self.after_since = at >= since;
        }
        if !self.after_since || self.query.tail == Some(0) {
            return;
        }
        if self.query.tail.is_some_and(|n| self.shown.len() >= n) {
            self.shown.pop_front();
        }
        self.shown.push_back(record);
    }
}

pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Calls `each` with every line without its end; the last one may have none. Empty lines are the ends
/// that the writer puts before a remark on lost bytes.
pub(super) fn each_line(mut from: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        from.by_ref().take(PIECE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !text.is_empty() {
            each(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const RUN: RunId = RunId { boots: 1, number: 1 };

    #[test]
    fn tail_and_since_go_over_both_segments() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(previous_segment(tmp.path(), RUN), "10 o a\n20 o b\nrest of a torn line\n").unwrap();
        fs::write(present(tmp.path(), RUN), "30 e c\n40 o d").unwrap();
        let texts = |query: Query| {
            let records = read(tmp.path(), RUN, &query).unwrap();
            records.into_iter().map(|r| r.text).collect::<Vec<_>>().join("|")
        };
        assert_eq!(texts(Query::default()), "a|b|rest of a torn line|c|d");
        assert_eq!(texts(Query { tail: Some(2), ..Query::default() }), "c|d");
        assert_eq!(texts(Query { tail: Some(0), ..Query::default() }), "");
        assert_eq!(texts(Query { since_unix_ms: Some(20), ..Query::default() }), "b|rest of a torn line|c|d");
        assert_eq!(texts(Query { tail: Some(1), since_unix_ms: Some(41) }), "");
    }

    #[test]
    fn no_log_is_an_empty_log() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(read(&tmp.path().join("none"), RUN, &Query::default()).unwrap(), []);
    }

    #[test]
    fn garbage_is_read_in_bounded_pieces() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(present(tmp.path(), RUN), vec![b'g'; 5 * PIECE_BYTES_MAX]).unwrap();
        let records = read(tmp.path(), RUN, &Query::default()).unwrap();
        assert_eq!(records.len(), 5);
    }
}
