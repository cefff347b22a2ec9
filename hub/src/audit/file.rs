//! The files of a log: appended to, one after the other, the oldest removed. What a power cut tore is
//! one line, and is passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::deed::{Entry, Filter};

/// Of one line; ours are shorter.
const LINE_BYTES_MAX: usize = 64 << 10;

pub struct Files {
    dir: PathBuf,
    prefix: &'static str,
    bytes_max: u64,
    files_max: usize,
    file: Arc<File>,
    bytes: u64,
    next: u64,
}

impl Files {
    pub fn open(dir: &Path, prefix: &'static str, (bytes_max, files_max): (u64, usize)) -> io::Result<Files> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let paths = paths(dir, prefix)?;
        let next = match paths.last_key_value() {
            Some((first, path)) => last_number(path)?.unwrap_or(*first) + 1,
            None => 1,
        };
        let path = paths.into_values().next_back().unwrap_or_else(|| named(dir, prefix, next));
        let file = append_to(&path)?;
        let bytes = file.metadata()?.len();
        let mut files =
            Files { dir: dir.into(), prefix, bytes_max, files_max, file: Arc::new(file), bytes, next };
        // After a torn line a new one begins.
        files.write(b"\n")?;
        File::open(dir)?.sync_all()?;
        Ok(files)
    }

    pub fn next(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub fn begin(&mut self, deed: &mut Entry) -> io::Result<()> {
        deed.number = self.next();
        self.append(deed).map(drop)
    }

    /// The file that has it, to sync.
    pub fn append(&mut self, entry: &Entry) -> io::Result<Arc<File>> {
        if self.bytes >= self.bytes_max {
            self.turn()?;
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.write(&line)?;
        Ok(Arc::clone(&self.file))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.file = Arc::new(append_to(&named(&self.dir, self.prefix, self.next))?);
        self.bytes = 0;
        let paths = self.paths()?;
        for old in &paths[..paths.len().saturating_sub(self.files_max)] {
            std::fs::remove_file(old)?;
        }
        File::open(&self.dir)?.sync_all()
    }

    /// Oldest first.
    pub fn paths(&self) -> io::Result<Vec<PathBuf>> {
        Ok(paths(&self.dir, self.prefix)?.into_values().collect())
    }
}

fn named(dir: &Path, prefix: &str, first: u64) -> PathBuf {
    dir.join(format!("{prefix}-{first:020}.jsonl"))
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(path)
}

fn paths(dir: &Path, prefix: &str) -> io::Result<BTreeMap<u64, PathBuf>> {
    let number = |name: &str| {
        name.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".jsonl")?.parse::<u64>().ok()
    };
    let mut paths = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(first) = entry.file_name().to_str().and_then(number) {
            paths.insert(first, entry.path());
        }
    }
    Ok(paths)
}

fn last_number(path: &Path) -> io::Result<Option<u64>> {
    let mut last = None;
    lines(path, |entry| last = last.max(Some(entry.number)))?;
    Ok(last)
}

/// The newest entries that are wanted, each as it was last written.
pub fn read(paths: Vec<PathBuf>, filter: &Filter) -> io::Result<Vec<Entry>> {
    let (mut wanted, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for path in paths.into_iter().rev() {
        let mut of_file: BTreeMap<u64, Entry> = BTreeMap::new();
        let read = lines(&path, |entry| drop(of_file.insert(entry.number, entry)));
        match read {
            // The oldest may have gone meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            read => read?,
        }
        // What ended in a later file stands there.
        of_file.retain(|number, entry| seen.insert(*number) && filter.wants(entry));
        wanted.extend(of_file);
        while wanted.len() > filter.limit {
            wanted.pop_first();
        }
        if wanted.len() >= filter.limit {
            break;
        }
    }
    Ok(wanted.into_values().collect())
}

fn lines(path: &Path, mut each: impl FnMut(Entry)) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut reader, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Ok(entry) = serde_json::from_slice(&line) {
            each(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(who: &str) -> Entry {
        Entry { who: who.into(), what: "POST /v1/apply".into(), ..Entry::default() }
    }

    fn all(files: &Files, filter: &Filter) -> Vec<(u64, Option<u16>)> {
        let entries = read(files.paths().unwrap(), filter).unwrap();
        entries.iter().map(|entry| (entry.number, entry.status)).collect()
    }

    #[test]
    fn a_deed_that_never_ended_says_so_and_a_torn_line_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let everything = Filter { limit: 100, ..Filter::default() };
        {
            let mut files = Files::open(dir.path(), "changes", (1 << 20, 2)).unwrap();
            let (mut one, mut two) = (entry("a"), entry("b"));
            files.begin(&mut one).unwrap();
            files.begin(&mut two).unwrap();
            one.status = Some(200);
            files.append(&one).unwrap();
            files.write(b"{\"number\":9,\"atMs\"").unwrap();
        }
        let mut files = Files::open(dir.path(), "changes", (1 << 20, 2)).unwrap();
        let mut three = entry("a");
        files.begin(&mut three).unwrap();
        assert_eq!(all(&files, &everything), [(1, Some(200)), (2, None), (3, None)]);
        let of_a = Filter { who: Some("a".into()), limit: 1, ..Filter::default() };
        assert_eq!(all(&files, &of_a), [(3, None)]);
    }

    #[test]
    fn the_oldest_go_and_what_ends_in_a_later_file_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), "changes", (400, 3)).unwrap();
        let mut first = entry("a");
        files.begin(&mut first).unwrap();
        for _ in 0..5 {
            files.begin(&mut entry("b")).unwrap();
        }
        first.status = Some(200);
        files.append(&first).unwrap();
        let everything = Filter { limit: 100, ..Filter::default() };
        assert!(all(&files, &everything).contains(&(1, Some(200))));
        for _ in 0..100 {
            files.begin(&mut entry("b")).unwrap();
        }
        let paths = files.paths().unwrap();
        assert_eq!(paths.len(), 3);
        assert!(paths.iter().all(|path| path.metadata().unwrap().len() < 1_000));
        let kept = all(&files, &everything);
        assert!(kept.last().unwrap().0 == 106 && kept.len() < 20, "{kept:?}");
    }
}
