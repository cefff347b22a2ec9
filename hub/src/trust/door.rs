//! What the hub says to somebody who shows a certificate, and what it gives out: the one place where the
//! core's records, the certificate's end and the hub's clock come together.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::AgentId;
use contract::identity::{Enrolment, Standing};
use contract::time::Millis;
use hub_core::api::{Answer, Request};
use hub_core::trust::{Known, TrustRequest};
use tokio_util::sync::CancellationToken;

use super::ca::{self, Ca};
use super::peer::Peer;
use super::wall_ms;
use crate::serve::handle::{AskError, Handle};

/// What is told to boards, and for how long.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Where boards reach this hub, `host:port`; none, and no token can be made.
    pub hubs: Vec<String>,
    /// Of a board's certificate.
    pub life_ms: Millis,
    /// A certificate that has ended still lets its key renew.
    pub renew_expired: bool,
    /// Another broker than ours, and what its certificate is checked against.
    pub broker: Option<String>,
    pub broker_ca: Option<String>,
    pub prefix: String,
}

pub struct Door {
    pub ca: Arc<Ca>,
    pub terms: Terms,
    inside: Inside,
}

#[derive(Debug, thiserror::Error)]
pub enum GiveError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Ca(#[from] ca::CaError),
    #[error("{0} is not to have a certificate")]
    Not(AgentId),
}

impl Door {
    pub fn new(ca: Arc<Ca>, terms: Terms, inside: Inside) -> Door {
        Door { ca, terms, inside }
    }

    /// How this certificate's holder stands, now.
    pub async fn standing(&self, hub: &Handle, peer: &Peer) -> Result<Known, AskError> {
        let (agent, key) = (peer.agent.clone(), peer.key);
        let known = hub.look(move |core, _| core.trust().known(&agent, &key)).await?;
        if known.standing == Standing::Good && wall_ms() > peer.ends_ms {
            let late = (wall_ms() - peer.ends_ms) / 1000;
            let reason = format!("the certificate ended {late} s ago, by the hub's clock");
            return Ok(Known { standing: Standing::Expired, reason });
        }
        Ok(known)
    }

    /// A certificate for this key; recorded, durably, before anybody has it.
    pub async fn give(
        &self,
        hub: &Handle,
        agent: &AgentId,
        request: &ca::Request,
    ) -> Result<Enrolment, GiveError> {
        let issued_ms = wall_ms();
        let ends_ms = (issued_ms + self.terms.life_ms) / 1000 * 1000;
        let certificate = self.ca.issue_agent(agent, request, ends_ms)?;
        let issued =
            TrustRequest::Issued { agent: agent.clone(), public: request.public.clone(), issued_ms, ends_ms };
        if !matches!(hub.request(Request::Trust(issued)).await?, Answer::Done { .. }) {
            return Err(GiveError::Not(agent.clone()));
        }
        Ok(Enrolment {
            agent: agent.clone(),
            certificate,
            ca: self.ca.pem(),
            issued_ms,
            ends_ms,
            broker: self.terms.broker.clone(),
            broker_ca: self.terms.broker_ca.clone(),
            prefix: self.terms.prefix.clone(),
        })
    }

    pub fn inside(&self) -> &Inside {
        &self.inside
    }
}

/// MQTT connections of one board: one to work with, one that the network has not given up yet, and the
/// same for a copied card.
const PER_BOARD_MAX: usize = 4;

/// Which board is behind which connection to the embedded broker, and how to end it.
#[derive(Clone, Default)]
pub struct Inside(Arc<Mutex<HashMap<SocketAddr, (AgentId, CancellationToken)>>>);

impl Inside {
    /// `from` is the address that the broker sees. Dropped, the guard forgets it. None: this board holds
    /// all that one may.
    pub fn enter(&self, from: SocketAddr, agent: AgentId) -> Option<Guest> {
        let end = CancellationToken::new();
        let mut all = self.lock();
        if all.values().filter(|(had, _)| *had == agent).count() >= PER_BOARD_MAX {
            return None;
        }
        all.insert(from, (agent, end.clone()));
        drop(all);
        Some(Guest { inside: self.clone(), from, end })
    }

    pub fn who(&self, from: &SocketAddr) -> Option<AgentId> {
        self.lock().get(from).map(|(agent, _)| agent.clone())
    }

    /// Cut all connections of these.
    pub fn cut(&self, agents: &[AgentId]) {
        self.lock().values().filter(|(agent, _)| agents.contains(agent)).for_each(|(_, end)| end.cancel());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, (AgentId, CancellationToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Guest {
    inside: Inside,
    from: SocketAddr,
    pub end: CancellationToken,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.inside.lock().remove(&self.from);
    }
}
