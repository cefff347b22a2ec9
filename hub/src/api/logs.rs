//! Logs of instances, from their boards, as they come. Several instances are merged; each line says
//! whose it is. Nothing is kept at the hub: an agent that is away cannot be asked.

use std::collections::VecDeque;

use axum::extract::State;
use axum::response::Response;
use contract::message::{CommandOp, LogQuery, ReplyBody};
use contract::quantity::Duration;
use contract::time::{Millis, Now};
use contract::{AgentId, InstanceId};
use hub_core::Core;
use hub_core::access::rights::{Kind, Verb};
use hub_core::api::{Answer, Request};
use hub_core::view::InstanceFilter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::App;
use super::auth::Asker;
use super::error::{ApiError, accepted};
use super::extract::Q;
use super::lines::Lines;
use super::sse::{self, Closed, Feed};
use super::tickets::Ticket;
use super::workloads::Wanted;
use crate::serve::handle::{Exchange, Said};

/// Instances of one request: each holds a command at its agent, which takes 16.
const INSTANCES_MAX: usize = 64;
/// For what is there already.
const DEADLINE_MS: Millis = 60_000;
/// A `follow` ends by then, and the client asks again.
const FOLLOW_DEADLINE_MS: Millis = 12 * 3_600_000;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    namespace: Option<String>,
    /// A name within `namespace` (default when absent), or `<namespace>/<name>`.
    workload: Option<String>,
    slot: Option<u32>,
    agent: Option<String>,
    /// Labels of the workload: `k=v,k2!=v2,k3,!k4`.
    selector: Option<String>,
    /// The last n lines of each instance.
    tail: Option<u32>,
    /// Only lines younger than this: `10m`.
    since: Option<String>,
    /// Of the run before the present one.
    #[serde(default)]
    previous: bool,
    /// Stay, and send lines as they come.
    #[serde(default)]
    follow: bool,
}

/// `event: start`: how many instances will speak.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Start {
    pub sources: usize,
}

/// `event: line`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    pub instance: String,
    pub agent: String,
    pub text: String,
}

/// `event: error`: this instance has no (more) lines to give, and why. The others go on.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LogError {
    pub instance: String,
    pub agent: String,
    pub reason: String,
}

/// One instance on one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub instance: InstanceId,
    pub agent: AgentId,
}

pub async fn logs(
    State(app): State<App>,
    asker: Asker,
    Q(query): Q<LogsQuery>,
) -> Result<Response, ApiError> {
    let since = query.since.as_deref().map(|text| text.parse::<Duration>()).transpose();
    let since_ms = since.map_err(|e| ApiError::invalid(format!("since: {e}")))?.map(|since| since.ms);
    let (filter, slot) = (query.filter()?, query.slot);
    let mut sources = app.hub.look(move |core, now| sources(core, now, &filter, slot)).await?;
    let sees = asker.sees(Verb::Get, Kind::Logs);
    sources.retain(|source| sees.has(&source.instance.workload.namespace));
    if sources.is_empty() {
        return Err(ApiError::not_found("no instance matches; hub get instances lists them"));
    }
    if sources.len() > INSTANCES_MAX {
        let message = format!(
            "{} instances match; at most {INSTANCES_MAX} are asked at once: narrow it",
            sources.len()
        );
        return Err(ApiError::invalid(message));
    }
    let ask = move |source: &Source| LogQuery {
        instance: source.instance.clone(),
        tail: query.tail,
        since_ms,
        previous: query.previous,
        follow: query.follow,
    };
    let asked: VecDeque<(Source, LogQuery)> = sources.into_iter().map(|s| (s.clone(), ask(&s))).collect();
    Ok(sse::respond(asker.ended, move |feed| merge(app, feed, asked)))
}

impl LogsQuery {
    fn filter(&self) -> Result<InstanceFilter, ApiError> {
        let wanted = Wanted {
            namespace: self.namespace.clone(),
            workload: self.workload.clone(),
            selector: self.selector.clone(),
            agent: self.agent.clone(),
        };
        wanted.filter()
    }
}

/// What is leaving has lines too: often the ones that say why.
fn sources(core: &Core, now: Now, filter: &InstanceFilter, slot: Option<u32>) -> Vec<Source> {
    let views = core.instances(now, filter).into_iter();
    let wanted = views.filter(|view| slot.is_none_or(|slot| slot == view.instance.slot));
    wanted.map(|view| Source { instance: view.instance, agent: view.agent }).collect()
}

