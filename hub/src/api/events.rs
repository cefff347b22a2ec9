//! What happened lately.

use axum::Json;
use axum::extract::State;
use hub_core::access::rights::{Kind, Verb};
use hub_core::view::{EventFilter, EventView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Asker;
use super::error::ApiError;
use super::extract::Q;
use super::workloads::{agent, workload};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    /// Only events above this number, oldest first. Without it: the newest.
    after: Option<u64>,
    /// At most so many; 100 when absent, 1000 at most.
    limit: Option<usize>,
    /// `<namespace>/<name>`, or a name in the namespace 'default'.
    workload: Option<String>,
    agent: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct EventList {
    /// Where `watch` may go on from.
    seq: u64,
    /// The newest event of all.
    newest: u64,
    items: Vec<EventView>,
}

pub async fn list(
    State(app): State<App>,
    asker: Asker,
    Q(query): Q<EventsQuery>,
) -> Result<Json<EventList>, ApiError> {
    let workload = query.workload.as_deref().map(|text| workload(text, None)).transpose()?;
    let within = Some(asker.sees(Verb::Get, Kind::Events));
    let filter = EventFilter { workload, agent: query.agent.as_deref().map(agent).transpose()?, within };
    let (after, limit) = (query.after, query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX));
    let ring = app.ring.clone();
    let list = app.hub.look(move |core, _| EventList {
        seq: ring.newest(),
        newest: core.newest_event(),
        items: core.events(after, limit, &filter),
    });
    Ok(Json(list.await?))
}
