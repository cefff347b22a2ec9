//! How images come from other registries: looked at first (what a tag means, and the documents), so that an
//! apply can be judged; then their layers, each once, whoever wants it. What is cut off is gone on with, by
//! the next apply too, for a day. Boards never ask a registry: they fetch from the hub.

mod progress;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::Digest;
use contract::image::ImageRef;
use contract::platform::Platform;
use hub_core::image::ImageRecord;
use hub_core::resolve::Found;
use oci::pull::{PullError, Registries, Repository};
use oci::store::{Store, StoreError};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::artifact::look::{Look, Origin};
use crate::artifact::{ArtifactError, ArtifactStore, ImportError, Pin};
pub use progress::{FetchView, Progress};

/// Layers of so many images come at once; more would share one line.
const IMAGES_MAX: usize = 3;
/// For the documents of one image, with all its waits.
pub const LOOK_MAX: Duration = Duration::from_secs(120);
/// For the layers of one image: the largest, over a line of 10 Mbit/s.
pub const BRING_MAX: Duration = Duration::from_secs(3600);
/// What was cut off is worth keeping for so long.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// What somebody may be about to use, however full the disk is.
const IN_USE: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Another try ends the same, until something changes there.
    #[error("{0}")]
    Refused(String),
    /// The network, the registry or our disk.
    #[error("{0}")]
    Fault(String),
}

impl From<PullError> for FetchError {
    fn from(e: PullError) -> FetchError {
        match e {
            PullError::Refused { .. } => FetchError::Refused(e.to_string()),
            PullError::Fault { .. } | PullError::Later { .. } => FetchError::Fault(e.to_string()),
            PullError::Store(StoreError::Io { path, source }) => {
                FetchError::Fault(format!("the hub's disk: {}: {source}", path.display()))
            }
            PullError::Store(other) => FetchError::Fault(other.to_string()),
        }
    }
}

impl From<ArtifactError> for FetchError {
    fn from(e: ArtifactError) -> FetchError {
        FetchError::Fault(e.to_string())
    }
}

pub struct Fetcher {
    registries: Registries,
    /// Documents for a day, and layers on their way.
    staged: Store,
    artifacts: ArtifactStore,
    turns: Semaphore,
    pub progress: Progress,
    stop: CancellationToken,
}

impl Fetcher {
    pub fn new(
        registries: Registries,
        artifacts: ArtifactStore,
        stop: CancellationToken,
    ) -> Result<Arc<Fetcher>, StoreError> {
        let staged = Store::open(artifacts.fetching())?;
        let (turns, progress) = (Semaphore::new(IMAGES_MAX), Progress::default());
        Ok(Arc::new(Fetcher { registries, staged, artifacts, turns, progress, stop }))
    }

    /// What this image means now, and what of it these boards need. No layer is fetched.
    pub async fn look(&self, image: &ImageRef, boards: &BTreeSet<Platform>) -> Result<Found, FetchError> {
        let _shown = self.progress.begin(image, boards, 0);
        in_time(image, LOOK_MAX, self.looked(image, boards)).await
    }

    async fn looked(&self, image: &ImageRef, boards: &BTreeSet<Platform>) -> Result<Found, FetchError> {
        let there = self.registries.open(image)?;
        let digest = there.resolve().await?;
        let platforms: Vec<Platform> = boards.iter().cloned().collect();
        let chosen = there.documents(&digest, &self.staged, &platforms).await?;
        let held = |digest: &Digest| std::fs::metadata(self.artifacts.path(digest)).ok().map(|m| m.len());
        let origin = Origin::Registry { chosen: &chosen, wanted: boards, held: &held };
        let (mut record, notes) = Look::new(&self.staged, origin).read(digest).map_err(|e| match e {
            ImportError::Refused(why) => FetchError::Refused(format!("{image}: {why}")),
            ImportError::Store(e) => e.into(),
        })?;
        for note in notes {
            tracing::info!(%image, "{note}");
        }
        record.sources = vec![image.to_string()];
        Ok(Found { digest, record })
    }

    /// All pieces of it become blobs, held by the pins until its record is durable; or none does.
    pub async fn bring(&self, image: &ImageRef, found: &Found) -> Result<Vec<Pin>, FetchError> {
        let platforms = found.record.platforms.iter().map(|p| p.platform.clone()).collect();
        let pieces = found.record.pieces();
        let missing = pieces.iter().filter(|(digest, _)| !self.artifacts.contains(digest));
        let missing = missing.map(|(_, size)| size).sum();
        let shown = self.progress.begin(image, &platforms, missing);
        let bringing = async {
            let _turn = self.turns.acquire().await.expect("never closed");
            self.room(missing)?;
            let there = self.registries.open(image)?;
            // In this order: a sweep may be looking.
            let pins: Vec<Pin> = pieces.keys().map(|digest| self.artifacts.pin(*digest)).collect();
            for (digest, size) in &pieces {
                self.stage(&there, digest, *size, &shown).await?;
            }
            pieces.keys().try_for_each(|digest| self.keep(digest))?;
            self.unstage(&found.record);
            Ok(pins)
        };
        let done = in_time(image, BRING_MAX, bringing).await;
        self.clear(KEPT);
        done
    }

    async fn stage(
        &self,
        there: &Repository<'_>,
        digest: &Digest,
        size: u64,
        shown: &progress::Shown,
    ) -> Result<(), FetchError> {
        let _turn = self.registries.turn(digest).await;
        if !self.artifacts.contains(digest) {
            there.blob(digest, size, &self.staged, &|bytes| shown.arrived(bytes)).await?;
            shown.piece(size);
        }
        Ok(())
    }

