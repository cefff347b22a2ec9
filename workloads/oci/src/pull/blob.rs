//! One piece of content over a connection that may end at any byte.

use std::io;
use std::time::Duration;

use contract::Digest;
use futures_util::StreamExt;
use oci_client::client::BlobResponse;

use super::{PullError, Source, chain};
use crate::store::{Ingest, Store};

/// So many tries in a row may bring nothing; one that brings a byte begins the count anew.
const TRIES_MAX: u32 = 5;
/// 0.25, 0.5, 1, 2 s between them.
const PAUSE: Duration = Duration::from_millis(250);

impl Source<'_> {
    pub(super) async fn blob(&self, digest: &Digest, size: u64, store: &Store) -> Result<(), PullError> {
        let mut ingest = store.ingest(digest, size)?;
        let mut tries = 0;
        while ingest.offset() < size {
            let before = ingest.offset();
            let Err(error) = self.some(digest, &mut ingest).await else { continue };
            let PullError::Fault { why, .. } = error else { return Err(error) };
            tries = if ingest.offset() > before { 1 } else { tries + 1 };
            if tries == TRIES_MAX {
                return Err(self.fault(format!("{digest} at byte {} of {size}: {why}", ingest.offset())));
            }
            tokio::time::sleep(PAUSE * (1 << (tries - 1))).await;
        }
        // The disk may take its time for gigabytes.
        let done = tokio::task::spawn_blocking(move || ingest.finish()).await;
        Ok(done.map_err(|e| self.fault(e.to_string()))??)
    }

    /// From where it ended to the end, or to where the connection ends. An end that comes too early is an
    /// error, or a registry that always sends nothing would be asked for ever.
    async fn some(&self, digest: &Digest, ingest: &mut Ingest) -> Result<(), PullError> {
        let (image, named, offset) = (self.named(digest), digest.to_string(), ingest.offset());
        let answer = self.client.pull_blob_stream_partial(&image, named.as_str(), offset, None).await;
        let mut stream = match answer.map_err(|e| self.error(e))? {
            BlobResponse::Partial(rest) => rest.stream,
            // It knows no ranges and sends all of it.
            BlobResponse::Full(whole) => {
                ingest.restart()?;
                whole.stream
            }
        };
        while let Some(bytes) = stream.next().await {
            let cut_off = |e: io::Error| self.fault(chain(&e));
            ingest.write(&bytes.map_err(cut_off)?)?;
        }
        match ingest.missing() {
            0 => Ok(()),
            missing => Err(self.fault(format!("the connection ended {missing} bytes too early"))),
        }
    }
}
