//! The native API: requests to the store, and what it says to statuses. The only place that knows
//! both.

mod body;
mod dump;
mod list;
pub mod query;

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue, LOCATION, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Version};

use crate::access::{Access, Right};
use crate::error::Error;
use crate::index::IndexError;
use crate::key::Key;
use crate::record::{self, State};
use crate::store::{self, Located, Store};

pub(crate) use body::ClientBody;
pub use body::{Broken, Outgoing};
use query::{BadUrl, Query, percent_decode};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const KEY_VOLUMES: HeaderName = HeaderName::from_static("key-volumes");
const KEY_BALANCE: HeaderName = HeaderName::from_static("key-balance");

const METHODS: &str = "GET, HEAD, PUT, DELETE, UNLINK, RELINK, REBALANCE";

/// What a volume can store under one name, in bytes.
pub(crate) const LONGEST_FILE: u64 = i64::MAX.cast_unsigned();

/// What asks a client for credentials, …
const REALM: &str = "Basic realm=\"davkv\"";
/// … and in words.
const LOG_IN: &str = "this wants a key: send its access and its secret (HTTP Basic), or its secret (Bearer)";

/// What a client may try again after, in seconds.
const RETRY_SECONDS: &str = "1";

/// The native API over a store.
#[derive(Clone)]
pub struct Api {
    store: Store,
    /// Where GETs of keys that don't exist are sent.
    fallback: Option<Arc<str>>,
    access: Access,
}

