//! The hub over HTTP: nothing else is used. Every answer is read within a limit, every error is
//! turned into words and an exit code.

use std::io::{BufReader, Read as _};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::context::Context;
use super::exit::{Code, Done, Failure};
use super::files::Manifests;
use crate::api::error::{Code as ApiCode, Detail, ErrorBody};

/// A list of 10,000 workloads of 4 KiB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// A hub answers within 60 s or says why not.
const ANSWER_WAIT: Duration = Duration::from_secs(90);

pub struct Client {
    http: ureq::Agent,
    /// For what may fetch images before it answers.
    fetches: ureq::Agent,
    streams: ureq::Agent,
    pub context: Context,
}

impl Client {
    pub fn new(context: Context) -> Done<Client> {
        let tls = tls(context.ca()?)?;
        let config = || {
            let config = ureq::Agent::config_builder().http_status_as_error(false);
            config.timeout_connect(Some(CONNECT_WAIT)).tls_config(tls.clone())
        };
        let http = config().timeout_global(Some(ANSWER_WAIT)).build().new_agent();
        let fetches =
            config().timeout_global(Some(crate::api::FETCH_WAIT_MAX + ANSWER_WAIT)).build().new_agent();
        // A stream lives as long as somebody looks; the hub says something every 15 s.
        let streams = config().build().new_agent();
        Ok(Client { http, fetches, streams, context })
    }

    /// Text that anybody may read.
    pub fn text(&self, path: &str) -> Done<String> {
        text_of(self.checked(self.http.get(self.url(path)).call())?)
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Done<T> {
        let request = self.http.get(self.url(path)).header("authorization", self.bearer()?);
        self.read(request.call())
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, content_type: &str, body: &[u8]) -> Done<T> {
        let request = self.http.put(self.url(path)).header("authorization", self.bearer()?);
        self.read(request.header("content-type", content_type).send(body))
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Done<T> {
        let request = self.http.delete(self.url(path)).header("authorization", self.bearer()?);
        self.read(request.call())
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, content_type: &str, body: &[u8]) -> Done<T> {
        let request = self.http.post(self.url(path)).header("authorization", self.bearer()?);
        self.read(request.header("content-type", content_type).send(body))
    }

    /// As `post`; what is wrong is told with the file and the line it is in.
    pub fn post_manifests<T: DeserializeOwned>(&self, path: &str, manifests: &Manifests) -> Done<T> {
        let request = self.fetches.post(self.url(path)).header("authorization", self.bearer()?);
        let sent = request.header("content-type", "application/yaml").send(manifests.text.as_bytes());
        let response = self.checked_at(sent, &|detail| {
            let (file, line) = manifests.place(detail.line?);
            Some(format!("{file}:{line}{}", detail.column.map(|n| format!(":{n}")).unwrap_or_default()))
        });
        read(response?)
    }

    /// Streamed: an artefact may be larger than one wants in memory.
    pub fn upload<T: DeserializeOwned>(&self, path: &str, from: impl std::io::Read, bytes: u64) -> Done<T> {
        let request = self.streams.post(self.url(path)).header("authorization", self.bearer()?);
        let request = request.header("content-length", bytes.to_string());
        let request = request.header("content-type", "application/octet-stream");
        let mut from = from.take(bytes);
        self.read(request.send(ureq::SendBody::from_reader(&mut from)))
    }

    /// A stream of server-sent events.
    pub fn stream(&self, path: &str, last_id: Option<u64>) -> Done<BufReader<Box<dyn std::io::Read + Send>>> {
        let mut request = self.streams.get(self.url(path)).header("authorization", self.bearer()?);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id.to_string());
        }
        let response = self.checked(request.call())?;
        Ok(BufReader::new(Box::new(response.into_body().into_reader())))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.context.hub.trim_end_matches('/'))
    }

    pub fn bearer(&self) -> Done<String> {
        Ok(format!("Bearer {}", self.context.token()?))
    }

    fn read<T: DeserializeOwned>(&self, sent: Result<Response<Body>, ureq::Error>) -> Done<T> {
        read(self.checked(sent)?)
    }

    fn checked(&self, sent: Result<Response<Body>, ureq::Error>) -> Done<Response<Body>> {
        self.checked_at(sent, &|detail| {
            let numbers = [detail.line, detail.column].into_iter().flatten();
            Some(numbers.map(|n| n.to_string()).collect::<Vec<_>>().join(":"))
        })
    }

    fn checked_at(
        &self,
        sent: Result<Response<Body>, ureq::Error>,
        place: &Place<'_>,
    ) -> Done<Response<Body>> {
        let response = sent.map_err(|why| self.unreachable(&why))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(self.refused_at(status, &text_of(response)?, place))
    }

    /// What an answer that is an error says.
    pub fn refused(&self, status: u16, text: &str) -> Failure {
        self.refused_at(status, text, &|_| None)
    }

    fn refused_at(&self, status: u16, text: &str, place: &Place<'_>) -> Failure {
        match serde_json::from_str::<ErrorBody>(text) {
            Ok(body) => {
                Failure::new(code(body.error.code), told(&body.error.message, &body.error.details, place))
            }
            Err(_) => {
                let text = contract::limits::clip(text.trim());
                Failure::new(
                    Code::Internal,
                    format!("{} answered {status}, not as a hub would: {text}", self.context.hub),
                )
            }
        }
    }

    fn unreachable(&self, why: &ureq::Error) -> Failure {
        let code = if matches!(why, ureq::Error::Timeout(_)) { Code::Timeout } else { Code::Unreachable };
        Failure { code, ..self.unreachable_because(why) }
    }

    pub fn unreachable_because(&self, why: &dyn std::fmt::Display) -> Failure {
        let (hub, from) = (&self.context.hub, &self.context.hub_from);
        Failure::new(
            Code::Unreachable,
            format!(
                "no hub at {hub} ({from}): {why}\nStart one with 'hub serve --data DIR', or name another with --hub or 'hub context set'."
            ),
        )
    }
}

