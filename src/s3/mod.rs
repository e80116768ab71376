//! The S3 API: the clients that people have, over the same store as the native API. `/bucket/key` is the same
//! object in both.
//!
//! The crate s3s reads and writes S3's XML, routes, and checks signatures; it is named nowhere else. What it
//! doesn't do is done here: bodies of objects go past it both ways (`request`), are taken out of their framing
//! and checked (`payload`, `signature`, `checksum`); requests get numbers, and lines in the log when they fail;
//! browsers are told what they may do (`cors`).
//!
//! Source of all formats: the Amazon S3 API Reference.

mod api;
mod buckets;
mod checksum;
mod condition;
mod cors;
mod errors;
mod keys;
mod listing;
mod metadata;
mod objects;
mod payload;
mod presigned;
mod request;
mod signature;
mod uploads;

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::access::Access;
use crate::native;
use crate::store::Store;
use crate::wire::{Outgoing, caught, escaped};

use api::Operations;
use buckets::{Buckets, Names};
pub use cors::Origins;
use errors::words;
use keys::Keys;
pub use request::{Body, Broken};

/// The region that clients take where none is named.
const REGION: &str = "us-east-1";

const REQUEST_ID: &str = "x-amz-request-id";

const XML: HeaderValue = HeaderValue::from_static("application/xml");

/// So many characters of why a request failed are in the log.
const LONGEST_WHY: usize = 512;

/// The longest XML of a request, in bytes: a thousand deletions of the longest keys, or a completion with
/// ten thousand parts, fit.
const LONGEST_XML: usize = 4 * 1024 * 1024;

/// How the S3 API behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only buckets that were made exist.
    pub strict_buckets: bool,
    /// Readers are sent to a volume.
    pub redirect: bool,
    /// Pages of which origins may use it, in browsers.
    pub origins: Origins,
}

/// The S3 API over a store.
#[derive(Clone)]
pub struct Api {
    service: S3Service,
    access: Access,
    origins: Arc<Origins>,
    /// Requests so far, from anywhere on.
    requests: Arc<AtomicU64>,
}

/// The answer of either API.
pub type Answer = Response<Either<Outgoing, Body>>;

impl Api {
    /// Serves that store to those who may.
    #[must_use]
    pub fn new(store: Store, access: Access, options: Options) -> Self {
        let Options { strict_buckets, redirect, origins } = options;
        let buckets = Buckets::new(store.clone(), strict_buckets);
        let keys = Keys(access.clone());
        let mut service =
            S3ServiceBuilder::new(Operations { store, buckets, access: access.clone(), redirect });
        let mut config = S3Config::default();
        config.xml_max_body_size = LONGEST_XML;
        service.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        service.set_validation(Names { strict: strict_buckets });
        if !access.is_open() {
            service.set_auth(keys.clone());
            service.set_access(keys);
        }
        let requests = Arc::new(AtomicU64::new(RandomState::new().hash_one(())));
        Self { service: service.build(), access, origins: Arc::new(origins), requests }
    }

    /// Answers a request in whichever API it speaks.
    pub fn answer_either(
        &self,
        native: native::Api,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Infallible>> + use<> {
        let ours = request::is_s3(&request) || self.origins.is_preflight(&request);
        // in a box, so that requests to the native API don't carry its room
        let asked = if ours { Err(self.clone().answer(request).boxed()) } else { Ok(request) };
        either(native, asked)
    }

    /// Answers a request to S3, and logs it if it failed.
    ///
    /// # Errors
    ///
    /// Never: failures are answers, too.
    pub async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let is_preflight = self.origins.is_preflight(&request);
        let (head, body) = request.into_parts();
        let id = format!("{:016X}", self.requests.fetch_add(1, Ordering::Relaxed));
        let condition = condition::named(&head.headers);
        let asked = Asked { method: head.method.clone(), path: head.uri.path().to_owned(), condition, id };
        let origin = self.origins.of(&head);
        let preflight = is_preflight.then(|| self.origins.preflight(&head));
        let answer = match preflight {
            Some(answer) => answer,
            None => self.run(head, body).await,
        };
        let mut answer = answer.unwrap_or_else(request::refusal);
        asked.end(&mut answer);
        self.origins.tell(&mut answer, origin);
        Ok(request::finish(answer, asked))
    }

