//! Files with holes: where the data of each segment lies in the file. Four ways to write it down.

use std::io::Read;

use super::pax::Pax;
use super::stream::{TarError, read_block};

/// A file with more pieces is a bomb; real ones (disk images, databases) have thousands.
const SEGMENTS_MAX: usize = 1 << 20;
const BLOCK: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub bytes: u64,
}

/// What a sparse entry is: its true name if that stands elsewhere, its size with holes, its pieces.
pub struct Sparse {
    pub name: Option<Vec<u8>>,
    pub size: u64,
    pub segments: Vec<Segment>,
}

/// GNU's own format: four pieces in the header, more in blocks behind it.
pub fn gnu(header: &tar::GnuHeader, from: &mut impl Read) -> Result<Sparse, TarError> {
    let mut segments = Vec::new();
    push_all(&mut segments, &header.sparse)?;
    let mut more = header.is_extended();
    while more {
        let mut block = tar::GnuExtSparseHeader::new();
        read_block(from, block.as_mut_bytes())?;
        push_all(&mut segments, &block.sparse)?;
        more = block.is_extended();
    }
    let size = header.real_size().map_err(TarError::Read)?;
    checked(Sparse { name: None, size, segments })
}

fn push_all(segments: &mut Vec<Segment>, headers: &[tar::GnuSparseHeader]) -> Result<(), TarError> {
    for header in headers.iter().filter(|h| !h.is_empty()) {
        let offset = header.offset().map_err(TarError::Read)?;
        push(segments, offset, header.length().map_err(TarError::Read)?)?;
    }
    Ok(())
}

fn push(segments: &mut Vec<Segment>, offset: u64, bytes: u64) -> Result<(), TarError> {
    if segments.len() == SEGMENTS_MAX {
        return Err(TarError::broken(&format!("a sparse file has more than {SEGMENTS_MAX} pieces")));
    }
    segments.push(Segment { offset, bytes });
    Ok(())
}

/// The three pax formats; for 1.0 the map stands before the data and is taken off `left`.
pub fn pax(pax: &Pax, left: &mut u64, from: &mut impl Read) -> Result<Option<Sparse>, TarError> {
    let name = pax.get("GNU.sparse.name").map(<[u8]>::to_vec);
    let size = match pax.number("GNU.sparse.realsize")? {
        None => pax.number("GNU.sparse.size")?,
        some => some,
    };
    let version: Option<u32> = pax.number("GNU.sparse.major")?;
    let segments = match (version, pax.get("GNU.sparse.map")) {
        (Some(1), _) => map_before_data(left, from)?,
        (_, Some(map)) => map_in_record(map)?,
        _ if pax.get("GNU.sparse.numblocks").is_some() => map_in_many_records(pax)?,
        _ => return Ok(None),
    };
    let size = size.ok_or_else(|| TarError::broken("a sparse file names no size"))?;
    checked(Sparse { name, size, segments }).map(Some)
}

/// 1.0: decimal numbers, a line each, filled up to a block: how many pieces, then offset and length of each.
fn map_before_data(left: &mut u64, from: &mut impl Read) -> Result<Vec<Segment>, TarError> {
    let mut digits = Vec::new();
    let mut numbers: Vec<u64> = Vec::new();
    loop {
        let mut block = [0; BLOCK as usize];
        *left = left.checked_sub(BLOCK).ok_or_else(|| TarError::broken("a sparse map is cut off"))?;
        read_block(from, &mut block)?;
        for byte in block {
            match byte {
                b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                b'\n' if !digits.is_empty() => numbers.push(number(&std::mem::take(&mut digits))?),
                // The rest of the last block.
                _ => {
                    let whole =
                        numbers.first().is_some_and(|n| numbers.len() as u64 == n.saturating_mul(2) + 1);
                    if byte != 0 || !whole {
                        return Err(TarError::broken("a sparse map is malformed"));
                    }
                }
            }
            if numbers.len() > 2 * SEGMENTS_MAX {
                return Err(TarError::broken(&format!("a sparse file has more than {SEGMENTS_MAX} pieces")));
            }
        }
        if numbers.first().is_some_and(|n| numbers.len() as u64 == n.saturating_mul(2) + 1) {
            return Ok(pairs(&numbers[1..]));
        }
    }
}

/// 0.1: `offset,length,offset,length…` in one record.
fn map_in_record(map: &[u8]) -> Result<Vec<Segment>, TarError> {
    let numbers: Result<Vec<u64>, _> = map.split(|b| *b == b',').map(number).collect();
    Ok(pairs(&numbers?))
}

/// 0.0: a pair of records for each piece.
fn map_in_many_records(pax: &Pax) -> Result<Vec<Segment>, TarError> {
    let wanted = |(key, value)| matches!(key, "GNU.sparse.offset" | "GNU.sparse.numbytes").then_some(value);
    let numbers: Result<Vec<u64>, _> = pax.records().filter_map(wanted).map(number).collect();
    Ok(pairs(&numbers?))
}

fn number(digits: &[u8]) -> Result<u64, TarError> {
    let number = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok());
    number.ok_or_else(|| TarError::broken("a sparse map holds something that is no number"))
}

fn pairs(numbers: &[u64]) -> Vec<Segment> {
    numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], bytes: pair[1] }).collect()
}

/// In order, apart, and inside the file.
fn checked(sparse: Sparse) -> Result<Sparse, TarError> {
    let mut end = 0;
    for segment in &sparse.segments {
        let stop = segment.offset.checked_add(segment.bytes).filter(|stop| *stop <= sparse.size);
        match stop {
            Some(stop) if segment.offset >= end => end = stop,
            _ => return Err(TarError::broken("the pieces of a sparse file overlap or lie outside of it")),
        }
    }
    Ok(sparse)
}
