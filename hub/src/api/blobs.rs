//! How agents fetch artefacts: whole or from where a bad link broke, each byte under the digest in its
//! address. Compiled code comes with a signed statement of what it is.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use contract::Digest;
use contract::codec::{self, Kind};
use contract::message::Compiled;
use hub_core::Core;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom};
use tokio_util::io::ReaderStream;

use super::App;
use super::error::{ApiError, Code};
use super::extract::{P, Q};

/// Read from disk in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// What part of a blob an answer carries.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// First and last byte.
    Range(u64, u64),
    Unsatisfiable,
}

pub async fn get(
    State(app): State<App>,
    method: Method,
    P(digest): P<Digest>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let etag = format!("\"{digest}\"");
    let matches = |value: &HeaderValue| value.to_str().is_ok_and(|v| v == "*" || v.contains(&etag));
    let open = tokio::fs::File::open(app.artifacts.path(&digest)).await;
    let mut file = open.map_err(|_| ApiError::not_found(format!("no blob {digest}")))?;
    let size = file.metadata().await.map_err(|e| ApiError::new(Code::Internal, e.to_string()))?.len();
    let mut response = Response::new(Body::empty());
    let answer = response.headers_mut();
    answer.insert(header::ETAG, value(&etag));
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // Named by its digest: it can never be anything else.
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
    if headers.get(header::IF_NONE_MATCH).is_some_and(matches) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let (first, length) = match part(&headers, &etag, size) {
        Part::Whole => (0, size),
        Part::Range(first, last) => {
            answer.insert(header::CONTENT_RANGE, value(&format!("bytes {first}-{last}/{size}")));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (first, last - first + 1)
        }
        Part::Unsatisfiable => return Ok(unsatisfiable(size)),
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, value(&length.to_string()));
    if method != Method::HEAD {
        let fault = |e: std::io::Error| ApiError::new(Code::Internal, e.to_string());
        file.seek(SeekFrom::Start(first)).await.map_err(fault)?;
        let stream = ReaderStream::with_capacity(file.take(length), PIECE_BYTES);
        *response.body_mut() = Body::from_stream(stream);
    }
    Ok(response)
}

/// One range is served as such; several, or what cannot be read, as the whole (RFC 9110 §14.2).
fn part(headers: &HeaderMap, etag: &str, size: u64) -> Part {
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Part::Whole;
    };
    // A range of another content would be worse than none.
    if headers.get(header::IF_RANGE).is_some_and(|wanted| wanted != etag) {
        return Part::Whole;
    }
    let Ok(parsed) = http_range_header::parse_range_header(range) else { return Part::Whole };
    if parsed.ranges.len() != 1 {
        return Part::Whole;
    }
    match parsed.validate(size) {
        Ok(ranges) => ranges.first().map_or(Part::Whole, |range| Part::Range(*range.start(), *range.end())),
        Err(_) => Part::Unsatisfiable,
    }
}

fn unsatisfiable(size: u64) -> Response {
    let e = ApiError::invalid(format!("the range lies outside the blob, which has {size} bytes"));
    let mut response = e.with_status(StatusCode::RANGE_NOT_SATISFIABLE).into_response();
    response.headers_mut().insert(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
    response
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and hexadecimal")
}

#[derive(Deserialize, JsonSchema)]
pub struct StatementQuery {
    /// The digest of what was pushed.
    source: Option<String>,
    /// The engine id.
    engine: Option<String>,
}

/// Signed when asked for: the record in the hub's store says what the blob is, and the signature
/// costs less than keeping it.
pub async fn statement(
    State(app): State<App>,
    P(digest): P<Digest>,
    Q(query): Q<StatementQuery>,
) -> Result<Response, ApiError> {
    let source = query.source.map(|source| source.parse::<Digest>()).transpose();
    let source = source.map_err(|e| ApiError::invalid(format!("source: {e}")))?;
    let fits = move |compiled: &Compiled| {
        compiled.digest == digest
            && source.is_none_or(|source| source == compiled.source)
            && query.engine.as_ref().is_none_or(|engine| *engine == compiled.engine)
    };
    let found = app.hub.look(move |core, _| find(core, source, fits)).await?;
    let compiled =
        found.ok_or_else(|| ApiError::not_found(format!("nothing was compiled to {digest} for that")))?;
    let sealed = codec::seal(Kind::Compiled, &compiled, Some(&*app.key));
    let sealed = sealed.map_err(|e| ApiError::new(Code::Internal, e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, codec::PLAIN)], sealed).into_response())
}

fn find(core: &Core, source: Option<Digest>, fits: impl Fn(&Compiled) -> bool) -> Option<Compiled> {
    let artifacts = match source {
        // Agents always say it: one look instead of a search.
        Some(source) => core.artifact(&source.to_string()).into_iter().collect(),
        None => core.artifacts(),
    };
    artifacts.iter().flat_map(super::artifacts::compiled).find(|compiled| fits(compiled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, if_range: Option<&str>) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(tag) = if_range {
            headers.insert(header::IF_RANGE, tag.parse().unwrap());
        }
        part(&headers, "\"t\"", 10)
    }

    #[test]
    fn a_range_is_served_only_when_it_means_one_part_of_this_blob() {
        assert_eq!(asked("bytes=2-5", None), Part::Range(2, 5));
        assert_eq!(asked("bytes=7-", None), Part::Range(7, 9));
        assert_eq!(asked("bytes=7-99", None), Part::Range(7, 9));
        assert_eq!(asked("bytes=-3", None), Part::Range(7, 9));
        assert_eq!(asked("bytes=10-", None), Part::Unsatisfiable);
        assert_eq!(asked("bytes=7-", Some("\"t\"")), Part::Range(7, 9));
        assert_eq!(asked("bytes=7-", Some("\"other\"")), Part::Whole);
        assert_eq!(asked("bytes=0-1,3-4", None), Part::Whole);
        assert_eq!(asked("lines=1-2", None), Part::Whole);
    }
}