/// What somebody says whom nobody vouches for: to be compared with what is known of him, and no token
/// goes there.
pub fn stranger(url: &str, path: &str) -> Done<String> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider).disable_verification(true);
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).tls_config(tls.build());
    let sent = config.build().new_agent().get(format!("{}{path}", url.trim_end_matches('/'))).call();
    text_of(sent.map_err(|why| Failure::new(Code::Unreachable, format!("no hub at {url}: {why}")))?)
}

/// Nobody but the hub's own CA is believed.
fn tls(ca: Option<String>) -> Done<TlsConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    let Some(pem) = ca else { return Ok(config.build()) };
    let wrong =
        |why| Failure::new(Code::Unreachable, format!("the hub's CA certificate cannot be read: {why}"));
    let certificate = Certificate::from_pem(pem.as_bytes()).map_err(wrong)?;
    Ok(config.root_certs(RootCerts::new_with_certs(&[certificate])).build())
}

/// Where a mistake is, in the words of whoever made it.
type Place<'a> = dyn Fn(&Detail) -> Option<String> + 'a;

fn read<T: DeserializeOwned>(response: Response<Body>) -> Done<T> {
    serde_json::from_str(&text_of(response)?).map_err(|why| {
        Failure::new(
            Code::Internal,
            format!("the hub's answer cannot be read ({why}): is it of another version?"),
        )
    })
}

fn text_of(response: Response<Body>) -> Done<String> {
    let mut text = String::new();
    response.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn code(code: ApiCode) -> Code {
    match code {
        ApiCode::Invalid | ApiCode::TooLarge => Code::Invalid,
        ApiCode::NotFound => Code::NotFound,
        ApiCode::Conflict => Code::Conflict,
        ApiCode::Unauthorized | ApiCode::Forbidden => Code::Unreachable,
        ApiCode::Unavailable | ApiCode::Internal => Code::Internal,
    }
}

/// The message, then every detail on its own line with where it is.
fn told(message: &str, details: &[Detail], place: &Place<'_>) -> String {
    // One thing is said once.
    let alone = matches!(details, [one] if one.reason == message);
    let mut text = if alone { String::new() } else { message.to_string() };
    for detail in details {
        text += if alone { "" } else { "\n  " };
        let at = place(detail).unwrap_or_default();
        for part in [at.as_str(), detail.workload.as_deref().unwrap_or(""), detail.path.as_str()] {
            if !part.is_empty() {
                text += &format!("{part}: ");
            }
        }
        text += &detail.reason;
        if let Some(suggestion) = &detail.suggestion
            && !detail.reason.contains(suggestion.as_str())
        {
            text += &format!(" (write: {suggestion})");
        }
    }
    text
}

/// For a query or path: everything but what is plainly safe is escaped.
pub fn escape(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b':');
    text.bytes().map(|b| if safe(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

/// `?a=b&c=d` of what is there.
pub fn query(parts: &[(&str, Option<String>)]) -> String {
    let given = parts.iter().filter_map(|(key, value)| Some(format!("{key}={}", escape(value.as_ref()?))));
    let joined = given.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_say_where_and_what() {
        let detail = Detail {
            line: Some(7),
            column: Some(3),
            path: "spec.replica".into(),
            reason: "is not a field".into(),
            suggestion: Some("replicas".into()),
            ..Detail::default()
        };
        assert_eq!(
            told("refused", &[detail], &|d| Some(format!("a.yaml:{}", d.line?))),
            "refused\n  a.yaml:7: spec.replica: is not a field (write: replicas)"
        );
    }

    #[test]
    fn a_query_holds_what_is_given() {
        assert_eq!(query(&[("a", None), ("b", Some("x=1,y&z".into()))]), "?b=x%3D1%2Cy%26z");
        assert_eq!(query(&[("a", None)]), "");
    }
}
