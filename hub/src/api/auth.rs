//! Who may ask. One bearer token, made at the first start; whoever can read its file is an operator.
//! Boards come with their certificate; in plain, which is on this machine only, they need none: blobs are
//! checked by digest and signature. A ticket's name is its secret.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use contract::Digest;
use contract::identity::Standing;
use subtle::ConstantTimeEq as _;

use super::App;
use super::error::{ApiError, Code};
use crate::trust::Via;

/// Only the digest is kept: comparing digests of equal length tells nothing by its duration.
#[derive(Debug, Clone)]
pub struct Token(Digest);

impl Token {
    pub fn new(token: &str) -> Token {
        Token(Digest::of(token.as_bytes()))
    }

    pub fn fits(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(Digest::of(given.as_bytes()).as_bytes()).into()
    }
}

/// Around every route that is not open.
pub async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let message = match given.map(|value| value.split_once(' ')) {
        Some(Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => {
            if app.token.fits(token.trim()) {
                return next.run(request).await;
            }
            "the token is not this hub's"
        }
        Some(_) => "the Authorization header is not 'Bearer <token>'",
        None => {
            "no token: send 'Authorization: Bearer <token>'; it stands in the file 'token' of the hub's data directory"
        }
    };
    ApiError::new(Code::Unauthorized, message).into_response()
}

/// Around what boards fetch: a board in good standing, or an operator.
pub async fn agent(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(via) = request.extensions().get::<Via>().filter(|via| via.encrypted) else {
        return next.run(request).await;
    };
    let Some(peer) = via.peer.clone() else { return check(State(app), request, next).await };
    match app.door.standing(&app.hub, &peer).await {
        Ok(known) if known.standing == Standing::Good => next.run(request).await,
        Ok(known) => {
            let message = format!("{} is not let in: {}", peer.agent, known.reason);
            ApiError::new(Code::Unauthorized, message).into_response()
        }
        Err(why) => ApiError::from(why).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_fits() {
        let token = Token::new("a-token-of-some-length");
        assert!(token.fits("a-token-of-some-length"));
        for wrong in ["", "a-token-of-some-lengtH", "a-token-of-some-length "] {
            assert!(!token.fits(wrong));
        }
    }
}
