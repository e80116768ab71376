//! Request bodies in XML: buffered in memory, within bounds, and checked against their headers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, TryStreamExt as _};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use s3s::{S3Error, S3Result, s3_error};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::errors::{malformed, refused, wrong};
use super::payload::{Announced, Payload, PayloadError};
use super::query::names;
use crate::error::Error;
use crate::wire::ClientBody;

/// The longest XML of a request, in bytes: enough for a thousand deletions of the longest keys, or a completion with
/// ten thousand parts.
pub(super) const LONGEST_XML: usize = 4 * 1024 * 1024;

/// How long it may take to receive a request in XML.
const XML_TIMEOUT: Duration = Duration::from_secs(30);

/// The length in bytes above which few bodies are received at a time, because they are buffered in memory.
const SHORT_XML: usize = 64 * 1024;
static LONG: Semaphore = Semaphore::const_new(32);

/// Upper bounds on elements: 10,000 `<Part…`, each with a `<PartNumber>`, and 1,000 deletions. s3s needs much more
/// memory for an element than its length.
const MOST_ELEMENTS: [(&[u8], usize); 2] = [(b"<Part", 20_000), (b"<Object", 1000)];

/// The error of a request's XML, if any.
#[derive(Clone, Default)]
pub(super) struct Gathered(Arc<Mutex<Option<S3Error>>>);

impl Gathered {
    pub(super) fn check(&self) -> S3Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// A body of XML. s3s reads it after it has checked the client's access. The body must match its headers.
pub(super) fn xml(
    head: &mut Parts,
    body: ClientBody,
    length: Option<u64>,
    unrestricted: bool,
    gathered: &Gathered,
) -> S3Result<s3s::Body> {
    let query = head.uri.query().unwrap_or_default();
    // the checksum headers of a completion are the object's, not the body's
    let announced = if names(query).any(|name| name == "uploadId") {
        Announced::read_framing(&head.headers, length)
    } else {
        Announced::read(&head.headers, length)
    };
    let is_framed = announced.as_ref().is_ok_and(|announced| !announced.is_plain());
    if is_framed && !unrestricted {
        // s3s would buffer each chunk, of any size, in memory; no client sends XML in chunks
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

async fn gather(body: ClientBody, announced: Result<Announced, PayloadError>) -> S3Result<Bytes> {
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
    let bytes = bytes.map_err(|error| wrong(&outcome, error))?.freeze();
    if bytes.len() > LONGEST_XML {
        return Err(s3_error!(MaxMessageLengthExceeded, "the XML is longer than {LONGEST_XML} bytes"));
    }
    if md5.is_some_and(|md5| md5 != md5_lanes::digest(&bytes)) {
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
