//! Every route of the API: what it is for, who may use it, what it takes and answers.

use axum::routing::{MethodRouter, delete, get, post, put};
use hub_core::api::Answer;
use hub_core::view::{AgentView, ArtifactView, Describe, StatusView, WorkloadView};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::error::ErrorBody;
use super::{
    App, agents, apply, artifacts, blobs, diff, events, fetches, logs, openapi, push, status, tickets, watch,
    workloads,
};

/// What stands in front of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Anybody on this machine.
    Open,
    /// The operators' token.
    Read,
    /// The token; an `Idempotency-Key` is honoured.
    Change,
    /// The token; a body of any size is streamed.
    Push,
    /// The address is the secret.
    Ticket,
}

type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// What is in a body.
#[derive(Clone, Copy)]
pub struct Content {
    pub media: &'static str,
    pub schema: Option<MakeSchema>,
}

pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    pub guard: Guard,
    pub query: Option<MakeSchema>,
    pub takes: Option<Content>,
    pub status: u16,
    pub answers: Option<Content>,
    pub handler: MethodRouter<App>,
    /// It may take as long as fetching images takes.
    pub fetches: bool,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn route(method: &'static str, path: &'static str, guard: Guard, handler: MethodRouter<App>) -> Route {
    let (query, takes, answers) = (None, None, None);
    Route { method, path, summary: "", guard, query, takes, status: 200, answers, handler, fetches: false }
}

impl Route {
    fn fetches(self) -> Route {
        Route { fetches: true, ..self }
    }

    fn says(self, summary: &'static str) -> Route {
        Route { summary, ..self }
    }

    fn query<T: JsonSchema>(self) -> Route {
        Route { query: Some(schema::<T>), ..self }
    }

    fn takes<T: JsonSchema>(self) -> Route {
        Route { takes: Some(Content { media: "application/json", schema: Some(schema::<T>) }), ..self }
    }

    fn takes_raw(self, media: &'static str) -> Route {
        Route { takes: Some(Content { media, schema: None }), ..self }
    }

    fn json<T: JsonSchema>(self) -> Route {
        Route { answers: Some(Content { media: "application/json", schema: Some(schema::<T>) }), ..self }
    }

    fn raw(self, media: &'static str) -> Route {
        Route { answers: Some(Content { media, schema: None }), ..self }
    }

    fn status(self, status: u16) -> Route {
        Route { status, ..self }
    }
}

/// The shape of every error.
pub fn error_schema(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<ErrorBody>()
}

pub const JSON_SCHEMA: &str = "application/schema+json";
const EVENT_STREAM: &str = "text/event-stream";
const YAML: &str = "application/yaml";
const BYTES: &str = "application/octet-stream";

/// The table.
pub fn all() -> Vec<Route> {
    let mut all = changing();
    all.extend(looking());
    all.extend(streaming());
    all.extend(open());
    all
}

fn changing() -> Vec<Route> {
    use Guard::{Change, Push};
    vec![
        route("POST", "/v1/apply", Change, post(apply::apply))
            .says("Make the fleet run what a manifest says: all of it or nothing")
            .fetches()
            .query::<apply::ApplyQuery>()
            .takes_raw(YAML)
            .json::<Answer>(),
        route("DELETE", "/v1/workloads/{namespace}/{name}", Change, delete(workloads::delete))
            .says("Stop a workload everywhere and forget it; honours If-Match")
            .json::<Answer>(),
        route("POST", "/v1/workloads/{namespace}/{name}/scale", Change, post(workloads::scale))
            .says("Change how many run; honours If-Match")
            .takes::<workloads::Scale>()
            .json::<Answer>(),
        route("POST", "/v1/workloads/{namespace}/{name}/restart", Change, post(workloads::restart))
            .says("Restart every instance; tries a revision again that fell back")
            .json::<Answer>(),
        route("DELETE", "/v1/agents/{agent}", Change, delete(agents::remove))
            .says("Forget an agent that is gone for good")
            .json::<Answer>(),
        route("DELETE", "/v1/artifacts/{reference}", Change, delete(artifacts::remove))
            .says("Remove an artefact by digest, or one tag of it by name:tag")
            .status(204),
        route("POST", "/v1/restore/accept", Change, post(status::accept_restore))
            .says("After a restore: go on from above everything the fleet has seen")
            .takes::<status::Accept>()
            .json::<Answer>(),
        route("POST", "/v1/artifacts", Push, post(push::push))
            .says("Push a WebAssembly module or component, or a container image: an OCI layout in a tar, or docker save")
            .query::<push::PushQuery>()
            .takes_raw(BYTES)
            .status(201)
            .json::<push::Pushed>(),
    ]
}

