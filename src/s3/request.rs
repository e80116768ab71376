//! Requests and answers, on their way to s3s and back.
//!
//! s3s gathers in memory what it decodes, and knows no requests without credentials but unsigned ones. So
//! bodies that are to be stored go past it, and where anybody may do anything, signatures are taken off.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, TryStreamExt as _};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, LOCATION, RANGE, TRANSFER_ENCODING, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use md5::{Digest as _, Md5};
use percent_encoding::percent_decode_str;
use s3s::dto::Range;
use s3s::{S3Error, S3Request, S3Result, s3_error};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::checksum::Algorithm;
use super::errors::{malformed, refused};
use super::objects::Bytestream;
use super::payload::{Announced, Outcome, Payload, Wrong};
use super::signature::ChunkSigner;
use super::{Asked, LONGEST_XML, REGION, REQUEST_ID, presigned};
use crate::access::Access;
use crate::error::Error;
use crate::store;
use crate::wire::{ClientBody, LONGEST_VALUE, check_framing};

const COPY_SOURCE: HeaderName = HeaderName::from_static("x-amz-copy-source");

/// What the type of a browser's form begins with.
const FORM: &[u8] = b"multipart/form-data";

/// How long a request in XML may take to come in.
const XML_TIMEOUT: Duration = Duration::from_secs(30);

/// XML up to so many bytes is short. What is longer, few may send at a time: it is gathered in memory.
const SHORT_XML: usize = 64 * 1024;
static LONG: Semaphore = Semaphore::const_new(32);

/// Of which elements a request may have how many: what begins so, of ten thousand parts with their numbers,
/// and of a thousand deletions. s3s makes much more memory of each than it has bytes.
const MOST_ELEMENTS: [(&[u8], usize); 2] = [(b"<Part", 20_000), (b"<Object", 1000)];

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
pub(super) fn is_s3<B>(request: &Request<B>) -> bool {
    let signed = |value: &[u8]| value.starts_with(b"AWS4-") || value.starts_with(b"AWS ");
    let header = |(name, value): (&HeaderName, &HeaderValue)| {
        let name_text = name.as_str();
        name_text.starts_with("x-amz-")
            || name_text.starts_with("amz-sdk-")
            || (name == AUTHORIZATION && signed(value.as_bytes()))
    };
    request.headers().iter().any(header) || request.uri().query().is_some_and(is_s3s_query)
}

fn is_s3s_query(query: &str) -> bool {
    names(query).any(|name| {
        is_signature(&name)
            || name == "x-id"
            || name.starts_with("response-")
            || SUBRESOURCES.binary_search(&&*name).is_ok()
    })
}

/// The names that a query says something of.
fn names(query: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pairs(query).map(|(name, _)| name)
}

/// The names and values of a query, decoded as s3s does it.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let text = text.replace('+', " ");
        return percent_decode_str(&text).decode_utf8_lossy().into_owned().into();
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// Whether that is part of a signature in a query: of version 4 or 2.
fn is_signature(name: &str) -> bool {
    // beside these, version 2 has Expires
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-Amz-"))
        || matches!(name, "Signature" | "AWSAccessKeyId")
}

