//! Who asks, and may he? The one place that decides it for every route: each names what it needs
//! (`Need`), and one that names nothing is refused to everybody.
//!
//! Boards come with their certificate; in plain, which is on this machine only, they need none: blobs are
//! checked by digest and signature. A ticket's name is its secret.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use contract::identity::Standing;
use contract::{Digest, Name};
use hub_core::access::guesses::Doorkeeper;
use hub_core::access::rights::{Grants, Kind, Many, Place, Verb};
use hub_core::access::{AccessRequest, BOOTSTRAP, By, TokenRecord, USED_APART_MS};
use hub_core::api::Request as Ask;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use super::App;
use super::error::{ApiError, Code};
use crate::audit::Deed;
use crate::serve::clock;
use crate::trust::{Via, wall_ms};

/// What a route needs of whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub verb: Verb,
    pub kind: Kind,
    pub scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Any good token: it asks about itself.
    Own,
    /// What belongs to no namespace.
    Hub,
    /// The namespace in the path.
    Path,
    /// Namespaces stand in the query or the body: the handler asks again (`Asker::check`), or shows no
    /// more than `Asker::sees`. Here: that it is allowed anywhere.
    Parts,
}

/// Only the digest is kept: comparing digests of equal length tells nothing by its duration.
#[derive(Debug, Clone)]
pub struct Token(Digest);

impl Token {
    pub fn new(token: &str) -> Token {
        Token(Digest::of(token.as_bytes()))
    }

    pub fn fits(&self, given: &str) -> bool {
        self.is(&Digest::of(given.as_bytes()))
    }

    fn is(&self, given: &Digest) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

/// Who asks, and what he may do.
#[derive(Debug, Clone)]
pub struct Asker {
    pub by: By,
    pub grants: Grants,
    /// The hub stops, or the token was revoked: what streams ends.
    pub ended: CancellationToken,
}

impl Asker {
    pub fn name(&self) -> &str {
        self.by.as_ref().map_or(BOOTSTRAP, Name::as_str)
    }

    /// The namespaces in which he may.
    pub fn sees(&self, verb: Verb, kind: Kind) -> Many<Name> {
        self.grants.reach(verb, kind)
    }

    pub async fn check(&self, app: &App, verb: Verb, kind: Kind, place: Place<'_>) -> Result<(), ApiError> {
        if self.grants.may(verb, kind, place) {
            return Ok(());
        }
        let place = match place {
            Place::In(namespace) => format!(" in the namespace '{namespace}'"),
            Place::Hub if !self.grants.reach(verb, kind).is_empty() => {
                " of the hub as a whole, but in some namespaces only".to_string()
            }
            Place::Hub | Place::Somewhere => String::new(),
        };
        let could = app.hub.look(move |core, _| core.access().who_could(verb, kind)).await?;
        let message = format!("the token '{}' may not '{verb} {kind}'{place}; {could}", self.name());
        Err(ApiError::new(Code::Forbidden, message))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Asker, ApiError> {
        let asker = parts.extensions.get::<Asker>().cloned();
        asker.ok_or_else(|| ApiError::new(Code::Internal, "nobody was asked who asks"))
    }
}

/// Around every route that is not open.
pub async fn check(State((app, need)): State<(App, Option<Need>)>, request: Request, next: Next) -> Response {
    checked(app, need, request, next).await.unwrap_or_else(|e| e.into_response())
}

async fn checked(app: App, need: Option<Need>, request: Request, next: Next) -> Result<Response, ApiError> {
    let from = request.extensions().get::<Via>().map(|via| via.from);
    let source = from.map_or_else(String::new, |from| source(from.ip()));
    let (mut parts, body) = request.into_parts();
    let mut deed = Deed::new(from, &parts);
    let asker = match identify(&app, &parts, &source).await {
        Ok(asker) => asker,
        Err(e) => {
            // The answer to whoever must wait is no news.
            if e.status() == StatusCode::UNAUTHORIZED && parts.headers.contains_key(header::AUTHORIZATION) {
                app.audit.denied(deed.ended(e.status(), &e.message));
            }
            return Err(e);
        }
    };
    deed.who = asker.name().to_string();
    let allowed = match need {
        Some(need) => allowed(&app, &asker, need, &mut parts, &mut deed).await,
        None => Err(ApiError::new(Code::Forbidden, "no rule says who may use this route")),
    };
    if let Err(e) = allowed {
        app.audit.denied(deed.ended(e.status(), &e.message));
        return Err(e);
    }
    parts.extensions.insert(asker);
    let request = Request::from_parts(parts, body);
    match need {
        Some(need) if need.verb != Verb::Get => app.audit.around(deed, request, next).await,
        _ => Ok(next.run(request).await),
    }
}

async fn allowed(
    app: &App,
    asker: &Asker,
    need: Need,
    parts: &mut Parts,
    deed: &mut Deed,
) -> Result<(), ApiError> {
    (deed.verb, deed.kind) = (need.verb.to_string(), need.kind.to_string());
    match need.scope {
        Scope::Own => Ok(()),
        Scope::Hub => asker.check(app, need.verb, need.kind, Place::Hub).await,
        Scope::Parts => asker.check(app, need.verb, need.kind, Place::Somewhere).await,
        Scope::Path => {
            let params = RawPathParams::from_request_parts(parts, &()).await;
            let params = params.map_err(|e| ApiError::not_found(e.to_string()))?;
            let named = params.iter().find(|(name, _)| *name == "namespace").map(|(_, value)| value);
            // A name that is not legal names nothing.
            let namespace: Name = named
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| ApiError::not_found("there is no such namespace"))?;
            deed.namespace = Some(namespace.to_string());
            asker.check(app, need.verb, need.kind, Place::In(&namespace)).await
        }
    }
}

/// Around what boards fetch: a board in good standing, or an operator.
pub async fn agent(State((app, need)): State<(App, Option<Need>)>, request: Request, next: Next) -> Response {
    let Some(via) = request.extensions().get::<Via>().filter(|via| via.encrypted) else {
        return next.run(request).await;
    };
    let Some(peer) = via.peer.clone() else { return check(State((app, need)), request, next).await };
    match app.door.standing(&app.hub, &peer).await {
        Ok(known) if known.standing == Standing::Good => next.run(request).await,
        Ok(known) => {
            let message = format!("{} is not let in: {}", peer.agent, known.reason);
            ApiError::new(Code::Unauthorized, message).into_response()
        }
        Err(why) => ApiError::from(why).into_response(),
    }
}

const HOW: &str = "send 'Authorization: Bearer <token>'. Whoever has the role admin makes one ('hub token create'); 'hub login' keeps it; the first stands in the file 'token' of the hub's data directory";

async fn identify(app: &App, parts: &Parts, source: &str) -> Result<Asker, ApiError> {
    let denied = |message: String| ApiError::new(Code::Unauthorized, message);
    let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
        return Err(denied(format!("no token: {HOW}")));
    };
    let given = value.to_str().ok().and_then(|value| value.split_once(' '));
    let Some((_, token)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(denied("the Authorization header is not 'Bearer <token>'".into()));
    };
    let (token, boot_ms) = (token.trim(), clock::now().boot_ms);
    let digest = Digest::of(token.as_bytes());
    if let Some(wait_ms) = app.keeper.lock().wait_ms(boot_ms, source, &digest) {
        let secs = wait_ms / 1000 + 1;
        let message = format!("too many wrong tokens from {source}: come back in {secs} s");
        return Err(denied(message).with_status(StatusCode::TOO_MANY_REQUESTS));
    }
    let asker = match app.token.is(&digest) {
        true => Ok(Asker { by: None, grants: Grants::all(), ended: app.stop.clone() }),
        false => operator(app, token, &digest, source).await?,
    };
    match asker {
        Ok(asker) => {
            app.keeper.lock().right(source, digest);
            Ok(asker)
        }
        Err(Wrong::Unknown) => {
            app.keeper.lock().wrong(boot_ms, source, digest);
            Err(denied(format!("the token is not one of this hub's, or was revoked: {HOW}")))
        }
        // Whoever has it had it: no guess.
        Err(Wrong::Ended(name)) => Err(denied(format!(
            "the token '{name}' has expired; whoever has the role admin makes another: hub token create"
        ))),
    }
}