fn looking() -> Vec<Route> {
    use Guard::Read;
    vec![
        route("POST", "/v1/diff", Read, post(diff::diff))
            .says("What an apply would change, as text")
            .fetches()
            .query::<diff::DiffQuery>()
            .takes_raw(YAML)
            .json::<diff::Diffs>(),
        route("GET", "/v1/workloads", Read, get(workloads::list))
            .says("Workloads, and how far each is")
            .query::<workloads::ListQuery>()
            .json::<workloads::WorkloadList>(),
        route("GET", "/v1/workloads/{namespace}/{name}", Read, get(workloads::get))
            .says("One workload; its ETag is its version")
            .json::<WorkloadView>(),
        route("GET", "/v1/workloads/{namespace}/{name}/describe", Read, get(workloads::describe))
            .says("Everything about one workload: where it runs, where not and why, and what happened")
            .json::<Describe>(),
        route("GET", "/v1/instances", Read, get(workloads::instances))
            .says("Running copies, as their agents last told, and how sure that is")
            .query::<workloads::Wanted>()
            .json::<workloads::InstanceList>(),
        route("GET", "/v1/agents", Read, get(agents::list))
            .says("The fleet")
            .query::<agents::AgentsQuery>()
            .json::<agents::AgentList>(),
        route("GET", "/v1/agents/{agent}", Read, get(agents::get)).says("One agent").json::<AgentView>(),
        route("GET", "/v1/artifacts", Read, get(artifacts::list))
            .says("What was pushed, and for whom it is compiled")
            .json::<artifacts::ArtifactList>(),
        route("GET", "/v1/artifacts/{reference}", Read, get(artifacts::get))
            .says("One artefact, by digest or name:tag")
            .json::<ArtifactView>(),
        route("GET", "/v1/events", Read, get(events::list))
            .says("What happened lately")
            .query::<events::EventsQuery>()
            .json::<events::EventList>(),
        route("GET", "/v1/status", Read, get(status::status)).says("The hub itself").json::<StatusView>(),
        route("GET", "/v1/schema", Read, get(apply::schema))
            .says("The JSON Schema of a manifest")
            .raw(JSON_SCHEMA),
    ]
}

fn streaming() -> Vec<Route> {
    use Guard::Read;
    vec![
        route("GET", "/v1/watch", Read, get(watch::watch))
            .says("Changes as they happen: events ready, change and gone; resumes by Last-Event-ID")
            .query::<watch::WatchQuery>()
            .raw(EVENT_STREAM),
        route("GET", "/v1/fetches", Read, get(fetches::watch))
            .says("Images on their way from other registries: an event 'fetches' with all of them whenever one moves")
            .raw(EVENT_STREAM),
        route("GET", "/v1/logs", Read, get(logs::logs))
            .says("Lines of instances, from their boards: events line, error and end")
            .query::<logs::LogsQuery>()
            .raw(EVENT_STREAM),
    ]
}

fn open() -> Vec<Route> {
    use Guard::{Open, Ticket};
    vec![
        route("GET HEAD", "/v1/blobs/{digest}", Open, get(blobs::get))
            .says("The bytes under a digest, or one range of them")
            .raw(BYTES),
        route("GET", "/v1/blobs/{digest}/statement", Open, get(blobs::statement))
            .says("What the hub states about compiled code, signed")
            .query::<blobs::StatementQuery>()
            .raw("application/json"),
        route("PUT", "/v1/tickets/{ticket}", Ticket, put(tickets::put))
            .says("Where an agent puts a result that is too large for a message")
            .takes_raw("text/plain")
            .status(204),
        route("GET", "/v1/openapi.json", Open, get(openapi::get))
            .says("This document")
            .raw("application/json"),
        route("GET", "/healthz", Open, get(status::healthz))
            .says("Whether the hub is alive")
            .raw("text/plain"),
    ]
}
