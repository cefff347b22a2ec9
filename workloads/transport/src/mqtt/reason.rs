//! Which of rumqttc's errors means what to us: the broker refuses us, asks to come later, or the
//! link broke.

use std::error::Error;

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
use rumqttc::v5::{ConnectionError, StateError};

use crate::session::EndReason;

/// `connected`: the broker had accepted us before.
pub(super) fn end_reason(error: ConnectionError, connected: bool) -> EndReason {
    match error {
        ConnectionError::ConnectionRefused(code) => refusal(code),
        ConnectionError::MqttState(state) => from_state(state, connected),
        ConnectionError::NotConnAck(packet) => EndReason::Protocol(format!("{packet:?} instead of CONNACK")),
        ConnectionError::Timeout(_) => EndReason::Unreachable("no answer to CONNECT".into()),
        error if connected => EndReason::Lost(chain(&error)),
        error => EndReason::Unreachable(chain(&error)),
    }
}

/// What passes by itself is `Later`; what needs a person is `Refused`.
fn refusal(code: ConnectReturnCode) -> EndReason {
    use ConnectReturnCode::*;
    let text = format!("{code:?}");
    match code {
        ServiceUnavailable
        | ServerUnavailable
        | ServerBusy
        | QuotaExceeded
        | UseAnotherServer
        | ServerMoved
        | ConnectionRateExceeded
        | UnspecifiedError => EndReason::Later(text),
        _ => EndReason::Refused(text),
    }
}

fn from_state(error: StateError, connected: bool) -> EndReason {
    match error {
        StateError::ServerDisconnect { reason_code, reason_string } => ended(reason_code, reason_string),
        StateError::ConnFail { reason } => refusal(reason),
        StateError::Io(_) | StateError::ConnectionAborted if connected => EndReason::Lost(chain(&error)),
        StateError::Io(_) | StateError::ConnectionAborted => EndReason::Unreachable(chain(&error)),
        // An I/O error within the codec comes as this.
        StateError::Deserialization(rumqttc::v5::mqttbytes::Error::Io(e)) if connected => {
            EndReason::Lost(e.to_string())
        }
        StateError::Deserialization(rumqttc::v5::mqttbytes::Error::Io(e)) => {
            EndReason::Unreachable(e.to_string())
        }
        StateError::AwaitPingResp => EndReason::Lost("a ping was not answered".into()),
        error => EndReason::Protocol(chain(&error)),
    }
}

fn ended(code: DisconnectReasonCode, text: Option<String>) -> EndReason {
    let said: String = text.unwrap_or_default().chars().take(200).collect();
    match code {
        DisconnectReasonCode::SessionTakenOver => EndReason::TakenOver,
        DisconnectReasonCode::NotAuthorized => EndReason::Refused(format!("{code:?} {said}")),
        DisconnectReasonCode::ServerBusy | DisconnectReasonCode::ConnectionRateExceeded => {
            EndReason::Later(format!("{code:?} {said}"))
        }
        _ => EndReason::Ended(format!("{code:?} {said}").trim_end().to_string()),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // rumqttc repeats its sources in its own texts.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text.chars().take(300).collect()
}
