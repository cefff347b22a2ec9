//! `hub serve`: puts the parts together, runs them, and ends them in order.

pub mod args;
pub mod banner;
pub mod broker;
pub mod clock;
pub mod driver;
pub mod exit;
pub mod handle;
pub mod inbound;
pub mod perform;
pub mod publish;
pub mod quiet;
pub mod ring;
pub mod start;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use contract::DataKind;
use contract::codec::fingerprint;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::compile::Workers;
use crate::data::DataDir;
use crate::secrets::Vault;
use crate::store;
use crate::trust::door::{Inside, Terms};
use crate::trust::server::ServerCert;
use crate::trust::{Ca, Door, Front};
use args::ServeArgs;
use banner::Banner;
use start::Parts;

/// Threads of the hub: one for the loop, one for the rest. More would bring memory, not speed.
const THREADS: usize = 2;

pub fn main(args: &ServeArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    more_files();
    let endpoint = args.check()?;
    let registries = args.registries.open()?;
    let data = Arc::new(DataDir::open(&args.data)?);
    let found = store::open(&data, args.new_lineage_if_lost)?;
    if let Some(remark) = &found.remark {
        tracing::warn!("{remark}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let ended = runtime.block_on(async {
        // From here on, before anybody can know that we run: whoever ends us ends us in order.
        let signals =
            Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
        let listener = TcpListener::bind(args.listen).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
        let key = data.signing_key()?;
        let name = fingerprint(&key.verifying_key());
        let token = data.token()?;
        let holds = found.loaded.data.keys().filter(|id| id.kind == DataKind::Secret).count();
        let vault = Vault::open(&data, args.secrets.passphrase()?.as_ref(), holds)?;
        let ca = Arc::new(Ca::open(&data)?);
        let inside = Inside::default();
        let broker = match endpoint {
            Some(endpoint) => broker::external(endpoint, args, &format!("hub-{name}"), &ca)?,
            None => {
                let password = data.agent_token()?;
                broker::embedded(args.mqtt, args.prefix.clone(), &password, token.clone(), inside.clone())
                    .await?
            }
        };
        let mqtt = broker.url.clone();
        let fresh = found.loaded.meta.is_none();
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        let listens = listener.local_addr()?;
        let front = if args.encrypted() { Some(front(args, listens, &data, &ca)?) } else { None };
        let door = Arc::new(Door::new(Arc::clone(&ca), terms(args, listens)?, inside));
        let parts = Parts {
            data,
            found,
            listener,
            front,
            door,
            broker,
            key,
            token,
            vault,
            workers: Workers::new(exe, args.compile.limits()),
            registries,
            heartbeat_ms: args.heartbeat.ms,
            report_window_ms: args.report_window.ms,
        };
        let running = parts.start().await?;
        let banner = Banner {
            url: &running.url,
            ca: &ca.fingerprint(),
            encrypted: args.encrypted(),
            mqtt: &mqtt,
            data: running.data.root(),
            fingerprint: &name,
            lineage: running.lineage.to_string(),
            fresh,
            took: begun.elapsed(),
        };
        // Whoever started us may have stopped reading.
        let _ = writeln!(std::io::stdout(), "{banner}");
        tokio::spawn(signals.stop(running.stop.clone()));
        anyhow::Ok(running.wait().await)
    })?;
    // Workers that still compile die with us; nothing else is in progress.
    runtime.shutdown_background();
    match ended {
        Ok(()) => Ok(()),
        Err(exit) => exit.leave(),
    }
}

/// The encrypted port, with a certificate for where it listens.
fn front(args: &ServeArgs, listens: SocketAddr, data: &Arc<DataDir>, ca: &Arc<Ca>) -> anyhow::Result<Front> {
    let (names, life_ms) = (args.names(listens), args.certificate_life.ms);
    let certificate = ServerCert::open(Arc::clone(ca), Arc::clone(data), names, life_ms)?;
    Ok(Front::new(ca, Arc::new(certificate))?)
}

fn terms(args: &ServeArgs, listens: SocketAddr) -> anyhow::Result<Terms> {
    Ok(Terms {
        hubs: if args.encrypted() { args.hubs(listens) } else { Vec::new() },
        life_ms: args.certificate_life.ms,
        renew_expired: !args.no_renew_expired,
        broker: args.broker.clone(),
        broker_ca: args.broker_ca.as_deref().map(broker::read).transpose()?,
        prefix: args.prefix.to_string(),
    })
}

/// A thousand are given by default, and each board behind the encrypted port takes three.
fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// The first TERM or INT ends the hub in order; the second at once.
    async fn stop(mut self, stop: CancellationToken) {
        self.next().await;
        tracing::info!("stopping");
        stop.cancel();
        self.next().await;
        std::process::exit(exit::SECOND_SIGNAL);
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}
