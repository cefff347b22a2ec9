//! What `hub serve` is told, and what of it is refused before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;

use contract::quantity::Duration;
use transport::{Endpoint, Prefix};

use crate::compile::command::LimitArgs;
use crate::fetch::RegistryArgs;
use crate::secrets::SecretsArgs;

/// Where a hub keeps everything, and where the CLI looks for its token.
pub const DEFAULT_DATA: &str = "/var/lib/skerry/hub";

/// Run the hub: API, store, artefacts, compile workers and the MQTT broker for the agents.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where everything is kept: key, tokens, store, artefacts.
    #[arg(long, value_name = "DIR", env = "SKERRY_DATA", default_value = DEFAULT_DATA)]
    pub data: PathBuf,
    /// Where the HTTP API listens; port 0 takes any free one. Beyond this machine encrypted, and then boards
    /// come in here too, with their MQTT.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7711")]
    pub listen: SocketAddr,
    /// Encrypted although --listen is on this machine.
    #[arg(long)]
    pub tls: bool,
    /// How boards reach --listen from where they are: a name or address, and a port if it is another one.
    /// May be given several times; tokens carry all.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub advertise: Vec<String>,
    /// How long a board's certificate and the hub's own live; they are renewed by themselves when two thirds
    /// are over.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub certificate_life: Duration,
    /// A board whose certificate has ended has to join anew, though its key is right.
    #[arg(long)]
    pub no_renew_expired: bool,
    /// Where the embedded broker listens in plain, on this machine; boards elsewhere come in by --listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:1883", conflicts_with = "broker")]
    pub mqtt: SocketAddr,
    /// An MQTT 5 broker to use instead of the embedded one: mqtts://host:port, or mqtt:// on this machine.
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,
    /// The user name at that broker.
    #[arg(long, value_name = "NAME", requires = "broker")]
    pub broker_user: Option<String>,
    /// A file with the password at that broker.
    #[arg(long, value_name = "FILE", requires = "broker_user")]
    pub broker_password_file: Option<PathBuf>,
    /// What that broker's certificate is checked against (PEM). The hub's own CA when left out.
    #[arg(long, value_name = "FILE", requires = "broker")]
    pub broker_ca: Option<PathBuf>,
    /// The certificate to show that broker, and its key (PEM).
    #[arg(long, value_name = "FILE", requires = "broker_key")]
    pub broker_cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "broker_cert")]
    pub broker_key: Option<PathBuf>,
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
    pub secrets: SecretsArgs,
    #[command(flatten)]
    pub registries: RegistryArgs,
    #[command(flatten)]
    pub compile: LimitArgs,
}

#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error(
        "--mqtt {0} is not on this machine, and the broker listens there in plain: leave it on 127.0.0.1. Boards \
         elsewhere come in encrypted by --listen, which speaks MQTT too"
    )]
    NotLoopback(SocketAddr),
    #[error("--broker: {0}")]
    Broker(#[from] transport::EndpointError),
    #[error(
        "--advertise {0}: write a name or address, such as hub.example or 192.0.2.7:7711 or [2001:db8::7]:7711"
    )]
    Advertise(String),
    #[error(
        "--advertise: --listen {0} is plain, and no board elsewhere can reach it; add --tls, or listen on 0.0.0.0"
    )]
    AdvertisePlain(SocketAddr),
    #[error("--certificate-life {0}: at least 10s and at most 3650d")]
    Life(Duration),
    #[error("--heartbeat {0}: at least 1s and at most 1d")]
    Heartbeat(Duration),
}

impl ServeArgs {
    /// Beyond this machine nothing is plain.
    pub fn encrypted(&self) -> bool {
        self.tls || !self.listen.ip().is_loopback()
    }

    /// Where boards reach the hub, once it listens there: names or addresses, each with its port.
    pub fn hubs(&self, listens: SocketAddr) -> Vec<String> {
        if self.advertise.is_empty() {
            return if listens.ip().is_unspecified() { Vec::new() } else { vec![listens.to_string()] };
        }
        let whole = |text: &String| {
            let (host, port) = place(text)?;
            Some(format!("{host}:{}", port.unwrap_or(listens.port())))
        };
        self.advertise.iter().filter_map(whole).collect()
    }

