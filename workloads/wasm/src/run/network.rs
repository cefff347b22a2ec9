//! Which socket addresses a guest may use: those of its `network` lists, nothing else.
//!
//! A listed name stands for every address it has *now*: addresses are learned from the guest's own
//! lookups, and when a guest connects to an address that is not known yet, the listed names of that port
//! are looked up (at most once a second, so that a guest that knocks on every door makes no DNS storm).
//! Nothing is looked up at the start: it would hold up a boot with no network by the resolver's time-outs.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use wasmtime_wasi::sockets::SocketAddrUse;

use crate::spec::{Network, NetworkMode};

/// Addresses kept for one name; a name behind a large pool keeps its newest.
const ADDRESSES_MAX: usize = 64;
/// Peers a UDP listener may answer; the newest are kept.
const PEERS_MAX: usize = 1024;
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRule {
    #[error("network.connect: `{0}` is not host:port, as in broker.local:1883 or [::1]:1883")]
    Connect(String),
    #[error("network.listen: port 0 cannot be listened on by name; list the port itself")]
    Listen,
}

#[derive(Clone)]
pub(super) struct Rules(Arc<Inner>);

struct Inner {
    fixed: Vec<SocketAddr>,
    listen: Vec<u16>,
    learned: Mutex<Learned>,
}

#[derive(Default)]
struct Learned {
    names: Vec<Name>,
    looked_up: Option<Instant>,
    peers: VecDeque<SocketAddr>,
}

struct Name {
    host: String,
    port: u16,
    addresses: VecDeque<IpAddr>,
}

impl Rules {
    pub(super) fn parse(network: &Network) -> Result<Self, BadRule> {
        let (mut fixed, mut names) = (Vec::new(), Vec::new());
        let host = network.mode == NetworkMode::Host;
        for rule in &network.connect {
            let (address, port) = split(rule).ok_or_else(|| BadRule::Connect(rule.clone()))?;
            match address.parse::<IpAddr>() {
                Ok(ip) => fixed.push(SocketAddr::new(ip.to_canonical(), port)),
                Err(_) => names.push(Name { host: plain(address), port, addresses: VecDeque::new() }),
            }
        }
        if network.listen.contains(&0) {
            return Err(BadRule::Listen);
        }
        if !host {
            return Ok(Rules::new(Vec::new(), Vec::new(), Vec::new()));
        }
        Ok(Rules::new(fixed, network.listen.clone(), names))
    }

    fn new(fixed: Vec<SocketAddr>, listen: Vec<u16>, names: Vec<Name>) -> Self {
        let learned = Mutex::new(Learned { names, ..Learned::default() });
        Rules(Arc::new(Inner { fixed, listen, learned }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.fixed.is_empty() && self.0.listen.is_empty() && !self.has_names()
    }

    pub(super) fn has_names(&self) -> bool {
        !self.learned().names.is_empty()
    }

    /// Whether the guest may look up this name.
    pub(super) fn may_look_up(&self, host: &str) -> bool {
        let host = plain(host);
        self.learned().names.iter().any(|n| n.host == host)
    }

    /// A lookup of a listed name gave this address.
    pub(super) fn learn(&self, host: &str, ip: IpAddr) {
        let (host, ip) = (plain(host), ip.to_canonical());
        for name in self.learned().names.iter_mut().filter(|n| n.host == host) {
            if !name.addresses.contains(&ip) {
                push_bounded(&mut name.addresses, ip, ADDRESSES_MAX);
            }
        }
    }

    pub(super) async fn allows(&self, addr: SocketAddr, what: SocketAddrUse) -> bool {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        match what {
            // Port 0: the bind that comes before a connect.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
                addr.port() == 0 || self.0.listen.contains(&addr.port())
            }
            SocketAddrUse::TcpListen => self.0.listen.contains(&addr.port()),
            SocketAddrUse::TcpAccept => !self.0.listen.is_empty(),
            SocketAddrUse::TcpConnect => self.may_connect(addr).await,
            SocketAddrUse::UdpSend => self.is_peer(addr) || self.may_connect(addr).await,
            SocketAddrUse::UdpReceive => self.receive(addr),
        }
    }

    /// A listener hears everybody and may answer whom it heard; others hear only whom they may reach.
    fn receive(&self, addr: SocketAddr) -> bool {
        if self.knows(addr) {
            return true;
        }
        let listens = !self.0.listen.is_empty();
        if listens && !self.is_peer(addr) {
            push_bounded(&mut self.learned().peers, addr, PEERS_MAX);
        }
        listens
    }

    fn is_peer(&self, addr: SocketAddr) -> bool {
        self.learned().peers.contains(&addr)
    }

    fn knows(&self, addr: SocketAddr) -> bool {
        let named = |n: &Name| n.port == addr.port() && n.addresses.contains(&addr.ip());
        self.0.fixed.contains(&addr) || self.learned().names.iter().any(named)
    }

    async fn may_connect(&self, addr: SocketAddr) -> bool {
        if self.knows(addr) {
            return true;
        }
        for host in self.due_lookups(addr.port()) {
            let Ok(found) = tokio::net::lookup_host((host.as_str(), addr.port())).await else { continue };
            found.for_each(|a| self.learn(&host, a.ip()));
        }
        self.knows(addr)
    }

    fn due_lookups(&self, port: u16) -> Vec<String> {
        let mut learned = self.learned();
        let hosts: Vec<String> =
            learned.names.iter().filter(|n| n.port == port).map(|n| n.host.clone()).collect();
        if hosts.is_empty() || learned.looked_up.is_some_and(|at| at.elapsed() < LOOKUP_PAUSE) {
            return Vec::new();
        }
        learned.looked_up = Some(Instant::now());
        hosts
    }

    fn learned(&self) -> MutexGuard<'_, Learned> {
        self.0.learned.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// `host:port`, an IPv6 host in brackets.
fn split(rule: &str) -> Option<(&str, u16)> {
    let (host, port) = rule.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|p| *p != 0)?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let bare_v6 = host.contains(':') && !rule.starts_with('[');
    let odd = |c: char| c.is_whitespace() || c == '/' || c == '@' || c == '*';
    (!host.is_empty() && !bare_v6 && !host.contains(odd)).then_some((host, port))
}

fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn push_bounded<T>(queue: &mut VecDeque<T>, value: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use SocketAddrUse::*;

    fn rules(mode: NetworkMode, connect: &[&str], listen: &[u16]) -> Rules {
        let connect = connect.iter().map(|s| s.to_string()).collect();
        Rules::parse(&Network { mode, connect, listen: listen.to_vec() }).unwrap()
    }

    fn allows(rules: &Rules, addr: &str, what: SocketAddrUse) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(rules.allows(addr.parse().unwrap(), what))
    }