enum Wrong {
    Unknown,
    Ended(Name),
}

/// `skerry_<name>_<secret>`: found by its name, so that what is compared with the secret is one digest,
/// in constant time.
async fn operator(
    app: &App,
    token: &str,
    digest: &Digest,
    source: &str,
) -> Result<Result<Asker, Wrong>, ApiError> {
    let name = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')?.0.parse::<Name>().ok());
    let Some(name) = name else { return Ok(Err(Wrong::Unknown)) };
    // Taken before it is looked up: a revocation in between ends it.
    let ended = app.keeper.ended(&name, &app.stop);
    let known = {
        let name = name.clone();
        app.hub.look(move |core, _| {
            let token = core.access().tokens.get(&name)?;
            Some((token.clone(), core.access().grants(token)))
        })
    };
    let Some((record, grants)) = known.await? else {
        app.keeper.cut(&name);
        return Ok(Err(Wrong::Unknown));
    };
    if !bool::from(record.secret.as_bytes().ct_eq(digest.as_bytes())) {
        return Ok(Err(Wrong::Unknown));
    }
    if record.ends_wall_ms.is_some_and(|ends| ends <= wall_ms()) {
        return Ok(Err(Wrong::Ended(name)));
    }
    note_use(app, &name, &record, source);
    Ok(Ok(Asker { by: Some(name), grants, ended }))
}

pub const PREFIX: &str = "skerry_";

/// Nobody waits for it: a lost note of a use is one hour of a date.
fn note_use(app: &App, name: &Name, record: &TokenRecord, source: &str) {
    if record.used_wall_ms.is_some_and(|used| wall_ms() < used.saturating_add(USED_APART_MS)) {
        return;
    }
    let (hub, used) = (app.hub.clone(), AccessRequest::Used { name: name.clone(), from: source.into() });
    tokio::spawn(async move { drop(hub.request(Ask::Access(used)).await) });
}

/// Who counts as one guesser: an address, and of IPv6 the network that one customer has.
fn source(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// One for all connections.
#[derive(Default)]
pub struct Keeper {
    door: Mutex<Doorkeeper>,
    /// By token's name: as many as there are tokens.
    inside: Mutex<HashMap<Name, CancellationToken>>,
}

impl Keeper {
    fn lock(&self) -> MutexGuard<'_, Doorkeeper> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, name: &Name, stop: &CancellationToken) -> CancellationToken {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.entry(name.clone()).or_insert_with(|| stop.child_token()).clone()
    }

    /// Once it is durable that it lets nobody in: whoever is in with it is out.
    pub fn cut(&self, name: &Name) {
        let gone = self.inside.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        gone.inspect(CancellationToken::cancel);
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

    #[test]
    fn a_customer_is_one_source() {
        assert_eq!(source("10.1.2.3".parse().unwrap()), "10.1.2.3");
        assert_eq!(source("::ffff:10.1.2.3".parse().unwrap()), "10.1.2.3");
        assert_eq!(source("2001:db8:1:2:3::4".parse().unwrap()), "2001:db8:1:2::/64");
    }
}