    /// What the hub's certificate is for.
    pub fn names(&self, listens: SocketAddr) -> Vec<String> {
        let mut names: Vec<String> =
            [contract::identity::HUB_NAME, "localhost", "127.0.0.1", "::1"].map(String::from).into();
        names.extend(
            self.advertise
                .iter()
                .filter_map(|text| Some(place(text)?.0.trim_matches(['[', ']']).to_string())),
        );
        names.extend((!listens.ip().is_unspecified()).then(|| listens.ip().to_string()));
        names.sort();
        names.dedup();
        names
    }

    /// The external broker, if one is named.
    pub fn check(&self) -> Result<Option<Endpoint>, ArgsError> {
        if !self.mqtt.ip().is_loopback() {
            return Err(ArgsError::NotLoopback(self.mqtt));
        }
        if !self.advertise.is_empty() && !self.encrypted() {
            return Err(ArgsError::AdvertisePlain(self.listen));
        }
        if let Some(wrong) = self.advertise.iter().find(|text| place(text).is_none()) {
            return Err(ArgsError::Advertise(contract::limits::clip(wrong)));
        }
        if !(10_000..=3_650 * 86_400_000).contains(&self.certificate_life.ms) {
            return Err(ArgsError::Life(self.certificate_life));
        }
        if !(1000..=86_400_000).contains(&self.heartbeat.ms) {
            return Err(ArgsError::Heartbeat(self.heartbeat));
        }
        Ok(self.broker.as_deref().map(|url| Endpoint::parse(url, false)).transpose()?)
    }
}

/// A host and perhaps a port.
fn place(text: &str) -> Option<(String, Option<u16>)> {
    let endpoint = Endpoint::tls(text).ok()?;
    let has_port = text.rsplit(':').next().is_some_and(|end| end.parse::<u16>().is_ok() && text != end);
    Some((endpoint.host().to_string(), has_port.then(|| endpoint.port())))
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
    fn beyond_this_machine_nothing_is_plain() {
        assert!(check(&[]).unwrap().is_none());
        assert!(check(&["--listen", "[::1]:0", "--mqtt", "127.0.0.2:1"]).is_ok());
        assert!(check(&["--listen", "0.0.0.0:7711", "--advertise", "hub.example"]).is_ok());
        assert!(check(&["--broker", "mqtt://localhost:1884"]).unwrap().is_some());
        assert!(check(&["--broker", "mqtts://broker.example"]).unwrap().is_some());
        assert!(matches!(check(&["--mqtt", "192.168.1.1:1883"]), Err(ArgsError::NotLoopback(_))));
        assert!(matches!(check(&["--broker", "mqtt://broker.local"]), Err(ArgsError::Broker(_))));
        assert!(matches!(check(&["--advertise", "hub.example"]), Err(ArgsError::AdvertisePlain(_))));
        let wrong = ["--tls", "--advertise", "https://hub"];
        assert!(matches!(check(&wrong), Err(ArgsError::Advertise(_))));
        assert!(matches!(check(&["--heartbeat", "10ms"]), Err(ArgsError::Heartbeat(_))));
        assert!(matches!(check(&["--certificate-life", "1s"]), Err(ArgsError::Life(_))));
    }

    #[test]
    fn what_is_advertised_is_whole_and_named() {
        let parse =
            |args: &[&str]| Cli::try_parse_from(["hub", "--data", "d"].iter().chain(args)).unwrap().serve;
        let listens = "0.0.0.0:7711".parse().unwrap();
        let args = parse(&[
            "--listen",
            "0.0.0.0:7711",
            "--advertise",
            "hub.example",
            "--advertise",
            "[2001:db8::7]:443",
        ]);
        assert_eq!(args.hubs(listens), ["hub.example:7711", "[2001:db8::7]:443"]);
        let names = args.names(listens);
        for name in ["hub.example", "2001:db8::7", "localhost", "127.0.0.1", contract::identity::HUB_NAME] {
            assert!(names.iter().any(|n| n == name), "{names:?}");
        }
        assert!(parse(&["--listen", "0.0.0.0:7711"]).hubs(listens).is_empty());
        assert_eq!(parse(&["--tls"]).hubs("127.0.0.1:9".parse().unwrap()), ["127.0.0.1:9"]);
    }
}
