//! From header to header through a stream, never back.

use std::io::{self, Read};

use super::header::{Before, Entry, Kind, blank_or};
use super::pax::Pax;
use super::sparse;

const BLOCK: u64 = 512;
/// Of one long name or one set of pax records. Attributes may be 64 KiB each; Go's reader stops at 1 MiB.
const EXTRA_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("reading the tar")]
    Read(#[source] io::Error),
    /// Another try brings the same.
    #[error("not a usable tar: {0}")]
    Broken(String),
}

impl TarError {
    pub fn broken(why: &str) -> TarError {
        TarError::Broken(why.into())
    }
}

pub struct TarReader<R> {
    from: R,
    /// Of the present entry's data, and the filling behind it.
    left: u64,
    filling: u64,
    position: u64,
}

impl<R: Read> TarReader<R> {
    pub fn new(from: R) -> TarReader<R> {
        TarReader { from, left: 0, filling: 0, position: 0 }
    }

    /// Where the present entry's data begins in the stream; meaningful until the first byte is read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// `None` at the end. Data of the entry before that was not read is skipped.
    pub fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut before = Before::default();
        loop {
            let skip = self.left.saturating_add(self.filling);
            self.skip(skip)?;
            (self.left, self.filling) = (0, 0);
            let Some(header) = self.header()? else { return Ok(None) };
            let size = blank_or(&header.as_old().size, header.entry_size()).map_err(TarError::Read)?;
            match header.entry_type().as_byte() {
                b'L' => before.name = Some(until_nul(self.extra(size)?)),
                b'K' => before.link = Some(until_nul(self.extra(size)?)),
                b'x' | b'X' => before.pax = Pax::parse(&self.extra(size)?)?,
                // Says something about all that follows; nobody who makes images uses it.
                b'g' => drop(self.extra(size)?),
                _ => return self.entry(&header, before, size).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &tar::Header, before: Before, size: u64) -> Result<Entry, TarError> {
        let size = before.pax.number("size")?.unwrap_or(size);
        let pax = before.pax.clone();
        let mut entry = Entry::new(header, before)?;
        // Links say their target's size in some tars, and bring no data.
        self.left = if entry.kind == Kind::File { size } else { 0 };
        entry.size = self.left;
        self.filling = self.left.wrapping_neg() % BLOCK;
        if entry.kind != Kind::File {
            return Ok(entry);
        }
        let mut counted = Counted { from: &mut self.from, bytes: 0 };
        let sparse = match header.as_gnu().filter(|_| header.entry_type().is_gnu_sparse()) {
            Some(gnu) => Some(sparse::gnu(gnu, &mut counted)?),
            None => sparse::pax(&pax, &mut self.left, &mut counted)?,
        };
        self.position += counted.bytes;
        if let Some(sparse) = sparse {
            let data: u64 = sparse.segments.iter().map(|s| s.bytes).sum();
            if data != self.left {
                return Err(TarError::broken("a sparse file's pieces and its data differ in length"));
            }
            entry.path = sparse.name.unwrap_or(entry.path);
            (entry.size, entry.segments) = (sparse.size, Some(sparse.segments));
        }
        Ok(entry)
    }

    /// The next header that is not empty; two empty blocks, or nothing more at all, are the end.
    fn header(&mut self) -> Result<Option<tar::Header>, TarError> {
        let mut header = tar::Header::new_old();
        for empty in 0..2 {
            let block = header.as_mut_bytes();
            match fill(&mut self.from, block).map_err(TarError::Read)? {
                0 => return Ok(None),
                n if n < block.len() => return Err(TarError::broken("it ends in the middle of a header")),
                _ => self.position += BLOCK,
            }
            if block.iter().any(|b| *b != 0) {
                if empty > 0 {
                    return Err(TarError::broken("an empty block stands between two entries"));
                }
                check(&header)?;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn extra(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTRA_BYTES_MAX {
            return Err(TarError::Broken(format!(
                "a long name or pax records of {size} bytes; at most {EXTRA_BYTES_MAX}"
            )));
        }
        let mut bytes = vec![0; size as usize];
        read_block(&mut self.from, &mut bytes)?;
        self.position += size;
        self.filling = size.wrapping_neg() % BLOCK;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), TarError> {
        let skipped = io::copy(&mut (&mut self.from).take(bytes), &mut io::sink()).map_err(TarError::Read)?;
        self.position += skipped;
        match skipped == bytes {
            true => Ok(()),
            false => Err(TarError::broken("it ends in the middle of a file")),
        }
    }
}

/// The present entry's data, segment after segment, without its holes.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.from.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of a file"));
        }
        self.left -= n as u64;
        self.position += n as u64;
        Ok(n)
    }
}

struct Counted<'a, R> {
    from: &'a mut R,
    bytes: u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

fn check(header: &tar::Header) -> Result<(), TarError> {
    let bytes = header.as_bytes();
    let counted = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
    match header.cksum() {
        Ok(sum) if sum == counted => Ok(()),
        _ => Err(TarError::broken("a header's checksum is wrong")),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

pub(super) fn read_block(from: &mut impl Read, block: &mut [u8]) -> Result<(), TarError> {
    from.read_exact(block).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => TarError::broken("it ends in the middle of an entry"),
        _ => TarError::Read(e),
    })
}

/// As much as there is.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
