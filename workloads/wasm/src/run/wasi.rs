//! What a guest sees of the world: arguments, environment, directories, streams, sockets.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::Failure;
use super::memory::Limiter;
use super::names::Lookups;
use super::network::Rules;
use super::output::Output;
use crate::spec::{Preopen, RunConfig, Stage, Stdin};

pub(super) struct ModuleState {
    pub wasi: WasiP1Ctx,
    pub limiter: Limiter,
}

pub(super) struct ComponentState {
    wasi: WasiCtx,
    table: ResourceTable,
    pub limiter: Limiter,
    lookups: Lookups,
}

impl ComponentState {
    pub(super) fn new(wasi: WasiCtx, limiter: Limiter, network: Rules) -> Self {
        ComponentState { wasi, table: ResourceTable::new(), limiter, lookups: Lookups::new(network) }
    }

    pub(super) fn sockets_and_lookups(&mut self) -> (WasiSocketsCtxView<'_>, &mut Lookups) {
        let sockets = WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table };
        (sockets, &mut self.lookups)
    }
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Clocks and random numbers are the host's; everything else is what `cfg` lists.
pub(super) fn builder(
    cfg: &RunConfig,
    output: &Output,
    network: Option<&Rules>,
) -> Result<WasiCtxBuilder, Failure> {
    let mut wasi = WasiCtxBuilder::new();
    // First of all: directories take over the setting when they are added.
    wasi.allow_blocking_current_thread(true);
    wasi.args(&cfg.args).envs(&cfg.env);
    output.add_to(&mut wasi);
    if cfg.stdin == Stdin::Inherit {
        wasi.inherit_stdin();
    }
    for preopen in &cfg.preopens {
        add_directory(&mut wasi, preopen)?;
    }
    allow_sockets(&mut wasi, network);
    Ok(wasi)
}

fn add_directory(wasi: &mut WasiCtxBuilder, preopen: &Preopen) -> Result<(), Failure> {
    let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
    wasi.preopened_dir(&preopen.host_dir, &preopen.guest_path, perms).map_err(|e| {
        let text = format!("{} as {}: {e:#}", preopen.host_dir.display(), preopen.guest_path);
        Failure::new(Stage::Mount, text)
    })?;
    Ok(())
}

fn allow_sockets(wasi: &mut WasiCtxBuilder, network: Option<&Rules>) {
    let rules = network.filter(|rules| !rules.is_empty());
    wasi.allow_tcp(rules.is_some()).allow_udp(rules.is_some());
    wasi.allow_ip_name_lookup(rules.is_some_and(Rules::has_names));
    if let Some(rules) = rules {
        let rules = rules.clone();
        wasi.socket_addr_check(move |addr, what| {
            let rules = rules.clone();
            Box::pin(async move { rules.allows(addr, what).await })
        });
    }
}
