//! The native API: requests become calls of the store, and its results become answers.

mod answer;
mod dump;
mod health;
mod list;
pub mod query;
mod refusal;

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_RANGE, ETAG, EXPECT, HeaderName, HeaderValue, LOCATION};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::access::{Access, Right};
use crate::error::Error;
use crate::key::Key;
use crate::record::{self, State};
use crate::store::{self, Located, Store};
use crate::wire::target::percent_decode;
use crate::wire::{ClientBody, LONGEST_VALUE, Outgoing, RequestContext, check_framing, log_request};

use answer::{Answer, empty, set};
use query::Query;
use refusal::{LOG_IN, Refusal, answered};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const KEY_VOLUMES: HeaderName = HeaderName::from_static("key-volumes");
const KEY_BALANCE: HeaderName = HeaderName::from_static("key-balance");

/// The native API over a store.
#[derive(Clone)]
pub struct Api {
    store: Store,
    /// Where GETs of keys that don't exist are sent.
    fallback: Option<Arc<str>>,
    access: Access,
}

impl Api {
    /// Serves that store to the clients that have access.
    #[must_use]
    pub fn new(store: Store, fallback: Option<&str>, access: Access) -> Self {
        Self { store, fallback: fallback.map(Arc::from), access }
    }

    /// Answers one request, and logs it if it failed.
    ///
    /// # Errors
    ///
    /// Never: failures are answers, too.
    pub async fn answer(
        self,
        context: RequestContext,
        request: Request<Incoming>,
    ) -> Result<Response<Outgoing>, Infallible> {
        let (head, body) = request.into_parts();
        let answer = answered(&context, self.route(&context, &head, body)).await;
        log_request!(debug, context, answer.status(), {}, "answered");
        Ok(answer)
    }

    async fn route(&self, context: &RequestContext, head: &Parts, body: Incoming) -> Result<Answer, Refusal> {
        // from here on the body is read to its end or away, however this turns out
        let body = ClientBody::new(body, head.headers.contains_key(EXPECT));
        check_framing(head)?;
        let key = key(head.uri.path())?;
        let query = head.uri.query().filter(|query| !query.is_empty());
        if let Some(operation) = operation(&head.method, query) {
            context.set_operation(operation);
        }
        if let Some(answer) = health::answer(&self.store, head) {
            return Ok(answer);
        }
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
        if matches!(head.method, Method::GET | Method::HEAD) {
            return self.get(&key).await;
        }
        let store = self.store.for_request(context.client_gone());
        match head.method.as_str() {
            "PUT" => {
                let length = body.size_hint().exact();
                // RFC 9110 section 14.5: a server that doesn't store parts refuses them
                if head.headers.contains_key(CONTENT_RANGE) {
                    return Err(Refusal::Bad("a part of a value can't be stored: send all of it".into()));
                }
                if length.is_some_and(|length| length > LONGEST_VALUE) {
                    return Err(Refusal::Bad("no file is as long as this body".into()));
                }
                let md5 = head.headers.get(CONTENT_MD5).map(announced_md5).transpose()?;
                store.put(&key, store::Incoming { body, length, md5 }).await?;
                return Ok(empty(StatusCode::CREATED));
            }
            "DELETE" => store.delete(&key).await?,
            "UNLINK" => store.set_state(&key, State::Unlinked).await?,
            "RELINK" => store.set_state(&key, State::Live).await?,
            "REBALANCE" => drop(store.rebalance(&key).await?),
            _ => return Err(Refusal::Method),
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Refuses what the client may not do, before anything is looked up.
    fn admit(&self, head: &Parts, key: &Key, query: Option<&str>) -> Result<(), Refusal> {
        if self.access.is_unrestricted() {
            return Ok(());
        }
        let right = match head.method.as_str() {
            // a dump tells all that there is
            _ if query == Some(dump::QUERY) => Right::Admin,
            "GET" | "HEAD" => Right::Read,
            "REBALANCE" => Right::Admin,
            // a method that isn't ours can only be wrong
            _ => Right::Write,
        };
        let who = self.access.authenticate(head.headers.get(AUTHORIZATION));
        // a client that we don't know may still do what anybody may
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
        let addresses = self.store.addresses();
        let places: Vec<_> =
            record.replicas.iter().map(|replica| addresses.of_place(&replica.place)).collect();
        set(&mut answer, KEY_VOLUMES, &places.join(","))?;
        set(&mut answer, KEY_BALANCE, if balanced { "balanced" } else { "unbalanced" })?;
        Ok(answer)
    }
}

/// The name of the operation that a request asks for; `None` if there is no such operation.
fn operation(method: &Method, query: Option<&str>) -> Option<&'static str> {
    match (method.as_str(), query) {
        (_, Some(dump::QUERY)) => Some("dump"),
        (_, Some(health::READY)) => Some("ready"),
        (_, Some(health::ALIVE)) => Some("alive"),
        (_, Some(_)) => Some("list"),
        ("GET" | "HEAD", None) => Some("get"),
        ("PUT", None) => Some("put"),
        ("DELETE", None) => Some("delete"),
        ("UNLINK", None) => Some("unlink"),
        ("RELINK", None) => Some("relink"),
        ("REBALANCE", None) => Some("rebalance"),
        _ => None,
    }
}

/// The key of a request's path.
fn key(path: &str) -> Result<Key, Refusal> {
    if !path.starts_with('/') {
        return Err(Refusal::Bad("a request names a path that begins with a slash".into()));
    }
    Ok(Key::new(&percent_decode(path)?))
}

/// The bucket that a key lies in: its first segment. A listing lies in one bucket if its prefix holds that
/// bucket's whole segment. A segment that isn't UTF-8 is no bucket.
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
