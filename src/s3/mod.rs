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
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use crate::access::Access;
use crate::store::Store;
use crate::wire::{self, RequestContext, caught, log_request};

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
}

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
        service.set_auth(keys.clone());
        service.set_access(keys);
        Self { service: service.build(), access, origins: Arc::new(origins) }
    }

    /// Whether a request is S3's beyond doubt.
    #[must_use]
    pub fn is_meant<B>(&self, request: &Request<B>) -> bool {
        request::is_s3(request) || self.origins.is_preflight(request)
    }

    /// Answers a request to S3, and logs it if it failed.
    ///
    /// # Errors
    ///
    /// Never: failures are answers, too.
    pub async fn answer(
        self,
        context: RequestContext,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let context = Arc::new(context.answered_by(wire::Api::S3));
        let is_preflight = self.origins.is_preflight(&request);
        let (mut head, body) = request.into_parts();
        head.extensions.insert(Arc::clone(&context));
        let asked = Asked { context, condition: condition::named(&head.headers) };
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
    context: Arc<RequestContext>,
    /// The condition that wasn't met, if any wasn't.
    condition: Option<&'static str>,
}

impl Asked {
    /// Numbers an answer, says in it what s3s doesn't, and logs it.
    fn end(&self, answer: &mut s3s::HttpResponse) {
        let status = answer.status();
        if let Ok(id) = HeaderValue::try_from(self.context.id()) {
            answer.headers_mut().insert(REQUEST_ID, id);
        }
        replace_invalid_xml_chars(answer);
        if !status.is_client_error() && !status.is_server_error() {
            log_request!(debug, self.context, status, {}, "answered");
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
        // by its code, where it comes after the status
        let is_answer = matches!(status, StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED)
            || matches!(error, "NoSuchUpload" | "PreconditionFailed");
        let is_failure = (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
            || matches!(error, "InternalError" | "ServiceUnavailable" | "InsufficientStorage");
        if is_failure {
            log_request!(warn, self.context, status, { error, why, }, "failed");
        } else if !is_answer {
            log_request!(info, self.context, status, { error, why, }, "refused");
        }
        let said = message.map_or_else(|| format!("<Message>{}</Message>", words(error)), |_| String::new());
        let more = match (error, self.condition) {
            // fsspec reads it
            ("PreconditionFailed", Some(condition)) => format!("<Condition>{condition}</Condition>"),
            // s3cmd does
            ("AuthorizationHeaderMalformed", _) => format!("<Region>{REGION}</Region>"),
            _ => String::new(),
        };
        let id = self.context.id();
        xml.replace("</Error>", &format!("{said}{more}<RequestId>{id}</RequestId></Error>")).into()
    }
}
