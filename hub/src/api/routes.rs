//! Every route of the API: what it is for, who may use it, what it takes and answers.

use axum::routing::{MethodRouter, delete, get, post, put};
use contract::spec::DataObject;
use hub_core::access::Namespace;
use hub_core::access::rights::{Kind, Role, Verb};
use hub_core::api::Answer;
use hub_core::data::DataView;
use hub_core::view::{AgentView, ArtifactView, Describe, StatusView, WorkloadView};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::auth::{Need, Scope};
use super::error::ErrorBody;
use super::{
    App, access, agents, apply, artifacts, audit, blobs, data, diff, events, fetches, join, logs, metrics,
    namespaces, openapi, push, session, status, tickets, trust, watch, workloads,
};

/// What stands in front of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Anybody who can connect.
    Open,
    /// A board's certificate; in plain, which is on this machine only, anybody.
    Agent,
    /// An operator's token that may (`Route::need`).
    Read,
    /// The same; an `Idempotency-Key` is honoured.
    Change,
    /// The same; a body of any size is streamed.
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
    /// None behind a guard that asks: nobody may.
    pub need: Option<Need>,
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
    let (need, summary, status, fetches) = (None, "", 200, false);
    Route { method, path, summary, guard, need, query, takes, status, answers, handler, fetches }
}

