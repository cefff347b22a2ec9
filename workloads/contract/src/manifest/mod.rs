//! Turns YAML or JSON text into specs, naming every mistake with its line.
//!
//! ```text
//! text ─ read ▶ nodes ─ decode (by the schema) ▶ Workload ─ rules ▶ admissible
//!          └────────────┴── problems: line, path, what would be right ──┘
//! ```

mod decode;
mod document;
mod elsewhere;
mod example;
mod explain;
mod node;
mod print;
mod problem;
mod read;
mod schema;
mod shape;
mod suggest;
mod syntax;

pub use crate::rules::{Finding, check, check_data, not_yet};
pub use document::{Object, Source};
pub use example::{EXAMPLES, example};
pub use explain::{ExplainedField, Explanation, explain};
pub use print::{data_to_yaml, to_yaml};
pub use problem::Problem;
pub use schema::{API_VERSION, KIND, schema};

use std::collections::BTreeMap;

use crate::field;
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_ERRORS_MAX};
use document::Read;
use node::Place;
use problem::{Fault, bounded};

/// The objects of a file, in its order. What they say has the right form; whether it makes sense is
/// asked by [`check`] and [`not_yet`], or by [`read`].
pub fn parse(text: &str, file: Option<&str>) -> Result<Vec<Object>, Vec<Problem>> {
    objects(text, file, false)
}

/// [`parse`], [`check`] and [`not_yet`] in one: every mistake that can be told without knowing the
/// fleet, each with its line, in the order of the file.
pub fn read(text: &str, file: Option<&str>) -> Result<Vec<Object>, Vec<Problem>> {
    objects(text, file, true)
}

fn objects(text: &str, file: Option<&str>, rules: bool) -> Result<Vec<Object>, Vec<Problem>> {
    let whole = |reason: String| {
        let place = Place { line: 1, column: 1 };
        vec![Fault::at(place, "", reason).in_document(file, 1)]
    };
    if text.len() > MANIFEST_BYTES_MAX {
        let size = text.len();
        return Err(whole(format!("the file has {size} bytes; at most {MANIFEST_BYTES_MAX} are taken")));
    }
    let chunks = read::documents(text);
    if chunks.is_empty() {
        return Err(whole("holds no document: write apiVersion, kind, metadata and spec".to_string()));
    }
    let mut objects = Vec::new();
    let mut problems = Problems::default();
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for (n, chunk) in chunks.into_iter().enumerate() {
        let Read { object, line, mut faults } = document::read(chunk, file, n + 1);
        if let Some(object) = object {
            if rules {
                document::add_findings(&mut faults, &object);
            }
            // A name that was itself wrong is a stand-in, and clashes with nothing.
            let named = !faults.iter().any(|fault| fault.path.starts_with("metadata"));
            if let Some(line) = named.then(|| first.get(&object.name())).flatten() {
                faults.push(twice(&object, *line));
            } else if named {
                first.insert(object.name(), line);
            }
            if faults.is_empty() {
                objects.push(object);
            }
        }
        faults.sort_by_key(|fault| fault.place);
        problems.add(faults.into_iter().map(|fault| fault.in_document(file, n + 1)));
    }
    problems.none_or(objects)
}

fn twice(object: &Object, line: usize) -> Fault {
    let path = "metadata.name";
    let (at, column) = object.source().locate(path);
    let reason = format!("{} is already described in line {line}; keep one of the two", object.name());
    Fault::at(Place { line: at, column }, field::key("metadata", "name"), reason)
}

/// Keeps as many as are shown and counts the rest, however many mistakes a file is made to have.
#[derive(Default)]
struct Problems {
    kept: Vec<Problem>,
    all: usize,
}

impl Problems {
    fn add(&mut self, more: impl Iterator<Item = Problem>) {
        for problem in more {
            self.all += 1;
            if self.kept.len() < MANIFEST_ERRORS_MAX {
                self.kept.push(problem);
            }
        }
    }

    fn none_or(self, objects: Vec<Object>) -> Result<Vec<Object>, Vec<Problem>> {
        if self.all == 0 { Ok(objects) } else { Err(bounded(self.kept, self.all)) }
    }
}
