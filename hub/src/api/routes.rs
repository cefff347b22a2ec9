//! Every route of the API: what it is for, who may use it, what it takes and answers.

use axum::routing::{MethodRouter, delete, get, post, put};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::error::ErrorBody;
use super::{
    App, agents, apply, artifacts, blobs, diff, events, logs, openapi, status, tickets, watch, workloads,
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
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn route(method: &'static str, path: &'static str, guard: Guard, handler: MethodRouter<App>) -> Route {
    Route { method, path, summary: "", guard, query: None, takes: None, status: 200, answers: None, handler }
}

impl Route {
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