/// The request as s3s shall see it, and what tells whether its XML was as announced.
pub(super) fn prepare(
    mut head: Parts,
    body: Incoming,
    access: &Access,
) -> S3Result<(s3s::HttpRequest, Gathered)> {
    let open = access.is_open();
    let length = body.size_hint().exact();
    // from here on the body is read to its end or away, however this turns out
    let body = ClientBody::new(body, head.headers.contains_key(EXPECT));
    check_framing(head.version, &head.headers)
        .map_err(|_why| s3_error!(InvalidRequest, "the request isn't framed as HTTP/1.1 has it"))?;
    if open {
        take_off_signature(&mut head)?;
    } else if presigned::has_header(&head) {
        return Err(s3_error!(
            InvalidRequest,
            "headers signed by version 2 are not accepted: use AWS4-HMAC-SHA256"
        ));
    } else if presigned::is_signed(&head) {
        presigned::check(&head, access)?;
    } else {
        check_region(&head.headers)?;
    }
    check_known(&head)?;
    // several ranges at once are all of it, as in S3, and what is no range is nothing (RFC 9110 section 14.2);
    // what is signed has to stay, and s3s refuses it
    let is_range = |range: &HeaderValue| range.to_str().is_ok_and(|range| Range::parse(range).is_ok());
    if !head.headers.get(RANGE).is_some_and(is_range) && !is_signed(&head.headers, &RANGE) {
        head.headers.remove(RANGE);
    }
    let gathered = Gathered::default();
    let body = if is_upload(&head) {
        head.extensions.insert(Length(length));
        head.extensions.insert::<Detached>(Arc::new(Mutex::new(Some(body))));
        s3s::Body::empty()
    } else if length == Some(0) {
        s3s::Body::empty()
    } else {
        xml(&mut head, body, length, open, &gathered)?
    };
    Ok((Request::from_parts(head, body), gathered))
}

/// What the Authorization header says of that.
fn of_authorization<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256")?;
    let mut fields = text.split(',').filter_map(|field| field.trim().split_once('='));
    fields.find(|(field, _)| *field == name).map(|(_, value)| value)
}

/// Whether the request's signature covers that header.
fn is_signed(headers: &HeaderMap, name: &HeaderName) -> bool {
    of_authorization(headers, "SignedHeaders")
        .is_some_and(|names| names.split(';').any(|signed| signed == name))
}

/// Refuses the region in a signature if it is none. That is how s3cmd gets to know the region, which signs for
/// `US` at first; any other is as good as ours.
fn check_region(headers: &HeaderMap) -> S3Result<()> {
    // ACCESS KEY/DATE/REGION/s3/aws4_request
    let service =
        of_authorization(headers, "Credential").and_then(|credential| credential.rsplit('/').nth(1));
    if service.is_some_and(|service| service != "s3") {
        return Err(s3_error!(AuthorizationHeaderMalformed, "the service in the signature is s3"));
    }
    let region = of_authorization(headers, "Credential").and_then(|credential| credential.rsplit('/').nth(2));
    let is_one = |region: &str| {
        region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if region.is_none_or(is_one) {
        return Ok(());
    }
    Err(s3_error!(AuthorizationHeaderMalformed, "the region in the signature is none: take {REGION}"))
}

/// Why the XML of a request couldn't be read, if it couldn't.
#[derive(Clone, Default)]
pub(super) struct Gathered(Arc<Mutex<Option<S3Error>>>);

impl Gathered {
    pub(super) fn check(&self) -> S3Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// A body of XML. It is read when s3s wants it, which is after it has looked who wants what; and it must be
/// what the headers say.
fn xml(
    head: &mut Parts,
    body: ClientBody,
    length: Option<u64>,
    open: bool,
    gathered: &Gathered,
) -> S3Result<s3s::Body> {
    let query = head.uri.query().unwrap_or_default();
    // checksums of who completes an upload are the object's
    let announced = if names(query).any(|name| name == "uploadId") {
        Announced::read_framing(&head.headers, length)
    } else {
        Announced::read(&head.headers, length)
    };
    let is_framed = announced.as_ref().is_ok_and(|announced| !announced.is_plain());
    if is_framed && !open {
        // s3s would take them off, and have each in memory, however large; no client sends such
        return Err(s3_error!(NotImplemented, "XML in chunks is not supported: send it as it is"));
    }
    if is_framed
        && let Ok(Announced { length: Some(length), .. }) = &announced
        && let Ok(length) = length.to_string().try_into()
    {
        head.headers.insert(CONTENT_LENGTH, length);
    }
    let gathered = gathered.clone();
    let bytes = async move {
        gather(body, announced).await.map_err(|refusal| {
            *gathered.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
            std::io::Error::from(std::io::ErrorKind::InvalidData)
        })
    };
    Ok(s3s::Body::http_body_unsync(StreamBody::new(stream::once(bytes).map_ok(Frame::data))))
}

async fn gather(body: ClientBody, announced: Result<Announced, Wrong>) -> S3Result<Bytes> {
    let announced = announced.map_err(|wrong| malformed(&wrong))?;
    let md5 = announced.md5;
    let (mut body, outcome) = Payload::new(body, announced, None);
    let mut place = None;
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_broken| Error::CutShort)?;
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
            if bytes.len() > SHORT_XML && place.is_none() {
                place = LONG.acquire().await.ok();
            }
            if bytes.len() > LONGEST_XML {
                return Ok(bytes);
            }
        }
        Ok(bytes)
    };
    let bytes = timeout(XML_TIMEOUT, read).await.unwrap_or(Err(Error::Stalled));
    let bytes = bytes.map_err(|error| super::objects::wrong(&outcome, error))?.freeze();
    if bytes.len() > LONGEST_XML {
        return Err(s3_error!(MaxMessageLengthExceeded, "the XML is longer than {LONGEST_XML} bytes"));
    }
    if md5.is_some_and(|md5| md5 != <[u8; 16]>::from(Md5::digest(&bytes))) {
        return Err(refused(Error::WrongMd5));
    }
    let has_too_many = |(start, most): &(&[u8], usize)| {
        bytes.windows(start.len()).filter(|part| part == start).nth(*most).is_some()
    };
    if MOST_ELEMENTS.iter().any(has_too_many) {
        return Err(s3_error!(MalformedXML, "the XML names too many parts, or objects"));
    }
    Ok(bytes)
}

