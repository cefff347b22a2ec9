//! How a container image comes to the board: its manifest, its configuration, the layers that are not here yet,
//! each resumed where it broke off and compared with its digest; then unpacked, so that a start need not.
//!
//! The desired document is signed and names the manifest, which names the rest: nothing else is trusted.

use bytes::Bytes;
use contract::Digest;
use contract::limits::IMAGE_BYTES_MAX;
use contract::run::ArtifactRef;
use hyper::StatusCode;
use hyper::body::Incoming;
use oci::image::{Document, document::DOCUMENT_BYTES_MAX};
use oci::store::{Ingest, StoreError};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;

use super::fetch::{FetchError, blob_path, next_bytes};
use super::http;
use super::images::{Images, ImagesError};

/// Pieces of the network's size that wait for the disk.
const PIECES: usize = 4;

pub async fn fetch(images: &Images, artifact: &ArtifactRef, base: &str) -> Result<(), FetchError> {
    let _turn = images.turn().await;
    let manifest = artifact.digest;
    let mut claim = images.claim();
    claim = blocking(move || {
        claim.add([manifest]);
        Ok(claim)
    })
    .await?;
    document(images, manifest, artifact.size_bytes, base).await?;
    let Document::Manifest(found) = images.document(&manifest).map_err(FetchError::Image)? else {
        return Err(FetchError::Image(ImagesError::Index(manifest)));
    };
    let parts: Vec<Digest> = found.layers.iter().chain([&found.config]).map(|part| part.digest).collect();
    let _claim = blocking(move || {
        claim.add(parts);
        Ok(claim)
    })
    .await?;
    document(images, found.config.digest, found.config.size, base).await?;
    let layers = images.missing(&manifest).map_err(FetchError::Image)?;
    let size_bytes = layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size_bytes));
    bounded("an image", size_bytes, IMAGE_BYTES_MAX)?;
    for layer in layers {
        piece(images, layer.blob, layer.size_bytes, base).await?;
    }
    let own = images.clone();
    let notes = blocking(move || own.unpack(&manifest)).await?;
    notes.iter().for_each(|note| eprintln!("edge-agent: image {}: {note}", manifest.short()));
    Ok(())
}

fn bounded(what: &'static str, found: u64, max: u64) -> Result<(), FetchError> {
    if found > max { Err(FetchError::TooLarge { what, found, max }) } else { Ok(()) }
}

/// What a bad card changed is fetched again.
async fn document(images: &Images, digest: Digest, size_bytes: u64, base: &str) -> Result<(), FetchError> {
    bounded("a manifest or configuration", size_bytes, DOCUMENT_BYTES_MAX)?;
    if let Err(StoreError::Wrong { .. }) = images.read(&digest) {
        images.forget(&digest).map_err(FetchError::Image)?;
    }
    piece(images, digest, size_bytes, base).await
}

async fn piece(images: &Images, digest: Digest, size_bytes: u64, base: &str) -> Result<(), FetchError> {
    if images.has(&digest, size_bytes) {
        return Ok(());
    }
    let own = images.clone();
    let ingest = blocking(move || own.ingest(&digest, size_bytes)).await?;
    images.check_space(ingest.missing()).map_err(FetchError::Image)?;
    let resumed = ingest.offset() > 0;
    let ingest = if ingest.missing() == 0 { ingest } else { receive(ingest, &digest, base).await? };
    if ingest.missing() > 0 {
        return Err(FetchError::Broken(format!("{} of {size_bytes} bytes are here", ingest.offset())));
    }
    match blocking(move || Ok(ingest.finish()?)).await {
        // What a power cut left of an earlier try may be nonsense, and is gone now.
        Err(FetchError::Image(wrong)) if resumed && wrong.is_refusal() => {
            Err(FetchError::Broken(wrong.to_string()))
        }
        other => other,
    }
}

/// As much as comes; what came is kept.
async fn receive(ingest: Ingest, digest: &Digest, base: &str) -> Result<Ingest, FetchError> {
    let response = http::get(base, &blob_path(digest), ingest.offset()).await?;
    let goes_on = response.status() == StatusCode::PARTIAL_CONTENT;
    let (pieces, waiting) = channel(PIECES);
    let writer = spawn_blocking(move || write(ingest, goes_on, waiting));
    let received = hand_on(response.into_body(), pieces).await;
    let ingest = writer.await.map_err(std::io::Error::other)?.map_err(|e| FetchError::Image(e.into()))?;
    received.map(|()| ingest)
}

/// Hashing and the disk keep a thread of their own busy: the loop has others to serve.
fn write(mut ingest: Ingest, goes_on: bool, mut pieces: Receiver<Bytes>) -> Result<Ingest, StoreError> {
    if !goes_on {
        ingest.restart()?;
    }
    while let Some(bytes) = pieces.blocking_recv() {
        ingest.write(&bytes)?;
    }
    Ok(ingest)
}

async fn hand_on(mut body: Incoming, pieces: Sender<Bytes>) -> Result<(), FetchError> {
    while let Some(bytes) = next_bytes(&mut body).await? {
        if pieces.send(bytes).await.is_err() {
            break; // the writer says why
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImagesError> + Send + 'static,
) -> Result<T, FetchError> {
    spawn_blocking(work).await.map_err(std::io::Error::other)?.map_err(FetchError::Image)
}
