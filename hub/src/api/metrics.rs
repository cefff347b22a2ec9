//! `GET /metrics`: the fleet and the hub in numbers, in the text format of Prometheus. Everything is read
//! when it is asked for; nothing is counted for nobody. Agents are not labels: a fleet has 100,000 of
//! them, and `hub agents` lists them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use hub_broker::BrokerStats;
use hub_core::view::{NamespaceNumbers, Numbers};
use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use transport::FairStats;

use super::App;
use super::error::{ApiError, Code};

/// What the core does not know: the queues and the broker of this process.
#[derive(Clone)]
pub struct Meters {
    pub inbound: Arc<dyn Fn() -> FairStats + Send + Sync>,
    /// Of the embedded broker.
    pub broker: Option<Arc<dyn Fn() -> BrokerStats + Send + Sync>>,
}

pub async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let numbers = app.hub.look(|core, _| core.numbers()).await?;
    let text = page(&numbers, &app.meters);
    let text = text.map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}

fn page(numbers: &Numbers, meters: &Meters) -> prometheus::Result<String> {
    let page = Page(Registry::new_custom(Some("skerry".into()), None)?);
    hub(&page, numbers)?;
    namespaces(&page, numbers)?;
    inbound(&page, (meters.inbound)())?;
    if let Some(broker) = &meters.broker {
        embedded(&page, broker())?;
    }
    TextEncoder::new().encode_to_string(&page.0.gather())
}

fn hub(page: &Page, numbers: &Numbers) -> prometheus::Result<()> {
    let (status, agents) = (&numbers.status, &numbers.status.agents);
    page.gauge("hub_info", "Always 1; which hub this is", "version", &[(env!("CARGO_PKG_VERSION"), 1)])?;
    page.one("broker_up", "1 while the hub is connected to its broker", u64::from(status.broker.up))?;
    page.one("store_version", "Changes that the store has seen", status.version.0)?;
    let states = [
        ("online", agents.online),
        ("offline", agents.offline),
        ("unknown", agents.unknown),
        ("duplicate", agents.duplicate),
        ("floor-conflict", agents.floor_conflict),
        ("other-lineage", agents.other_lineage),
    ];
    page.gauge("agents", "Agents by state", "state", &states.map(|(state, n)| (state, n.into())))?;
    page.total("messages_rejected_total", "Agents' messages that could not be used", status.rejected)
}

fn namespaces(page: &Page, numbers: &Numbers) -> prometheus::Result<()> {
    type Part = fn(&NamespaceNumbers) -> u64;
    let parts: [(&str, &str, Part); 5] = [
        ("workloads", "Workloads", |n| n.workloads),
        ("workloads_steady", "Workloads of which every instance is as wanted", |n| n.workloads_steady),
        ("instances", "Instances that should run", |n| n.instances),
        ("instances_steady", "Instances that are as wanted", |n| n.instances_steady),
        ("instances_offline", "Instances whose agent is offline", |n| n.instances_offline),
    ];
    for (name, help, part) in parts {
        let values: Vec<(&str, u64)> =
            numbers.namespaces.iter().map(|(namespace, n)| (namespace.as_str(), part(n))).collect();
        page.gauge(name, help, "namespace", &values)?;
    }
    Ok(())
}

fn inbound(page: &Page, stats: FairStats) -> prometheus::Result<()> {
    page.total("messages_received_total", "Messages of agents", stats.received)?;
    page.total(
        "messages_dropped_total",
        "Messages of agents for which there was no room",
        stats.dropped + stats.untold,
    )?;
    page.one("messages_queued_bytes", "Messages of agents that wait for the hub", stats.queued_bytes as u64)
}

fn embedded(page: &Page, stats: BrokerStats) -> prometheus::Result<()> {
    page.one("broker_connections", "Connections to the embedded broker", stats.connections as u64)?;
    page.one("broker_sessions", "Sessions of the embedded broker", stats.sessions as u64)?;
    page.one("broker_retained_messages", "Messages that the embedded broker keeps", stats.retained as u64)?;
    page.one("broker_retained_bytes", "What they take of memory", stats.retained_bytes as u64)?;
    page.total("broker_refused_total", "Connections, subscriptions and messages refused", stats.refused)?;
    page.total("broker_dropped_total", "Messages to slow or leaving clients, dropped", stats.dropped)
}

/// One answer, in the making.
struct Page(Registry);

impl Page {
    fn one(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &[])?;
        gauge.get_metric_with_label_values::<&str>(&[])?.set(signed(value));
        self.put(gauge)
    }

    fn total(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounterVec::new(Opts::new(name, help), &[])?;
        counter.get_metric_with_label_values::<&str>(&[])?.inc_by(value);
        self.put(counter)
    }

    fn gauge(&self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> prometheus::Result<()> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
        for (of, value) in values {
            gauge.get_metric_with_label_values(&[*of])?.set(signed(*value));
        }
        self.put(gauge)
    }

    fn put(&self, metric: impl Collector + 'static) -> prometheus::Result<()> {
        self.0.register(Box::new(metric))
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
