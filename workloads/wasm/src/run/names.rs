//! Name lookups of a guest: only of names in its `network.connect`, and what they give is remembered.
//!
//! wasmtime-wasi can only allow all lookups or none, and any lookup carries data out of the sandbox (the
//! name itself travels). So its `ip-name-lookup` is shadowed by this one, which checks the name and then
//! hands on to it.

use std::collections::HashMap;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::{
    self, Host, HostResolveAddressStream, ResolveAddressStream,
};
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, SocketError};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use super::network::Rules;
use super::wasi::ComponentState;

/// Lookups under way in one guest.
const LOOKUPS_MAX: usize = 64;

/// Which running lookup is for which name.
pub(super) struct Lookups {
    rules: Rules,
    running: HashMap<u32, String>,
}

impl Lookups {
    pub(super) fn new(rules: Rules) -> Self {
        Lookups { rules, running: HashMap::new() }
    }
}

/// wasmtime's view with ours around it.
struct View<'a> {
    inner: WasiSocketsCtxView<'a>,
    lookups: &'a mut Lookups,
}

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

pub(super) fn shadow_lookup(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    ip_name_lookup::add_to_linker::<ComponentState, HasView>(linker, |state| {
        let (inner, lookups) = state.sockets_and_lookups();
        View { inner, lookups }
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Error codes are converted by wasmtime's view; the bindings ask for it beside [`Host`].
impl network::Host for View<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.network_error_code(error)
    }
}

impl network::HostNetwork for View<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.inner, network)
    }
}

impl Host for View<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<ResolveAddressStream>, SocketError> {
        let literal = name.parse::<std::net::IpAddr>().is_ok();
        if !literal && !self.lookups.rules.may_look_up(&name) {
            return Err(ErrorCode::AccessDenied.into());
        }
        if self.lookups.running.len() >= LOOKUPS_MAX {
            return Err(ErrorCode::TemporaryResolverFailure.into());
        }
        let stream = self.inner.resolve_addresses(network, name.clone())?;
        if !literal {
            self.lookups.running.insert(stream.rep(), name);
        }
        Ok(stream)
    }
}

impl HostResolveAddressStream for View<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> Result<Option<IpAddress>, SocketError> {
        let host = self.lookups.running.get(&stream.rep());
        let next = self.inner.resolve_next_address(stream)?;
        if let (Some(host), Some(address)) = (host, &next) {
            self.lookups.rules.learn(host, to_std(address));
        }
        Ok(next)
    }

    fn subscribe(
        &mut self,
        stream: Resource<ResolveAddressStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        self.inner.subscribe(stream)
    }

    fn drop(&mut self, stream: Resource<ResolveAddressStream>) -> wasmtime::Result<()> {
        self.lookups.running.remove(&stream.rep());
        HostResolveAddressStream::drop(&mut self.inner, stream)
    }
}

fn to_std(address: &IpAddress) -> std::net::IpAddr {
    match *address {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}
