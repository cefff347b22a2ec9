//! One piece of content over a connection that may end at any byte.

use std::time::Duration;

use contract::Digest;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};

use super::{PullError, Repository};
use crate::store::{Ingest, Store, StoreError};

/// So many tries in a row may bring nothing; one that brings a byte begins the count anew.
const TRIES_MAX: u32 = 5;
/// 0.25, 0.5, 1, 2 s between them.
const PAUSE: Duration = Duration::from_millis(250);

impl Repository<'_> {
    /// Into the store, from where an earlier try ended. `arrived` is told how much of it is there.
    pub async fn blob(
        &self,
        digest: &Digest,
        size: u64,
        store: &Store,
        arrived: &(dyn Fn(u64) + Sync),
    ) -> Result<(), PullError> {
        if store.size(digest) == Some(size) {
            arrived(size);
            return Ok(());
        }
        let mut ingest = store.ingest(digest, size).map_err(|e| self.stored(e))?;
        let mut tries = 0;
        while ingest.offset() < size {
            let before = ingest.offset();
            let Err(error) = self.some(digest, &mut ingest, arrived).await else { continue };
            let PullError::Fault { why, .. } = error else { return Err(error) };
            tries = if ingest.offset() > before { 1 } else { tries + 1 };
            if tries == TRIES_MAX {
                return Err(self.fault(format!("{digest} at byte {} of {size}: {why}", ingest.offset())));
            }
            tokio::time::sleep(PAUSE * (1 << (tries - 1))).await;
        }
        ingest.finish().map_err(|e| self.stored(e))
    }

    /// From where it ended to the end, or to where the connection ends. An end that comes too early is an
    /// error, or a registry that always sends nothing would be asked for ever.
    async fn some(
        &self,
        digest: &Digest,
        ingest: &mut Ingest,
        arrived: &(dyn Fn(u64) + Sync),
    ) -> Result<(), PullError> {
        let path = format!("blobs/{digest}");
        let mut response = self.ask(Method::GET, &path, "*/*", ingest.offset()).await?;
        if !goes_on(&response, ingest.offset()) {
            ingest.restart().map_err(|e| self.stored(e))?;
        }
        while let Some(bytes) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            ingest.write(&bytes).map_err(|e| self.stored(e))?;
            arrived(ingest.offset());
        }
        match ingest.missing() {
            0 => Ok(()),
            missing => Err(self.fault(format!("the connection ended {missing} bytes too early"))),
        }
    }

    /// What came is not what was asked for: that is the registry's doing.
    fn stored(&self, error: StoreError) -> PullError {
        match error {
            StoreError::Wrong { wanted, why } => {
                self.refused(format!("{} sends something else for {wanted}: {why}", self.host))
            }
            other => other.into(),
        }
    }
}

/// A registry may know no ranges and send all of it, or another part than was asked for.
fn goes_on(response: &Response, offset: u64) -> bool {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return offset == 0;
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
    range.is_some_and(|range| range.trim().starts_with(&format!("bytes {offset}-")))
}