/// Refuses what s3s would do and we don't: browsers' forms, which it gathers in memory, and what it takes
/// for another operation because it doesn't know it. `DELETE /bucket?…` must not delete the bucket, whatever
/// S3 may come to have there.
fn check_known(head: &Parts) -> S3Result<()> {
    let is_form = |content_type: &HeaderValue| {
        let start = content_type.as_bytes().get(..FORM.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(FORM))
    };
    if head.method == Method::POST && head.headers.get(CONTENT_TYPE).is_some_and(is_form) {
        return Err(s3_error!(
            NotImplemented,
            "uploads by browsers' forms are not supported: use a presigned PUT"
        ));
    }
    if head.headers.get(HOST).is_some_and(|host| host.to_str().is_err()) {
        return Err(s3_error!(InvalidRequest, "the Host is no text"));
    }
    let known: &[&str] = match (head.method.as_str(), is_object(head.uri.path())) {
        ("PUT", true) => &["partNumber", "uploadId"],
        ("DELETE", true) => &["uploadId", "versionId"],
        ("POST", true) => &["uploadId", "uploads"],
        ("POST", false) => &["delete"],
        ("PUT" | "DELETE", false) => &[],
        _ => return Ok(()),
    };
    let old = presigned::is_signed(head);
    let is_known = |name: &str| {
        name.is_empty()
            || name.starts_with("x-")
            || is_signature(name)
            || (old && presigned::is_part(name))
            || known.contains(&name)
    };
    let query = head.uri.query().unwrap_or_default();
    if let Some(other) = names(query).find(|name| !is_known(name)) {
        let method = &head.method;
        return Err(s3_error!(NotImplemented, "{method} with the query {other:?} is not supported"));
    }
    let has = |name: &str| names(query).any(|other| other == name);
    if head.method == Method::PUT && has("partNumber") != has("uploadId") {
        return Err(s3_error!(InvalidArgument, "a part has both a partNumber and an uploadId"));
    }
    Ok(())
}

/// Takes the signature off: anybody may do anything.
fn take_off_signature(head: &mut Parts) -> S3Result<()> {
    head.headers.remove(AUTHORIZATION);
    let Some(query) = head.uri.query().filter(|query| names(query).any(|name| is_signature(&name))) else {
        return Ok(());
    };
    let old = presigned::is_signed(head);
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| !names(pair).any(|name| is_signature(&name) || (old && presigned::is_part(&name))))
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
    head.method == Method::PUT && is_object(head.uri.path()) && !head.headers.contains_key(COPY_SOURCE)
}

