//! The audit log, for whoever may read it.

use axum::Json;
use axum::extract::State;
use contract::time::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::{ApiError, Code};
use super::extract::Q;
use crate::audit::{Entry, Filter};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuditQuery {
    /// A token's name.
    who: Option<String>,
    verb: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    /// Part of the path, or of what it was done to.
    about: Option<String>,
    /// Unix milliseconds.
    since_ms: Option<Millis>,
    /// Only what was not allowed, or failed, or never ended.
    #[serde(default)]
    failed: bool,
    /// The newest so many; 100 when absent, 10000 at most.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AuditList {
    /// Oldest first.
    pub items: Vec<Entry>,
}

pub async fn list(State(app): State<App>, Q(query): Q<AuditQuery>) -> Result<Json<AuditList>, ApiError> {
    let filter = Filter {
        who: query.who,
        verb: query.verb,
        kind: query.kind,
        namespace: query.namespace,
        about: query.about,
        since_ms: query.since_ms,
        failed: query.failed,
        limit: query.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
    };
    // Up to 68 MiB of lines: not on the runtime.
    let read = tokio::task::spawn_blocking(move || app.audit.read(&filter)).await;
    let read = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    let unread =
        |e: std::io::Error| ApiError::new(Code::Internal, format!("the audit log cannot be read: {e}"));
    Ok(Json(AuditList { items: read.map_err(unread)? }))
}