    async fn run(&self, head: Parts, body: Incoming) -> S3Result<s3s::HttpResponse> {
        let (request, gathered) = request::prepare(head, body, &self.access)?;
        let failed = |_failure| S3Error::new(S3ErrorCode::InternalError);
        let panicked = |_panic| s3_error!(InternalError, "the master failed, see its log");
        let answer = caught(self.service.call(request)).await;
        // s3s takes whatever is wrong with a body for a failure of ours
        gathered.check()?;
        answer.map_err(panicked)?.map_err(failed)
    }
}

/// The answer to a request of the native API, or what is under way already.
// An `async fn`, though it has little to say: one made of combinators is copied whole for each request.
async fn either(
    native: native::Api,
    asked: Result<Request<Incoming>, BoxFuture<'static, Result<Response<Body>, Infallible>>>,
) -> Result<Answer, Infallible> {
    Ok(match asked {
        Ok(request) => native.answer(request).await?.map(Either::Left),
        Err(answer) => answer.await?.map(Either::Right),
    })
}

/// Puts what stands for no character in the place of what XML has none for: clients' own words come back in it,
/// and s3s writes them as they are.
fn replace_invalid_xml_chars(answer: &mut s3s::HttpResponse) {
    let is_none = |c: char| !matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let written = answer.body().bytes().unwrap_or_default();
    match std::str::from_utf8(&written) {
        Ok(xml) if xml.contains(is_none) => {
            *answer.body_mut() = s3s::Body::from(xml.replace(is_none, "\u{fffd}"));
        }
        _ => {}
    }
}

/// The text of an XML element, for the log: not without end.
fn plain(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    let text = entities.iter().fold(text.to_owned(), |text, (entity, char)| text.replace(entity, char));
    text.chars().take(LONGEST_WHY).collect()
}

/// A request, for the log.
struct Asked {
    method: Method,
    /// Without the query, which may hold a signature.
    path: String,
    /// The condition that wasn't met, if any wasn't.
    condition: Option<&'static str>,
    /// The number of the request.
    id: String,
}

impl Asked {
    /// Numbers an answer, says in it what s3s doesn't, and logs it.
    fn end(&self, answer: &mut s3s::HttpResponse) {
        let status = answer.status();
        if let Ok(id) = HeaderValue::try_from(&self.id) {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        replace_invalid_xml_chars(answer);
        if !status.is_client_error() && !status.is_server_error() {
            let (Self { method, id, .. }, target) = (self, self.target());
            tracing::debug!(%method, target, status = status.as_u16(), request = id, "answered");
            return;
        }
        let xml = answer.body().bytes().unwrap_or_default();
        if !xml.is_empty() {
            *answer.body_mut() = s3s::Body::from(self.fail(&xml, status));
            // s3s forgets it where an error has headers of its own
            answer.headers_mut().insert(CONTENT_TYPE, XML);
        }
    }

    /// Completes the XML of an error, and logs it. That something isn't there, or isn't what was expected, is
    /// an answer.
    fn fail(&self, xml: &[u8], status: StatusCode) -> Bytes {
        let xml = String::from_utf8_lossy(xml);
        let part = |name: &str| {
            let (_, rest) = xml.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(value, _)| value)
        };
        let (error, message) = (part("Code").unwrap_or_default(), part("Message"));
        let why = message.map_or_else(|| words(error).to_owned(), plain);
        let (Self { method, id, .. }, target, code) = (self, self.target(), status.as_u16());
        // by its code, where it comes after the status
        let is_answer = matches!(status, StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED)
            || matches!(error, "NoSuchUpload" | "PreconditionFailed");
        let is_failure = (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
            || matches!(error, "InternalError" | "ServiceUnavailable" | "InsufficientStorage");
        if is_failure {
            tracing::warn!(%method, target, status = code, error, why, request = id, "failed");
        } else if !is_answer {
            tracing::info!(%method, target, status = code, error, why, request = id, "refused");
        }
        let said = message.map_or_else(|| format!("<Message>{}</Message>", words(error)), |_| String::new());
        let more = match (error, self.condition) {
            // fsspec reads it
            ("PreconditionFailed", Some(condition)) => format!("<Condition>{condition}</Condition>"),
            // s3cmd does
            ("AuthorizationHeaderMalformed", _) => format!("<Region>{REGION}</Region>"),
            _ => String::new(),
        };
        xml.replace("</Error>", &format!("{said}{more}<RequestId>{id}</RequestId></Error>")).into()
    }

    fn target(&self) -> String {
        escaped(&self.path)
    }
}
