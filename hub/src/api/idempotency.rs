//! A request that is sent twice is done once: with an `Idempotency-Key` the first answer is kept and
//! given again. Kept in memory: after a restart of the hub `If-Match` and the versions remain.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use contract::Digest;
use contract::limits::MANIFEST_BYTES_MAX;

use super::App;
use super::auth::Asker;
use super::body;
use super::error::{ApiError, Code};

const KEY_BYTES_MAX: usize = 128;
/// Answers kept: 256 × ≤ 64 KiB = 16 MiB at the very worst, usually 256 × 1 KiB.
const KEPT_MAX: usize = 256;
const ANSWER_BYTES_MAX: usize = 64 << 10;

pub static HEADER: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Clones are the same memory.
#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    by_key: HashMap<String, Entry>,
    /// Oldest first; only finished ones.
    order: VecDeque<String>,
}

enum Entry {
    InProgress(Digest),
    Done { request: Digest, answer: Answer },
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

enum Begun {
    First(Turn),
    Again(Answer),
}

impl Answers {
    fn begin(&self, key: &str, request: Digest) -> Result<Begun, ApiError> {
        let mut kept = self.lock();
        match kept.by_key.get(key) {
            Some(Entry::InProgress(other) | Entry::Done { request: other, .. }) if *other != request => {
                Err(ApiError::invalid("this Idempotency-Key was used for another request; make a new one"))
            }
            Some(Entry::InProgress(_)) => Err(ApiError::new(
                Code::Unavailable,
                "the first request with this Idempotency-Key is not done yet",
            )),
            Some(Entry::Done { answer, .. }) => Ok(Begun::Again(answer.clone())),
            None if kept.by_key.len() >= KEPT_MAX + super::super::serve::handle::ASKS_MAX => {
                Err(ApiError::new(Code::Unavailable, "too many requests are in progress"))
            }
            None => {
                kept.by_key.insert(key.to_string(), Entry::InProgress(request));
                Ok(Begun::First(Turn { answers: self.clone(), key: key.to_string(), request, done: false }))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to do the request. Dropped without an answer, somebody else may try.
struct Turn {
    answers: Answers,
    key: String,
    request: Digest,
    done: bool,
}

impl Turn {
    fn keep(mut self, answer: Answer) {
        let mut kept = self.answers.lock();
        kept.by_key.insert(self.key.clone(), Entry::Done { request: self.request, answer });
        kept.order.push_back(self.key.clone());
        if kept.order.len() > KEPT_MAX {
            let oldest = kept.order.pop_front();
            oldest.and_then(|key| kept.by_key.remove(&key));
        }
        self.done = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.done {
            self.answers.lock().by_key.remove(&self.key);
        }
    }
}

/// Around the routes that change something.
pub async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    match request.headers().get(&HEADER).cloned() {
        None => next.run(request).await,
        Some(key) => match keyed(&app, &key, request, next).await {
            Ok(response) => response,
            Err(e) => e.into_response(),
        },
    }
}

async fn keyed(app: &App, key: &HeaderValue, request: Request, next: Next) -> Result<Response, ApiError> {
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
    let key = key.ok_or_else(|| ApiError::invalid("Idempotency-Key: 1 to 128 visible characters"))?;
    // Nobody gets another's answer by his key.
    let who = request.extensions().get::<Asker>().map(|asker| asker.name().to_string());
    let key = format!("{}\n{key}", who.unwrap_or_default());
    let (parts, body) = request.into_parts();
    let body = body::whole(body, MANIFEST_BYTES_MAX).await?;
    let head = format!("{} {}\n", parts.method, parts.uri);
    let fingerprint = Digest::of(&[head.as_bytes(), &body].concat());
    let turn = match app.answers.begin(&key, fingerprint)? {
        Begun::Again(answer) => return Ok(replay(answer)),
        Begun::First(turn) => turn,
    };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let (parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return Err(ApiError::new(Code::Internal, "the answer could not be read"));
    };
    // A failure of ours is no answer: the next try must be a real one.
    if !parts.status.is_server_error() && body.len() <= ANSWER_BYTES_MAX {
        let (status, headers) = (parts.status, parts.headers.clone());
        turn.keep(Answer { status, headers, body: body.clone() });
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replay(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    fn first(answers: &Answers, key: &str, request: &[u8]) -> Turn {
        match answers.begin(key, Digest::of(request)).unwrap() {
            Begun::First(turn) => turn,
            Begun::Again(_) => panic!("it was answered before"),
        }
    }

    #[test]
    fn one_key_is_one_request_and_one_answer() {
        let answers = Answers::default();
        let turn = first(&answers, "k", b"a");
        let second = answers.begin("k", Digest::of(b"a"));
        assert!(matches!(second, Err(e) if e.code == Code::Unavailable));
        turn.keep(answer(200));
        assert!(matches!(answers.begin("k", Digest::of(b"a")), Ok(Begun::Again(a)) if a.status == 200));
        assert!(matches!(answers.begin("k", Digest::of(b"b")), Err(e) if e.code == Code::Invalid));
        drop(first(&answers, "gave-up", b"a"));
        first(&answers, "gave-up", b"b").keep(answer(200));
    }

    #[test]
    fn the_memory_is_bounded() {
        let answers = Answers::default();
        for n in 0..KEPT_MAX + 10 {
            first(&answers, &n.to_string(), b"a").keep(answer(200));
        }
        let kept = answers.lock();
        assert_eq!((kept.by_key.len(), kept.order.len()), (KEPT_MAX, KEPT_MAX));
        assert!(!kept.by_key.contains_key("9") && kept.by_key.contains_key("10"));
    }
}
