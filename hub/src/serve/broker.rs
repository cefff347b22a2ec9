//! Which broker carries the fleet: the embedded one, with passwords from the data directory, or one
//! that runs already.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use contract::AgentId;
use contract::identity::ALPN_MQTT;
use contract::time::Millis;
use hub_broker::{Access, BrokerConfig, EmbeddedBroker};
use transport::bus::BusLimits;
use transport::mqtt::bus::{BusConfig, connect};
use transport::{AgentBus, Credentials, Endpoint, Floor, Own, Prefix, Tls, Trusted};

use super::args::ServeArgs;
use super::inbound::Ears;
use crate::api::auth::Token;
use crate::trust::door::Inside;
use crate::trust::{Ca, wall_ms};

/// A bus, and what has to live as long as it.
pub struct Broker {
    pub bus: AgentBus,
    pub url: String,
    pub kind: BrokerKind,
    pub ears: Ears,
    pub embedded: Option<EmbeddedBroker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BrokerKind {
    Embedded,
    External,
    /// Inside a test.
    Memory,
}

/// Of the certificate that this process shows a broker: its key is in memory only, and a new one is made at
/// each start.
const OWN_LIFE_MS: Millis = 10 * 365 * 86_400_000;

pub async fn embedded(
    mqtt: SocketAddr,
    prefix: Prefix,
    agent_token: &str,
    operator_token: String,
    inside: Inside,
) -> anyhow::Result<Broker> {
    let token = Token::new(agent_token);
    // One password for all who run on this machine without an identity: such an agent is whom it says.
    let check = Arc::new(move |_: &AgentId, given: &str| token.fits(given));
    let mut config = BrokerConfig::new(mqtt, Access::Tokens(check));
    config.prefix = prefix;
    config.operator_token = Some(operator_token);
    config.vouch = Some(Arc::new(move |from| inside.who(from)));
    let broker = EmbeddedBroker::start(config).await.context("the embedded broker did not start")?;
    let url = format!("mqtt://{}", broker.addr());
    let bus = broker.bus(BusLimits::default());
    Ok(Broker {
        bus,
        url,
        kind: BrokerKind::Embedded,
        ears: Ears { joined_only: false },
        embedded: Some(broker),
    })
}

pub fn external(endpoint: Endpoint, args: &ServeArgs, client_id: &str, ca: &Ca) -> anyhow::Result<Broker> {
    let (url, local) = (endpoint.to_string(), endpoint.is_loopback());
    let tls = endpoint.is_tls().then(|| tls(args, ca)).transpose()?;
    let mut config = BusConfig::new(endpoint, client_id);
    config.prefix = args.prefix.clone();
    config.tls = tls;
    if let Some(username) = &args.broker_user {
        let password =
            args.broker_password_file.as_deref().map(read_password).transpose()?.unwrap_or_default();
        config.credentials = Some(Credentials { username: username.clone(), password });
    }
    let ears = Ears { joined_only: !local };
    Ok(Broker { bus: connect(config), url, kind: BrokerKind::External, ears, embedded: None })
}

/// Somebody else's broker is believed under its own name, by the CA that was given for it.
fn tls(args: &ServeArgs, ca: &Ca) -> anyhow::Result<Tls> {
    let trusted = Trusted::Named(match &args.broker_ca {
        Some(file) => read(file)?,
        None => ca.pem(),
    });
    let own = match (&args.broker_cert, &args.broker_key) {
        (Some(certificate), Some(key)) => Some(Own { certificate: read(certificate)?, key: read(key)? }),
        // A broker that believes the hub's CA lets boards in by it, and the hub too.
        _ => {
            let (certificate, key) = ca.issue_client(hub_broker::HUB, wall_ms() + OWN_LIFE_MS)?;
            Some(Own { certificate, key })
        }
    };
    Tls::new(&trusted, own.as_ref(), Floor::default(), ALPN_MQTT)
        .context("--broker-ca, --broker-cert, --broker-key")
}

pub fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_password(path: &Path) -> anyhow::Result<String> {
    Ok(read(path)?.trim_end_matches(['\r', '\n']).to_string())
}
