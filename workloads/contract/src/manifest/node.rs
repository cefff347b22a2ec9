//! What a YAML or JSON document looks like before anybody knows what it means: a bounded tree in
//! which each piece keeps its place and each scalar its written text.

/// Counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `plain`: written without quotes, so that it may mean a number, a boolean or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

impl Entry {
    /// Where an operator looks for the value: at a scalar itself, else at its key.
    pub fn value_place(&self) -> Place {
        match &self.node.value {
            Value::Scalar { text, plain } if !(*plain && text.is_empty()) => self.node.place,
            _ => self.place,
        }
    }
}

impl Node {
    /// Written as nothing: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// How many nodes there are, this one and keys included.
    pub fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| 1 + entry.node.count()).sum(),
        }
    }

    /// What it is, in a message: `is a list`.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "is empty",
            Value::Scalar { .. } => "is a single value",
            Value::List(_) => "is a list",
            Value::Map(_) => "is a map",
        }
    }
}