/// Whether that is the path of an object, and not of a bucket.
fn is_object(path: &str) -> bool {
    let path = percent_decode_str(path).decode_utf8_lossy();
    path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(_, key)| !key.is_empty())
}

/// The length of a body as it is sent, framing and all, if that is known.
#[derive(Clone, Copy)]
struct Length(Option<u64>);

/// What a request brings to be stored, and what tells in the end whether it was what had been announced.
/// `checksum` is computed, whether or not the client sends it.
pub(super) fn body<T>(
    req: &S3Request<T>,
    checksum: Option<Algorithm>,
) -> S3Result<(store::Incoming<Payload<ClientBody>>, Outcome)> {
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
    if length.is_some_and(|length| length > LONGEST_VALUE) {
        return Err(s3_error!(EntityTooLarge, "no file is as long as this body"));
    }
    let (body, outcome) = Payload::new(body, announced, signer);
    Ok((store::Incoming { body, length, md5 }, outcome))
}

/// The body of an answer.
pub enum Body {
    /// As s3s wrote it.
    Written(s3s::Body),
    /// An object's.
    Bytes(Bytestream),
    /// As s3s writes it, where the answer begins before it is known how it ends.
    Late(Late),
}

/// An answer that may come to be an error after its beginning.
pub struct Late {
    body: s3s::Body,
    asked: Asked,
    has_begun: bool,
}

impl Late {
    /// Puts right how s3s ends it: as if it were only beginning.
    fn piece(&mut self, piece: Bytes) -> Bytes {
        if !std::mem::replace(&mut self.has_begun, true) || !piece.starts_with(b"<?xml") {
            return piece;
        }
        let end = piece.windows(2).position(|two| two == b"?>").map_or(0, |at| at + 2);
        self.asked.fail(&piece.slice(end..), StatusCode::OK)
    }
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
            Self::Late(late) => {
                let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut late.body), context));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(|piece| late.piece(piece))),
                    Err(error) => Err(Broken(error.to_string())),
                }))
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
            Self::Bytes(_) | Self::Late(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Written(body) => http_body::Body::size_hint(body),
            Self::Bytes(_) | Self::Late(_) => SizeHint::default(),
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
pub(super) fn finish(mut answer: s3s::HttpResponse, asked: Asked) -> Response<Body> {
    let instead = answer.extensions_mut().remove::<Arc<Mutex<Option<Instead>>>>();
    let instead = instead.and_then(|it| it.lock().unwrap_or_else(PoisonError::into_inner).take());
    if answer.status() == StatusCode::NOT_MODIFIED {
        *answer.body_mut() = s3s::Body::empty();
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    // s3s has a 206 for GET alone
    if answer.status() == StatusCode::OK && answer.headers().contains_key(CONTENT_RANGE) {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    match instead {
        None if answer.headers().contains_key(TRANSFER_ENCODING) => {
            answer.map(|body| Body::Late(Late { body, asked, has_begun: false }))
        }
        None => answer.map(Body::Written),
        Some(Instead::Bytes(bytes)) => answer.map(|_none| Body::Bytes(bytes)),
        Some(Instead::Redirect(url)) => {
            let mut redirect = Response::new(Body::Written(s3s::Body::empty()));
            *redirect.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            let is_kept = |name: &HeaderName| {
                [ETAG, LAST_MODIFIED, VARY].contains(name)
                    || name.as_str() == REQUEST_ID
                    || name.as_str().starts_with("access-control-")
            };
            let kept = answer.headers().iter().filter(|(name, _)| is_kept(name));
            *redirect.headers_mut() = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
            if let Ok(url) = url.try_into() {
                redirect.headers_mut().insert(LOCATION, url);
            }
            redirect.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
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
