//! How long each client's queue is, and that nobody has a session beyond its connection.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rmqtt::Result;
use rmqtt::codec::types::Publish;
use rmqtt::fitter::{DefaultFitter, Fitter, FitterManager};
use rmqtt::types::{ConnectInfo, Disconnect, FitterType, Id, ListenerConfig};

use crate::access::{Role, role};
use crate::{Access, BrokerConfig, KEEP_ALIVE_SECS_MAX};

pub struct Fitters {
    open: bool,
    agent_queue: usize,
    guest_queue: usize,
}

impl Fitters {
    pub fn new(config: &BrokerConfig) -> Fitters {
        Fitters {
            open: matches!(config.access, Access::OpenOnLoopback),
            agent_queue: config.limits.agent_queue,
            guest_queue: config.limits.guest_queue,
        }
    }
}

impl FitterManager for Fitters {
    fn create(&self, info: Arc<ConnectInfo>, id: Id, listener: ListenerConfig) -> FitterType {
        let username = info.username().map(|name| name.to_string());
        let queue = match role(username.as_deref(), info.client_id(), self.open) {
            Ok(Role::Agent(_)) | Err(_) => self.agent_queue,
            Ok(Role::Operator | Role::Hub) => self.guest_queue,
        };
        Arc::new(ShortLived { rest: DefaultFitter::new(info, id, listener), queue })
    }
}

struct ShortLived {
    rest: DefaultFitter,
    queue: usize,
}

#[async_trait]
impl Fitter for ShortLived {
    /// A client without pings, or with rare ones, is given the longest; MQTT 5 tells it so. rmqtt would
    /// refuse it as 'server unavailable', which sends the reader of that to look at the server.
    fn keep_alive(&self, asked: &mut u16) -> Result<u16> {
        if *asked == 0 || *asked > KEEP_ALIVE_SECS_MAX {
            *asked = KEEP_ALIVE_SECS_MAX;
        }
        self.rest.keep_alive(asked)
    }

    fn max_mqueue_len(&self) -> usize {
        self.queue
    }

    fn mqueue_rate_limit(&self) -> (NonZeroU32, Duration) {
        self.rest.mqueue_rate_limit()
    }

    fn max_inflight(&self) -> NonZeroU16 {
        self.rest.max_inflight()
    }

    /// Whatever a client asks for: an absent one's messages would only be late.
    fn session_expiry_interval(&self, _: Option<&Disconnect>) -> Duration {
        Duration::ZERO
    }

    fn message_expiry_interval(&self, publish: &Publish) -> Duration {
        self.rest.message_expiry_interval(publish)
    }

    fn max_client_topic_aliases(&self) -> u16 {
        self.rest.max_client_topic_aliases()
    }

    fn max_server_topic_aliases(&self) -> u16 {
        self.rest.max_server_topic_aliases()
    }
}
