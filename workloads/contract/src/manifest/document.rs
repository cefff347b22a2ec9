//! What a document is: its kind, its object, and where each of its fields stands.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::decode::Decoder;
use super::elsewhere;
use super::node::{Node, Place, Value};
use super::problem::{Fault, Problem};
use super::read::{self, Chunk};
use super::schema::{API_VERSION, KIND};
use super::shape::{DOCUMENT, data_document};
use super::suggest;
use crate::data::DataKind;
use crate::field;
use crate::limits::{MANIFEST_ERRORS_MAX, SPEC_BYTES_MAX};
use crate::rules::{Finding, check, check_data, not_yet};
use crate::spec::{DataObject, Workload};

/// One document of a file.
#[derive(Debug, Clone)]
pub enum Object {
    Workload(Box<Workload>, Source),
    Data(DataKind, Box<DataObject>, Source),
}

impl Object {
    pub fn source(&self) -> &Source {
        match self {
            Object::Workload(_, source) | Object::Data(_, _, source) => source,
        }
    }

    /// The workloads among them, in their order.
    pub fn workloads(objects: &[Object]) -> impl Iterator<Item = (&Workload, &Source)> {
        objects.iter().filter_map(|object| match object {
            Object::Workload(workload, source) => Some((&**workload, source)),
            Object::Data(..) => None,
        })
    }

    /// The Configs and Secrets among them, in their order.
    pub fn data(objects: &[Object]) -> impl Iterator<Item = (DataKind, &DataObject)> {
        objects.iter().filter_map(|object| match object {
            Object::Data(kind, data, _) => Some((*kind, &**data)),
            Object::Workload(..) => None,
        })
    }

    /// For people: `workload plant/press`.
    pub(super) fn name(&self) -> String {
        match self {
            Object::Workload(workload, _) => format!("workload {}", workload.key()),
            Object::Data(kind, data, _) => format!("{kind} {}", data.id(*kind).key),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        match self {
            Object::Workload(workload, _) => check(workload),
            Object::Data(_, data, _) => check_data(data),
        }
    }
}

/// Where an object was written, field by field.
#[derive(Clone)]
pub struct Source {
    file: Option<String>,
    document: usize,
    root: Node,
}

/// Never the text: it may be a Secret's.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({}:{})", self.file.as_deref().unwrap_or(""), self.line())
    }
}

impl Source {
    /// The line, from 1, that the object begins on.
    pub fn line(&self) -> usize {
        self.root.place.line
    }

    /// The document within its file, from 1.
    pub fn document(&self) -> usize {
        self.document
    }

    /// Line and column, from 1, of the value at `path`, or of the nearest thing around it.
    pub fn locate(&self, path: &str) -> (usize, usize) {
        let place = self.place(path);
        (place.line, place.column)
    }

    /// A finding of [`crate::rules`], or a refusal of the hub, at the line it is about.
    pub fn problem(&self, path: &str, reason: &str) -> Problem {
        Fault::at(self.place(path), path, reason).in_document(self.file.as_deref(), self.document)
    }

    /// Every path there is.
    fn places(&self) -> BTreeMap<String, Place> {
        fn walk(node: &Node, at: &str, places: &mut BTreeMap<String, Place>) {
            match &node.value {
                Value::Map(entries) => {
                    for entry in entries {
                        let next = field::key(at, &entry.key);
                        walk(&entry.node, &next, places);
                        places.insert(next, entry.value_place());
                    }
                }
                Value::List(items) => {
                    for (n, item) in items.iter().enumerate() {
                        let next = field::item(at, n);
                        walk(item, &next, places);
                        places.insert(next, item.place);
                    }
                }
                Value::Scalar { .. } => {}
            }
        }
        let mut places = BTreeMap::new();
        walk(&self.root, "", &mut places);
        places
    }

