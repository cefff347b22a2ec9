//! What the JSON Schema of a manifest is: made from the types, with what editors need on top.
//! The reader walks the same schema (`shape`), so what is published is what is taken.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::data::DataKind;
use crate::defaults;
use crate::id::Name;
use crate::quantity::{Bytes, Cpu, Duration, Percent};
use crate::run::ResourceLimits;
use crate::spec::{DataObject, Workload};

pub const API_VERSION: &str = "skerry/v1";
pub const KIND: &str = "Workload";

/// The JSON Schema (draft 2020-12) of one manifest document.
pub fn schema() -> Value {
    let kinds = DataKind::ALL.into_iter().map(data_schema);
    let kinds = std::iter::once(SCHEMA.clone()).chain(kinds).map(|mut schema| {
        schema.as_object_mut().map(|map| map.remove("$schema"));
        schema
    });
    json!({
        "$schema": SCHEMA["$schema"],
        "$id": "urn:skerry:v1:manifest",
        "title": "Skerry manifest",
        "oneOf": kinds.collect::<Vec<_>>(),
    })
}

pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = plain::<Workload>();
    add_defaults(&mut schema);
    head(schema, KIND, &["apiVersion", "kind", "metadata", "spec"])
});

pub(super) fn data_schema(kind: DataKind) -> Value {
    let mut schema = plain::<DataObject>();
    add_default(&mut schema, "/metadata/namespace", crate::spec::default_namespace().as_str());
    head(schema, kind.title(), &["apiVersion", "kind", "metadata"])
}

fn plain<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema, false);
    widen(&mut schema);
    schema
}

/// `apiVersion` and `kind` belong to the document, not to the type.
fn head(mut schema: Value, kind: &str, required: &[&str]) -> Value {
    let constant = |value: &str, text: &str| json!({"const": value, "type": "string", "description": text});
    let properties = &mut schema["properties"];
    properties["apiVersion"] = constant(API_VERSION, "The version of this format.");
    properties["kind"] = constant(kind, "What the document describes.");
    let name = kind.to_lowercase();
    schema["required"] = json!(required);
    schema["title"] = json!(format!("Skerry {name}"));
    schema["$id"] = json!(format!("urn:skerry:v1:{name}"));
    schema
}

/// Null is taken where a list, map or object may be left out (its lines are commented out), and
/// nowhere else. Defaults of the types (`[]`, `false`) tell nobody anything.
fn simplify(schema: &mut Value, may_be_absent: bool) {
    let Some(map) = schema.as_object_mut() else { return };
    map.remove("default");
    unwrap_option(map);
    if let Some(types) = map.get("type").and_then(Value::as_array) {
        let rest: Vec<Value> = types.iter().filter(|t| *t != "null").cloned().collect();
        map.insert("type".to_string(), if rest.len() == 1 { rest[0].clone() } else { json!(rest) });
    }
    if let Some(choices) = map.get_mut("enum").and_then(Value::as_array_mut) {
        choices.retain(|choice| !choice.is_null());
    }
    let container = map.get("type").is_some_and(|t| t == "object" || t == "array");
    if container && may_be_absent {
        let own = map["type"].clone();
        map.insert("type".to_string(), json!([own, "null"]));
    }
    let required: Vec<Value> = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, field) in properties {
            simplify(field, !required.contains(&json!(name)));
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            simplify(inner, false);
        }
    }
    for variant in map.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        simplify(variant, false);
    }
}

/// `anyOf: [X, null]` is X; what stands beside `anyOf` (the field's own text) wins.
fn unwrap_option(map: &mut serde_json::Map<String, Value>) {
    let Some(variants) = map.get("anyOf").and_then(Value::as_array) else { return };
    let some: Vec<Value> = variants.iter().filter(|v| v["type"] != "null").cloned().collect();
    if some.len() == variants.len() || some.len() != 1 {
        return;
    }
    map.remove("anyOf");
    for (key, value) in some[0].as_object().cloned().unwrap_or_default() {
        map.entry(key).or_insert(value);
    }
}

/// The reader keeps what is written wherever it wants text, so an editor must let `A: 1`, `- 80` and
/// `cpu: 1` pass.
fn widen(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    let one_of_words = map.contains_key("enum");
    let types = match map.get("format").and_then(Value::as_str) {
        None if !one_of_words => json!(["string", "number", "boolean"]),
        Some("cpu" | "bytes" | "name") => json!(["string", "number"]),
        _ => json!("string"),
    };
    if map.get("type").is_some_and(|t| t == "string") {
        map.insert("type".to_string(), types);
    }
    for (_, field) in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        widen(field);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            widen(inner);
        }
    }
    for variant in map.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        widen(variant);
    }
}

/// What holds when a field is absent, from where it is decided.
fn add_defaults(schema: &mut Value) {
    let limits = ResourceLimits::DEFAULT;
    let time = |ms| Duration { ms }.to_string();
    let defaults = [
        ("/metadata/namespace", crate::spec::default_namespace().to_string()),
        ("/spec/resources/cpu", Cpu { millis: limits.cpu_millis }.to_string()),
        ("/spec/resources/memory", Bytes(limits.memory_bytes).to_string()),
        ("/spec/resources/pids", limits.pids.to_string()),
        ("/spec/resources/storage", Bytes(limits.storage_bytes).to_string()),
        ("/spec/restartPolicy", "Always".to_string()),
        ("/spec/stop/signal", defaults::STOP_SIGNAL.to_string()),
        ("/spec/stop/grace", time(defaults::STOP_GRACE_MS)),
        ("/spec/rollout/healthyAfter", time(defaults::HEALTHY_AFTER_MS)),
        ("/spec/rollout/deadline", time(defaults::HEALTH_DEADLINE_MS)),
        ("/spec/network/mode", "none".to_string()),
    ];
    for (path, default) in defaults {
        add_default(schema, path, &default);
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        for (field, default) in [
            ("initialDelay", time(0)),
            ("period", time(defaults::PROBE_PERIOD_MS)),
            ("timeout", time(defaults::PROBE_TIMEOUT_MS)),
            ("successThreshold", defaults::PROBE_SUCCESS_THRESHOLD.to_string()),
            ("failureThreshold", defaults::PROBE_FAILURE_THRESHOLD.to_string()),
            ("httpGet/path", defaults::PROBE_PATH.to_string()),
            ("httpGet/host", defaults::PROBE_HOST.to_string()),
            ("httpGet/scheme", "HTTP".to_string()),
            ("tcp/host", defaults::PROBE_HOST.to_string()),
        ] {
            add_default(schema, &format!("/spec/{probe}/{field}"), &default);
        }
    }
}

fn add_default(schema: &mut Value, path: &str, default: &str) {
    let pointer = path.replace('/', "/properties/");
    let field = schema.pointer_mut(&pointer).expect("a default belongs to a field");
    let number = (field["type"] == "integer").then(|| default.parse::<u32>().ok()).flatten();
    field["default"] = number.map_or_else(|| json!(default), |n| json!(n));
}

/// Schemas of the types that travel as text; `format` names the type to the reader.
macro_rules! text_schema {
    ($($type:ident: $format:literal, $pattern:literal;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format, "pattern": $pattern})
            }
        }
    )*};
}

text_schema! {
    Name: "name", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
    Cpu: "cpu", "^[0-9]+(m|\\.[0-9]{1,3})?$";
    Bytes: "bytes", "^[0-9]+(Gi|Mi|Ki|G|M|k)?$";
    Duration: "duration", "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
    Percent: "percent", "^(100|[0-9]{1,2})%$";
}
