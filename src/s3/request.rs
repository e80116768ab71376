//! Requests and answers, on their way to s3s and back.
//!
//! s3s gathers in memory what it decodes, and knows no requests without credentials but unsigned ones. So
//! bodies that are to be stored go past it, and where anybody may do anything, signatures are taken off.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, LOCATION, RANGE,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use s3s::{S3Error, S3Request, S3Result, s3_error};
use tokio::time::{Sleep, sleep};

use super::checksum::Algorithm;
use super::errors::malformed;
use super::objects::Bytestream;
use super::payload::{Announced, Outcome, Payload, Wrong};
use super::signature::ChunkSigner;
use crate::error::Error;
use crate::http::{ClientBody, check_framing};
use crate::store::Upload;

const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// How long a request in XML may take to come in.
const XML_TIMEOUT: Duration = Duration::from_secs(30);

/// What the query of an upload may say; anything else is another operation on the object.
const OF_UPLOADS: [&str; 3] = ["partNumber", "uploadId", "x-id"];

/// What the queries of other operations say.
const SUBRESOURCES: [&str; 45] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "continuation-token",
    "cors",
    "delete",
    "delimiter",
    "encoding-type",
    "encryption",
    "fetch-owner",
    "intelligent-tiering",
    "inventory",
    "key-marker",
    "legal-hold",
    "lifecycle",
    "list-type",
    "location",
    "logging",
    "marker",
    "max-keys",
    "max-uploads",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "partNumber",
    "policy",
    "policyStatus",
    "prefix",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "start-after",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// A body that is to be stored.
type Detached = Arc<Mutex<Option<ClientBody>>>;

/// What takes the place of the body that s3s writes.
pub(super) enum Instead {
    /// The bytes of an object.
    Bytes(Bytestream),
    /// None: the client is sent to this URL.
    Redirect(String),
}

/// Whether a request speaks S3, and not the native API: it is signed as S3's are, has one of its headers,
/// or asks for what only S3 has.
pub(super) fn is_s3(head: &Parts) -> bool {
    let signed = |value: &[u8]| value.starts_with(b"AWS4-") || value.starts_with(b"AWS ");
    let header = |(name, value): (&HeaderName, &hyper::header::HeaderValue)| {
        let name_text = name.as_str();
        name_text.starts_with("x-amz-")
            || name_text.starts_with("amz-sdk-")
            || (name == AUTHORIZATION && signed(value.as_bytes()))
    };
    head.headers.iter().any(header) || head.uri.query().is_some_and(is_s3s_query)
}

fn is_s3s_query(query: &str) -> bool {
    names(query).any(|name| {
        is_signature(name)
            || name == "x-id"
            || name.starts_with("response-")
            || SUBRESOURCES.binary_search(&name).is_ok()
    })
}

/// The names that a query says something of, as they are written.
fn names(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name))
}

/// Whether that is part of a signature in a query: of version 4 or 2.
fn is_signature(name: &str) -> bool {
    // beside these, version 2 has Expires
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-Amz-"))
        || matches!(name, "Signature" | "AWSAccessKeyId")
}

/// The request as s3s shall see it.
pub(super) fn prepare(mut head: Parts, body: Incoming, open: bool) -> S3Result<s3s::HttpRequest> {
    let length = body.size_hint().exact();
    // from here on the body is read to its end or away, however this turns out
    let body = ClientBody::new(body, head.headers.contains_key(EXPECT));
    check_framing(head.version, &head.headers)
        .map_err(|_why| s3_error!(InvalidRequest, "the request isn't framed as HTTP/1.1 has it"))?;
    check_known(&head)?;
    if open {
        take_off_signature(&mut head)?;
    }
    // several ranges at once are all of it, as in S3 (and RFC 9110 section 14.2)
    if head.headers.get(RANGE).is_some_and(|range| range.as_bytes().contains(&b',')) {
        head.headers.remove(RANGE);
    }
    let body = if is_upload(&head) {
        head.extensions.insert(Length(length));
        head.extensions.insert::<Detached>(Arc::new(Mutex::new(Some(body))));
        s3s::Body::empty()
    } else {
        s3s::Body::http_body_unsync(Hurried { body, deadline: None })
    };
    Ok(Request::from_parts(head, body))
}

/// Refuses what s3s would do and we don't: browsers' forms, which it gathers in memory, and signatures of
/// version 2, which nobody should use any more.
fn check_known(head: &Parts) -> S3Result<()> {
    let starts = |name, start: &[u8]| {
        head.headers
            .get(name)
            .is_some_and(|value: &hyper::header::HeaderValue| value.as_bytes().starts_with(start))
    };
    if head.method == Method::POST && starts(CONTENT_TYPE, b"multipart/form-data") {
        return Err(s3_error!(
            NotImplemented,
            "uploads by browsers' forms are not supported: use a presigned PUT"
        ));
    }
    if head.headers.get(HOST).is_some_and(|host| host.to_str().is_err()) {
        return Err(s3_error!(InvalidRequest, "the Host is no text"));
    }
    Ok(())
}

/// Whether a request is signed in the old way, which isn't believed.
pub(super) fn is_signed_by_v2(head: &Parts) -> bool {
    let header = head.headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    header || head.uri.query().is_some_and(|query| names(query).any(|name| name == "AWSAccessKeyId"))
}

