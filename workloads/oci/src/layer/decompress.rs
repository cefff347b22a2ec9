//! From a blob to its tar: what it is packed with is seen from its first bytes, for media types lie.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use contract::Digest;
use sha2::{Digest as _, Sha256};

/// Why a bomb is refused, and what is too large for this disk.
pub const OVER_BYTES: &str = "it unpacks to more bytes than this image may take";
const BUFFER_BYTES: usize = 128 << 10;
/// What zstd may need: 8 MiB, what `zstd -19` and every registry's images use, and twice that for air.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;

/// Whether a file that begins so must be unpacked to be read.
pub fn is_packed(start: &[u8]) -> bool {
    matches!(start, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..])
}

pub fn open(blob: File) -> io::Result<Box<dyn Read>> {
    let mut blob = BufReader::with_capacity(BUFFER_BYTES, blob);
    let start = blob.fill_buf()?;
    let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    match start {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(blob))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(blob)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(decoder))
        }
        [b'B', b'Z', b'h', ..] => wrong("packed with bzip2; gzip and zstd are understood"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => wrong("packed with xz; gzip and zstd are understood"),
        _ => Ok(Box::new(blob)),
    }
}

/// Counts and hashes what passes, and lets no more pass than allowed.
pub struct Hashed<R> {
    from: R,
    hash: Sha256,
    bytes: u64,
    bytes_max: u64,
}

impl<R: Read> Hashed<R> {
    pub fn new(from: R, bytes_max: u64) -> Hashed<R> {
        Hashed { from, hash: Sha256::new(), bytes: 0, bytes_max }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn digest(self) -> Digest {
        Digest::from_bytes(self.hash.finalize().into())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.bytes += n as u64;
        if self.bytes > self.bytes_max {
            return Err(io::Error::other(OVER_BYTES));
        }
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}
