//! What the hub asks of a board now, and the board's answers. Never queued for an offline agent.

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, Nonce};
use crate::time::Millis;

/// On `agents/<a>/command/<id>`. Bound to the session's nonce: refused in any other session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// 1–63 of `a-z0-9-`; the same as in the topic.
    pub id: crate::id::Name,
    pub nonce: Nonce,
    /// How long the answer may take from receipt.
    pub deadline_ms: Millis,
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