/// Takes the signature off: anybody may do anything.
fn take_off_signature(head: &mut Parts) -> S3Result<()> {
    head.headers.remove(AUTHORIZATION);
    let Some(query) = head.uri.query().filter(|query| names(query).any(is_signature)) else { return Ok(()) };
    let old = names(query).any(|name| name == "Signature");
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !names(pair).any(|name| is_signature(name) || (old && name == "Expires")))
        .collect();
    let path = head.uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.path_and_query = target.parse().ok();
    head.uri = Uri::from_parts(parts).map_err(|_error| s3_error!(InvalidURI))?;
    Ok(())
}

/// Whether the body is an object's, or a part's.
fn is_upload(head: &Parts) -> bool {
    let object = |path: &str| {
        path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(_, key)| !key.is_empty())
    };
    let query = head.uri.query().unwrap_or_default();
    let upload = |name| is_signature(name) || OF_UPLOADS.contains(&name) || name.is_empty();
    head.method == Method::PUT
        && object(head.uri.path())
        && !head.headers.contains_key(COPY_SOURCE)
        && names(query).all(upload)
}

/// The length of a body as it is sent, framing and all, if that is known.
#[derive(Clone, Copy)]
struct Length(Option<u64>);

/// What a request brings to be stored, and what tells in the end whether it was what had been announced.
/// `checksum` is computed, whether or not the client sends it.
pub(super) fn body<T>(
    req: &S3Request<T>,
    checksum: Option<Algorithm>,
) -> S3Result<(Upload<Payload<ClientBody>>, Outcome)> {
    let detached = req.extensions.get::<Detached>();
    let detached = detached.and_then(|body| body.lock().unwrap_or_else(PoisonError::into_inner).take());
    let body = detached.ok_or_else(|| s3_error!(InvalidRequest, "the request has no body of an object"))?;
    let length = req.extensions.get::<Length>().and_then(|length| length.0);
    let mut announced = Announced::read(&req.headers, length).map_err(|wrong| malformed(&wrong))?;
    if let Some(algorithm) = checksum {
        announced.compute(algorithm);
    }
    let signer = match &req.credentials {
        Some(credentials) if announced.has_signed_chunks() => {
            let signer = ChunkSigner::new(credentials.secret_key.expose(), &req.headers);
            Some(signer.map_err(|why| malformed(&Wrong::Authorization(why)))?)
        }
        _ => None,
    };
    let (length, md5) = (announced.length, announced.md5);
    let (body, outcome) = Payload::new(body, announced, signer);
    Ok((Upload { body, length, md5 }, outcome))
}

/// The body of an answer.
pub enum Body {
    /// As s3s wrote it.
    Written(s3s::Body),
    /// An object's.
    Bytes(Bytestream),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Written(body) => {
                let frame = ready!(http_body::Body::poll_frame(Pin::new(body), context));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Broken(error.to_string()))))
            }
            Self::Bytes(bytes) => {
                let piece = ready!(bytes.as_mut().poll_next(context));
                Poll::Ready(piece.map(|piece| {
                    piece.map(Frame::data).map_err(|error: Error| {
                        // the connection is cut, so that it doesn't look whole
                        tracing::warn!(%error, "an answer broke off");
                        Broken(error.to_string())
                    })
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Written(body) => http_body::Body::is_end_stream(body),
            Self::Bytes(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Written(body) => http_body::Body::size_hint(body),
            Self::Bytes(_) => SizeHint::default(),
        }
    }
}

/// An answer that couldn't be finished.
#[derive(Debug)]
pub struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the answer broke off: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// The answer as the client shall see it.
pub(super) fn finish(mut answer: s3s::HttpResponse) -> Response<Body> {
    let instead = answer.extensions_mut().remove::<Arc<Mutex<Option<Instead>>>>();
    let instead = instead.and_then(|it| it.lock().unwrap_or_else(PoisonError::into_inner).take());
    if answer.status() == StatusCode::NOT_MODIFIED {
        *answer.body_mut() = s3s::Body::empty();
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    match instead {
        None => answer.map(Body::Written),
        Some(Instead::Bytes(bytes)) => answer.map(|_none| Body::Bytes(bytes)),
        Some(Instead::Redirect(url)) => {
            let mut redirect = Response::new(Body::Written(s3s::Body::empty()));
            *redirect.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let kept = [hyper::header::ETAG, hyper::header::LAST_MODIFIED];
            *redirect.headers_mut() = kept
                .into_iter()
                .filter_map(|name| Some((name.clone(), answer.headers().get(name)?.clone())))
                .collect::<HeaderMap>();
            if let Ok(url) = url.try_into() {
                redirect.headers_mut().insert(LOCATION, url);
            }
            redirect.headers_mut().insert(CONTENT_LENGTH, hyper::header::HeaderValue::from_static("0"));
            redirect
        }
    }
}

/// The answer to a request that s3s doesn't see.
pub(super) fn refusal(error: S3Error) -> s3s::HttpResponse {
    error.to_http_response().unwrap_or_else(|_unwritten| {
        let mut answer = Response::new(s3s::Body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

/// A body that has to come in within [`XML_TIMEOUT`]: s3s would wait for ever.
struct Hurried {
    body: ClientBody,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Hurried {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(std::io::Error::other)));
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(XML_TIMEOUT)));
        deadline.as_mut().poll(context).map(|()| Some(Err(std::io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
