//! What is asked of a registry, and what its answers mean: every answer bounded, every wait with an end,
//! no password sent to anybody but the registry and its token service, nothing in the clear unless told.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::{Options, PullError, Repository};

/// A registry that says nothing for so long is taken for gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// A registry hands layers out from elsewhere: one step, or two behind a balancer.
const REDIRECTS_MAX: usize = 5;
/// Of what a registry says about an error.
const COMPLAINT_BYTES_MAX: u64 = 16 << 10;
/// So long in all is waited because a registry asked for it; more is an error that says so.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(60);

pub(super) fn client(options: &Options) -> Result<reqwest::Client, String> {
    // Somebody else in this process may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = Vec::new();
    for pem in &options.roots {
        roots.extend(reqwest::Certificate::from_pem_bundle(pem).map_err(|e| chain(&e))?);
    }
    let plain = options.plain_http.clone();
    let follow = redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
        }
        match in_the_clear(attempt.url(), &plain) {
            Some(host) => attempt
                .error(format!("it redirects to {host} without TLS, which is not allowed for that host")),
            None => attempt.follow(),
        }
    });
    let builder = reqwest::Client::builder()
        .tls_certs_merge(roots)
        .redirect(follow)
        .referer(false)
        .connect_timeout(CONNECT_MAX)
        .read_timeout(SILENCE_MAX)
        .user_agent(concat!("skerry/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|e| chain(&e))
}

/// The host, if this would be spoken without TLS to one that nobody named for it.
pub(super) fn in_the_clear(url: &Url, plain: &[String]) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    let full = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    let short = if url.port().is_none() { host } else { &full };
    let named = plain.iter().any(|named| named == short || *named == full);
    (url.scheme() != "https" && !named).then(|| short.to_string())
}

/// The OCI shape of an error.
#[derive(Deserialize)]
struct Complaint {
    errors: Vec<Error>,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Repository<'_> {
    /// One answer with what was asked for in it, or why there is none.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        from: u64,
    ) -> Result<Response, PullError> {
        let (mut logged_in, mut waited) = (false, Duration::ZERO);
        loop {
            let response = self.send(method.clone(), path, accept, from).await?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED if !logged_in => {
                    self.log_in(&response).await?;
                    logged_in = true;
                }
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                    let wait = self.asked_wait(&response, waited)?;
                    waited += wait;
                    tokio::time::sleep(wait).await;
                }
                _ => return Err(self.complaint(response).await),
            }
        }
    }

    async fn send(&self, method: Method, path: &str, accept: &str, from: u64) -> Result<Response, PullError> {
        let url = format!("{}://{}/v2/{}/{path}", self.scheme(), self.host, self.repository);
        let mut request = self.client.request(method, url).header(ACCEPT, accept);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token() {
            request = request.header(AUTHORIZATION, token);
        }
        request.send().await.map_err(|e| self.unreachable(&e))
    }

    fn scheme(&self) -> &'static str {
        if self.plain_http.contains(&self.host) { "http" } else { "https" }
    }

    /// How long to wait, if the registry says so and it is bearable.
    fn asked_wait(&self, response: &Response, waited: Duration) -> Result<Duration, PullError> {
        let (host, status) = (&self.host, response.status());
        let asked = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let what =
            if status == StatusCode::TOO_MANY_REQUESTS { "too many requests" } else { "it is overloaded" };
        let Some(seconds) = asked else {
            return Err(self.fault(format!("{host} answers: {what} ({status})")));
        };
        // Never at once: zero would be asked again without end.
        let wait = Duration::from_secs(seconds).max(Duration::from_secs(1));
        if waited + wait > ASKED_WAIT_MAX {
            let why =
                format!("{host} answers: {what}, try again after {seconds} s; a login may be allowed more");
            return Err(PullError::Later { image: self.image.to_string(), why });
        }
        Ok(wait)
    }

    /// An error status in one line.
    async fn complaint(&self, response: Response) -> PullError {
        let (host, status) = (&self.host, response.status());
        let body = body(response, COMPLAINT_BYTES_MAX).await.unwrap_or_default();
        let said = serde_json::from_slice::<Complaint>(&body).ok();
        let said = said.and_then(|c| c.errors.into_iter().next()).map(|e| {
            let text = if e.message.is_empty() { e.code } else { e.message };
            format!(": {}", contract::field::shown(&text))
        });
        let said = said.unwrap_or_default();
        match status {
            StatusCode::NOT_FOUND => self.refused(format!("there is no such image at {host}{said}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_access(&said),
            _ if status.is_client_error() => self.refused(format!("{host} answers {status}{said}")),
            _ => self.fault(format!("{host} answers {status}{said}")),
        }
    }

    pub(super) fn no_access(&self, said: &str) -> PullError {
        let with = if self.login.is_some() { "with this login" } else { "without a login" };
        self.refused(format!(
            "{} refuses access {with}{said}; 'docker login {}' writes what is read here",
            self.host, self.host
        ))
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> PullError {
        // The address stands in the message already, and a token service's may hold more than it should.
        let text = chain(error);
        let url = error.url().map(Url::to_string).unwrap_or_default();
        let text = text.replace(&format!(" for url ({url})"), "");
        self.fault(format!("{}: {}", self.host, contract::limits::clip(&text)))
    }

    /// A document, whole.
    pub(super) async fn bounded(&self, response: Response, max: u64) -> Result<Vec<u8>, PullError> {
        match body(response, max).await {
            Ok(bytes) => Ok(bytes),
            Err(Cut::TooLong) => {
                Err(self.refused(format!("{} sends more than {max} bytes as a document", self.host)))
            }
            Err(Cut::Broken(e)) => Err(self.unreachable(&e)),
        }
    }
}

pub(super) enum Cut {
    TooLong,
    Broken(reqwest::Error),
}

pub(super) async fn body(mut response: Response, max: u64) -> Result<Vec<u8>, Cut> {
    if response.content_length().is_some_and(|n| n > max) {
        return Err(Cut::TooLong);
    }
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Cut::Broken)? {
        if (bytes.len() + piece.len()) as u64 > max {
            return Err(Cut::TooLong);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

pub(super) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(super) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_hosts_are_spoken_to_in_the_clear() {
        let plain = ["r.local:5000".to_string(), "old.local".into()];
        let of = |url: &str| in_the_clear(&url.parse().unwrap(), &plain);
        assert_eq!(of("https://any.io/x"), None);
        assert_eq!(of("http://r.local:5000/v2/"), None);
        assert_eq!(of("http://old.local/v2/"), None);
        assert_eq!(of("http://r.local/v2/").as_deref(), Some("r.local"));
        assert_eq!(of("http://169.254.1.1:80/").as_deref(), Some("169.254.1.1"));
    }
}
