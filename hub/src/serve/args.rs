//! What `hub serve` is told, and what of it is refused before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use contract::quantity::Duration;
use transport::{Endpoint, Prefix};

use crate::compile::command::LimitArgs;
use crate::fetch::RegistryArgs;

/// Where a hub keeps everything, and where the CLI looks for its token.
pub const DEFAULT_DATA: &str = "/var/lib/skerry/hub";

/// Run the hub: API, store, artefacts, compile workers and the MQTT broker for the agents.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where everything is kept: key, tokens, store, artefacts.
    #[arg(long, value_name = "DIR", env = "SKERRY_DATA", default_value = DEFAULT_DATA)]
    pub data: PathBuf,
    /// Where the HTTP API listens; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7711")]
    pub listen: SocketAddr,
    /// Where the embedded broker listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1883", conflicts_with = "broker")]
    pub mqtt: SocketAddr,
    /// An MQTT 5 broker to use instead of the embedded one: mqtt://host:port.
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// The user name at that broker.
    #[arg(long, value_name = "NAME", requires = "broker")]
    pub broker_user: Option<String>,
    /// A file with the password at that broker.
    #[arg(long, value_name = "FILE", requires = "broker_user")]
    pub broker_password_file: Option<PathBuf>,
    /// What all topics begin with.
    #[arg(long, value_name = "PREFIX", default_value = "skerry/v1")]
    pub prefix: Prefix,
    /// How often an agent that has nothing to say says so.
    #[arg(long, value_name = "TIME", default_value = "15m")]
    pub heartbeat: Duration,
    /// Over how long a fleet spreads its reports after this hub starts.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub report_window: Duration,
    /// Begin a new lineage if the store is gone or cannot be opened. Without this such a hub refuses
    /// to start.
    #[arg(long)]
    pub new_lineage_if_lost: bool,
    #[command(flatten)]
    pub registries: RegistryArgs,
    #[command(flatten)]
    pub compile: LimitArgs,
}

#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error(
        "{option} {address} is not on this machine. Until agents and operators have identities and connections are \
         encrypted (a later version), the hub listens on loopback only: use 127.0.0.1:{port}, and ssh -L to reach it"
    )]
    NotLoopback { option: &'static str, address: SocketAddr, port: u16 },
    #[error("--broker: {0}. Until agents have identities, brokers beyond loopback are refused")]
    Broker(#[from] transport::EndpointError),
    #[error("--heartbeat {0}: at least 1s and at most 1d")]
    Heartbeat(Duration),
}

impl ServeArgs {
    /// The external broker, if one is named.
    pub fn check(&self) -> Result<Option<Endpoint>, ArgsError> {
        let loopback = |option, address: SocketAddr| match address.ip().is_loopback() {
            true => Ok(()),
            false => Err(ArgsError::NotLoopback { option, address, port: address.port() }),
        };
        loopback("--listen", self.listen)?;
        loopback("--mqtt", self.mqtt)?;
        if !(1000..=86_400_000).contains(&self.heartbeat.ms) {
            return Err(ArgsError::Heartbeat(self.heartbeat));
        }
        Ok(self.broker.as_deref().map(|url| Endpoint::parse(url, false)).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn check(args: &[&str]) -> Result<Option<Endpoint>, ArgsError> {
        let all = ["hub", "--data", "d"].iter().chain(args);
        Cli::try_parse_from(all).unwrap().serve.check()
    }

    #[test]
    fn only_this_machine_is_listened_on() {
        assert!(check(&[]).unwrap().is_none());
        assert!(check(&["--listen", "[::1]:0", "--mqtt", "127.0.0.2:1"]).is_ok());
        assert!(check(&["--broker", "mqtt://localhost:1884"]).unwrap().is_some());
        for wrong in [
            ["--listen", "0.0.0.0:7711"],
            ["--mqtt", "192.168.1.1:1883"],
            ["--listen", "[::]:1"],
            ["--broker", "mqtt://broker.local"],
            ["--broker", "mqtts://127.0.0.1"],
        ] {
            let refused = check(&wrong).unwrap_err().to_string();
            assert!(refused.contains("identities"), "{refused}");
        }
        assert!(matches!(check(&["--heartbeat", "10ms"]), Err(ArgsError::Heartbeat(_))));
    }
}
