//! How a hub's parts find each other, and in which order they start and end. Tests start the same
//! parts with another broker.

use std::net::SocketAddr;
use std::sync::Arc;

use contract::Lineage;
use contract::codec::fingerprint;
use contract::time::Millis;
use ed25519_dalek::SigningKey;
use hub_core::api::HubFacts;
use hub_core::{Config, Core};
use oci::pull::Registries;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::driver::Driver;
use super::exit::Exit;
use super::handle::Handle;
use super::perform::Performer;
use super::publish::Publisher;
use super::quiet::Quiet;
use super::ring::Ring;
use crate::api::metrics::Meters;
use crate::api::server::Gate;
use crate::api::{self, App, Identity};
use crate::artifact::ArtifactStore;
use crate::audit::Audit;
use crate::compile::{self, Workers};
use crate::data::{self, DataDir};
use crate::fetch::Fetcher;
use crate::secrets::Vault;
use crate::store::{Found, Loaded, StoreWriter};
use crate::trust::{Door, Front};

pub struct Parts {
    pub data: Arc<DataDir>,
    pub found: Found,
    pub listener: TcpListener,
    /// None: the listener is plain.
    pub front: Option<Front>,
    pub door: Arc<Door>,
    pub broker: Broker,
    pub key: SigningKey,
    pub token: String,
    pub vault: Vault,
    pub workers: Workers,
    pub registries: Registries,
    pub heartbeat_ms: Millis,
    pub report_window_ms: Millis,
}

/// A hub at work. Cancel `stop`, then `wait`.
pub struct Running {
    pub data: Arc<DataDir>,
    pub url: String,
    pub lineage: Lineage,
    pub stop: CancellationToken,
    driver: JoinHandle<Result<(), Exit>>,
    server: JoinHandle<()>,
    broker: Option<hub_broker::EmbeddedBroker>,
}

impl Parts {
    pub async fn start(self) -> anyhow::Result<Running> {
        let (heartbeat_ms, report_window_ms) = (self.heartbeat_ms, self.report_window_ms);
        let Parts {
            data, found, listener, front, door, broker, key, token, vault, workers, registries, ..
        } = self;
        let artifacts = ArtifactStore::open(&data.artifacts())?;
        let agent_token = data.agent_token()?;
        let url = url(listener.local_addr()?, front.is_some());
        let fetched = door.terms.hubs.first().map_or_else(|| url.clone(), |hub| format!("https://{hub}"));
        let Found { kv, loaded, remark: _ } = found;
        let lineage = loaded.meta.map_or(Lineage(data::random()?), |meta| meta.lineage);
        // The core makes the term of this start the next one.
        let term = loaded.meta.map_or(0, |meta| meta.term.0) + 1;
        let (writer, stored) = StoreWriter::start(kv, loaded.oldest_event)?;
        let facts = facts(loaded, lineage, &fetched, heartbeat_ms, report_window_ms)?;

        let (hub, asks) = Handle::new();
        let (finish, finished) = mpsc::unbounded_channel();
        let (ring, workers, sweep) = (Ring::new(term), Arc::new(workers), Arc::new(Notify::new()));
        let stop = CancellationToken::new();
        let fetcher = Fetcher::new(registries, artifacts.clone(), stop.clone())?;
        let meters = Meters {
            inbound: Arc::new(broker.bus.events.meter()),
            broker: broker.embedded.as_ref().map(|broker| Arc::new(broker.meter()) as _),
        };
        let publisher = Publisher::start(broker.bus.sender, key.clone(), finish.clone());
        let performer = Performer::new(
            writer,
            publisher,
            ring.clone(),
            artifacts.clone(),
            Arc::clone(&workers),
            Arc::clone(&fetcher),
            finish,
            Arc::clone(&sweep),
        );
        let driver = Driver {
            core: Core::new(Config::default()),
            performer,
            asks,
            finished,
            stored,
            bus: broker.bus.events,
            ears: broker.ears,
            stop: stop.clone(),
            unsettled: Vec::new(),
            full: None,
            away: None,
            quiet: Quiet::new(std::time::Instant::now()),
        };
        let driver = tokio::spawn(driver.run(facts));

        let identity = Identity {
            fingerprint: fingerprint(&key.verifying_key()),
            broker_kind: broker.kind,
            broker_url: broker.url.clone(),
        };
        let app = App::new(
            Arc::clone(&data),
            hub,
            ring,
            artifacts,
            workers,
            fetcher,
            &token,
            &agent_token,
            vault,
            key,
            identity,
            door,
            Audit::open(&data.root().join("audit"))?,
            meters,
            stop.clone(),
        );
        tokio::spawn(sweeps(app.clone(), Arc::clone(&sweep)));
        // Once at start: a crash may have left blobs whose record never came.
        sweep.notify_one();
        let mqtt = broker.embedded.as_ref().map(hub_broker::EmbeddedBroker::addr);
        let gate = front.map(|front| Gate { front, door: Arc::clone(&app.door), hub: app.hub.clone(), mqtt });
        let server = tokio::spawn(api::server::serve(listener, api::router(app.clone()), gate, stop.clone()));
        note(&data, &app, &url, lineage).await?;
        Ok(Running { data, url, lineage, stop, driver, server, broker: broker.embedded })
    }
}

impl Running {
    /// Until the hub was stopped or ended by itself. New requests are refused first, answers in
    /// progress end, then the broker.
    pub async fn wait(self) -> Result<(), Exit> {
        let ended = self.driver.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        self.stop.cancel();
        if ended.is_ok() {
            let _ = self.server.await;
            if let Some(broker) = self.broker {
                broker.stop().await;
            }
        }
        self.data.clear_running();
        ended
    }
}

/// Where the hub's own machine reaches it.
fn url(listens: SocketAddr, encrypted: bool) -> String {
    let scheme = if encrypted { "https" } else { "http" };
    match listens.ip().is_unspecified() {
        true => format!("{scheme}://127.0.0.1:{}", listens.port()),
        false => format!("{scheme}://{listens}"),
    }
}

fn facts(
    loaded: Loaded,
    lineage: Lineage,
    url: &str,
    heartbeat_ms: Millis,
    announce_window_ms: Millis,
) -> Result<HubFacts, data::DataError> {
    Ok(HubFacts {
        meta: loaded.meta,
        lineage,
        nonce_seed: data::random()?,
        workloads: loaded.workloads,
        placements: loaded.placements,
        agents: loaded.agents,
        artifacts: loaded.artifacts,
        data: loaded.data,
        trust: loaded.trust,
        access: loaded.access,
        events: loaded.events,
        engines: compile::engines(),
        artifacts_url: url.to_string(),
        heartbeat_ms,
        announce_window_ms,
    })
}

/// Once the store holds the lineage: that there is a store to be missed; then, where we are.
async fn note(data: &DataDir, app: &App, url: &str, lineage: Lineage) -> anyhow::Result<()> {
    let running = serde_json::json!({
        "url": url,
        "mqtt": app.identity.broker_url,
        "pid": std::process::id(),
        "fingerprint": app.identity.fingerprint,
        "ca": app.door.ca.fingerprint(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    app.hub.settled().await?;
    data.note_lineage(lineage)?;
    data.note_running(&format!("{running}\n"))?;
    Ok(())
}

async fn sweeps(app: App, wanted: Arc<Notify>) {
    loop {
        tokio::select! {
            () = wanted.notified() => {}
            () = app.stop.cancelled() => return,
        }
        if let Err(e) = api::artifacts::sweep(&app).await {
            tracing::warn!("blobs were not swept: {}", e.message);
        }
    }
}
