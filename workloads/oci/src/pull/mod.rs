//! Images from a registry into the store: HTTPS unless a host is named for less, resumed when cut off.
//!
//! Only what the wanted platforms need is fetched; an index stays whole, so that its digest is the one that
//! people pinned. What is fetched is compared with its digest by the store, whatever the registry says.

mod blob;
mod credentials;

use std::path::PathBuf;
use std::time::Duration;

use contract::Digest;
use contract::image::ImageRef;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;

use crate::image::document::{self, DOCUMENT_BYTES_MAX};
use crate::image::{Document, Manifest, Platform, media, platform};
use crate::store::{Store, StoreError};

/// A registry that says nothing for so long is taken for gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(20);
const ACCEPTED: [&str; 4] =
    [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_INDEX, media::DOCKER_MANIFEST];

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Another try ends the same: a wrong name, no permission, not an image.
    #[error("{image}: {why}")]
    Refused { image: String, why: String },
    /// The network or the registry; worth another try, which goes on where this one ended.
    #[error("{image}: {why}")]
    Fault { image: String, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `host` or `host:port` of registries that are spoken to without TLS. Nothing is, unless named here.
    pub plain_http: Vec<String>,
    /// As `docker login` writes it; none is anonymous.
    pub docker_config: Option<PathBuf>,
    /// PEM, trusted beside the machine's own.
    pub roots: Vec<Vec<u8>>,
}

pub struct Registries {
    client: oci_client::Client,
    docker_config: Option<PathBuf>,
}

/// One image at one registry.
struct Source<'a> {
    client: &'a oci_client::Client,
    auth: oci_client::secrets::RegistryAuth,
    host: String,
    repository: String,
    name: String,
}

impl Registries {
    pub fn new(options: Options) -> Result<Registries, PullError> {
        // Somebody else in this process may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = |data: Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data };
        let config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(options.plain_http),
            extra_root_certificates: options.roots.into_iter().map(root).collect(),
            read_timeout: Some(SILENCE_MAX),
            connect_timeout: Some(CONNECT_MAX),
            user_agent: concat!("skerry/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = oci_client::Client::try_from(config)
            .map_err(|e| PullError::Refused { image: "registry client".into(), why: e.to_string() })?;
        Ok(Registries { client, docker_config: options.docker_config })
    }

    /// Which digest the name stands for now.
    pub async fn resolve(&self, image: &ImageRef) -> Result<Digest, PullError> {
        if let Some(digest) = image.digest {
            return Ok(digest);
        }
        let source = self.source(image)?;
        let tag = image.tag_or_latest().unwrap_or_default().to_string();
        let named = oci_client::Reference::with_tag(source.host.clone(), source.repository.clone(), tag);
        let digest =
            self.client.fetch_manifest_digest(&named, &source.auth).await.map_err(|e| source.error(e))?;
        digest.parse().map_err(|_| {
            source.refused(format!("the registry names it '{digest}', which is no sha256 digest"))
        })
    }

    /// Brings the image for each of the platforms, at most `bytes_max` in all; its digest. Blocks now and then
    /// on the disk: not for a thread that must answer others.
    pub async fn fetch(
        &self,
        image: &ImageRef,
        store: &Store,
        platforms: &[Platform],
        bytes_max: u64,
    ) -> Result<Digest, PullError> {
        let root = self.resolve(image).await?;
        let source = self.source(image)?;
        let mut left = bytes_max;
        match source.document(&root, store).await? {
            Document::Manifest(manifest) => source.image(&manifest, store, &mut left).await?,
            Document::Index(offered) => {
                for wanted in platforms {
                    let chosen = platform::choose(&offered, wanted).map_err(|why| source.refused(why))?;
                    let Document::Manifest(manifest) = source.document(&chosen.digest, store).await? else {
                        return Err(source.refused(format!("{} is an index inside an index", chosen.digest)));
                    };
                    source.image(&manifest, store, &mut left).await?;
                }
            }
        }
        Ok(root)
    }

    fn source(&self, image: &ImageRef) -> Result<Source<'_>, PullError> {
        let refused = |why: String| PullError::Refused { image: image.to_string(), why };
        let Some(host) = image.host.clone() else {
            let hint = image.at_docker_hub();
            return Err(refused(format!("it names no registry; if Docker Hub is meant, write {hint}")));
        };
        let auth = credentials::find(self.docker_config.as_deref(), &host).map_err(refused)?;
        let (repository, name) = (image.repository_there(), image.to_string());
        Ok(Source { client: &self.client, auth, host, repository, name })
    }
}

impl Source<'_> {
    /// From the store if it is there, so a second fetch asks for nothing.
    async fn document(&self, digest: &Digest, store: &Store) -> Result<Document, PullError> {
        if store.size(digest).is_none() {
            let (bytes, _) = self
                .client
                .pull_manifest_raw(&self.named(digest), &self.auth, &ACCEPTED)
                .await
                .map_err(|e| self.error(e))?;
            if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(self
                    .refused(format!("a manifest of {} bytes; at most {DOCUMENT_BYTES_MAX}", bytes.len())));
            }
            store.copy_in(digest, bytes.len() as u64, bytes.as_ref())?;
        }
        let bytes = store.read(digest, DOCUMENT_BYTES_MAX)?;
        document::parse(&bytes).map_err(|why| self.refused(format!("manifest {digest}: {why}")))
    }

    async fn image(&self, manifest: &Manifest, store: &Store, left: &mut u64) -> Result<(), PullError> {
        manifest.check_image().map_err(|why| self.refused(why))?;
        for content in std::iter::once(&manifest.config).chain(&manifest.layers) {
            let after = left.checked_sub(content.size);
            *left = after.ok_or_else(|| self.refused("the image is larger than it may be".into()))?;
            if store.size(&content.digest) != Some(content.size) {
                self.blob(&content.digest, content.size, store).await?;
            }
        }
        Ok(())
    }

    fn named(&self, digest: &Digest) -> oci_client::Reference {
        oci_client::Reference::with_digest(self.host.clone(), self.repository.clone(), digest.to_string())
    }

    fn refused(&self, why: String) -> PullError {
        PullError::Refused { image: self.name.clone(), why }
    }

    fn fault(&self, why: String) -> PullError {
        PullError::Fault { image: self.name.clone(), why }
    }

    fn error(&self, error: OciDistributionError) -> PullError {
        use OciDistributionError as E;
        match &error {
            E::AuthenticationFailure(_) | E::UnauthorizedError { .. } => self.refused(format!(
                "{} refuses access: {error}; docker login writes what is read here",
                self.host
            )),
            E::ImageManifestNotFoundError(_) => {
                self.refused(format!("there is no such image at {}", self.host))
            }
            E::RegistryError { envelope, .. } => self.refused(format!("{} answers: {envelope}", self.host)),
            E::ServerError { code: 404, .. } => {
                self.refused(format!("there is no such image at {}", self.host))
            }
            _ => self.fault(chain(&error)),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
