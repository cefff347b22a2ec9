//! One piece of content on its way into the store: hashed as it comes, kept when it is cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use contract::Digest;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::{StoreError, io_at};

#[derive(Debug)]
pub struct Ingest {
    partial: PathBuf,
    target: PathBuf,
    file: File,
    hash: Sha256,
    offset: u64,
    wanted: Digest,
    size_bytes: u64,
}

impl Ingest {
    pub(super) fn open(
        partial: PathBuf,
        target: PathBuf,
        wanted: Digest,
        size_bytes: u64,
    ) -> Result<Ingest, StoreError> {
        let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&partial);
        let file = options.map_err(io_at(&partial))?;
        // Dropped with the descriptor, so a killed process holds nothing up.
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| StoreError::Busy(wanted))?;
        let mut ingest = Ingest { partial, target, file, hash: Sha256::new(), offset: 0, wanted, size_bytes };
        ingest.rehash()?;
        Ok(ingest)
    }

    /// What is there already, as the first try left it. After a power cut that may be nonsense; then the
    /// digest is wrong at the end, and the next try begins anew.
    fn rehash(&mut self) -> Result<(), StoreError> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = self.file.read(&mut buffer).map_err(io_at(&self.partial))?;
            if n == 0 {
                break;
            }
            self.hash.update(&buffer[..n]);
            self.offset += n as u64;
        }
        if self.offset > self.size_bytes { self.restart() } else { Ok(()) }
    }

    /// How many bytes are there: where a range request goes on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes are still to come.
    pub fn missing(&self) -> u64 {
        self.size_bytes - self.offset
    }

    /// For a sender that cannot go on in the middle.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(io_at(&self.partial))?;
        (self.hash, self.offset) = (Sha256::new(), 0);
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.offset + bytes.len() as u64 > self.size_bytes {
            return Err(self.wrong(format!("longer than the {} bytes it should have", self.size_bytes)));
        }
        self.file.write_all(bytes).map_err(io_at(&self.partial))?;
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    pub fn finish(self) -> Result<(), StoreError> {
        if self.offset < self.size_bytes {
            return Err(self.wrong(format!("it ends after {} of {} bytes", self.offset, self.size_bytes)));
        }
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        if found != self.wanted {
            return Err(self.wrong(format!("the bytes that came are {found}")));
        }
        self.keep().map_err(io_at(&self.target))
    }

    /// The name says that the content is whole, so it comes after the content is on the disk.
    fn keep(&self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.target)?;
        File::open(self.target.parent().expect("a blob lies in a directory"))?.sync_all()
    }

    /// Nothing of it can be used again.
    fn wrong(&self, why: String) -> StoreError {
        let _ = fs::remove_file(&self.partial);
        StoreError::Wrong { wanted: self.wanted, why }
    }
}
