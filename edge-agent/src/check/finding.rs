//! What a check says: a name that stays, a state, what was found, and what to do about it.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Works, but not as well as it could, or not with everything.
    Warn,
    /// Something that was asked of this board cannot work.
    Fail,
    /// Could not be looked at here; that is no fault.
    Skipped,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
            State::Skipped => "skipped",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub name: &'static str,
    pub state: State,
    /// One line.
    pub found: String,
    /// One line; there is one exactly when something should be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

fn one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn finding(name: &'static str, state: State, found: impl Into<String>, remedy: Option<String>) -> Finding {
    Finding { name, state, found: one_line(found.into()), remedy: remedy.map(one_line) }
}

pub fn ok(name: &'static str, found: impl Into<String>) -> Finding {
    finding(name, State::Ok, found, None)
}

pub fn warn(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    finding(name, State::Warn, found, Some(remedy.into()))
}

pub fn fail(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    finding(name, State::Fail, found, Some(remedy.into()))
}

pub fn skipped(name: &'static str, found: impl Into<String>) -> Finding {
    finding(name, State::Skipped, found, None)
}

/// What `-o json` prints; fields are added, never renamed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub schema: u32,
    pub agent_version: &'static str,
    pub engine: String,
    /// Whether any check is `fail`: then the exit code is 1.
    pub failed: bool,
    pub checks: Vec<Finding>,
}

impl Report {
    pub fn new(checks: Vec<Finding>) -> Report {
        Report {
            schema: 1,
            agent_version: env!("CARGO_PKG_VERSION"),
            engine: wasm::native_engine().to_string(),
            failed: checks.iter().any(|c| c.state == State::Fail),
            checks,
        }
    }
}
