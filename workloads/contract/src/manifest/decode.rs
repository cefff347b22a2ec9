//! How a tree becomes a value of the contract's types: every mistake is noted at its own place, and
//! the walk goes on with something legal in its stead, so that one run finds them all.

use serde_json::{Map, Value as Json, json};

use super::elsewhere;
use super::node::{Entry, Node, Place, Value};
use super::problem::Fault;
use super::shape::{Field, Format, Shape, or_list};
use super::suggest;
use crate::field;
use crate::limits::MANIFEST_ERRORS_MAX;

/// Looking for what was meant takes longer than all else; past this many mistakes nobody reads it.
const SUGGESTIONS_MAX: usize = 4 * MANIFEST_ERRORS_MAX;

/// Collects what is wrong while it walks.
pub(super) struct Decoder {
    pub faults: Vec<Fault>,
    /// Where fields may stand, for those that stand in the wrong place.
    pub document: &'static Shape,
}

impl Decoder {
    /// `node` as `shape` wants it. Where it is not so, that is noted and some legal value stands in.
    pub fn value(&mut self, shape: &Shape, node: &Node, place: Place, path: &str) -> Json {
        match (shape, &node.value) {
            (Shape::Any, _) => any(node),
            (Shape::Either(variants), _) => self.either(variants, shape, node, place, path),
            (Shape::Object(fields), Value::Map(entries)) => self.object(fields, entries, place, path),
            (Shape::Map(inner), Value::Map(entries)) => self.map(inner, entries, path),
            (Shape::List(inner), Value::List(items)) => self.list(inner, items, path),
            (_, Value::Scalar { text, plain }) => self.scalar(shape, node, text, *plain, place, path),
            _ => self.wrong_kind(shape, node, place, path),
        }
    }

    /// Like `value`, where there is nothing to go on with when it is wrong.
    fn checked(&mut self, shape: &Shape, node: &Node, place: Place, path: &str) -> Option<Json> {
        let before = self.faults.len();
        let value = self.value(shape, node, place, path);
        let wrong_itself = self.faults[before..].iter().any(|fault| fault.path == path);
        (!wrong_itself).then_some(value)
    }

    fn object(&mut self, fields: &[Field], entries: &[Entry], place: Place, path: &str) -> Json {
        let mut map = Map::new();
        let mut meant = Vec::new();
        for entry in entries {
            let at = field::key(path, &entry.key);
            let Some(field) = fields.iter().find(|field| field.name == entry.key) else {
                let fault = if self.faults.len() < SUGGESTIONS_MAX {
                    suggest::unknown_field(entry, fields, path, self.document)
                } else {
                    Fault::at(entry.place, at, "is unknown")
                };
                meant.extend(fault.suggestion.clone());
                self.faults.push(fault);
                continue;
            };
            // A key given twice has been noted by the reader; the first one counts.
            if map.contains_key(&entry.key) || (field.nullable && entry.node.is_null()) {
                continue;
            }
            if let Some(value) = self.checked(&field.shape, &entry.node, entry.value_place(), &at) {
                map.insert(entry.key.clone(), value);
            }
        }
        for field in fields.iter().filter(|field| field.required) {
            let given = entries.iter().any(|entry| entry.key == field.name);
            if !given && !meant.contains(&field.name) {
                self.missing(field, place, path);
            }
            map.entry(&field.name).or_insert_with(|| stand_in(&field.shape));
        }
        Json::Object(map)
    }

    fn missing(&mut self, field: &Field, place: Place, path: &str) {
        let at = field::key(path, &field.name);
        let what = match &field.shape {
            Shape::Choice(choices) if choices.len() == 1 => format!("write {}: {}", field.name, choices[0]),
            _ => first_sentence(&field.description),
        };
        let reason = if what.is_empty() {
            format!("is missing: give a {}", field.shape.name())
        } else {
            format!("is missing: {what}")
        };
        self.faults.push(Fault::at(place, at, reason));
    }

