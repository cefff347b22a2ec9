//! What the broker answers, in one short session, while no agent has one: does it take us, which hub
//! announces itself, and is the document it keeps for this board signed by our hub's key?

use std::fs;
use std::path::Path;
use std::time::Duration;

use contract::message::{CONTRACT_VERSION, Capacity, HubAnnounce, Presence};
use contract::{AgentId, BoardId, Epoch, codec};
use ed25519_dalek::VerifyingKey;
use tokio::time::{Instant, timeout_at};
use transport::topic::{Kind, Topic};
use transport::{Connector, Credentials, Endpoint, Session, SessionConfig, SessionEvent, Tls, Will};

use super::documents;
use crate::check::facts::Broker;
use crate::identity::trust::Way;

const CONNECT: Duration = Duration::from_secs(3);
/// What is retained comes at once or not at all.
const RETAINED: Duration = Duration::from_millis(700);
const GOODBYE: Duration = Duration::from_secs(1);

/// How the broker is asked.
pub struct Ask {
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    tls: Option<Tls>,
}

impl From<Way> for Ask {
    fn from(way: Way) -> Ask {
        Ask { endpoint: way.endpoint, credentials: Some(way.credentials), tls: Some(way.tls) }
    }
}

pub fn plain(url: &str, agent: &Result<AgentId, String>, token: Option<&String>) -> Result<Ask, String> {
    let endpoint = Endpoint::parse(url, false).map_err(|why| format!("--broker: {why}"))?;
    let agent = agent.as_ref().map_err(Clone::clone)?;
    let credentials = token.map(|token| Credentials { username: agent.to_string(), password: token.clone() });
    Ok(Ask { endpoint, credentials, tls: None })
}

pub fn ask(
    url: &str,
    way: Ask,
    prefix: &str,
    agent: &AgentId,
    state: &Path,
    key: Option<&VerifyingKey>,
) -> Result<Broker, String> {
    let mut config = SessionConfig::new(way.endpoint, agent.clone(), will(state)?);
    config.prefix = prefix.parse().map_err(|why| format!("--prefix: {why}"))?;
    // Beside an agent's own, should one start just now.
    config.client_id = format!("{agent}.check");
    config.limits.connect_timeout = CONNECT;
    (config.credentials, config.tls) = (way.credentials, way.tls);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    runtime.block_on(async {
        let session = Connector::Mqtt.connect(config);
        listen(session, url, key).await
    })
}

/// Of the lowest epoch: whoever reads it, should we be killed before the goodbye, knows better.
fn will(state: &Path) -> Result<Will, String> {
    let board = fs::read_to_string(state.join("board-id")).ok().and_then(|text| text.trim().parse().ok());
    let presence = Presence {
        board: board.unwrap_or(BoardId([0; 16])),
        epoch: Epoch::default(),
        online: false,
        contract_version: CONTRACT_VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_string(),
        features: Default::default(),
        engines: Vec::new(),
        arch: std::env::consts::ARCH.to_string(),
        labels: Default::default(),
        capacity: Capacity::default(),
    };
    let encoded = codec::encode(codec::Kind::Presence, &presence, None).map_err(|why| why.to_string())?;
    Ok(Will { payload: encoded.bytes.into(), content_type: encoded.content_type.into() })
}

async fn listen(mut session: Session, url: &str, key: Option<&VerifyingKey>) -> Result<Broker, String> {
    let late = || format!("no answer within {CONNECT:?}");
    let first = timeout_at(Instant::now() + CONNECT + GOODBYE, session.next()).await;
    match first.map_err(|_| late())? {
        Some(SessionEvent::Connected) => {}
        Some(SessionEvent::Disconnected { reason, .. }) => return Err(reason.to_string()),
        _ => return Err(late()),
    }
    let (mut announced, mut document) = (None, None);
    let end = Instant::now() + RETAINED;
    while let Ok(Some(event)) = timeout_at(end, session.next()).await {
        let SessionEvent::Message { topic, payload, content_type, .. } = event else { continue };
        let Ok(plain) = codec::unpack(&payload, &content_type) else { continue };
        match &topic {
            Topic::Hub => {
                let said = codec::open::<HubAnnounce>(codec::Kind::Announce, &plain, None);
                announced = said.ok().map(|said| said.lineage);
                if let Err(why) =
                    codec::open::<HubAnnounce>(codec::Kind::Announce, &plain, key.map(|key| key as _))
                {
                    let place = format!("the hub's announcement at {url}");
                    document.get_or_insert_with(|| documents::refused(place, why.to_string()));
                }
            }
            Topic::Agent { kind: Kind::Desired, .. } => {
                document = Some(documents::document(format!("the document at {url}"), &plain, key));
            }
            _ => {}
        }
    }
    session.disconnect();
    let goodbye = Instant::now() + GOODBYE;
    while let Ok(Some(_)) = timeout_at(goodbye, session.next()).await {}
    Ok(Broker::Reached { url: url.to_string(), announced, document })
}
