//! Maps the store's errors to S3's error codes.

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use s3s::{S3Error, S3ErrorCode, s3_error};

use super::payload::{Outcome, PayloadError};
use crate::error::Error;
use crate::key::KeyError;

/// `Retry-After`, in seconds.
const RETRY_SECONDS: &str = "1";

/// The answer to a request that the store refused. The cause of an index failure is logged here.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn refused(error: Error) -> S3Error {
    let code = match &error {
        Error::NotFound => S3ErrorCode::NoSuchKey,
        Error::NoUpload => S3ErrorCode::NoSuchUpload,
        Error::Exists | Error::Changed => S3ErrorCode::PreconditionFailed,
        Error::Busy => S3ErrorCode::OperationAborted,
        Error::TooManyWaiters | Error::NoMemory => S3ErrorCode::SlowDown,
        Error::Protected => S3ErrorCode::AccessDenied,
        Error::InvalidKey(KeyError::Length(_)) => S3ErrorCode::KeyTooLongError,
        Error::InvalidKey(_) => S3ErrorCode::InvalidArgument,
        Error::Empty => S3ErrorCode::InvalidRequest,
        Error::WrongMd5 => S3ErrorCode::BadDigest,
        Error::CutShort => S3ErrorCode::IncompleteBody,
        Error::Stalled => S3ErrorCode::RequestTimeout,
        Error::TooFewVolumes { .. } | Error::Unreachable | Error::Unsettled => {
            S3ErrorCode::ServiceUnavailable
        }
        Error::Full | Error::Unbalanced { .. } => S3ErrorCode::Custom("InsufficientStorage".into()),
        Error::Damaged | Error::Index(_) | Error::Panicked => S3ErrorCode::InternalError,
    };
    if let Error::Index(cause) = &error {
        tracing::error!(cause = cause.to_string(), "the index failed");
    }
    let full = matches!(error, Error::Full | Error::Unbalanced { .. });
    let busy = matches!(code, S3ErrorCode::ServiceUnavailable | S3ErrorCode::SlowDown);
    let message = match error {
        // values are immutable in the native API only
        Error::Exists => "there is an object of that key".to_owned(),
        error => error.to_string(),
    };
    let mut refusal = S3Error::with_message(code, message);
    if full {
        refusal.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
    }
    if busy {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
        refusal.set_headers(headers);
    }
    refusal
}

/// The message of an error that s3s made without one.
pub(super) fn words(code: &str) -> &'static str {
    match code {
        "SignatureDoesNotMatch" => "the signature doesn't match the request and the access key's secret",
        "InvalidURI" => "the path or the query isn't UTF-8, percent-encoded",
        "InvalidBucketName" => "no bucket can have that name",
        "KeyTooLongError" => "a key has at most 1024 bytes",
        "MalformedXML" => "the body isn't the XML that the request needs",
        "MissingRequestBodyError" => "the request needs a body",
        "MissingContentLength" => "the request needs a Content-Length",
        "IncompleteBody" => "the body is shorter than announced",
        "MaxMessageLengthExceeded" => "the body is too long",
        "MethodNotAllowed" => "the method isn't allowed here",
        "InternalError" => "the master failed, see its log",
        _ => "the request can't be carried out",
    }
}

/// The refusal of an unsupported feature, named as the client knows it.
pub(super) fn unsupported(what: &str) -> S3Error {
    s3_error!(NotImplemented, "{what} is not supported")
}

/// The answer to a request whose body doesn't match its headers.
pub(super) fn malformed(wrong: &PayloadError) -> S3Error {
    let code = match wrong {
        PayloadError::Header(..) | PayloadError::Framing(_) => S3ErrorCode::InvalidRequest,
        PayloadError::Md5 => S3ErrorCode::InvalidDigest,
        PayloadError::Unsupported(_) => S3ErrorCode::NotImplemented,
        PayloadError::NoLength => S3ErrorCode::MissingContentLength,
        PayloadError::Authorization(_) => S3ErrorCode::AuthorizationHeaderMalformed,
        PayloadError::Digest(_) => S3ErrorCode::BadDigest,
        PayloadError::Sha256 => S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
        PayloadError::Signature => S3ErrorCode::SignatureDoesNotMatch,
        PayloadError::Short | PayloadError::Long => S3ErrorCode::IncompleteBody,
        PayloadError::Trailer(_) => S3ErrorCode::Custom("MalformedTrailerError".into()),
    };
    let is_custom = matches!(code, S3ErrorCode::Custom(_));
    let mut refusal = S3Error::with_message(code, wrong.to_string());
    if is_custom {
        refusal.set_status_code(StatusCode::BAD_REQUEST);
    }
    refusal
}

/// The error for a body that wasn't stored: the body's own error if it has one, or else the store's.
pub(super) fn wrong(outcome: &Outcome, error: Error) -> S3Error {
    match outcome.finish() {
        Err(wrong) if matches!(error, Error::CutShort) => malformed(&wrong),
        _ => refused(error),
    }
}