    fn map(&mut self, inner: &Shape, entries: &[Entry], path: &str) -> Json {
        let mut map = Map::new();
        for entry in entries {
            let at = field::key(path, &entry.key);
            let value = self.value(inner, &entry.node, entry.value_place(), &at);
            map.entry(&entry.key).or_insert(value);
        }
        Json::Object(map)
    }

    fn list(&mut self, inner: &Shape, items: &[Node], path: &str) -> Json {
        let item = |(n, item): (usize, &Node)| self.value(inner, item, item.place, &field::item(path, n));
        Json::Array(items.iter().enumerate().map(item).collect())
    }

    /// A scalar is read by the variant that takes text, a map by the one that shares most keys.
    fn either(&mut self, variants: &[Shape], shape: &Shape, node: &Node, place: Place, path: &str) -> Json {
        let chosen = match &node.value {
            Value::Scalar { .. } => variants.iter().find(|v| matches!(v, Shape::Text(_) | Shape::Choice(_))),
            Value::List(_) => variants.iter().find(|v| matches!(v, Shape::List(_))),
            Value::Map(entries) => {
                let known = |v: &Shape| entries.iter().filter(|e| v.field(&e.key).is_some()).count();
                // The first of equals, where max_by_key would take the last.
                variants.iter().rev().filter(|v| matches!(v, Shape::Object(_))).max_by_key(|v| known(v))
            }
        };
        match chosen {
            Some(chosen) => self.value(chosen, node, place, path),
            None => self.wrong_kind(shape, node, place, path),
        }
    }

    fn scalar(
        &mut self,
        shape: &Shape,
        node: &Node,
        text: &str,
        plain: bool,
        place: Place,
        path: &str,
    ) -> Json {
        let wrong = if node.is_null() {
            Some(empty(shape))
        } else {
            match read_scalar(shape, text, plain) {
                Ok(value) => return value,
                Err(reason) => reason,
            }
        };
        match wrong {
            Some(fault) => {
                let reason = match elsewhere::value(path, text) {
                    Some(hint) => format!("{}; {hint}", fault.reason),
                    None => fault.reason,
                };
                let fault = Fault { suggestion: fault.suggestion, ..Fault::at(place, path, reason) };
                self.faults.push(fault);
                stand_in(shape)
            }
            None => self.wrong_kind(shape, node, place, path),
        }
    }

    fn wrong_kind(&mut self, shape: &Shape, node: &Node, place: Place, path: &str) -> Json {
        let hint = elsewhere::kind(path, node);
        let wanted = match shape {
            Shape::Object(fields) => format!("write an object with {}", some_names(fields)),
            Shape::Map(_) => "write a map, like NAME: value".to_string(),
            Shape::List(_) => "write a list, like [a, b]".to_string(),
            other => format!("write a {}", other.name()),
        };
        let reason = format!("{}; {}", node.kind(), hint.unwrap_or(&wanted));
        self.faults.push(Fault::at(place, path, reason));
        stand_in(shape)
    }
}

/// What is wrong with a scalar.
struct Wrong {
    reason: String,
    suggestion: Option<String>,
}

fn wrong(reason: String) -> Option<Wrong> {
    Some(Wrong { reason, suggestion: None })
}

fn empty(shape: &Shape) -> Wrong {
    let reason = match shape {
        Shape::Text(Format::Free) => {
            "is empty (null): write \"\" for an empty text, or quote a word like \"null\" or \"~\""
                .to_string()
        }
        other => format!("is empty: give a {}, or remove the line", other.name()),
    };
    Wrong { reason, suggestion: None }
}

