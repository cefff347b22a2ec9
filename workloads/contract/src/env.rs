//! What `${agent.labels.x}` in an environment value means: the label `x` of the agent that the value
//! goes to. `$${` is a literal `${`; any other `${` is a mistake, so that a template of another tool
//! is never passed on half understood.

use std::collections::BTreeMap;

use crate::field::shown;

const OPEN: &str = "${";
const LABEL: &str = "agent.labels.";

/// A reference that can never be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("'{0}' is not closed: write ${{agent.labels.<key>}}, or $${{ for a literal '${{'")]
    Unclosed(String),
    #[error(
        "'${{{0}}}' is unknown: only ${{agent.labels.<key>}} is replaced; write $${{ for a literal '${{'"
    )]
    Unknown(String),
    #[error("'{0}' in '${{agent.labels.{0}}}' is not a label's key: {1}")]
    Key(String, crate::label::LabelError),
}

/// The agent lacks a label that a value needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the agent has no label '{0}'")]
pub struct MissingLabel(pub String);

enum Part<'a> {
    Text(&'a str),
    Label(&'a str),
}

/// Check the syntax of every reference in `text`.
pub fn check_env(text: &str) -> Result<(), EnvError> {
    parts(text, |_| Ok(()))
}

/// The labels that `text` refers to, in order. A malformed text has none.
pub fn env_labels(text: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    let all = parts(text, |part| {
        if let Part::Label(label) = part {
            labels.push(label);
        }
        Ok::<(), EnvError>(())
    });
    if all.is_ok() { labels } else { Vec::new() }
}

/// `text` with each reference replaced by the agent's label. A malformed text, which admission
/// refuses, is left as it is.
pub fn expand_env(text: &str, labels: &BTreeMap<String, String>) -> Result<String, MissingLabel> {
    enum Stop {
        Missing(MissingLabel),
        Malformed,
    }
    impl From<EnvError> for Stop {
        fn from(_: EnvError) -> Stop {
            Stop::Malformed
        }
    }
    let mut out = String::with_capacity(text.len());
    let done = parts(text, |part| {
        match part {
            Part::Text(piece) => out.push_str(piece),
            Part::Label(key) => {
                let value = labels.get(key).ok_or_else(|| Stop::Missing(MissingLabel(key.to_string())))?;
                out.push_str(value);
            }
        }
        Ok(())
    });
    match done {
        Ok(()) => Ok(out),
        Err(Stop::Missing(missing)) => Err(missing),
        Err(Stop::Malformed) => Ok(text.to_string()),
    }
}

/// Hand each piece of `text` to `take`, from left to right.
fn parts<'a, E: From<EnvError>>(
    text: &'a str,
    mut take: impl FnMut(Part<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        if let Some(before) = rest[..at].strip_suffix('$') {
            take(Part::Text(before))?;
            take(Part::Text(OPEN))?;
            rest = &rest[at + OPEN.len()..];
            continue;
        }
        take(Part::Text(&rest[..at]))?;
        let (label, after) = reference(&rest[at..])?;
        take(Part::Label(label))?;
        rest = after;
    }
    take(Part::Text(rest))
}

/// The label of the reference that `text` begins with, and what follows it.
fn reference(text: &str) -> Result<(&str, &str), EnvError> {
    let inner = &text[OPEN.len()..];
    let end = inner.find('}').ok_or_else(|| EnvError::Unclosed(shown(text)))?;
    let name = &inner[..end];
    let label = name.strip_prefix(LABEL).ok_or_else(|| EnvError::Unknown(shown(name)))?;
    crate::label::check_key(label).map_err(|e| EnvError::Key(shown(label), e))?;
    Ok((label, &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_put_in_and_the_escape_comes_out() {
        let labels = BTreeMap::from([("site".to_string(), "north".to_string())]);
        let expand = |text| expand_env(text, &labels);
        assert_eq!(expand("mqtt/${agent.labels.site}/x").unwrap(), "mqtt/north/x");
        assert_eq!(expand("$${agent.labels.site} $$ $x $").unwrap(), "${agent.labels.site} $$ $x $");
        assert_eq!(expand("${agent.labels.site}${agent.labels.site}").unwrap(), "northnorth");
        assert_eq!(expand("${agent.labels.line}"), Err(MissingLabel("line".to_string())));
        assert_eq!(env_labels("${agent.labels.a.b/c}-$${x}-${agent.labels.d}"), ["a.b/c", "d"]);
    }

    #[test]
    fn other_references_are_mistakes() {
        assert!(matches!(check_env("${HOME}"), Err(EnvError::Unknown(_))));
        assert!(matches!(check_env("${agent.labels.x"), Err(EnvError::Unclosed(_))));
        assert!(matches!(check_env("${agent.labels.}"), Err(EnvError::Key(..))));
        assert!(matches!(check_env("${agent.labels.a b}"), Err(EnvError::Key(..))));
        assert!(check_env("$HOME $${HOME} {x}").is_ok());
    }
}
