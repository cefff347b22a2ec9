//! How text becomes nodes: documents are taken apart at their `---` lines first, so that a mistake
//! in one hides none in the next, and each is read from the parser's events within bounds.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::node::{Entry, Node, Place, Value};
use super::problem::Fault;
use super::syntax;
use crate::field;
use crate::limits::{DOCUMENT_BYTES_MAX, MANIFEST_DEPTH_MAX};

/// Nodes of one document, anchors and their copies included: a value takes at least two bytes
/// of a legal document.
const NODES_MAX: usize = DOCUMENT_BYTES_MAX / 2;

/// One document's text, and the line of the file that it begins on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub text: &'a str,
    pub first_line: usize,
}

/// The documents of a file that hold anything. `---` at a line's beginning ends a document
/// whatever it stands in (YAML 1.2.2 §9.1.2), so this needs no parser.
pub(super) fn documents(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let (mut start, mut first_line) = (0, 1);
    let (mut at, mut line) = (0, 1);
    for piece in text.split_inclusive('\n') {
        if at > start && is_marker(piece, "---") {
            chunks.push(Chunk { text: &text[start..at], first_line });
            (start, first_line) = (at, line);
        }
        at += piece.len();
        line += 1;
    }
    chunks.push(Chunk { text: &text[start..], first_line });
    chunks.retain(|chunk| !is_blank(chunk.text));
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Comments, directives and markers alone are no document.
fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let rest = if is_marker(line, "---") || is_marker(line, "...") { &line[3..] } else { line };
        let rest = rest.trim();
        rest.is_empty() || rest.starts_with('#') || line.starts_with('%')
    })
}

/// Read one document. Mistakes that leave the tree readable (a key twice) come with the tree.
pub(super) fn read(chunk: Chunk<'_>) -> (Option<Node>, Vec<Fault>) {
    let begin = Place { line: chunk.first_line, column: 1 };
    if chunk.text.len() > DOCUMENT_BYTES_MAX {
        let size = chunk.text.len();
        let reason = format!("the document has {size} bytes; at most {DOCUMENT_BYTES_MAX} are taken");
        return (None, vec![Fault::at(begin, "", reason)]);
    }
    let text = syntax::json_as_yaml(chunk.text);
    let mut builder = Builder::new(chunk.first_line - 1, syntax::last_place(&text));
    let mut documents = 0;
    for event in Parser::new_from_str(&text) {
        let done = match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                builder.one_document(documents, span)
            }
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(builder.scan_error(&error, &text)),
        };
        if let Err(fault) = done {
            builder.faults.push(fault);
            return (None, builder.faults);
        }
    }
    (builder.root, builder.faults)
}

/// A list or map that is not closed yet.
struct Frame {
    node: Node,
    anchor: usize,
    /// A map's key that waits for its value.
    key: Option<(String, Place)>,
    /// A map's keys and their lines.
    seen: HashMap<String, usize>,
}

struct Builder {
    lines_before: usize,
    /// The last line and column with anything to look at: what is missing at the end is missed there.
    last: (usize, usize),
    open: Vec<Frame>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    faults: Vec<Fault>,
}

impl Builder {
    fn new(lines_before: usize, last: (usize, usize)) -> Builder {
        Builder {
            lines_before,
            last,
            open: Vec::new(),
            root: None,
            anchors: BTreeMap::new(),
            nodes: 0,
            faults: Vec::new(),
        }
    }

    fn place(&self, line: usize, column: usize) -> Place {
        let (line, column) = (line, column).min(self.last);
        Place { line: line + self.lines_before, column: column + 1 }
    }

    fn one_document(&self, documents: usize, span: Span) -> Result<(), Fault> {
        let place = self.place(span.start.line(), span.start.col());
        match documents {
            1 => Ok(()),
            _ => Err(Fault::at(place, "", "begins another document: write a line '---' before it")),
        }
    }

