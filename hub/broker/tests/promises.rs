//! Does the embedded broker keep the promises of the transport, over the network and in process?

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hub_broker::{Access, BrokerConfig, EmbeddedBroker, HUB};
use transport::Credentials;
use transport::suite::Rig;

const TOKEN: &str = "agents' secret";
const HUB_TOKEN: &str = "hubs' secret";

async fn broker() -> EmbeddedBroker {
    let check = Arc::new(|_: &contract::AgentId, given: &str| given == TOKEN);
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = BrokerConfig::new(bind, Access::Tokens(check));
    config.hub_token = Some(HUB_TOKEN.into());
    EmbeddedBroker::start(config).await.expect("the broker starts")
}

async fn over_the_network() -> Rig {
    let broker = broker().await;
    let hub = Credentials { username: HUB.into(), password: HUB_TOKEN.into() };
    Rig::wired(broker.addr().port(), Some(hub), Some(TOKEN.into()), Box::new(broker)).await
}

async fn in_process() -> Rig {
    let broker = Arc::new(broker().await);
    let hub = Arc::clone(&broker);
    let make_bus = Box::new(move |limits| hub.bus(limits));
    Rig::in_process(broker.addr().port(), make_bus, Some(TOKEN.into()), Box::new(broker))
}

mod network {
    transport::promises! { super::over_the_network().await;
        a_cut_bus_says_so_and_recovers,
        a_silent_link_is_given_up,
        a_session_can_be_left_while_it_connects,
    }
}

mod process {
    transport::promises! { super::in_process().await;
        a_kicked_agent_is_gone,
        a_silent_link_is_given_up,
    }
}
