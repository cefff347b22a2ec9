//! How a registry is shown who we are: its challenge answered with the password, or with a token that its
//! token service gives for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::ChallengeRef;
use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;

use super::http::{in_the_clear, secret};
use super::{PullError, Repository};

/// Tokens are a few kilobytes at most, or they would not fit a header.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Of one registry. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Login {
    fn basic(&self) -> Option<HeaderValue> {
        secret(&format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password))))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Repository<'_> {
    pub(super) fn token(&self) -> Option<HeaderValue> {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Do what the refused request was told to do.
    pub(super) async fn log_in(&self, refused: &Response) -> Result<(), PullError> {
        let headers = refused.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|h| h.to_str().ok());
        let headers: Vec<&str> = headers.collect();
        let challenges: Vec<ChallengeRef<'_>> =
            headers.iter().filter_map(|h| http_auth::parse_challenges(h).ok()).flatten().collect();
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme.eq_ignore_ascii_case(scheme));
        let token = match (of("bearer"), of("basic"), &self.login) {
            (Some(challenge), ..) => Some(self.fetch_token(challenge).await?),
            (None, Some(_), Some(login)) => login.basic(),
            _ => return Err(self.no_access("")),
        };
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = token;
        Ok(())
    }

    async fn fetch_token(&self, challenge: &ChallengeRef<'_>) -> Result<HeaderValue, PullError> {
        let param = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = param("realm").unwrap_or_default();
        let wrong = || self.refused(format!("{} names no token service that could be asked", self.host));
        let mut url: Url = realm.parse().map_err(|_| wrong())?;
        if let Some(host) = in_the_clear(&url, self.plain_http) {
            let why = format!(
                "{} sends us to {host} for a token, without TLS; that is not allowed for it",
                self.host
            );
            return Err(self.refused(why));
        }
        let scope = param("scope").unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = param("service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let mut request = self.client.get(url);
        if let Some(basic) = self.login.as_ref().and_then(Login::basic) {
            request = request.header(AUTHORIZATION, basic);
        }
        let answer = request.send().await.map_err(|e| self.unreachable(&e))?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_client_error() => return Err(self.no_access(&format!(" ({status})"))),
            status => return Err(self.fault(format!("the token service of {} answers {status}", self.host))),
        }
        let token: Token =
            serde_json::from_slice(&self.bounded(answer, TOKEN_BYTES_MAX).await?).map_err(|_| wrong())?;
        let token = token.token.or(token.access_token).ok_or_else(wrong)?;
        secret(&format!("Bearer {token}")).ok_or_else(wrong)
    }
}
