//! Images from a registry into the store: HTTPS unless a host is named for less, resumed when cut off.
//!
//! [`Registries::open`] names one image at one registry; what its tag means, its documents and its layers are
//! then asked for one after the other, so that a caller can judge an image before its layers come. What is
//! fetched is compared with its digest by the store, whatever the registry says. Nothing is written into
//! memory without a bound, and every wait has an end. Blocks now and then on the disk: not for a thread that
//! must answer others.

mod blob;
mod credentials;
mod http;
mod login;
mod turn;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use contract::Digest;
use contract::image::{DOCKER_HUB, ImageRef};
use reqwest::Method;
use reqwest::header::HeaderValue;

use crate::image::document::{self, DOCUMENT_BYTES_MAX};
use crate::image::{Document, Manifest, Platform, media, platform};
use crate::store::{Store, StoreError};
pub use turn::Turn;

use login::Login;
use turn::Turns;

/// Where Docker Hub really is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";
/// Tries for a document, with 0.25 and 0.5 s between them.
const TRIES_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Another try ends the same: a wrong name, no permission, not an image.
    #[error("{image}: {why}")]
    Refused { image: String, why: String },
    /// The network or the registry; worth another try, which goes on where this one ended.
    #[error("{image}: {why}")]
    Fault { image: String, why: String },
    /// The registry wants to be left alone for longer than anybody waits here.
    #[error("{image}: {why}")]
    Later { image: String, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `host` or `host:port` of registries that are spoken to without TLS. Nothing is, unless named here.
    pub plain_http: Vec<String>,
    /// As `docker login` writes it; none is anonymous. Read anew for each image.
    pub docker_config: Option<PathBuf>,
    /// PEM, trusted beside the machine's own.
    pub roots: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub struct Registries {
    client: reqwest::Client,
    plain_http: Vec<String>,
    docker_config: Option<PathBuf>,
    turns: Turns,
}

/// One image at one registry.
pub struct Repository<'a> {
    client: &'a reqwest::Client,
    plain_http: &'a [String],
    turns: &'a Turns,
    image: &'a ImageRef,
    login: Option<Login>,
    /// What the registry wants to see, once it has said so.
    token: Mutex<Option<HeaderValue>>,
    host: String,
    repository: String,
}

impl Registries {
    pub fn new(options: Options) -> Result<Registries, String> {
        let client = http::client(&options)?;
        let Options { plain_http, docker_config, .. } = options;
        Ok(Registries { client, plain_http, docker_config, turns: Turns::default() })
    }

    /// Of all that fetch this piece through here, one does; the next one finds it.
    pub async fn turn(&self, digest: &Digest) -> Turn {
        self.turns.take(digest).await
    }

    pub fn open<'a>(&'a self, image: &'a ImageRef) -> Result<Repository<'a>, PullError> {
        let refused = |why: String| PullError::Refused { image: image.to_string(), why };
        let Some(named) = image.host.clone() else {
            let hint = image.at_docker_hub();
            return Err(refused(format!("it names no registry; if Docker Hub is meant, write {hint}")));
        };
        let login = credentials::find(self.docker_config.as_deref(), &named).map_err(refused)?;
        let host = if named == DOCKER_HUB { DOCKER_HUB_API.to_string() } else { named };
        let (client, plain_http, turns) = (&self.client, &self.plain_http, &self.turns);
        let repository = image.repository_there();
        Ok(Repository { client, plain_http, turns, image, login, token: Mutex::new(None), host, repository })
    }
}

impl Repository<'_> {
    /// Which digest the name stands for now.
    pub async fn resolve(&self) -> Result<Digest, PullError> {
        if let Some(digest) = self.image.digest {
            return Ok(digest);
        }
        let path = format!("manifests/{}", self.image.tag_or_latest().unwrap_or_default());
        let answer = self.again(async || self.ask(Method::HEAD, &path, &accepted(), 0).await).await?;
        if let Some(told) = answer.headers().get("docker-content-digest") {
            let told = told.to_str().unwrap_or_default();
            return told.parse().map_err(|_| {
                self.refused(format!(
                    "{} names it '{}', which is no sha256 digest",
                    self.host,
                    contract::field::shown(told)
                ))
            });
        }
        let answer = self.ask(Method::GET, &path, &accepted(), 0).await?;
        Ok(Digest::of(&self.bounded(answer, DOCUMENT_BYTES_MAX).await?))
    }

    /// What says of what the image consists, on each of these platforms, into the store: the index if there
    /// is one, manifests, configurations. The manifests; of platforms that it does not offer there is none.
    pub async fn documents(
        &self,
        root: &Digest,
        store: &Store,
        platforms: &[Platform],
    ) -> Result<Vec<Digest>, PullError> {
        let offered = match self.document(root, store).await? {
            Document::Manifest(manifest) => {
                self.configuration(&manifest, store).await?;
                return Ok(vec![*root]);
            }
            Document::Index(offered) => offered,
        };
        let mut chosen = Vec::new();
        for wanted in platforms {
            let Ok(one) = platform::choose(&offered, wanted) else { continue };
            if chosen.contains(&one.digest) {
                continue;
            }
            let Document::Manifest(manifest) = self.document(&one.digest, store).await? else {
                return Err(self.refused(format!("{} is an index inside an index", one.digest)));
            };
            self.configuration(&manifest, store).await?;
            chosen.push(one.digest);
        }
        Ok(chosen)
    }

    /// From the store if it is there, so a second look asks for nothing.
    async fn document(&self, digest: &Digest, store: &Store) -> Result<Document, PullError> {
        let _turn = self.turns.take(digest).await;
        if store.size(digest).is_none() {
            let path = format!("manifests/{digest}");
            let bytes = self.again(async || {
                let answer = self.ask(Method::GET, &path, &accepted(), 0).await?;
                self.bounded(answer, DOCUMENT_BYTES_MAX).await
            });
            let bytes = bytes.await?;
            let found = Digest::of(&bytes);
            if found != *digest {
                return Err(self.refused(format!("{} sends {found} for the manifest {digest}", self.host)));
            }
            store.copy_in(digest, bytes.len() as u64, bytes.as_slice())?;
        }
        let bytes = store.read(digest, DOCUMENT_BYTES_MAX)?;
        document::parse(&bytes).map_err(|why| self.refused(format!("manifest {digest}: {why}")))
    }

    async fn configuration(&self, manifest: &Manifest, store: &Store) -> Result<(), PullError> {
        manifest.check_image().map_err(|why| self.refused(why))?;
        let config = &manifest.config;
        if config.size > DOCUMENT_BYTES_MAX {
            let why = format!("config.size: {} bytes are more than {DOCUMENT_BYTES_MAX}", config.size);
            return Err(self.refused(why));
        }
        let _turn = self.turns.take(&config.digest).await;
        self.blob(&config.digest, config.size, store, &|_| {}).await
    }

    /// A line that breaks is no reason to give up at once.
    async fn again<T>(&self, ask: impl AsyncFn() -> Result<T, PullError>) -> Result<T, PullError> {
        let mut tries = 1;
        loop {
            match ask().await {
                Err(PullError::Fault { .. }) if tries < TRIES_MAX => {
                    tokio::time::sleep(PAUSE * tries).await;
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn refused(&self, why: String) -> PullError {
        PullError::Refused { image: self.image.to_string(), why }
    }

    fn fault(&self, why: String) -> PullError {
        PullError::Fault { image: self.image.to_string(), why }
    }
}

fn accepted() -> String {
    [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_INDEX, media::DOCKER_MANIFEST].join(", ")
}
