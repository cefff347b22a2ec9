//! The one shape of every error of the API, and which status each kind has.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hub_core::api::{Answer, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::{ArtifactError, ImportError};
use crate::compile::CompileFailure;
use crate::serve::handle::AskError;

/// What kind of error, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The request is wrong: change it.
    Invalid,
    /// Somebody else changed it first: read again.
    Conflict,
    NotFound,
    /// No token, or a wrong one.
    Unauthorized,
    /// A good token that may not.
    Forbidden,
    /// Try again later.
    Unavailable,
    TooLarge,
    /// A mistake of the hub.
    Internal,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Code::Conflict => StatusCode::CONFLICT,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Forbidden => StatusCode::FORBIDDEN,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// Which document of the manifest, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// Which line of the whole text, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// From 1, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The field, such as `spec.resources.memory`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// `<namespace>/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    pub reason: String,
    /// What to write instead, when that is one word or line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl From<Refusal> for Detail {
    fn from(refusal: Refusal) -> Detail {
        let workload = refusal.workload.map(|key| key.to_string());
        Detail { workload, path: refusal.field, reason: refusal.reason, ..Detail::default() }
    }
}

/// An error as it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    pub code: Code,
    pub message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// Where the code alone does not tell the status.
    #[serde(skip)]
    #[schemars(skip)]
    status: Option<u16>,
}

/// `{"error": …}`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    pub error: ApiError,
}

impl ApiError {
    pub fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError { code, message: message.into(), details: Vec::new(), status: None }
    }

    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(Code::Invalid, message)
    }

    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(Code::NotFound, message)
    }

    pub fn status(&self) -> StatusCode {
        self.status.and_then(|s| StatusCode::from_u16(s).ok()).unwrap_or(self.code.status())
    }

    pub fn with_status(mut self, status: StatusCode) -> ApiError {
        self.status = Some(status.as_u16());
        self
    }

    pub fn with_details(mut self, details: Vec<Detail>) -> ApiError {
        self.details = details;
        self
    }

    /// A refusal of the core. One reason becomes the message, several are counted and listed.
    fn refused(code: Code, errors: Vec<Refusal>) -> ApiError {
        let message = match errors.as_slice() {
            [] => "refused without a reason".to_string(),
            [one] => one.reason.clone(),
            many => format!("{} errors; nothing was changed", many.len()),
        };
        let details = errors.into_iter().map(Detail::from).collect();
        ApiError::new(code, message).with_details(details)
    }
}

/// Three answers are errors to a client.
pub fn accepted(answer: Answer) -> Result<Answer, ApiError> {
    match answer {
        Answer::Refused { errors } => Err(ApiError::refused(Code::Invalid, errors)),
        Answer::Conflict { errors } => Err(ApiError::refused(Code::Conflict, errors)),
        Answer::NotFound { errors } => Err(ApiError::refused(Code::NotFound, errors)),
        fine => Ok(fine),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        (status, Json(ErrorBody { error: self })).into_response()
    }
}

impl From<AskError> for ApiError {
    fn from(e: AskError) -> ApiError {
        let error = ApiError::new(Code::Unavailable, e.to_string());
        match e {
            AskError::NoRoom(_) => error.with_status(StatusCode::INSUFFICIENT_STORAGE),
            AskError::Busy | AskError::Stopping | AskError::Slow => error,
        }
    }
}

impl From<ArtifactError> for ApiError {
    fn from(e: ArtifactError) -> ApiError {
        match &e {
            ArtifactError::TooLarge { .. } => ApiError::new(Code::TooLarge, e.to_string()),
            ArtifactError::DiskFull { .. } => {
                ApiError::new(Code::Unavailable, e.to_string()).with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            ArtifactError::Mismatch { .. } => ApiError::invalid(e.to_string()),
            ArtifactError::Io { .. } => ApiError::new(Code::Internal, e.to_string()),
        }
    }
}

impl From<ImportError> for ApiError {
    fn from(e: ImportError) -> ApiError {
        match e {
            ImportError::Refused(reason) => ApiError::invalid(reason),
            ImportError::Store(e) => e.into(),
        }
    }
}

impl From<CompileFailure> for ApiError {
    fn from(e: CompileFailure) -> ApiError {
        match e {
            CompileFailure::Refused(reason) => ApiError::invalid(reason),
            CompileFailure::Fault(reason) => ApiError::new(Code::Internal, reason),
        }
    }
}