impl Route {
    /// What whoever asks must be allowed to do.
    fn needs(self, verb: Verb, kind: Kind, scope: Scope) -> Route {
        Route { need: Some(Need { verb, kind, scope }), ..self }
    }

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
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// The table.
pub fn all() -> Vec<Route> {
    let mut all = changing();
    all.extend(looking());
    all.extend(objects());
    all.extend(trusting());
    all.extend(operators());
    all.extend(streaming());
    all.extend(open());
    all
}

fn changing() -> Vec<Route> {
    use Guard::{Change, Push};
    vec![
        route("POST", "/v1/apply", Change, post(apply::apply))
            .needs(Verb::Apply, Kind::Workloads, Scope::Parts)
            .says("Make the fleet run what a manifest says: all of it or nothing")
            .fetches()
            .query::<apply::ApplyQuery>()
            .takes_raw(YAML)
            .json::<Answer>(),
        route("DELETE", "/v1/workloads/{namespace}/{name}", Change, delete(workloads::delete))
            .needs(Verb::Delete, Kind::Workloads, Scope::Path)
            .says("Stop a workload everywhere and forget it; honours If-Match")
            .json::<Answer>(),
        route("POST", "/v1/workloads/{namespace}/{name}/scale", Change, post(workloads::scale))
            .needs(Verb::Apply, Kind::Workloads, Scope::Path)
            .says("Change how many run; honours If-Match")
            .takes::<workloads::Scale>()
            .json::<Answer>(),
        route("POST", "/v1/workloads/{namespace}/{name}/restart", Change, post(workloads::restart))
            .needs(Verb::Apply, Kind::Workloads, Scope::Path)
            .says("Restart every instance; tries a revision again that fell back")
            .json::<Answer>(),
        route("POST", "/v1/agents", Change, post(agents::change))
            .needs(Verb::Apply, Kind::Agents, Scope::Hub)
            .says("Label, taint, cordon or drain agents: all that are named, or none")
            .takes::<agents::ChangeAgents>()
            .json::<Answer>(),
        route("DELETE", "/v1/agents/{agent}", Change, delete(agents::remove))
            .needs(Verb::Delete, Kind::Agents, Scope::Hub)
            .says("Forget an agent that is gone for good")
            .json::<Answer>(),
        route("DELETE", "/v1/artifacts/{reference}", Change, delete(artifacts::remove))
            .needs(Verb::Delete, Kind::Artifacts, Scope::Parts)
            .says("Remove an artefact by digest, or one tag of it by name:tag")
            .status(204),
        route("POST", "/v1/restore/accept", Change, post(status::accept_restore))
            .needs(Verb::Apply, Kind::Hub, Scope::Hub)
            .says("After a restore: go on from above everything the fleet has seen")
            .takes::<status::Accept>()
            .json::<Answer>(),
        route("POST", "/v1/artifacts", Push, post(push::push))
            .needs(Verb::Apply, Kind::Artifacts, Scope::Parts)
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
            .needs(Verb::Get, Kind::Workloads, Scope::Parts)
            .says("What an apply would change, as text")
            .fetches()
            .query::<diff::DiffQuery>()
            .takes_raw(YAML)
            .json::<diff::Diffs>(),
        route("GET", "/v1/workloads", Read, get(workloads::list))
            .needs(Verb::Get, Kind::Workloads, Scope::Parts)
            .says("Workloads, and how far each is")
            .query::<workloads::ListQuery>()
            .json::<workloads::WorkloadList>(),
        route("GET", "/v1/workloads/{namespace}/{name}", Read, get(workloads::get))
            .needs(Verb::Get, Kind::Workloads, Scope::Path)
            .says("One workload; its ETag is its version")
            .json::<WorkloadView>(),
        route("GET", "/v1/workloads/{namespace}/{name}/describe", Read, get(workloads::describe))
            .needs(Verb::Get, Kind::Workloads, Scope::Path)
            .says("Everything about one workload: where it runs, where not and why, and what happened")
            .json::<Describe>(),
        route("GET", "/v1/instances", Read, get(workloads::instances))
            .needs(Verb::Get, Kind::Workloads, Scope::Parts)
            .says("Running copies, as their agents last told, and how sure that is")
            .query::<workloads::Wanted>()
            .json::<workloads::InstanceList>(),
        route("GET", "/v1/agents", Read, get(agents::list))
            .needs(Verb::Get, Kind::Agents, Scope::Hub)
            .says("The fleet, in pages")
            .query::<agents::AgentsQuery>()
            .json::<agents::AgentList>(),
        route("GET", "/v1/fleet", Read, get(agents::fleet))
            .needs(Verb::Get, Kind::Agents, Scope::Hub)
            .says("How many agents there are, by a label and by state")
            .query::<agents::FleetQuery>()
            .json::<agents::Fleet>(),
        route("GET", "/v1/agents/{agent}", Read, get(agents::get))
            .needs(Verb::Get, Kind::Agents, Scope::Hub)
            .says("One agent")
            .json::<AgentView>(),
        route("GET", "/v1/artifacts", Read, get(artifacts::list))
            .needs(Verb::Get, Kind::Artifacts, Scope::Parts)
            .says("What was pushed, and for whom it is compiled")
            .json::<artifacts::ArtifactList>(),
        route("GET", "/v1/artifacts/{reference}", Read, get(artifacts::get))
            .needs(Verb::Get, Kind::Artifacts, Scope::Parts)
            .says("One artefact, by digest or name:tag")
            .json::<ArtifactView>(),
        route("GET", "/v1/events", Read, get(events::list))
            .needs(Verb::Get, Kind::Events, Scope::Parts)
            .says("What happened lately")
            .query::<events::EventsQuery>()
            .json::<events::EventList>(),
        route("GET", "/v1/status", Read, get(status::status))
            .needs(Verb::Get, Kind::Hub, Scope::Hub)
            .says("The hub itself")
            .json::<StatusView>(),
        route("GET", "/metrics", Read, get(metrics::metrics))
            .needs(Verb::Get, Kind::Hub, Scope::Hub)
            .says("The fleet and the hub in numbers, for Prometheus")
            .raw("text/plain; version=0.0.4"),
        route("GET", "/v1/schema", Read, get(apply::schema))
            .needs(Verb::Get, Kind::Hub, Scope::Own)
            .says("The JSON Schema of a manifest")
            .raw(JSON_SCHEMA),
    ]
}

/// Configs and Secrets.
fn objects() -> Vec<Route> {
    use Guard::{Change, Read};
    vec![
        route("GET", "/v1/configs", Read, get(data::configs))
            .needs(Verb::Get, Kind::Configs, Scope::Parts)
            .says("Configs, without their values, and who uses them")
            .query::<workloads::ListQuery>()
            .json::<data::DataList>(),
        route("GET", "/v1/configs/{namespace}/{name}", Read, get(data::config))
            .needs(Verb::Get, Kind::Configs, Scope::Path)
            .says("One Config, without its values; its ETag is its version")
            .json::<DataView>(),
        route("GET", "/v1/configs/{namespace}/{name}/data", Read, get(data::config_data))
            .needs(Verb::Get, Kind::Configs, Scope::Path)
            .says("The same with its values, as it would be applied")
            .json::<DataObject>(),
        route("DELETE", "/v1/configs/{namespace}/{name}", Change, delete(data::delete_config))
            .needs(Verb::Delete, Kind::Configs, Scope::Path)
            .says("Delete a Config that no workload names; honours If-Match")
            .json::<Answer>(),
        route("GET", "/v1/secrets", Read, get(data::secrets))
            .needs(Verb::Get, Kind::Secrets, Scope::Parts)
            .says("Secrets, without their values, and who uses them")
            .query::<workloads::ListQuery>()
            .json::<data::DataList>(),
        route("GET", "/v1/secrets/{namespace}/{name}", Read, get(data::secret))
            .needs(Verb::Get, Kind::Secrets, Scope::Path)
            .says("One Secret, without its values; its ETag is its version")
            .json::<DataView>(),
        route("POST", "/v1/secrets/{namespace}/{name}/reveal", Read, post(data::reveal))
            .needs(Verb::Reveal, Kind::Secrets, Scope::Path)
            .says("A Secret with its values: a right of its own, and noted in the audit log")
            .json::<DataObject>(),
        route("DELETE", "/v1/secrets/{namespace}/{name}", Change, delete(data::delete_secret))
            .needs(Verb::Delete, Kind::Secrets, Scope::Path)
            .says("Delete a Secret that no workload names; honours If-Match")
            .json::<Answer>(),
    ]
}

fn trusting() -> Vec<Route> {
    use Guard::{Change, Read};
    vec![
        route("POST", "/v1/join-tokens", Change, post(trust::make_token))
            .needs(Verb::Apply, Kind::JoinTokens, Scope::Hub)
            .says("Make a token with which boards join; it is shown this once")
            .takes::<trust::NewToken>()
            .json::<trust::MadeToken>(),
        route("GET", "/v1/join-tokens", Read, get(trust::tokens))
            .needs(Verb::Get, Kind::JoinTokens, Scope::Hub)
            .says("Join tokens, without their secrets")
            .json::<trust::TokenList>(),
        route("DELETE", "/v1/join-tokens/{name}", Change, delete(trust::revoke_token))
            .needs(Verb::Delete, Kind::JoinTokens, Scope::Hub)
            .says("Let nobody join with this token any more; boards that have joined stay")
            .json::<Answer>(),
        route("GET", "/v1/identities", Read, get(trust::identities))
            .needs(Verb::Get, Kind::Identities, Scope::Hub)
            .says("Boards that have joined, and how each stands")
            .json::<trust::IdentityList>(),
        route("POST", "/v1/identities/approve", Change, post(trust::approve))
            .needs(Verb::Apply, Kind::Identities, Scope::Hub)
            .says("Let boards in that wait: by name, or all with these labels")
            .takes::<trust::Choose>()
            .json::<Answer>(),
        route("POST", "/v1/identities/revoke", Change, post(trust::revoke))
            .needs(Verb::Delete, Kind::Identities, Scope::Hub)
            .says("Let boards in no more; what they run goes on")
            .takes::<trust::Named>()
            .json::<Answer>(),
        route("POST", "/v1/identities/decommission", Change, post(trust::decommission))
            .needs(Verb::Delete, Kind::Identities, Scope::Hub)
            .says("The same, and each wipes itself when it next asks")
            .takes::<trust::Named>()
            .json::<Answer>(),
        route("POST", "/v1/identities/replace", Change, post(trust::replace))
            .needs(Verb::Delete, Kind::Identities, Scope::Hub)
            .says("One board takes another's labels, and with them its work; the other is let in no more")
            .takes::<trust::Replace>()
            .json::<Answer>(),
        route("POST", "/v1/identities/import", Change, post(trust::import))
            .needs(Verb::Apply, Kind::Identities, Scope::Hub)
            .says("Boards that are expected: names and labels by serial number, MAC address or machine id")
            .takes::<trust::Import>()
            .json::<Answer>(),
    ]
}

fn operators() -> Vec<Route> {
    use Guard::{Change, Read};
    vec![
        route("GET", "/v1/whoami", Read, get(access::whoami))
            .needs(Verb::Get, Kind::Tokens, Scope::Own)
            .says("Whose the token is that is shown, and what it may do")
            .json::<access::WhoAmI>(),
        route("POST", "/v1/tokens", Change, post(access::make_token))
            .needs(Verb::Apply, Kind::Tokens, Scope::Hub)
            .says("Make a token for an operator or a program; it is shown this once")
            .takes::<access::NewToken>()
            .json::<access::MadeToken>(),
        route("GET", "/v1/tokens", Read, get(access::tokens))
            .needs(Verb::Get, Kind::Tokens, Scope::Hub)
            .says("Operators' tokens, without their secrets")
            .json::<access::TokenList>(),
        route("POST", "/v1/tokens/{name}/grant", Change, post(access::grant))
            .needs(Verb::Apply, Kind::Tokens, Scope::Hub)
            .says("Give a token these roles and namespaces instead of those that it has")
            .takes::<access::Grant>()
            .json::<Answer>(),
        route("DELETE", "/v1/tokens/{name}", Change, delete(access::revoke_token))
            .needs(Verb::Delete, Kind::Tokens, Scope::Hub)
            .says("Let nobody in with this token any more; streams that it opened end")
            .json::<Answer>(),
        route("GET", "/v1/roles", Read, get(access::roles))
            .needs(Verb::Get, Kind::Roles, Scope::Hub)
            .says("Roles: those that every hub has, and this hub's own")
            .json::<access::RoleList>(),
        route("PUT", "/v1/roles/{name}", Change, put(access::put_role))
            .needs(Verb::Apply, Kind::Roles, Scope::Hub)
            .says("Make or change a role; tokens that have it follow at once")
            .takes::<Role>()
            .json::<Answer>(),
        route("DELETE", "/v1/roles/{name}", Change, delete(access::drop_role))
            .needs(Verb::Delete, Kind::Roles, Scope::Hub)
            .says("Remove a role that no token has")
            .json::<Answer>(),
        route("GET", "/v1/namespaces", Read, get(namespaces::list))
            .needs(Verb::Get, Kind::Namespaces, Scope::Parts)
            .says("Namespaces: what each takes, how much it may take, and what may not run in it")
            .json::<namespaces::NamespaceList>(),
        route("PUT", "/v1/namespaces/{name}", Change, put(namespaces::put))
            .needs(Verb::Apply, Kind::Namespaces, Scope::Hub)
            .says("Say how much a namespace may take, and what may not run in it")
            .takes::<Namespace>()
            .json::<Answer>(),
        route("DELETE", "/v1/namespaces/{name}", Change, delete(namespaces::remove))
            .needs(Verb::Delete, Kind::Namespaces, Scope::Hub)
            .says("Let a namespace take what it likes; what is in it stays")
            .json::<Answer>(),
        route("GET", "/v1/audit", Read, get(audit::list))
            .needs(Verb::Get, Kind::Audit, Scope::Hub)
            .says("Who did what, when, from where, and how it ended")
            .query::<audit::AuditQuery>()
            .json::<audit::AuditList>(),
    ]
}

fn streaming() -> Vec<Route> {
    use Guard::Read;
    vec![
        route("GET", "/v1/watch", Read, get(watch::watch))
            .needs(Verb::Get, Kind::Workloads, Scope::Parts)
            .says("Changes as they happen: events ready, change and gone; resumes by Last-Event-ID")
            .query::<watch::WatchQuery>()
            .raw(EVENT_STREAM),
        route("GET", "/v1/fetches", Read, get(fetches::watch))
            .needs(Verb::Get, Kind::Artifacts, Scope::Hub)
            .says("Images on their way from other registries: an event 'fetches' with all of them whenever one moves")
            .raw(EVENT_STREAM),
        route("GET", "/v1/logs", Read, get(logs::logs))
            .needs(Verb::Get, Kind::Logs, Scope::Parts)
            .says("Lines of instances, from their boards: events line, error and end")
            .query::<logs::LogsQuery>()
            .raw(EVENT_STREAM),
        route("POST", "/v1/sessions", Read, post(session::open))
            .needs(Verb::Exec, Kind::Workloads, Scope::Parts)
            .says("A further command in a container, or files into it or out of it: an Upgrade to skerry-session-1")
            .takes::<session::Ask>()
            .status(101),
    ]
}

fn open() -> Vec<Route> {
    use Guard::{Agent, Open, Ticket};
    vec![
        route("POST", "/v1/join", Open, post(join::join))
            .says("A board joins with a token and gets its certificate, or waits to be approved")
            .takes_raw(JSON)
            .raw(JSON),
        route("POST", "/v1/renew", Open, post(join::renew))
            .says("A board gets a new certificate for the key of the one it shows")
            .takes_raw(JSON)
            .raw(JSON),
        route("GET", "/v1/standing", Open, get(join::standing))
            .says("How the board whose certificate is shown stands with this hub, signed")
            .raw(JSON),
        route("GET", "/v1/ca", Open, get(join::ca))
            .says("The CA's certificate")
            .raw("application/x-pem-file"),
        route("GET HEAD", "/v1/blobs/{digest}", Agent, get(blobs::get))
            .needs(Verb::Get, Kind::Artifacts, Scope::Hub)
            .says("The bytes under a digest, or one range of them")
            .raw(BYTES),
        route("GET", "/v1/blobs/{digest}/statement", Agent, get(blobs::statement))
            .needs(Verb::Get, Kind::Artifacts, Scope::Hub)
            .says("What the hub states about compiled code, signed")
            .query::<blobs::StatementQuery>()
            .raw("application/json"),
        route("POST", "/v1/sealed/{digest}", Agent, post(data::sealed))
            .says("A Secret's content, sealed to the key of the board that asks and runs with it, signed")
            .query::<data::SealQuery>()
            .takes_raw(JSON)
            .raw(JSON),
        route("PUT", "/v1/tickets/{ticket}", Ticket, put(tickets::put))
            .says("Where an agent puts a result that is too large for a message")
            .takes_raw("text/plain")
            .status(204),
        route("GET", "/v1/sessions/{ticket}", Agent, get(session::join))
            .needs(Verb::Exec, Kind::Workloads, Scope::Hub)
            .says("Where an agent takes up its end of a session, by the same Upgrade")
            .status(101),
        route("GET", "/v1/openapi.json", Open, get(openapi::get))
            .says("This document")
            .raw("application/json"),
        route("GET", "/healthz", Open, get(status::healthz))
            .says("Whether the hub is alive")
            .raw("text/plain"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route is refused to everybody until it says here what it needs.
    #[test]
    fn every_route_that_asks_says_for_what() {
        for route in all() {
            let (method, path) = (route.method, route.path);
            // What is for boards alone needs no right: no operator has it.
            let asks = !matches!(route.guard, Guard::Open | Guard::Ticket);
            let boards = route.guard == Guard::Agent && route.need.is_none();
            assert!(boards || asks == route.need.is_some(), "{method} {path}: add .needs(…), or Guard::Open");
            let Some(need) = route.need else { continue };
            let named = path.contains("{namespace}");
            assert_eq!(
                named,
                need.scope == Scope::Path,
                "{method} {path}: a namespace in the path is asked about"
            );
            let changes = matches!(route.guard, Guard::Change | Guard::Push);
            assert!(
                !changes || need.verb != Verb::Get,
                "{method} {path}: what changes something is written down"
            );
        }
    }
}
