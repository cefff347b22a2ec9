//! What the hub asks of a board now, and the board's answers. Never queued for an offline agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, Nonce};
use crate::session::Size;
use crate::time::Millis;

/// On `agents/<a>/command/<id>`. Bound to the session's nonce: refused in any other session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// 1–63 of `a-z0-9-`; the same as in the topic.
    pub id: crate::id::Name,
    pub nonce: Nonce,
    /// How long the answer may take from receipt.
    pub deadline_ms: Millis,
    /// Not begun after this, by the agent's own boottime as its last report told it: a broker that holds a
    /// command back cannot have it done hours later, and no clock has to be right for that. None: of a hub
    /// that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<Millis>,
    /// Where a result over `REPLY_BYTES_MAX` is PUT: a path below the hello's `artifacts` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    pub op: CommandOp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CommandOp {
    /// Log lines of one instance.
    Logs(LogQuery),
    /// End a running command of this session (a `logs --follow`).
    Cancel { command: crate::id::Name },
    /// A further command in a running container. What it reads and writes goes to the ticket (`crate::session`).
    /// For agents that have [`CommandOp::SESSIONS`] among their features: an older one could not even refuse it.
    Exec(Exec),
    /// Files out of a running container or into it, as one tar, the same way.
    Copy(FileCopy),
}

impl CommandOp {
    /// The feature of an agent that knows sessions.
    pub const SESSIONS: &str = "sessions";

    /// Of which instance a session is asked for.
    pub fn session(&self) -> Option<&InstanceId> {
        match self {
            CommandOp::Exec(exec) => Some(&exec.instance),
            CommandOp::Copy(copy) => Some(&copy.instance),
            CommandOp::Logs(_) | CommandOp::Cancel { .. } => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    pub instance: InstanceId,
    /// At most `EXEC_BYTES_MAX` with `env`.
    pub args: Vec<String>,
    /// Over the container's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The container's own when absent; names are the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// With a terminal of this size; without, output and errors are apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Size>,
    /// Whether anything will be given to it to read.
    #[serde(default)]
    pub input: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileCopy {
    pub instance: InstanceId,
    /// In the container; absolute.
    pub path: String,
    pub to: CopyTo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CopyTo {
    /// From the path, to whoever asks.
    Operator,
    /// What is given, into the path.
    Container,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogQuery {
    pub instance: InstanceId,
    /// The last n lines; all that is kept when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Only lines younger than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<Millis>,
    /// Of the run before the present one.
    #[serde(default)]
    pub previous: bool,
    /// Keep sending progress until cancelled or the deadline.
    #[serde(default)]
    pub follow: bool,
}

/// On `agents/<a>/reply/<id>`: `Accepted` or `Refused` first, then any `Progress`, then `Done`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub id: crate::id::Name,
    pub nonce: Nonce,
    /// From 0, without holes.
    pub seq: u32,
    pub body: ReplyBody,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplyBody {
    Accepted,
    /// Why, and what would be right.
    Refused {
        reason: String,
    },
    /// A piece of output, at most `PROGRESS_BYTES_MAX`.
    Progress {
        text: String,
    },
    /// `error` when it began and could not be finished.
    Done {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}
