//! Requests and answers, on their way to s3s and back.
//!
//! s3s gathers in memory what it decodes, and knows no requests without credentials but unsigned ones. So
//! bodies that are to be stored go past it, and where anybody may do anything, signatures are taken off.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
use md5::{Digest as _, Md5};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result, s3_error};
use tokio::time::{Sleep, sleep};

use super::checksum::Algorithm;
use super::errors::malformed;
use super::objects::Bytestream;
use super::payload::{Announced, Outcome, Payload, Wrong};
use super::signature::ChunkSigner;
use crate::error::Error;
use crate::http::{ClientBody, LONGEST_FILE, check_framing};
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
pub(super) fn prepare(mut head: Parts, body: Incoming, open: bool) -> S3Result<(s3s::HttpRequest, Verdict)> {
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
    let verdict = Verdict::default();
    let body = if is_upload(&head) {
        head.extensions.insert(Length(length));
        head.extensions.insert::<Detached>(Arc::new(Mutex::new(Some(body))));
        s3s::Body::empty()
    } else if body.is_end_stream() {
        s3s::Body::empty()
    } else {
        s3s::Body::http_body_unsync(xml(&mut head, body, length, verdict.clone())?)
    };
    Ok((Request::from_parts(head, body), verdict))
}

/// The XML of a request.
fn xml(head: &mut Parts, body: ClientBody, length: Option<u64>, verdict: Verdict) -> S3Result<Xml> {
    let is_completion = head.uri.query().is_some_and(|query| names(query).any(|name| name == "uploadId"));
    let announced = if is_completion {
        // they are of the object
        Announced::read_framing(&head.headers, length)
    } else {
        Announced::read(&head.headers, length)
    };
    let announced = announced.map_err(|wrong| malformed(&wrong))?;
    let in_chunks = head.headers.get("x-amz-content-sha256");
    let in_chunks = in_chunks.is_some_and(|payload| payload.as_bytes().starts_with(b"STREAMING-"));
    if in_chunks && head.headers.contains_key(AUTHORIZATION) {
        // s3s would look for the chunks once more
        return Err(s3_error!(NotImplemented, "XML in chunks is not supported: send it as it is"));
    }
    if let Some(length) = announced.length {
        // without its framing
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(Xml::new(body, announced, verdict))
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
    if length.is_some_and(|length| length > LONGEST_FILE) {
        return Err(s3_error!(EntityTooLarge, "no file is as long as this body"));
    }
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

/// Why s3s couldn't read a request's XML, which it would take for a failure of ours.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<S3ErrorCode>>);

impl Verdict {
    /// The refusal that takes the place of s3s's answer, if there is reason for one.
    pub(super) fn refusal(&self) -> Option<S3Error> {
        let code = self.0.get()?.clone();
        let why = match code {
            S3ErrorCode::RequestTimeout => "the request didn't come in in time",
            S3ErrorCode::BadDigest => "the body doesn't have the checksum that was announced",
            _ => "the body isn't what its headers say",
        };
        let mut refusal = S3Error::with_message(code, why);
        refusal.set_status_code(StatusCode::BAD_REQUEST);
        Some(refusal)
    }
}

/// XML on its way in: within [`XML_TIMEOUT`], as s3s would wait for ever; and with the checksums that were
/// announced, as s3s would not look at them.
struct Xml {
    body: Payload<ClientBody>,
    /// What it shall have, and what it has so far.
    md5: Option<([u8; 16], Md5)>,
    deadline: Option<Pin<Box<Sleep>>>,
    outcome: Outcome,
    verdict: Verdict,
}

impl Xml {
    fn new(body: ClientBody, announced: Announced, verdict: Verdict) -> Self {
        let md5 = announced.md5.map(|md5| (md5, Md5::new()));
        let (body, outcome) = Payload::new(body, announced, None);
        Self { body, md5, deadline: None, outcome, verdict }
    }

    fn wrong(&self, code: S3ErrorCode) -> std::io::Error {
        // the first reason counts
        drop(self.verdict.0.set(code));
        std::io::ErrorKind::InvalidData.into()
    }

    /// Looks at what came in.
    fn take(&mut self, frame: Option<&Frame<Bytes>>) -> Result<(), std::io::Error> {
        if let Some((_, md5)) = &mut self.md5
            && let Some(data) = frame.and_then(Frame::data_ref)
        {
            md5.update(data);
        }
        if frame.is_some() {
            return Ok(());
        }
        let same = |(announced, md5): ([u8; 16], Md5)| announced == <[u8; 16]>::from(md5.finalize());
        if self.md5.take().is_none_or(same) { Ok(()) } else { Err(self.wrong(S3ErrorCode::BadDigest)) }
    }
}

impl http_body::Body for Xml {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) => Poll::Ready(self.take(None).err().map(Err)),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.take(Some(&frame)).map(|()| frame))),
            Poll::Ready(Some(Err(_why))) => {
                let code = self.outcome.finish().err().map(|wrong| malformed(&wrong).code().clone());
                Poll::Ready(Some(Err(self.wrong(code.unwrap_or(S3ErrorCode::IncompleteBody)))))
            }
            Poll::Pending => {
                let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(XML_TIMEOUT)));
                ready!(deadline.as_mut().poll(context));
                Poll::Ready(Some(Err(self.wrong(S3ErrorCode::RequestTimeout))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
