//! The canonical text of a workload: fields in the order of the types, two spaces of indent, quotes
//! only where some YAML reader might take the text for something else. Reading it gives the same
//! workload back.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::schema::{API_VERSION, KIND};
use crate::data::DataKind;
use crate::spec::{DataObject, Workload};

pub fn to_yaml(workload: &Workload) -> String {
    print(KIND, workload)
}

pub fn data_to_yaml(kind: DataKind, data: &DataObject) -> String {
    print(kind.title(), data)
}

fn print<T: serde::Serialize>(kind: &str, object: &T) -> String {
    let json = serde_json::to_string(object).expect("an object has only string keys");
    let tree: Tree = serde_json::from_str(&json).expect("JSON just written");
    let mut out = format!("apiVersion: {API_VERSION}\nkind: {kind}\n");
    if let Tree::Map(entries) = tree {
        print_map(&entries, 0, &mut out);
    }
    out
}

/// JSON in the order it was written: `serde_json::Value` may sort.
enum Tree {
    /// Numbers, booleans and null, as printed.
    Word(String),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

fn print_map(entries: &[(String, Tree)], indent: usize, out: &mut String) {
    for (key, value) in entries {
        out.push_str(&" ".repeat(indent));
        out.push_str(&scalar(key));
        out.push(':');
        print_value(value, indent, out);
    }
}

/// What follows `key:` or `-`, its line's end included.
fn print_value(value: &Tree, indent: usize, out: &mut String) {
    match value {
        Tree::Word(word) => *out += &format!(" {word}\n"),
        Tree::Text(text) => *out += &format!(" {}\n", scalar(text)),
        Tree::List(items) if items.is_empty() => out.push_str(" []\n"),
        Tree::Map(entries) if entries.is_empty() => out.push_str(" {}\n"),
        Tree::List(items) => {
            out.push('\n');
            for item in items {
                print_item(item, indent + 2, out);
            }
        }
        Tree::Map(entries) => {
            out.push('\n');
            print_map(entries, indent + 2, out);
        }
    }
}

fn print_item(item: &Tree, indent: usize, out: &mut String) {
    let begin = out.len();
    match item {
        Tree::Map(entries) if !entries.is_empty() => {
            print_map(entries, indent + 2, out);
            // The first key stands behind the dash.
            out.replace_range(begin + indent..begin + indent + 1, "-");
        }
        other => {
            *out += &format!("{}-", " ".repeat(indent));
            print_value(other, indent, out);
        }
    }
}

/// Plain where every YAML reader sees text in it; else in double quotes, escaped as in JSON.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_string() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    // Legal in JSON texts, but not printable in YAML (1.2.2 §5.1), or a line's end to YAML 1.1.
    let special = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}'..='\u{ffff}');
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if special(c) { out += &format!("\\u{:04x}", c as u32) } else { out.push(c) }
    }
    out
}

fn is_plain(text: &str) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let inner = |c: char| c.is_ascii_alphanumeric() || "/_.-+@:".contains(c);
    let safe = text.chars().all(inner) && !text.ends_with(':');
    let word = first.is_ascii_alphabetic() || first == '/';
    safe && ((word && !is_reserved(text)) || is_amount(text))
}

/// Words that some version of YAML reads as a boolean, a number or null.
fn is_reserved(text: &str) -> bool {
    let reserved = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    reserved.contains(&text.to_ascii_lowercase().as_str())
}

/// A number with a unit, such as 64Mi or 10s: text to every reader.
fn is_amount(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = &text[digits..];
    digits > 0 && ["m", "ms", "s", "h", "d", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&unit)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Tree, D::Error> {
        d.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Word("null".to_string()))
    }

    fn visit_bool<E>(self, v: bool) -> Result<Tree, E> {
        Ok(Tree::Word(v.to_string()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Tree, E> {
        Ok(Tree::Word(v.to_string()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Tree, E> {
        Ok(Tree::Word(v.to_string()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Tree, E> {
        Ok(Tree::Word(serde_json::Value::from(v).to_string()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Tree, E> {
        Ok(Tree::Text(v.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_text_to_everybody_is_plain() {
        for text in ["press-guard:1.4", "/data", "64Mi", "10s", "broker.local:1883", "a@b"] {
            assert!(is_plain(text), "{text}");
        }
        for text in [
            "",
            "1.10",
            "yes",
            "NO",
            "null",
            "0x1F",
            "1_000",
            "12:30",
            "a:",
            "- a",
            "a b",
            "2024-01-01",
            "1e3",
            ".5",
            "~",
            "1",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        assert_eq!(quoted("a\u{85}\n\"\u{1f600}"), "\"a\\u0085\\n\\\"\u{1f600}\"");
    }
}