/// `Err(None)`: a scalar is the wrong thing altogether.
fn read_scalar(shape: &Shape, text: &str, plain: bool) -> Result<Json, Option<Wrong>> {
    match shape {
        Shape::Text(format) => match format.check(text) {
            Ok(()) => Ok(json!(text)),
            Err(reason) => Err(wrong(reason)),
        },
        Shape::Integer { min, max } => integer(text, plain, *min, *max).map(|n| json!(n)).map_err(wrong),
        Shape::Boolean => match text {
            "true" | "True" | "TRUE" if plain => Ok(json!(true)),
            "false" | "False" | "FALSE" if plain => Ok(json!(false)),
            _ => Err(boolean(text)),
        },
        Shape::Choice(choices) => {
            if choices.iter().any(|choice| choice == text) {
                return Ok(json!(text));
            }
            let near = suggest::nearest(text, choices.iter().map(String::as_str));
            let shown = field::shown(text);
            let reason = match near {
                Some(near) => format!("'{shown}' is unknown: did you mean {near}?"),
                None => format!("'{shown}' is unknown: write {}", or_list(choices)),
            };
            Err(Some(Wrong { reason, suggestion: near.map(str::to_string) }))
        }
        _ => Err(None),
    }
}

fn integer(text: &str, plain: bool, min: i64, max: i64) -> Result<i64, String> {
    let shown = field::shown(text);
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("'{shown}' is not a whole number: write digits alone, like 3"));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        // 1.1 reads an octal number here, 1.2 a decimal one.
        return Err(format!(
            "'{shown}' begins with 0, which YAML's versions read differently: write it without"
        ));
    }
    if !plain {
        return Err(format!("is text: write {shown} without quotes"));
    }
    match text.parse::<i64>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{shown} is out of range: write {min} to {max}")),
    }
}

fn boolean(text: &str) -> Option<Wrong> {
    let right = match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some("true"),
        "false" | "no" | "off" | "n" | "0" => Some("false"),
        _ => None,
    };
    let shown = field::shown(text);
    let reason = format!("'{shown}' is not a boolean: write {}", right.unwrap_or("true or false"));
    Some(Wrong { reason, suggestion: right.map(str::to_string) })
}

/// Something legal, so that the rest can be checked; never seen by anybody.
fn stand_in(shape: &Shape) -> Json {
    match shape {
        Shape::Any => Json::Null,
        Shape::Text(format) => json!(format.sample()),
        Shape::Integer { min, .. } => json!((*min).max(1)),
        Shape::Boolean => json!(false),
        Shape::Choice(choices) => json!(choices.first()),
        Shape::List(_) => json!([]),
        Shape::Map(_) => json!({}),
        Shape::Object(fields) => {
            let required = fields.iter().filter(|field| field.required);
            Json::Object(required.map(|field| (field.name.clone(), stand_in(&field.shape))).collect())
        }
        Shape::Either(variants) => variants.first().map_or(Json::Null, stand_in),
    }
}

/// By YAML's core schema, for fields whose meaning comes later.
fn any(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => Json::Array(items.iter().map(any).collect()),
        Value::Map(entries) => Json::Object(entries.iter().map(|e| (e.key.clone(), any(&e.node))).collect()),
        Value::Scalar { .. } if node.is_null() => Json::Null,
        Value::Scalar { text, plain: true } => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => number(text).unwrap_or_else(|| json!(text)),
        },
        Value::Scalar { text, plain: false } => json!(text),
    }
}

fn number(text: &str) -> Option<Json> {
    let numeric = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') || !text.chars().all(numeric) {
        return None;
    }
    let whole = text.parse::<i64>().ok().map(|n| json!(n));
    whole.or_else(|| text.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| json!(n)))
}

fn some_names(fields: &[Field]) -> String {
    let names: Vec<&str> = fields.iter().take(6).map(|field| field.name.as_str()).collect();
    let more = if fields.len() > names.len() { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// Up to the first full stop or semicolon that ends a clause.
fn first_sentence(text: &str) -> String {
    let end = [". ", "; "].iter().filter_map(|stop| text.find(stop)).min();
    let text = text[..end.unwrap_or(text.len())].trim_end_matches('.').replace('\n', " ");
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
