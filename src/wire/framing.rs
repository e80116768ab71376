//! How HTTP/1.1 frames a request.

use std::fmt;

use hyper::Version;
use hyper::header::{HOST, HeaderMap, TRANSFER_ENCODING};

/// A request whose framing no honest client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// HTTP/1.1 without a Host.
    NoHost,
    /// A Transfer-Encoding other than chunked, or several.
    UnknownEncoding,
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "a request has a Host header",
            Self::UnknownEncoding => "the only Transfer-Encoding is chunked",
        })
    }
}

impl std::error::Error for FramingError {}

/// Refuses framing that no honest client uses. hyper refuses most of it; where a request has both a length
/// and chunks, hyper goes by the chunks, as RFC 9112 section 6.3 has it, and closes the connection after
/// the answer.
pub(crate) fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), FramingError> {
    if version == Version::HTTP_11 && !headers.contains_key(HOST) {
        return Err(FramingError::NoHost);
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(FramingError::UnknownEncoding),
    }
}
