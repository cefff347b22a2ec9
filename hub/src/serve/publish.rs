//! One task that signs and publishes, in the order of the core's effects: an agent never gets an older
//! document after a newer one. It waits for room at the bus, so that the loop does not.

use bytes::Bytes;
use contract::AgentId;
use contract::codec::{self, CodecError, Encoded, Kind as Envelope};
use contract::message::{Command, Desired, Hello, HubAnnounce};
use ed25519_dalek::SigningKey;
use hub_core::api::{EffectId, Outcome};
use tokio::sync::mpsc;
use transport::{BusSender, Kind, Outgoing, PublishError, Topic};

use crate::failpoint::{self, Point};

/// Publications that wait: four pages of effects. More are refused, and the core asks again when the
/// agent shows that it missed something.
const QUEUE_MAX: usize = 4 * contract::limits::EFFECTS_PAGE_MAX;

#[derive(Debug)]
pub enum Publication {
    Desired { agent: AgentId, document: Box<Desired> },
    Hello { agent: AgentId, hello: Box<Hello> },
    Announce(HubAnnounce),
    Command { agent: AgentId, command: Box<Command> },
    Clear { agent: AgentId },
}

type Job = (EffectId, Publication);
type Finished = mpsc::UnboundedSender<(EffectId, Outcome)>;

pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    finished: Finished,
}

impl Publisher {
    pub fn start(bus: BusSender, key: SigningKey, finished: Finished) -> Publisher {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(run(queue, bus, key, finished.clone()));
        Publisher { jobs, finished }
    }

    pub fn publish(&self, id: EffectId, publication: Publication) {
        if self.jobs.try_send((id, publication)).is_err() {
            let _ = self.finished.send((id, Outcome::Fault("too much waits to be published".to_string())));
        }
    }
}

async fn run(mut jobs: mpsc::Receiver<Job>, bus: BusSender, key: SigningKey, finished: Finished) {
    while let Some((id, publication)) = jobs.recv().await {
        let outcome = match publish(&bus, &key, publication).await {
            Ok(()) => Outcome::Done,
            Err(outcome) => outcome,
        };
        if finished.send((id, outcome)).is_err() {
            return;
        }
    }
}

async fn publish(bus: &BusSender, key: &SigningKey, publication: Publication) -> Result<(), Outcome> {
    match publication {
        Publication::Desired { agent, document } => {
            let encoded = codec::encode(Envelope::Desired, &document, Some(key)).map_err(unsayable)?;
            failpoint::pass(Point::BeforePublishDesired);
            send(bus, Topic::agent(&agent, Kind::Desired), encoded, true).await?;
            failpoint::pass(Point::AfterPublishDesired);
            Ok(())
        }
        Publication::Hello { agent, hello } => {
            let encoded = codec::encode(Envelope::Hello, &hello, Some(key)).map_err(unsayable)?;
            failpoint::pass(Point::BeforePublishHello);
            send(bus, Topic::agent(&agent, Kind::Hello), encoded, false).await
        }
        Publication::Announce(announce) => {
            let encoded = codec::encode(Envelope::Announce, &announce, Some(key)).map_err(unsayable)?;
            send(bus, Topic::Hub, encoded, true).await
        }
        Publication::Command { agent, command } => {
            let encoded = codec::encode(Envelope::Command, &command, Some(key)).map_err(unsayable)?;
            send(bus, Topic::agent(&agent, Kind::Command(command.id.clone())), encoded, false).await
        }
        Publication::Clear { agent } => {
            bus.kick(&agent);
            bus.forget(&agent).await.map_err(unsent)
        }
    }
}

async fn send(bus: &BusSender, topic: Topic, encoded: Encoded, retain: bool) -> Result<(), Outcome> {
    let Encoded { bytes, content_type } = encoded;
    let (payload, content_type) = (Bytes::from(bytes), content_type.to_string());
    bus.publish(Outgoing { topic, payload, content_type, retain, expiry: None }).await.map_err(unsent)
}

/// Too large: the same the next time.
fn unsayable(e: CodecError) -> Outcome {
    Outcome::Refused(e.to_string())
}

fn unsent(e: PublishError) -> Outcome {
    match e {
        PublishError::Full | PublishError::Down => Outcome::Fault(e.to_string()),
        PublishError::TooLarge { .. } | PublishError::Direction(_) | PublishError::Retain(_) => {
            Outcome::Refused(e.to_string())
        }
    }
}