    /// An error ends the document.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let place = self.place(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = self.is_plain(style, tag, place);
                let node = Node { place, value: Value::Scalar { text: text.into_owned(), plain } };
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.begin(Value::List(Vec::new()), anchor, tag, place),
            Event::MappingStart(anchor, tag) => self.begin(Value::Map(Vec::new()), anchor, tag, place),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(frame) => self.finish(frame.node, frame.anchor),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.spend(node.count(), place)?;
                    if self.open.len() + node.depth() > MANIFEST_DEPTH_MAX {
                        return Err(self.too_deep(place));
                    }
                    self.attach(node);
                    Ok(())
                }
                None => Err(Fault::at(place, self.path(), "refers to itself; write the value out")),
            },
            _ => Ok(()),
        }
    }

    /// `!!str` makes text of anything; no other tag has a meaning for a scalar.
    fn is_plain(&mut self, style: ScalarStyle, tag: Option<Cow<'_, Tag>>, place: Place) -> bool {
        let Some(tag) = tag else { return style == ScalarStyle::Plain };
        if !(tag.is_yaml_core_schema() && tag.suffix == "str") {
            self.refuse_tag(&tag, place);
        }
        false
    }

    fn refuse_tag(&mut self, tag: &Tag, place: Place) {
        let reason =
            format!("has the tag '{}'; tags have no meaning here, remove it", field::shown(&tag.suffix));
        self.faults.push(Fault::at(place, self.path(), reason));
    }

    fn begin(
        &mut self,
        value: Value,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        place: Place,
    ) -> Result<(), Fault> {
        if self.open.len() >= MANIFEST_DEPTH_MAX {
            return Err(self.too_deep(place));
        }
        if let Some(tag) =
            tag.filter(|t| !(t.is_yaml_core_schema() && matches!(t.suffix.as_str(), "map" | "seq")))
        {
            self.refuse_tag(&tag, place);
        }
        self.open.push(Frame { node: Node { place, value }, anchor, key: None, seen: HashMap::new() });
        Ok(())
    }

    fn too_deep(&self, place: Place) -> Fault {
        Fault::at(place, self.path(), format!("is nested deeper than {MANIFEST_DEPTH_MAX} levels"))
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.spend(1, node.place)?;
        if anchor > 0 {
            self.spend(node.count(), node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node);
        Ok(())
    }

    fn spend(&mut self, nodes: usize, place: Place) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let reason = format!("the document has more than {NODES_MAX} values, copies by '*' included");
            return Err(Fault::at(place, self.path(), reason));
        }
        Ok(())
    }

    fn attach(&mut self, node: Node) {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut frame.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match frame.key.take() {
                Some((key, place)) => entries.push(Entry { key, place, node }),
                None => {
                    let place = node.place;
                    if let Some(reason) = frame.begin_entry(node) {
                        let fault = Fault::at(place, self.map_path(), reason);
                        self.faults.push(fault);
                    }
                }
            },
            Value::Scalar { .. } => {}
        }
    }

    /// The map that is being read, without the key that was just begun.
    fn map_path(&self) -> String {
        let (last, outer) =
            self.open.split_last().map_or((None, &[][..]), |(last, outer)| (Some(last), outer));
        let path = path_of(outer);
        match last.map(|frame| &frame.node.value) {
            Some(Value::List(items)) => field::item(&path, items.len()),
            _ => path,
        }
    }

    /// Where the reading stands.
    fn path(&self) -> String {
        path_of(&self.open)
    }

    fn scan_error(&self, error: &ScanError, text: &str) -> Fault {
        let mark = error.marker();
        let line = mark.line().min(self.last.0);
        Fault::at(self.place(mark.line(), mark.col()), self.path(), syntax::explain(error.info(), line, text))
    }
}

fn path_of(open: &[Frame]) -> String {
    open.iter().fold(String::new(), |path, frame| match (&frame.node.value, &frame.key) {
        (Value::List(items), _) => field::item(&path, items.len()),
        (_, Some((key, _))) => field::key(&path, key),
        _ => path,
    })
}

impl Frame {
    /// Take `node` as the next key; says what is wrong with it. Afterwards a value is expected, whatever was wrong with the key.
    fn begin_entry(&mut self, node: Node) -> Option<String> {
        let place = node.place;
        let null = node.is_null();
        let Value::Scalar { text, plain } = node.value else {
            self.key = Some((String::new(), place));
            return Some(
                "a key is a single word; this one is a list or a map (write key: value)".to_string(),
            );
        };
        let first = self.seen.insert(text.clone(), place.line);
        self.key = Some((text.clone(), place));
        if null {
            return Some("a key is missing before ':'".to_string());
        }
        if plain && text == "<<" {
            return Some("merge keys ('<<') are not taken; write the fields out".to_string());
        }
        let first = first?;
        let shown = field::shown(&text);
        Some(format!("'{shown}' is given twice; the first is in line {first}"))
    }
}

impl Node {
    fn depth(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => 1 + items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.node.depth()).max().unwrap_or(0),
        }
    }
}
