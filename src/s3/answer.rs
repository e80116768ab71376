//! Completes s3s's answers: adds request IDs, logs errors, and inserts the bodies of objects, which bypass s3s.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION,
    TRANSFER_ENCODING, VARY,
};
use hyper::{Response, StatusCode};
use s3s::S3Error;

use super::authorization::REGION;
use super::errors::words;
use super::objects::Bytestream;
use crate::error::Error;
use crate::wire::{BodyError, RequestContext, Share, log_request};

const REQUEST_ID: &str = "x-amz-request-id";

const XML: HeaderValue = HeaderValue::from_static("application/xml");

/// The most characters of an error's message in the log.
const LONGEST_WHY: usize = 512;

/// What replaces the body that s3s writes.
pub(super) enum Instead {
    /// The bytes of an object.
    Bytes(Bytestream),
    /// A redirect to this URL.
    Redirect(String),
}

/// The body of an answer.
pub enum Body {
    /// A body that s3s wrote.
    Written(s3s::Body),
    /// An object's bytes.
    Bytes(Bytestream),
    /// A body that s3s is still writing: the answer began before its outcome was known.
    Late(Late),
}

/// An answer that may still become an error after its beginning.
pub struct Late {
    body: s3s::Body,
    asked: Asked,
    has_begun: bool,
}

impl Late {
    /// Removes the second XML declaration, which s3s writes when the body ends, and completes the error.
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
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Written(body) => {
                let frame = ready!(http_body::Body::poll_frame(Pin::new(body), context));
                Poll::Ready(frame.map(|frame| frame.map_err(|error| broken(&error))))
            }
            Self::Late(late) => {
                let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut late.body), context));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(|piece| late.piece(piece))),
                    Err(error) => Err(broken(&error)),
                }))
            }
            Self::Bytes(bytes) => {
                let piece = ready!(bytes.as_mut().poll_next(context));
                Poll::Ready(piece.map(|piece| {
                    piece.map(Frame::data).map_err(|error: Error| {
                        tracing::warn!(%error, "an answer broke off");
                        BodyError
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

/// The final answer for the client.
pub(super) fn finish(mut answer: s3s::HttpResponse, asked: Asked) -> Response<Body> {
    let instead = answer.extensions_mut().remove::<Arc<Mutex<Option<Instead>>>>();
    let instead = instead.and_then(|it| it.lock().unwrap_or_else(PoisonError::into_inner).take());
    if answer.status() == StatusCode::NOT_MODIFIED {
        *answer.body_mut() = s3s::Body::empty();
        answer.headers_mut().remove(CONTENT_TYPE);
    }
    // s3s sends 206 for GET only
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

/// The answer to a request that is refused before s3s.
pub(super) fn refusal(error: S3Error) -> s3s::HttpResponse {
    error.to_http_response().unwrap_or_else(|_unwritten| {
        let mut answer = Response::new(s3s::Body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

/// Has a page take its share of the memory until it is sent.
pub(super) fn hold(answer: &mut s3s::HttpResponse, share: Share) {
    if let Some(page) = answer.body().bytes() {
        *answer.body_mut() = s3s::Body::from(share.hold(page));
    }
}

/// Logs that s3s couldn't write its answer to the end.
fn broken(error: &s3s::StdError) -> BodyError {
    tracing::debug!(error, "an answer broke off");
    BodyError
}

/// Replaces characters that XML doesn't allow by U+FFFD: s3s doesn't escape them, and answers repeat text that
/// clients sent.
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

/// The text of an XML element, unescaped and shortened for the log.
fn plain(text: &str) -> String {
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    let text = entities.iter().fold(text.to_owned(), |text, (entity, char)| text.replace(entity, char));
    text.chars().take(LONGEST_WHY).collect()
}

/// A request, for the log.
pub(super) struct Asked {
    pub(super) context: Arc<RequestContext>,
    /// The condition that wasn't met, if any.
    pub(super) condition: Option<&'static str>,
}

impl Asked {
    /// Adds the request ID to an answer, completes an error's XML, and logs the answer.
    pub(super) fn end(&self, answer: &mut s3s::HttpResponse) {
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
            // s3s omits it if an error has other headers
            answer.headers_mut().insert(CONTENT_TYPE, XML);
        }
    }

    /// Completes the XML of an error, and logs the error, except 404 and 412, which are normal answers.
    fn fail(&self, xml: &[u8], status: StatusCode) -> Bytes {
        let xml = String::from_utf8_lossy(xml);
        let part = |name: &str| {
            let (_, rest) = xml.split_once(&format!("<{name}>"))?;
            rest.split_once(&format!("</{name}>")).map(|(value, _)| value)
        };
        let (error, message) = (part("Code").unwrap_or_default(), part("Message"));
        let why = message.map_or_else(|| words(error).to_owned(), plain);
        // in a late answer only the code shows the error
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
            // fsspec reads this
            ("PreconditionFailed", Some(condition)) => format!("<Condition>{condition}</Condition>"),
            // s3cmd reads this
            ("AuthorizationHeaderMalformed", _) => format!("<Region>{REGION}</Region>"),
            _ => String::new(),
        };
        let id = self.context.id();
        xml.replace("</Error>", &format!("{said}{more}<RequestId>{id}</RequestId></Error>")).into()
    }
}