    fn place(&self, path: &str) -> Place {
        let (mut node, mut place, mut at) = (&self.root, self.root.place, String::new());
        loop {
            let leads = |next: &str| next == path || field::is_below(path, next);
            let next = match &node.value {
                Value::Map(entries) => entries
                    .iter()
                    .map(|entry| (field::key(&at, &entry.key), entry.value_place(), &entry.node))
                    .find(|(next, ..)| leads(next)),
                Value::List(items) => items
                    .iter()
                    .enumerate()
                    .map(|(n, item)| (field::item(&at, n), item.place, item))
                    .find(|(next, ..)| leads(next)),
                Value::Scalar { .. } => None,
            };
            match next {
                Some(next) => (at, place, node) = next,
                None => return place,
            }
        }
    }
}

/// A document as read. With faults, `object` has stand-ins where they are.
pub(super) struct Read {
    pub object: Option<Object>,
    pub line: usize,
    pub faults: Vec<Fault>,
}

/// What a document holds.
enum Parsed {
    Workload(Box<Workload>),
    Data(DataKind, Box<DataObject>),
}

pub(super) fn read(chunk: Chunk<'_>, file: Option<&str>, document: usize) -> Read {
    let size = chunk.text.len();
    let (root, mut faults) = read::read(chunk);
    let begin = Place { line: chunk.first_line, column: 1 };
    let nothing = Node { place: begin, value: Value::Map(Vec::new()) };
    let parsed = root.as_ref().and_then(|root| {
        let (parsed, more) = decode(root, size);
        faults.extend(more);
        parsed
    });
    let source = Source { file: file.map(str::to_string), document, root: root.unwrap_or(nothing) };
    let line = source.line();
    let object = parsed.map(|parsed| match parsed {
        Parsed::Workload(workload) => Object::Workload(workload, source),
        Parsed::Data(kind, data) => Object::Data(kind, data, source),
    });
    Read { object, line, faults }
}

fn decode(root: &Node, size: usize) -> (Option<Parsed>, Vec<Fault>) {
    if let Some(kind) = data_kind(root) {
        return decode_data(root, kind);
    }
    if size > SPEC_BYTES_MAX {
        let reason = format!("the document has {size} bytes; at most {SPEC_BYTES_MAX} are taken");
        return (None, vec![Fault::at(root.place, "", reason)]);
    }
    if let Some(fault) = other_kind(root) {
        return (None, vec![fault]);
    }
    let mut decoder = Decoder { faults: Vec::new(), document: &DOCUMENT };
    let mut value = decoder.value(&DOCUMENT, root, root.place, "");
    if !matches!(root.value, Value::Map(_)) {
        return (None, decoder.faults);
    }
    let kind = root.get("kind").and_then(|entry| match &entry.node.value {
        Value::Scalar { text, .. } => elsewhere::document(text),
        _ => None,
    });
    if let (Some(hint), Some(fault)) = (kind, decoder.faults.iter_mut().find(|f| f.path == "kind")) {
        fault.reason = format!("is a kind of Kubernetes: {hint}");
        fault.suggestion = Some(KIND.to_string());
    }
    let workload = typed(without_head(&mut value), root, &mut decoder.faults);
    (workload.map(|workload| Parsed::Workload(Box::new(workload))), decoder.faults)
}

fn data_kind(root: &Node) -> Option<DataKind> {
    let given = root.get("kind").and_then(|entry| word(&entry.node))?;
    DataKind::ALL.into_iter().find(|kind| kind.title() == given)
}

fn decode_data(root: &Node, kind: DataKind) -> (Option<Parsed>, Vec<Fault>) {
    let shape = data_document(kind);
    let mut decoder = Decoder { faults: Vec::new(), document: shape };
    let mut value = decoder.value(shape, root, root.place, "");
    let version = root.get("apiVersion").and_then(|entry| word(&entry.node));
    if let Some(entry) = root.get("data").filter(|_| kind == DataKind::Secret && version == Some("v1")) {
        let reason = "is base64 in Kubernetes, and text as it is written here; base64 goes into binaryData";
        decoder.faults.push(Fault::at(entry.value_place(), "data", reason));
    }
    let data = typed(without_head(&mut value), root, &mut decoder.faults);
    (data.map(|data| Parsed::Data(kind, Box::new(data))), decoder.faults)
}