/// All at once; the client sees lines in the order in which they arrive.
async fn merge(app: App, feed: Feed, asked: VecDeque<(Source, LogQuery)>) -> Result<(), Closed> {
    feed.json("start", &Start { sources: asked.len() }).await?;
    let feed = std::sync::Arc::new(feed);
    let mut all = JoinSet::new();
    for (source, query) in asked {
        let (app, feed) = (app.clone(), std::sync::Arc::clone(&feed));
        all.spawn(async move {
            match one(&app, &feed, &source, query).await {
                Ok(()) => Ok(()),
                Err(End::Closed) => Err(Closed),
                Err(End::Reason(reason)) => {
                    let (instance, agent) = (source.instance.to_string(), source.agent.to_string());
                    feed.json("error", &LogError { instance, agent, reason }).await
                }
            }
        });
    }
    while let Some(ended) = all.join_next().await {
        ended.unwrap_or(Ok(()))?;
    }
    feed.json("end", &serde_json::json!({})).await
}

enum End {
    Closed,
    Reason(String),
}

impl From<Closed> for End {
    fn from(_: Closed) -> End {
        End::Closed
    }
}

impl From<ApiError> for End {
    fn from(e: ApiError) -> End {
        End::Reason(e.message)
    }
}

async fn one(app: &App, feed: &Feed, source: &Source, query: LogQuery) -> Result<(), End> {
    let mut ticket = app.tickets.issue()?;
    let deadline_ms = if query.follow { FOLLOW_DEADLINE_MS } else { DEADLINE_MS };
    let (agent, op) = (source.agent.clone(), CommandOp::Logs(query));
    let request = Request::Command { agent, op, deadline_ms, ticket: Some(ticket.path()) };
    let mut exchange = app.hub.open(request).map_err(|e| End::Reason(e.to_string()))?;
    let mut lines = Lines::default();
    loop {
        match heard(&mut exchange, &mut ticket).await? {
            Heard::Piece(text) => print(feed, source, lines.push(&text)).await?,
            Heard::Nothing => {}
            Heard::Done(error) => {
                // What was PUT before the last reply may still lie there.
                if let Ok(bytes) = ticket.result.try_recv() {
                    print(feed, source, lines.push(&String::from_utf8_lossy(&bytes))).await?;
                }
                print(feed, source, lines.finish()).await?;
                return error.map_or(Ok(()), |reason| Err(End::Reason(reason)));
            }
        }
    }
}

enum Heard {
    Piece(String),
    Nothing,
    Done(Option<String>),
}

/// The next reply, or the large result that comes by HTTP.
async fn heard(exchange: &mut Exchange, ticket: &mut Ticket) -> Result<Heard, End> {
    let put = !ticket.result.is_terminated();
    let said = tokio::select! {
        biased;
        Ok(bytes) = &mut ticket.result, if put => return Ok(Heard::Piece(String::from_utf8_lossy(&bytes).into_owned())),
        said = exchange.next() => said.map_err(|e| End::Reason(e.to_string()))?,
    };
    Ok(match said {
        None => Heard::Done(Some("the lines came faster than they were read".to_string())),
        Some(Said::Answer(answer)) => match accepted(answer)? {
            Answer::Accepted => Heard::Nothing,
            other => Heard::Done(Some(format!("unexpected answer {other:?}"))),
        },
        Some(Said::Reply(ReplyBody::Accepted) | Said::NoRoom(_)) => Heard::Nothing,
        Some(Said::Reply(ReplyBody::Refused { reason })) => Heard::Done(Some(reason)),
        Some(Said::Reply(ReplyBody::Progress { text })) => Heard::Piece(text),
        Some(Said::Reply(ReplyBody::Done { error })) => Heard::Done(error),
    })
}

async fn print(feed: &Feed, source: &Source, lines: impl IntoIterator<Item = String>) -> Result<(), Closed> {
    for text in lines {
        let (instance, agent) = (source.instance.to_string(), source.agent.to_string());
        feed.json("line", &Line { instance, agent, text }).await?;
    }
    Ok(())
}
