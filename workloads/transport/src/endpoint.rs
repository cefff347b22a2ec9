//! Where a broker is, and as whom to come. Plain (`mqtt://`), only this machine is reached unless that is
//! allowed by name; encrypted (`mqtts://`), any.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

pub const DEFAULT_PORT: u16 = 1883;
pub const DEFAULT_TLS_PORT: u16 = 8883;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("'{0}' is not a broker's address; write mqtts://<host>:<port>, or mqtt://… on this machine")]
    NotAnAddress(String),
    #[error(
        "the address of {0} carries a user name; credentials are given apart, where they do not show in a process list"
    )]
    Credentials(String),
    #[error("'{0}' is not on this machine: beyond it only encrypted, mqtts://…")]
    Remote(String),
}

/// A broker's address. A host name other than `localhost` counts as remote: names can lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
}

impl Endpoint {
    /// At this place, encrypted.
    pub fn tls(host_and_port: &str) -> Result<Endpoint, EndpointError> {
        format!("mqtts://{host_and_port}").parse()
    }

    /// Refuses what is plain and not on this machine unless `allow_remote`.
    pub fn parse(url: &str, allow_remote: bool) -> Result<Endpoint, EndpointError> {
        let endpoint: Endpoint = url.parse()?;
        if allow_remote || endpoint.tls || endpoint.is_loopback() {
            Ok(endpoint)
        } else {
            Err(EndpointError::Remote(endpoint.host))
        }
    }

    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn is_tls(&self) -> bool {
        self.tls
    }

    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Endpoint, EndpointError> {
        let wrong = || EndpointError::NotAnAddress(url.chars().take(100).collect());
        let (tls, rest) = match url.strip_prefix("mqtts://") {
            Some(rest) => (true, rest),
            None => (false, url.strip_prefix("mqtt://").ok_or_else(wrong)?),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((_, host)) = rest.rsplit_once('@') {
            return Err(EndpointError::Credentials(host.to_string()));
        }
        let default = if tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
        let (host, port) = split_port(rest, default).ok_or_else(wrong)?;
        if !is_host(host) {
            return Err(wrong());
        }
        Ok(Endpoint { host: host.to_string(), port, tls })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt{}://{}:{}", if self.tls { "s" } else { "" }, self.host, self.port)
    }
}

fn split_port(rest: &str, default: u16) -> Option<(&str, u16)> {
    let after_host =
        if rest.starts_with('[') { rest.find(']')? + 1 } else { rest.find(':').unwrap_or(rest.len()) };
    let (host, port) = rest.split_at(after_host);
    match port {
        "" => Some((host, default)),
        _ => {
            let port = port.strip_prefix(':')?;
            let plain = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            Some((host, port.parse().ok().filter(|p| plain && *p != 0)?))
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[') {
        return v6.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(legal)
}

/// A user name and a secret; the secret never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("password", &"…").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_always_reached() {
        for (url, printed) in [
            ("mqtt://127.0.0.1:1884", "mqtt://127.0.0.1:1884"),
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtt://[::1]:9/", "mqtt://[::1]:9"),
        ] {
            assert_eq!(Endpoint::parse(url, false).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn another_machine_only_when_allowed() {
        for url in [
            "mqtt://10.0.0.1:1883",
            "mqtt://broker.local",
            "mqtt://localhost.evil.org",
            "mqtt://[2001:db8::1]:1",
        ] {
            assert!(matches!(Endpoint::parse(url, false), Err(EndpointError::Remote(_))), "{url}");
            assert!(Endpoint::parse(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn encrypted_any_machine_is_reached() {
        for (url, printed) in [
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
            ("mqtts://[2001:db8::1]:443", "mqtts://[2001:db8::1]:443"),
        ] {
            let endpoint = Endpoint::parse(url, false).unwrap();
            assert!(endpoint.is_tls() && endpoint.to_string() == printed);
        }
        assert_eq!(Endpoint::tls("h:7").unwrap().to_string(), "mqtts://h:7");
    }

    #[test]
    fn the_rest_is_refused_and_never_repeats_a_password() {
        for url in [
            "",
            "mqtt://",
            "mqtt://:1",
            "tcp://a:1",
            "mqtt://a:0",
            "mqtt://a:+1",
            "mqtt://a:65536",
            "mqtt://a:1/x",
            "mqtt://a:1?x",
            "mqtt://[::1",
            "mqtt://::1:1",
            "mqtt://a b:1",
            "ssl://a:1",
        ] {
            assert!(Endpoint::parse(url, true).is_err(), "{url}");
        }
        let refused = Endpoint::parse("mqtt://u:hunter2@h:1", true).unwrap_err().to_string();
        assert!(refused.contains("h:1") && !refused.contains("hunter2"), "{refused}");
        let c = Credentials { username: "u".into(), password: "hunter2".into() };
        assert!(!format!("{c:?}").contains("hunter2"));
    }
}