fn word(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn without_head(value: &mut Json) -> Json {
    if let Some(map) = value.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    value.take()
}

/// The walk has checked the form, so that the types take the value. Should they not, that is told
/// rather than trusted.
fn typed<T: serde::de::DeserializeOwned>(value: Json, root: &Node, faults: &mut Vec<Fault>) -> Option<T> {
    match serde_json::from_value(value) {
        Ok(object) => Some(object),
        Err(e) => {
            if faults.is_empty() {
                faults.push(Fault::at(root.place, "", format!("does not fit: {e}")));
            }
            None
        }
    }
}

/// Kinds of which nothing but the name is known. Kinds of other tools that are workloads are read on,
/// so that their fields are answered too.
fn other_kind(root: &Node) -> Option<Fault> {
    let entry = root.get("kind")?;
    let Value::Scalar { text, .. } = &entry.node.value else { return None };
    let at = |reason: String| Some(Fault::at(entry.value_place(), "kind", reason));
    let ours = root
        .get("apiVersion")
        .is_none_or(|entry| matches!(&entry.node.value, Value::Scalar { text, .. } if text == API_VERSION));
    if ours && LATER.contains(&text.as_str()) {
        return at(format!("{text} comes with a later version"));
    }
    if text == KIND || root.get("spec").is_some_and(|spec| has_work(&spec.node)) {
        return None;
    }
    if let Some(hint) = elsewhere::document(text) {
        return at(format!("{} is a kind of Kubernetes: {hint}", field::shown(text)));
    }
    if LATER.contains(&text.as_str()) {
        return at(format!("{text} comes with a later version"));
    }
    let known = std::iter::once(KIND).chain(DataKind::ALL.map(DataKind::title)).chain(LATER);
    let fault = Fault::at(entry.value_place(), "kind", "");
    let shown = field::shown(text);
    Some(match suggest::nearest(text, known) {
        Some(near) => {
            let reason = format!("'{shown}' is unknown: did you mean {near}?");
            Fault { reason, ..fault.suggest(near) }
        }
        None => Fault {
            reason: format!("'{shown}' is unknown: write {KIND}, Config or Secret"),
            ..fault.suggest(KIND)
        },
    })
}

/// Kinds of DESIGN that are not built yet.
const LATER: [&str; 2] = ["Device", "Namespace"];

/// Whether a spec is one of something that runs, ours or Kubernetes'.
fn has_work(spec: &Node) -> bool {
    ["image", "template", "containers", "jobTemplate"].iter().any(|key| spec.get(key).is_some())
}

/// Rules run on a value with stand-ins where something was wrong: what they find there is not news.
pub(super) fn add_findings(faults: &mut Vec<Fault>, object: &Object) {
    let source = object.source();
    let known: BTreeSet<String> = faults.iter().map(|fault| fault.path.clone()).collect();
    // A thing may seem to lack a field only because that field is misspelt.
    let lacking: BTreeSet<&str> = known.iter().filter_map(|path| field::parents(path).last()).collect();
    let inside =
        |path: &str| known.contains(path) || field::parents(path).any(|parent| known.contains(parent));
    let mut found = object.findings();
    found.retain(|finding| !lacking.contains(finding.path.as_str()));
    if let Object::Workload(workload, _) = object {
        found.extend(not_yet(workload));
    }
    found.retain(|finding| !inside(&finding.path));
    // One walk for many, as each search is a walk of its own.
    let places = (found.len() > MANIFEST_ERRORS_MAX).then(|| source.places());
    faults.extend(found.into_iter().map(|Finding { path, reason }| {
        let known = places.as_ref().and_then(|places| places.get(&path).copied());
        Fault::at(known.unwrap_or_else(|| source.place(&path)), path, reason)
    }));
}