/// A request that is refused before the store hears of it, or by it.
pub(crate) enum Refusal {
    /// The request makes no sense; says why.
    Bad(String),
    Method,
    /// Who asks must say who they are, or has said it wrongly; says how.
    Unauthenticated(String),
    /// Who asks may not do this; says what.
    Forbidden(String),
    /// There is too much of it now; says of what.
    Later(String),
    Store(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<IndexError> for Refusal {
    fn from(failure: IndexError) -> Self {
        Self::Store(failure.into())
    }
}

impl From<BadUrl> for Refusal {
    fn from(bad: BadUrl) -> Self {
        Self::Bad(bad.to_string())
    }
}

pub(crate) type Answer = Response<Outgoing>;

impl Api {
    /// Serves that store to those who have access.
    #[must_use]
    pub fn new(store: Store, fallback: Option<&str>, access: Access) -> Self {
        Self { store, fallback: fallback.map(Arc::from), access }
    }

    /// Answers one request, and logs it if it failed.
    ///
    /// # Errors
    ///
    /// Never: failures are answers, too.
    pub async fn answer(self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (head, body) = request.into_parts();
        let (method, target) = (&head.method, head.uri.path_and_query().map_or("", PathAndQuery::as_str));
        let answer = answered(method, target, self.route(&head, body)).await;
        let status = answer.status().as_u16();
        tracing::debug!(%method, target = escaped(target), status, "answered");
        Ok(answer)
    }

    async fn route(&self, head: &Parts, body: Incoming) -> Result<Answer, Refusal> {
        // from here on the body is read to its end or away, however this turns out
        let body = ClientBody::new(body, head.headers.contains_key(EXPECT));
        check_framing(head.version, &head.headers)?;
        let key = key(head.uri.path())?;
        let query = head.uri.query().filter(|query| !query.is_empty());
        self.admit(head, &key, query)?;
        if let Some(query) = query {
            if query == dump::QUERY {
                return dump::answer(&self.store, &head.method, &key).await;
            }
            let query = Query::parse(query)?;
            return match head.method {
                Method::GET => list::answer(&self.store, &key, query, true).await,
                Method::HEAD => list::answer(&self.store, &key, query, false).await,
                _ => Err(Refusal::Bad("a query goes with GET or HEAD only".into())),
            };
        }
        match head.method.as_str() {
            "GET" | "HEAD" => return self.get(&key).await,
            "PUT" => {
                let length = body.size_hint().exact();
                // RFC 9110 section 14.5: who doesn't know what to do with a part refuses it
                if head.headers.contains_key(CONTENT_RANGE) {
                    return Err(Refusal::Bad("a part of a value can't be stored: send all of it".into()));
                }
                if length.is_some_and(|length| length > LONGEST_FILE) {
                    return Err(Refusal::Bad("no file is as long as this body".into()));
                }
                let md5 = head.headers.get(CONTENT_MD5).map(announced_md5).transpose()?;
                self.store.put(&key, store::Incoming { body, length, md5 }).await?;
                return Ok(empty(StatusCode::CREATED));
            }
            "DELETE" => self.store.delete(&key).await?,
            "UNLINK" => self.store.set_state(&key, State::Unlinked).await?,
            "RELINK" => self.store.set_state(&key, State::Live).await?,
            "REBALANCE" => drop(self.store.rebalance(&key).await?),
            _ => return Err(Refusal::Method),
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Refuses what the client may not do, before anything is looked up.
    fn admit(&self, head: &Parts, key: &Key, query: Option<&str>) -> Result<(), Refusal> {
        if self.access.is_open() {
            return Ok(());
        }
        let right = match head.method.as_str() {
            // a dump tells all that there is
            _ if query == Some(dump::QUERY) => Right::Admin,
            "GET" | "HEAD" => Right::Read,
            "REBALANCE" => Right::Admin,
            // what is no method of ours can only be wrong
            _ => Right::Write,
        };
        let who = self.access.authenticate(head.headers.get(AUTHORIZATION));
        // who is nobody that we know may still do what anybody may
        let known = who.as_ref().map_or(None, Option::as_deref);
        if self.access.permits(known, right, bucket(key, query.is_some())) {
            return Ok(());
        }
        Err(match who {
            Err(denied) => Refusal::Unauthenticated(denied.to_string()),
            Ok(None) => Refusal::Unauthenticated(LOG_IN.to_owned()),
            Ok(Some(who)) => Refusal::Forbidden(format!("the key {who} lacks the right \"{right}\" here")),
        })
    }

    async fn get(&self, key: &Key) -> Result<Answer, Refusal> {
        let located = match (self.store.locate(key).await, &self.fallback) {
            (Err(Error::NotFound), Some(fallback)) => {
                let mut answer = empty(StatusCode::FOUND);
                set(&mut answer, LOCATION, &format!("http://{fallback}{key}"))?;
                return Ok(answer);
            }
            (located, _) => located?,
        };
        let Located { url, record, balanced } = located;
        let mut answer = empty(StatusCode::FOUND);
        set(&mut answer, LOCATION, &url)?;
        if let Some(md5) = &record.md5 {
            let md5 = record::hex(md5);
            set(&mut answer, CONTENT_MD5, &md5)?;
            set(&mut answer, ETAG, &format!("\"{md5}\""))?;
        }
        let places: Vec<&str> = record.replicas.iter().map(|replica| replica.place.as_str()).collect();
        set(&mut answer, KEY_VOLUMES, &places.join(","))?;
        set(&mut answer, KEY_BALANCE, if balanced { "balanced" } else { "unbalanced" })?;
        Ok(answer)
    }
}

/// The answer to a request, whatever it comes to.
// Neither of these two is an `async fn`: such a future holds its argument twice, and this one is copied
// for each request.
pub(crate) fn answered(
    method: &Method,
    target: &str,
    routed: impl Future<Output = Result<Answer, Refusal>>,
) -> impl Future<Output = Answer> {
    caught(routed).map(move |outcome| match outcome {
        Ok(Ok(answer)) => answer,
        Ok(Err(refusal)) => refuse(&refusal, method, target),
        Err(panicked) => refuse(&panicked.into(), method, target),
    })
}

/// What the work comes to, or that it panicked. What it shares with other work bears that: locks
/// forgive it, and claims free themselves.
pub(crate) fn caught<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, Error>> {
    AssertUnwindSafe(work).catch_unwind().map(|outcome| outcome.map_err(|_payload| Error::Panicked))
}

/// Refuses what no honest client sends. hyper refuses most of it; where a request has both a length
/// and chunks, it goes by the chunks, as RFC 9112 section 6.3 has it, and closes the connection after
/// the answer.
pub(crate) fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(Refusal::Bad("a request has a Host header".into()));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::Bad("the only Transfer-Encoding is chunked".into())),
    }
}

/// The key of a request's path.
fn key(path: &str) -> Result<Key, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::Bad("a request names a path that begins with a slash".into()));
    }
    Ok(Key::new(&percent_decode(path)?))
}

