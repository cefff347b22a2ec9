//! How the types that travel as text look to a JSON Schema.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::digest::{Digest, RevisionId};
use crate::id::{AgentId, BoardId, InstanceId, Lineage, WorkloadKey};

macro_rules! text_schema {
    ($($type:ident: $pattern:literal;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern})
            }
        }
    )*};
}

text_schema! {
    Digest: "^sha256:[0-9a-f]{64}$";
    RevisionId: "^sha256:[0-9a-f]{64}$";
    AgentId: "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    WorkloadKey: "^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}$";
    InstanceId: "^[a-z0-9-]{1,63}/[a-z0-9-]{1,63}/[0-9]{1,10}$";
    Lineage: "^[0-9a-f]{32}$";
    BoardId: "^[0-9a-f]{32}$";
}
