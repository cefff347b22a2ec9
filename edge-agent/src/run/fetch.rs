//! How compiled code comes to the board: resumed where it broke off, also after a power cut; used only when
//! its digest is right and the hub's signature says what it was compiled from and for.

use std::fs::File;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use contract::Digest;
use contract::codec;
use contract::limits;
use contract::message::Compiled;
use contract::run::ArtifactRef;
use ed25519_dalek::VerifyingKey;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use sha2::{Digest as _, Sha256};

use super::artifacts::{ArtifactError, Artifacts};
use super::http::{self, HttpError, SILENCE};
use super::images::ImagesError;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0}")]
    Http(#[from] HttpError),
    #[error("the link broke: {0}")]
    Broken(String),
    #[error("{0}")]
    Store(#[from] ArtifactError),
    #[error("cannot write: {0}")]
    Io(#[from] std::io::Error),
    #[error("the bytes are {found}, not {wanted}: thrown away")]
    Digest { found: Digest, wanted: Digest },
    #[error("{found} bytes where {wanted} were announced: thrown away")]
    Size { found: u64, wanted: u64 },
    #[error("the hub's statement about this code {0}")]
    Statement(codec::CodecError),
    #[error("the hub's statement is about other code")]
    OtherCode,
    #[error("{0}")]
    Image(ImagesError),
    #[error("{0}")]
    Content(#[from] super::contents::ContentError),
    #[error("{found} bytes are more than the {max} that {what} may have")]
    TooLarge { what: &'static str, found: u64, max: u64 },
}

impl FetchError {
    /// Whether the hub itself gave out something wrong: trying again soon gives the same.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            FetchError::Size { .. }
                | FetchError::Statement(_)
                | FetchError::OtherCode
                | FetchError::Digest { .. }
                | FetchError::TooLarge { .. }
        ) || matches!(self, FetchError::Image(why) if why.is_refusal())
            || matches!(self, FetchError::Content(why) if why.is_lost())
    }
}

pub async fn fetch(
    store: &Artifacts,
    key: &VerifyingKey,
    artifact: &ArtifactRef,
    base: &str,
) -> Result<(), FetchError> {
    if store.verified(&artifact.digest).is_ok() {
        return Ok(());
    }
    check_statement(key, artifact, base).await?;
    let partial = store.partial(&artifact.digest);
    let mut file = File::options().create(true).append(true).read(true).open(&partial)?;
    let (mut hasher, mut have) = digest_so_far(&mut file)?;
    if have > artifact.size_bytes {
        file.set_len(0)?;
        (hasher, have) = (Sha256::new(), 0);
    }
    store.check_space(artifact.size_bytes - have)?;
    if have < artifact.size_bytes {
        let response = http::get(base, &blob_path(&artifact.digest), have).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT && have > 0 {
            file.set_len(0)?;
            (hasher, have) = (Sha256::new(), 0);
        }
        have = receive(response.into_body(), &mut file, &mut hasher, have, artifact.size_bytes).await?;
    }
    finish(store, artifact, file, hasher, have).await
}

/// Of compiled code and of every part of an image.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("/v1/blobs/{digest}")
}

/// Before the bytes: a small answer that can spare a large one.
async fn check_statement(key: &VerifyingKey, artifact: &ArtifactRef, base: &str) -> Result<(), FetchError> {
    let engine = artifact.engine.as_deref().unwrap_or_default();
    let path =
        format!("{}/statement?source={}&engine={engine}", blob_path(&artifact.digest), artifact.source);
    let response = http::get(base, &path, 0).await?;
    let body = http_body_util::Limited::new(response.into_body(), limits::PROGRESS_BYTES_MAX).collect();
    let body = tokio::time::timeout(SILENCE, body).await.map_err(|_| HttpError::Silent(base.to_string()))?;
    let body = body.map_err(|why| FetchError::Broken(why.to_string()))?.to_bytes();
    let said: Compiled =
        codec::open(codec::Kind::Compiled, &body, Some(key)).map_err(FetchError::Statement)?;
    let fits = said.source == artifact.source
        && Some(&said.engine) == artifact.engine.as_ref()
        && said.digest == artifact.digest
        && said.size_bytes == artifact.size_bytes;
    if fits { Ok(()) } else { Err(FetchError::OtherCode) }
}

fn digest_so_far(file: &mut File) -> std::io::Result<(Sha256, u64)> {
    let (mut hasher, mut have, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher, have)),
            n => {
                hasher.update(&buffer[..n]);
                have += n as u64;
            }
        }
    }
}

/// Never more than announced: a server that does not end cannot fill the disk.
async fn receive(
    mut body: Incoming,
    file: &mut File,
    hasher: &mut Sha256,
    mut have: u64,
    size: u64,
) -> Result<u64, FetchError> {
    while let Some(data) = next_bytes(&mut body).await? {
        have += data.len() as u64;
        if have > size {
            file.set_len(0)?;
            return Err(FetchError::Size { found: have, wanted: size });
        }
        hasher.update(&data);
        file.write_all(&data)?;
    }
    Ok(have)
}

/// None at the end of the answer, which may come early.
pub(super) async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, FetchError> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| FetchError::Broken(format!("nothing came for {SILENCE:?}")))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|why| FetchError::Broken(why.to_string()))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

async fn finish(
    store: &Artifacts,
    artifact: &ArtifactRef,
    file: File,
    hasher: Sha256,
    have: u64,
) -> Result<(), FetchError> {
    if have < artifact.size_bytes {
        file.sync_all()?;
        return Err(FetchError::Broken(format!("{have} of {} bytes are here", artifact.size_bytes)));
    }
    let found = Digest::from_bytes(hasher.finalize().into());
    if found != artifact.digest {
        file.set_len(0)?;
        return Err(FetchError::Digest { found, wanted: artifact.digest });
    }
    Ok(store.adopt(file, &artifact.digest).await?)
}