/// The bucket that a key lies in: its first segment. The keys of a listing lie in one if what they begin with
/// holds the whole of it. No name of a bucket stands for what isn't UTF-8.
fn bucket(key: &Key, listing: bool) -> Option<&str> {
    let mut segments = key.as_bytes().strip_prefix(b"/")?.split(|byte| *byte == b'/');
    let first = segments.next()?;
    if listing && segments.next().is_none() {
        return None;
    }
    std::str::from_utf8(first).ok()
}

/// `Content-MD5`: base64 as RFC 1864 has it, or hex as our own answers have it.
fn announced_md5(value: &HeaderValue) -> Result<[u8; 16], Refusal> {
    let text = value.to_str().unwrap_or_default().trim();
    let base64 = || STANDARD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    record::unhex(text)
        .or_else(base64)
        .ok_or_else(|| Refusal::Bad("Content-MD5 is an MD5 in base64 or hex".into()))
}

/// The answer to a request that failed, and its line in the log.
fn refuse(refusal: &Refusal, method: &Method, target: &str) -> Answer {
    let (status, why) = match refusal {
        Refusal::Bad(why) => (StatusCode::BAD_REQUEST, why.clone()),
        Refusal::Method => (StatusCode::METHOD_NOT_ALLOWED, format!("the methods are {METHODS}")),
        Refusal::Unauthenticated(why) => (StatusCode::UNAUTHORIZED, why.clone()),
        Refusal::Forbidden(why) => (StatusCode::FORBIDDEN, why.clone()),
        Refusal::Later(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
        Refusal::Store(error) => (status_of(error), error.to_string()),
    };
    let (code, target) = (status.as_u16(), || escaped(target));
    match refusal {
        Refusal::Store(Error::Index(cause)) => {
            tracing::error!(%method, target = target(), status = code, cause, "failed");
        }
        Refusal::Store(Error::Damaged | Error::Panicked) => {
            tracing::error!(%method, target = target(), status = code, why, "failed");
        }
        _ if status.is_server_error() => {
            tracing::warn!(%method, target = target(), status = code, why, "failed");
        }
        // asking is no failure, and anybody can ask for anything
        _ if status == StatusCode::NOT_FOUND => {}
        _ => tracing::info!(%method, target = target(), status = code, why, "refused"),
    }
    let mut answer = Response::new(Outgoing::Text(Some(format!("{why}\n").into())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(REALM));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    }
    answer
}

fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::NotFound | Error::NoUpload => StatusCode::NOT_FOUND,
        Error::Exists | Error::Protected => StatusCode::FORBIDDEN,
        Error::Busy => StatusCode::CONFLICT,
        Error::Changed => StatusCode::PRECONDITION_FAILED,
        Error::Empty => StatusCode::LENGTH_REQUIRED,
        Error::InvalidKey(_) | Error::WrongMd5 | Error::CutShort => StatusCode::BAD_REQUEST,
        Error::Stalled => StatusCode::REQUEST_TIMEOUT,
        Error::TooFewVolumes { .. } | Error::Unreachable | Error::Unsettled => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::Full => StatusCode::INSUFFICIENT_STORAGE,
        Error::Damaged | Error::Index(_) | Error::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Outgoing::Text(None));
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &str) -> Result<(), Refusal> {
    let value = HeaderValue::try_from(value)
        .map_err(|error| Refusal::Store(Error::Index(format!("a record doesn't fit a header: {error}"))))?;
    answer.headers_mut().insert(name, value);
    Ok(())
}

/// A request's target for the log: no control characters, and not without end.
pub(crate) fn escaped(target: &str) -> String {
    const SHOWN: usize = 512;
    let mut shown: String = target.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if target.len() > SHOWN {
        shown.push('…');
    }
    shown
}