    #[test]
    fn only_listed_addresses_are_reached() {
        let rules = rules(NetworkMode::Host, &["10.0.0.1:1883", "[::1]:80"], &[]);
        assert!(allows(&rules, "10.0.0.1:1883", TcpConnect));
        assert!(allows(&rules, "[::ffff:10.0.0.1]:1883", TcpConnect));
        assert!(allows(&rules, "[::1]:80", UdpSend));
        assert!(!allows(&rules, "10.0.0.1:1884", TcpConnect));
        assert!(!allows(&rules, "10.0.0.2:1883", TcpConnect));
        assert!(allows(&rules, "0.0.0.0:0", TcpBind));
        assert!(!allows(&rules, "0.0.0.0:1883", TcpBind));
        assert!(!allows(&rules, "127.0.0.1:40000", TcpListen));
        assert!(!allows(&rules, "10.0.0.9:5", TcpAccept));
    }

    #[test]
    fn mode_none_means_none_whatever_is_listed() {
        let rules = rules(NetworkMode::None, &["10.0.0.1:1883", "localhost:1"], &[80]);
        assert!(rules.is_empty());
        assert!(!allows(&rules, "10.0.0.1:1883", TcpConnect));
        assert!(!rules.may_look_up("localhost"));
    }

    #[test]
    fn a_udp_listener_answers_only_whom_it_heard() {
        let rules = rules(NetworkMode::Host, &[], &[5000]);
        assert!(allows(&rules, "0.0.0.0:5000", UdpBind));
        assert!(!allows(&rules, "10.0.0.7:9", UdpSend));
        assert!(allows(&rules, "10.0.0.7:9", UdpReceive));
        assert!(allows(&rules, "10.0.0.7:9", UdpSend));
        assert!(!allows(&rules, "10.0.0.7:10", UdpSend));
    }

    #[test]
    fn peers_are_bounded() {
        let rules = rules(NetworkMode::Host, &[], &[5000]);
        for port in 1..=PEERS_MAX as u16 + 1 {
            assert!(rules.receive(SocketAddr::new([10, 0, 0, 7].into(), port)));
        }
        assert_eq!(rules.learned().peers.len(), PEERS_MAX);
        assert!(!allows(&rules, "10.0.0.7:1", UdpSend));
    }

    #[test]
    fn a_listed_name_stands_for_its_addresses() {
        let rules = rules(NetworkMode::Host, &["LocalHost.:1883"], &[]);
        assert!(rules.may_look_up("localhost") && !rules.may_look_up("example.org"));
        // Not looked up by anybody yet: the check does it.
        assert!(allows(&rules, "127.0.0.1:1883", TcpConnect));
        assert!(!allows(&rules, "127.0.0.1:1884", TcpConnect));
        assert!(!allows(&rules, "127.0.0.9:1883", TcpConnect));
        rules.learn("localhost", [127, 0, 0, 9].into());
        assert!(allows(&rules, "127.0.0.9:1883", TcpConnect));
    }

    #[test]
    fn learned_addresses_are_bounded_and_the_newest_stay() {
        let rules = rules(NetworkMode::Host, &["pool.test:1"], &[]);
        (0..=ADDRESSES_MAX as u8).for_each(|n| rules.learn("pool.test", [10, 0, 0, n].into()));
        assert!(!rules.knows("10.0.0.0:1".parse().unwrap()));
        assert!(rules.knows("10.0.0.64:1".parse().unwrap()));
    }

    #[test]
    fn bad_rules_are_named() {
        for bad in
            ["broker", "broker:", "broker:0", ":1883", "::1:80", "[::1:80", "a b:1", "http://x:80", "*:1"]
        {
            let network = Network { connect: vec![bad.into()], ..Network::default() };
            assert_eq!(Rules::parse(&network).err(), Some(BadRule::Connect(bad.into())), "{bad}");
        }
        let network = Network { listen: vec![0], ..Network::default() };
        assert_eq!(Rules::parse(&network).err(), Some(BadRule::Listen));
    }
}