    fn keep(&self, digest: &Digest) -> Result<(), FetchError> {
        if self.artifacts.contains(digest) {
            return Ok(());
        }
        let copy = self.artifacts.temporary();
        std::fs::hard_link(self.staged.path(digest), &copy)
            .map_err(|e| FetchError::Fault(format!("the hub's disk: {}: {e}", copy.display())))?;
        self.artifacts.keep(&copy, *digest)?;
        Ok(())
    }

    /// Documents stay for a while: the next look would ask for them again.
    fn unstage(&self, record: &ImageRecord) {
        for layer in record.platforms.iter().flat_map(|platform| &platform.layers) {
            if let Err(e) = self.staged.remove(&layer.digest) {
                tracing::warn!("{} was not removed: {e}", layer.digest);
            }
        }
    }

    /// Refuse what would not fit; what earlier fetches left gives way.
    fn room(&self, bytes: u64) -> Result<(), FetchError> {
        if self.artifacts.check_room(bytes).is_err() {
            self.clear(IN_USE);
        }
        Ok(self.artifacts.check_room(bytes)?)
    }

    /// Delete what nobody has gone on with.
    fn clear(&self, untouched: Duration) {
        match self.staged.clear(untouched) {
            Ok(swept) if swept.blobs > 0 => {
                tracing::info!(blobs = swept.blobs, bytes = swept.bytes, "removed what was left of fetches");
            }
            Ok(_) => {}
            Err(e) => tracing::warn!("what was left of fetches was not removed: {e}"),
        }
    }

    /// For boards that came after the apply: the same image, for one more platform.
    pub async fn late(
        &self,
        image: Digest,
        sources: &[String],
        platform: &Platform,
    ) -> Result<(ImageRecord, Vec<Pin>), FetchError> {
        let boards = BTreeSet::from([platform.clone()]);
        let mut failed = FetchError::Refused("it is not known which registry has it".into());
        for source in sources.iter().rev() {
            let Ok(named) = source.parse::<ImageRef>() else { continue };
            // By digest: the tag may mean another image by now.
            let asked = named.pinned(image);
            let done = async {
                let found = self.look(&asked, &boards).await?;
                let pins = self.bring(&asked, &found).await?;
                Ok((found.record, pins))
            };
            match done.await {
                Ok((mut record, pins)) => {
                    record.sources = vec![source.clone()];
                    return Ok((record, pins));
                }
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }

    /// On a thread of its own, since it waits for disks; ended when the caller goes away or the hub stops.
    pub async fn apart<T: Send + 'static, F: Future<Output = T>>(
        self: &Arc<Fetcher>,
        work: impl FnOnce(Arc<Fetcher>) -> F + Send + 'static,
    ) -> Option<T> {
        let (_waiting, gone) = oneshot::channel::<()>();
        let (fetcher, runtime) = (Arc::clone(self), tokio::runtime::Handle::current());
        let stop = self.stop.clone();
        let working = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                tokio::select! {
                    done = work(fetcher) => Some(done),
                    _ = gone => None,
                    () = stop.cancelled() => None,
                }
            })
        });
        working.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

async fn in_time<T>(
    image: &ImageRef,
    max: Duration,
    work: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::time::timeout(max, work).await.unwrap_or_else(|_| {
        let minutes = max.as_secs() / 60;
        Err(FetchError::Fault(format!(
            "{image}: not there within {minutes} minutes; the next try goes on from here"
        )))
    })
}

/// What `hub serve` is told about registries.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RegistryArgs {
    /// Passwords for registries, as 'docker login' writes them. When absent: $DOCKER_CONFIG/config.json or
    /// ~/.docker/config.json, if there is one.
    #[arg(long, value_name = "FILE")]
    pub docker_config: Option<PathBuf>,
    /// A registry, host or host:port, that is spoken to without TLS; may be given several times.
    #[arg(long, value_name = "HOST", value_parser = host)]
    pub plain_http: Vec<String>,
    /// Certificates of authorities (PEM) that are trusted for registries, beside the machine's own.
    #[arg(long, value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,
}

fn host(text: &str) -> Result<String, String> {
    let named: ImageRef = format!("{text}/x").parse().map_err(|e| format!("{e}"))?;
    named.host.ok_or_else(|| format!("'{text}' is no registry: write host.domain or host:port"))
}

impl RegistryArgs {
    pub fn open(&self) -> anyhow::Result<Registries> {
        use anyhow::Context as _;
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("--registry-ca: cannot read {}", path.display()))
        };
        let roots = self.registry_ca.iter().map(read).collect::<anyhow::Result<_>>()?;
        let (plain_http, docker_config) = (self.plain_http.clone(), self.docker_config()?);
        let options = oci::pull::Options { plain_http, docker_config, roots };
        Registries::new(options).map_err(|why| anyhow::anyhow!("--registry-ca: {why}"))
    }

    /// One that is named must be there; Docker's own places may be empty.
    fn docker_config(&self) -> anyhow::Result<Option<PathBuf>> {
        if let Some(named) = &self.docker_config {
            let path = if named.is_dir() { named.join("config.json") } else { named.clone() };
            anyhow::ensure!(path.is_file(), "--docker-config: there is no file {}", path.display());
            return Ok(Some(path));
        }
        let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
        Ok(folder.map(|folder| folder.join("config.json")).filter(|path| path.is_file()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_without_a_scheme() {
        assert_eq!(host("R.local:5000").unwrap(), "r.local:5000");
        assert_eq!(host("localhost").unwrap(), "localhost");
        for wrong in ["http://r.local", "r", "", "r.local:0", "r.local/x/"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
