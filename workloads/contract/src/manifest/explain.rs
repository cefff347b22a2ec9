//! What a field means: `explain workload.spec.mounts`, from the same schema that reading walks.

use std::fmt;

use serde::Serialize;

use super::shape::{DOCUMENT, Field, Shape, data_document};
use super::suggest;
use crate::data::DataKind;
use crate::field;

/// A field, told to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub path: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<ExplainedField>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedField {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    pub description: String,
}

/// The field at `path`: `workload.spec.mounts`, `spec.mounts[0].path` or `workload` alone. The error
/// says what is not known and what would be.
pub fn explain(path: &str) -> Result<Explanation, String> {
    let mut parts = path.split('.').map(without_index).peekable();
    let named = |word: &str| parts_name(path).is_some_and(|first| first.eq_ignore_ascii_case(word));
    let data = DataKind::ALL.into_iter().find(|kind| named(kind.word()));
    if data.is_some() || named("workload") {
        parts.next();
    }
    let mut at = data.map_or("workload", DataKind::word).to_string();
    let about = about(data);
    let (mut shape, mut field): (&'static Shape, Option<&'static Field>) =
        (data.map_or(&DOCUMENT, data_document), None);
    for part in parts {
        let all = fields(shape);
        let Some(found) = all.iter().copied().find(|field| field.name == part) else {
            return Err(unknown(&at, part, &all));
        };
        at = field::key(&at, &found.name);
        (shape, field) = (&found.shape, Some(found));
    }
    let described = fields(shape);
    Ok(Explanation {
        path: at,
        kind: shape.name(),
        required: field.is_none_or(|field| field.required),
        default: field.and_then(|field| field.default.clone()),
        description: field.map_or(about, |field| field.description.clone()),
        fields: described.into_iter().map(explained).collect(),
    })
}

fn parts_name(path: &str) -> Option<&str> {
    path.split('.').next()
}

fn about(data: Option<DataKind>) -> String {
    let text = |schema: &serde_json::Value| schema["description"].as_str().unwrap_or_default().to_string();
    data.map_or_else(|| text(&super::schema::SCHEMA), |kind| text(&super::schema::data_schema(kind)))
}

fn without_index(part: &str) -> &str {
    part.split('[').next().unwrap_or(part)
}

/// The fields below a shape, through lists, maps and alternatives.
fn fields(shape: &'static Shape) -> Vec<&'static Field> {
    match shape {
        Shape::Object(all) => all.iter().collect(),
        Shape::List(inner) | Shape::Map(inner) => fields(inner),
        Shape::Either(variants) => {
            let mut all: Vec<&Field> = variants.iter().flat_map(fields).collect();
            let mut seen = std::collections::BTreeSet::new();
            all.retain(|field| seen.insert(&field.name));
            all
        }
        _ => Vec::new(),
    }
}

fn explained(field: &'static Field) -> ExplainedField {
    ExplainedField {
        name: field.name.clone(),
        kind: field.shape.name(),
        required: field.required,
        default: field.default.clone(),
        description: field.description.clone(),
    }
}

fn unknown(at: &str, part: &str, all: &[&'static Field]) -> String {
    let names = || all.iter().map(|field| field.name.as_str());
    let shown = field::shown(part);
    if all.is_empty() {
        return format!("{at} has no fields");
    }
    if let Some(near) = suggest::nearest(part, names()) {
        return format!("{at} has no field '{shown}'; did you mean {at}.{near}?");
    }
    format!("{at} has no field '{shown}'; it has {}", names().collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  ({})", self.path, note(&self.kind, self.required, self.default.as_deref()))?;
        if !self.description.is_empty() {
            writeln!(f, "\n  {}", self.description.replace('\n', "\n  "))?;
        }
        if !self.fields.is_empty() {
            writeln!(f, "\nFields:")?;
        }
        for field in &self.fields {
            let note = note(&field.kind, field.required, field.default.as_deref());
            writeln!(f, "  {}  ({note})", field.name)?;
            if !field.description.is_empty() {
                writeln!(f, "      {}", field.description.replace('\n', "\n      "))?;
            }
        }
        Ok(())
    }
}

fn note(kind: &str, required: bool, default: Option<&str>) -> String {
    let required = if required { ", required" } else { "" };
    let default = default.map(|d| format!(", default {d}")).unwrap_or_default();
    format!("{kind}{required}{default}")
}
