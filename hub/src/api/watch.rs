//! Changes as they happen. A watcher is told *that* something changed and shown what it is now: one
//! that is slow sees the newest state of each thing, not every state between.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use contract::WorkloadKey;
use contract::time::Now;
use hub_core::Core;
use hub_core::access::rights::{Grants, Kind, Place, Verb};
use hub_core::api::Change;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::App;
use super::auth::Asker;
use super::error::ApiError;
use super::extract::Q;
use super::sse::{self, Closed, Feed};

/// Changes looked up in one go: bounds how long the loop is held for one watcher.
const PAGE_MAX: usize = 64;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchQuery {
    /// Resume after this number; `Last-Event-ID` goes before it. Without both: from now on.
    after: Option<u64>,
    /// Of workload, agent, event and artifact; all when absent.
    kinds: Option<String>,
}

/// One change and what the thing is now; null when it is gone.
#[derive(Serialize, JsonSchema)]
pub struct Changed {
    seq: u64,
    change: Change,
    object: Value,
}

/// `ready` (first) and `gone` (last): where the ring is.
#[derive(Serialize, JsonSchema)]
pub struct At {
    seq: u64,
}

pub async fn watch(
    State(app): State<App>,
    asker: Asker,
    Q(query): Q<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let kinds = query.kinds.as_deref().map(kinds).transpose()?;
    let resumed = headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.parse().ok()));
    let after = match resumed {
        Some(None) => return Err(ApiError::invalid("Last-Event-ID is not a number of this hub")),
        Some(Some(seq)) => seq,
        None => query.after.unwrap_or_else(|| app.ring.newest()),
    };
    let wanted = Wanted { kinds, grants: asker.grants };
    Ok(sse::respond(asker.ended, move |feed| follow(app, feed, after, wanted)))
}

/// What somebody wants to see of it all, and may.
struct Wanted {
    kinds: Option<BTreeSet<String>>,
    grants: Grants,
}

impl Wanted {
    fn may_see(&self, changed: &Changed) -> bool {
        let may = |kind, place| self.grants.may(Verb::Get, kind, place);
        match &changed.change {
            Change::Workload { workload } => may(Kind::Workloads, Place::In(&workload.namespace)),
            Change::Agent { .. } => may(Kind::Agents, Place::Hub),
            Change::Artifact { .. } => may(Kind::Artifacts, Place::Hub),
            Change::Event { .. } => {
                let workload = changed.object["workload"].as_str().map(str::parse::<WorkloadKey>);
                match workload {
                    Some(Ok(key)) => may(Kind::Events, Place::In(&key.namespace)),
                    _ => may(Kind::Events, Place::Somewhere),
                }
            }
        }
    }
}

async fn follow(app: App, feed: Feed, mut after: u64, wanted: Wanted) -> Result<(), Closed> {
    let mut newest = app.ring.subscribe();
    if app.ring.after(after, 0).is_err() {
        return gone(&app, &feed).await;
    }
    feed.send(numbered("ready", after, &At { seq: after })).await?;
    loop {
        newest.mark_unchanged();
        let Ok(page) = app.ring.after(after, PAGE_MAX) else { return gone(&app, &feed).await };
        let Some((last, _)) = page.last() else {
            if newest.changed().await.is_err() {
                return Ok(());
            }
            continue;
        };
        after = *last;
        let page = newest_of_each(page, wanted.kinds.as_ref());
        let Ok(seen) = app.hub.look(move |core, now| look(core, now, page)).await else { return Ok(()) };
        for changed in seen.into_iter().filter(|changed| wanted.may_see(changed)) {
            feed.send(numbered("change", changed.seq, &changed)).await?;
        }
    }
}

async fn gone(app: &App, feed: &Feed) -> Result<(), Closed> {
    let seq = app.ring.newest();
    feed.send(numbered("gone", seq, &At { seq })).await
}

fn numbered(name: &str, seq: u64, data: &impl Serialize) -> Event {
    sse::event(name, data).id(seq.to_string())
}

fn look(core: &Core, now: Now, page: Vec<(u64, Change)>) -> Vec<Changed> {
    let one = |(seq, change): (u64, Change)| Changed { seq, object: object(core, now, &change), change };
    page.into_iter().map(one).collect()
}

/// What it is now; null when it is gone.
fn object(core: &Core, now: Now, change: &Change) -> Value {
    let object = match change {
        Change::Workload { workload } => core.workload(workload).map(serde_json::to_value),
        Change::Agent { agent } => core.agent(now, agent).map(serde_json::to_value),
        Change::Artifact { digest } => core.artifact(&digest.to_string()).map(serde_json::to_value),
        Change::Event { seq } => core.event(*seq).map(serde_json::to_value),
    };
    object.map_or(Value::Null, |view| view.expect("views have only string keys"))
}

/// Within a page the last change of each thing tells all.
fn newest_of_each(page: Vec<(u64, Change)>, kinds: Option<&BTreeSet<String>>) -> Vec<(u64, Change)> {
    let wanted = |change: &Change| kinds.is_none_or(|kinds| kinds.contains(kind(change)));
    let mut kept: Vec<(u64, Change)> = Vec::new();
    for (seq, change) in page.into_iter().rev() {
        if wanted(&change) && !kept.iter().any(|(_, later)| *later == change) {
            kept.push((seq, change));
        }
    }
    kept.reverse();
    kept
}

const KINDS: [&str; 4] = ["workload", "agent", "artifact", "event"];

fn kind(change: &Change) -> &'static str {
    match change {
        Change::Workload { .. } => KINDS[0],
        Change::Agent { .. } => KINDS[1],
        Change::Artifact { .. } => KINDS[2],
        Change::Event { .. } => KINDS[3],
    }
}

fn kinds(text: &str) -> Result<BTreeSet<String>, ApiError> {
    let known = |kind: &str| KINDS.contains(&kind);
    match text.split(',').find(|kind| !known(kind)) {
        Some(other) => {
            Err(ApiError::invalid(format!("kinds: no kind '{other}'; there are {}", KINDS.join(", "))))
        }
        None => Ok(text.split(',').map(str::to_string).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_each_thing_once_in_order() {
        let workload = |name: &str| Change::Workload { workload: name.parse().unwrap() };
        let page = vec![
            (1, workload("a/a")),
            (2, Change::Event { seq: 7 }),
            (3, workload("a/b")),
            (4, workload("a/a")),
        ];
        let all: Vec<u64> = newest_of_each(page.clone(), None).iter().map(|(seq, _)| *seq).collect();
        assert_eq!(all, [2, 3, 4]);
        let some = newest_of_each(page, Some(&kinds("workload,agent").unwrap()));
        assert_eq!(some.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3, 4]);
        assert!(kinds("workloads").is_err() && kinds("").is_err());
    }
}
