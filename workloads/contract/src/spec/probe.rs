//! How an instance is found well or ill: what is asked, how often, and how many answers count.

use std::collections::BTreeMap;

#[cfg(feature = "manifest")]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::Duration;

/// Exactly one of exec, httpGet and tcp says what is asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct Probe {
    /// A command inside the container (oci): exec: [program, argument]; exit code 0 is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// An HTTP GET from the board; 200 to 399 is success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A TCP connection from the board; success when it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// How long after the start of the instance it is asked first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_delay: Option<Duration>,
    /// From one question to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// No answer within this time is a failure; at most the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Successes in a row after a failure that count as success; more than 1 for readiness only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_threshold: Option<u32>,
    /// Failures in a row that count as failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct HttpGet {
    /// The port on the board that the workload listens on.
    pub port: u16,
    /// Path and query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The address to connect to, as a number: for a workload that listens on one address only. (The
    /// Host header is said in headers.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Headers of the request: {Host: shop.example, Accept: text/plain}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "manifest", derive(JsonSchema))]
pub struct TcpProbe {
    /// The port on the board that the workload listens on.
    pub port: u16,
    /// The address to connect to, as a number: for a workload that listens on one address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}
