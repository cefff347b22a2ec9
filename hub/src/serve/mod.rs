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
use std::time::Instant;

use anyhow::Context as _;
use contract::codec::fingerprint;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::compile::Workers;
use crate::data::DataDir;
use crate::store;
use args::ServeArgs;
use banner::Banner;
use start::Parts;

/// Threads of the hub: one for the loop, one for the rest. More would bring memory, not speed.
const THREADS: usize = 2;

pub fn main(args: &ServeArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let endpoint = args.check()?;
    let registries = args.registries.open()?;
    let data = DataDir::open(&args.data)?;
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
        let broker = match endpoint {
            Some(endpoint) => broker::external(endpoint, args, &format!("hub-{name}"))?,
            None => {
                broker::embedded(args.mqtt, args.prefix.clone(), &data.agent_token()?, token.clone()).await?
            }
        };
        let mqtt = broker.url.clone();
        let fresh = found.loaded.meta.is_none();
        let exe = std::env::current_exe().context("cannot find this program's own file")?;
        let parts = Parts {
            data,
            found,
            listener,
            broker,
            key,
            token,
            workers: Workers::new(exe, args.compile.limits()),
            registries,
            heartbeat_ms: args.heartbeat.ms,
            report_window_ms: args.report_window.ms,
        };
        let running = parts.start().await?;
        let banner = Banner {
            url: &running.url,
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
