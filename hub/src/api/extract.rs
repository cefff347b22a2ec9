//! Reading queries, paths, bodies and headers, so that every mistake is answered in the API's shape
//! and names the parameter.

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use contract::Version;
use serde::de::DeserializeOwned;

use super::body::{self, BodyMax};
use super::error::ApiError;

/// A query string.
pub struct Q<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Q<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Q<T>, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Q(query)).map_err(|e| ApiError::invalid(format!("query: {}", e.body_text())))
    }
}

/// The variable parts of a path. A name that is not legal names nothing: not found.
pub struct P<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for P<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<P<T>, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(path)| P(path)).map_err(|e| ApiError::not_found(e.body_text()))
    }
}

/// A whole body; its limit is the route's.
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Body, ApiError> {
        let max = request.extensions().get::<BodyMax>().map_or(0, |max| max.0);
        body::whole(request.into_body(), max).await.map(Body)
    }
}

/// A JSON body. Unlike axum's own it asks for no content type: `curl -d` sets a wrong one.
pub struct J<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequest<S> for J<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<J<T>, ApiError> {
        let Body(bytes) = Body::from_request(request, state).await?;
        serde_json::from_slice(&bytes).map(J).map_err(|e| ApiError::invalid(format!("body: {e}")))
    }
}

/// `If-Match: "12"`; `*` is any.
pub fn if_match(headers: &HeaderMap) -> Result<Option<Version>, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.trim_matches('"').parse().map(Version);
    version
        .map(Some)
        .map_err(|_| ApiError::invalid("If-Match is not a version: write \"12\", with the quotes"))
}

pub fn etag(version: Version) -> String {
    format!("\"{version}\"")
}

/// `k=v,k2=v2`, as in `prune` and `selector`. An empty text is an error: it would select everything.
pub fn labels(name: &str, text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let wrong = || ApiError::invalid(format!("{name}: '{text}' is not a list of labels: write k=v,k2=v2"));
    let pair = |part: &str| {
        let (key, value) = part.split_once('=')?;
        (!key.is_empty() && !value.contains('=')).then(|| (key.to_string(), value.to_string()))
    };
    text.split(',').map(|part| pair(part.trim()).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let pairs = labels("prune", "app=press, line=").unwrap();
        assert_eq!(pairs, [("app".into(), "press".into()), ("line".into(), String::new())]);
        for wrong in ["", "app", "=x", "a=b=c", "a=b,"] {
            assert!(labels("prune", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_version_is_quoted_or_not() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, value.parse().unwrap());
            if_match(&headers)
        };
        assert_eq!(with("\"12\"").unwrap(), Some(Version(12)));
        assert_eq!(with("12").unwrap(), Some(Version(12)));
        assert_eq!(with("*").unwrap(), None);
        assert!(with("\"W/12\"").is_err());
    }
}
