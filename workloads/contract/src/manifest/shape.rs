//! What a manifest may look like, as the reader walks it: the JSON Schema, taken apart once.

use std::sync::LazyLock;

use serde_json::Value;

use super::schema::{SCHEMA, data_schema};
use crate::data::DataKind;

#[derive(Debug)]
pub(super) enum Shape {
    /// Kept, not looked at.
    Any,
    Text(Format),
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    Choice(Vec<String>),
    List(Box<Shape>),
    Map(Box<Shape>),
    Object(Vec<Field>),
    Either(Vec<Shape>),
}

/// Which type reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Free,
    Name,
    Cpu,
    Bytes,
    Duration,
    Percent,
}

#[derive(Debug)]
pub(super) struct Field {
    pub name: String,
    pub shape: Shape,
    pub required: bool,
    /// Null is the same as absent.
    pub nullable: bool,
    pub description: String,
    pub default: Option<String>,
}

/// Of a workload's whole document.
pub(super) static DOCUMENT: LazyLock<Shape> = LazyLock::new(|| Shape::of(&SCHEMA));

/// Of a Config or a Secret.
pub(super) fn data_document(kind: DataKind) -> &'static Shape {
    static CONFIG: LazyLock<Shape> = LazyLock::new(|| Shape::of(&data_schema(DataKind::Config)));
    static SECRET: LazyLock<Shape> = LazyLock::new(|| Shape::of(&data_schema(DataKind::Secret)));
    match kind {
        DataKind::Config => &CONFIG,
        DataKind::Secret => &SECRET,
    }
}

impl Shape {
    fn of(schema: &Value) -> Shape {
        if let Some(variants) = schema["anyOf"].as_array() {
            return Shape::Either(variants.iter().map(Shape::of).collect());
        }
        if let Some(choices) = choices(schema) {
            return Shape::Choice(choices);
        }
        if has_type(schema, "string") {
            return Shape::Text(Format::of(schema["format"].as_str()));
        }
        if has_type(schema, "integer") {
            return integer(schema);
        }
        if has_type(schema, "boolean") {
            return Shape::Boolean;
        }
        if has_type(schema, "array") {
            return Shape::List(Box::new(Shape::of(&schema["items"])));
        }
        if schema["properties"].is_object() {
            return object(schema);
        }
        if schema["additionalProperties"].is_object() {
            return Shape::Map(Box::new(Shape::of(&schema["additionalProperties"])));
        }
        Shape::Any
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// An object's fields; none for anything else.
    pub fn fields(&self) -> &[Field] {
        match self {
            Shape::Object(fields) => fields,
            _ => &[],
        }
    }

    /// For people: `list of map`.
    pub fn name(&self) -> String {
        match self {
            Shape::Any => "any".to_string(),
            Shape::Text(format) => format.name().to_string(),
            Shape::Integer { .. } => "whole number".to_string(),
            Shape::Boolean => "true or false".to_string(),
            Shape::Choice(choices) => or_list(choices),
            Shape::List(item) => format!("list of {}", item.name()),
            Shape::Map(value) => format!("map of {}", value.name()),
            Shape::Object(_) => "object".to_string(),
            Shape::Either(variants) => or_list(&variants.iter().map(Shape::either_name).collect::<Vec<_>>()),
        }
    }

    /// One of several objects is told by its required fields: `{secret, key}`.
    fn either_name(&self) -> String {
        match self {
            Shape::Object(fields) => {
                let names: Vec<&str> =
                    fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
                format!("{{{}}}", names.join(", "))
            }
            other => other.name(),
        }
    }
}

impl Format {
    fn of(format: Option<&str>) -> Format {
        match format {
            Some("name") => Format::Name,
            Some("cpu") => Format::Cpu,
            Some("bytes") => Format::Bytes,
            Some("duration") => Format::Duration,
            Some("percent") => Format::Percent,
            _ => Format::Free,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Free => "text",
            Format::Name => "name",
            Format::Cpu => "amount of cpu (250m)",
            Format::Bytes => "amount of bytes (64Mi)",
            Format::Duration => "duration (10s)",
            Format::Percent => "percentage (95%)",
        }
    }

    /// The type's own error, if `text` is none of it.
    pub fn check(self, text: &str) -> Result<(), String> {
        fn parses<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<(), String> {
            text.parse::<T>().map(drop).map_err(|e| e.to_string())
        }
        match self {
            Format::Free => Ok(()),
            Format::Name => parses::<crate::id::Name>(text),
            Format::Cpu => parses::<crate::quantity::Cpu>(text),
            Format::Bytes => parses::<crate::quantity::Bytes>(text),
            Format::Duration => parses::<crate::quantity::Duration>(text),
            Format::Percent => parses::<crate::quantity::Percent>(text),
        }
    }

    /// Some legal text: stands in for a wrong one while the rest is checked.
    pub fn sample(self) -> &'static str {
        match self {
            Format::Free | Format::Name => "x",
            Format::Cpu => "1",
            Format::Bytes => "1Gi",
            Format::Duration => "1s",
            Format::Percent => "1%",
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn or_list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(types) => types.iter().any(|t| t == name),
        one => one == name,
    }
}

fn choices(schema: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| value.as_str().map(str::to_string);
    if let Some(choices) = schema["enum"].as_array() {
        return choices.iter().map(one).collect();
    }
    one(&schema["const"]).map(|only| vec![only])
}

fn integer(schema: &Value) -> Shape {
    let (low, high) = match schema["format"].as_str() {
        Some("uint8") => (0, i64::from(u8::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint64" | "uint") => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    };
    let min = schema["minimum"].as_i64().unwrap_or(low).max(low);
    let max = schema["maximum"].as_i64().unwrap_or(high).min(high);
    Shape::Integer { min, max }
}

fn object(schema: &Value) -> Shape {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut fields: Vec<Field> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| Field {
            name: name.clone(),
            shape: Shape::of(field),
            required: required.contains(&name.as_str()),
            nullable: has_type(field, "null"),
            description: field["description"].as_str().unwrap_or_default().to_string(),
            default: default_text(&field["default"]),
        })
        .collect();
    fields.sort_by(|a, b| (!a.required, &a.name).cmp(&(!b.required, &b.name)));
    Shape::Object(fields)
}

fn default_text(default: &Value) -> Option<String> {
    match default {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
