//! What an operator is told about a mistake: where it stands, what is wrong, what would be right.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::node::Place;

/// One mistake in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The document within the file, from 1.
    pub document: usize,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// `spec.mounts[2].path`; empty for the document itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Reads on after the path, and says what would be right.
    pub reason: String,
    /// What to write instead, when that is one word or line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{} ", self.path)?;
        }
        f.write_str(&self.reason)
    }
}

/// A mistake within one document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    pub place: Place,
    pub path: String,
    pub reason: String,
    pub suggestion: Option<String>,
}

impl Fault {
    pub fn at(place: Place, path: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault { place, path: path.into(), reason: crate::limits::clip(&reason.into()), suggestion: None }
    }

    pub fn suggest(self, suggestion: impl Into<String>) -> Fault {
        Fault { suggestion: Some(suggestion.into()), ..self }
    }

    pub fn in_document(self, file: Option<&str>, document: usize) -> Problem {
        Problem {
            file: file.map(str::to_string),
            document,
            line: self.place.line,
            column: self.place.column,
            path: self.path,
            reason: self.reason,
            suggestion: self.suggestion,
        }
    }
}

/// The problems shown, and how many more there are of `all`.
pub(super) fn bounded(mut shown: Vec<Problem>, all: usize) -> Vec<Problem> {
    let more = all.saturating_sub(shown.len());
    if let Some(last) = shown.last().filter(|_| more > 0) {
        let reason = format!("and {more} more");
        shown.push(Problem { path: String::new(), reason, suggestion: None, ..last.clone() });
    }
    shown
}
