//! Both seams over a real MQTT 5 broker, by rumqttc.

mod engine;
mod reason;

#[cfg(feature = "bus")]
pub mod bus;
#[cfg(feature = "agent")]
pub(crate) mod session;

use std::time::Duration;

use contract::limits::WIRE_BYTES_MAX;
use rumqttc::v5::MqttOptions;
use rumqttc::v5::mqttbytes::v5::ConnectProperties;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

use crate::session::KEEP_ALIVE_MIN;
use crate::{Credentials, Endpoint, Tls};

/// The largest packet we take: a payload, its topic, its content type, and room to spare. Always
/// the same, whatever a side allows itself to publish: some brokers end a session rather than drop
/// a message that is too large for it.
pub const PACKET_BYTES_MAX: u32 = (WIRE_BYTES_MAX + (4 << 10)) as u32;
/// What a publish costs besides payload, topic and content type: header, lengths, properties.
const PUBLISH_OVERHEAD_BYTES: usize = 64;

/// Clean session, bounded windows both ways.
fn options(
    endpoint: &Endpoint,
    client_id: &str,
    credentials: Option<&Credentials>,
    keep_alive: Duration,
    connect_timeout: Duration,
    inflight: u16,
    tls: Option<&Tls>,
) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, endpoint.host(), endpoint.port());
    options
        .set_keep_alive(keep_alive.clamp(KEEP_ALIVE_MIN, Duration::from_secs(u16::MAX.into())))
        .set_clean_start(true)
        .set_connection_timeout(connect_timeout.as_secs().max(1))
        // Its default allocates 65,536 slots: 14 MB.
        .set_outgoing_inflight_upper_limit(inflight);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    options.set_connect_properties(ConnectProperties {
        session_expiry_interval: Some(0),
        receive_maximum: Some(inflight),
        max_packet_size: Some(PACKET_BYTES_MAX),
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    });
    if let Some(tls) = tls.filter(|_| endpoint.is_tls()) {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.config())));
    }
    if let Some(c) = credentials {
        options.set_credentials(&c.username, &c.password);
    }
    options
}
