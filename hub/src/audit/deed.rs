//! What is written about one deed, and which of them somebody wants to see.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use contract::time::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub number: u64,
    pub at_ms: Millis,
    /// The token's name; empty when nobody's was shown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    pub from: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verb: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Method and path.
    pub what: String,
    /// What it was done to, where the path does not say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// None: the hub died before it was done, or while it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Entry {
    pub fn ended(mut self, status: StatusCode, reason: &str) -> Entry {
        self.status = Some(status.as_u16());
        self.reason = contract::limits::clip(reason).to_string();
        self
    }
}

/// Named in one entry; how many more there are is said.
const OBJECTS_MAX: usize = 50;

/// What a handler found that it works on.
#[derive(Debug, Clone, Default)]
pub struct Objects(Arc<Mutex<Vec<String>>>);

/// For handlers; what is not written down is noted nowhere.
impl<S: Send + Sync> FromRequestParts<S> for Objects {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Objects, Infallible> {
        Ok(parts.extensions.get::<Objects>().cloned().unwrap_or_default())
    }
}

impl Objects {
    pub fn add(&self, objects: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(objects);
    }

    pub fn taken(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let more = all.len().saturating_sub(OBJECTS_MAX);
        all.truncate(OBJECTS_MAX);
        if more > 0 {
            all.push(format!("and {more} more"));
        }
        all
    }
}

/// All parts must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub who: Option<String>,
    pub verb: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    /// Part of what was done, or of what it was done to.
    pub about: Option<String>,
    pub since_ms: Option<Millis>,
    /// Only what was not allowed, or failed.
    pub failed: bool,
    pub limit: usize,
}

impl Filter {
    pub fn wants(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let within = |text: &str| {
            let prefix = format!("{text}/");
            entry.namespace.as_deref() == Some(text) || entry.objects.iter().any(|o| o.starts_with(&prefix))
        };
        let about = |text: &str| entry.what.contains(text) || entry.objects.iter().any(|o| o.contains(text));
        is(&self.who, &entry.who)
            && is(&self.verb, &entry.verb)
            && is(&self.kind, &entry.kind)
            && self.namespace.as_deref().is_none_or(within)
            && self.about.as_deref().is_none_or(about)
            && self.since_ms.is_none_or(|since| since <= entry.at_ms)
            && (!self.failed || entry.status.is_none_or(|status| status >= 400))
    }
}
