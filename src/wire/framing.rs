//! How HTTP/1.1 frames a request.

use std::fmt;

use hyper::Version;
use hyper::header::{HOST, TRANSFER_ENCODING};
use hyper::http::request::Parts;

use super::server::RawLine;

/// A request whose framing no honest client uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// HTTP/1.1 without a Host.
    NoHost,
    /// Several Hosts.
    ManyHosts,
    /// A Host that is no name or address.
    InvalidHost,
    /// A `#` in the target, which hyper would drop with all that follows.
    Fragment,
    /// The target wasn't seen as it came.
    Unseen,
    /// A Transfer-Encoding other than chunked, or several.
    UnknownEncoding,
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "a request has a Host header",
            Self::ManyHosts => "a request has one Host header",
            Self::InvalidHost => "the Host header is a name or an address, with a port or without",
            Self::Fragment => "a # in the URL would end the key: write %23",
            Self::Unseen => "it came together with the end of another request: send it again",
            Self::UnknownEncoding => "the only Transfer-Encoding is chunked",
        })
    }
}

impl std::error::Error for FramingError {}

/// Refuses framing that no honest client uses. hyper refuses most of it; where a request has both a length
/// and chunks, hyper goes by the chunks, as RFC 9112 section 6.3 has it, and closes the connection after
/// the answer.
pub(crate) fn check_framing(head: &Parts) -> Result<(), FramingError> {
    match head.extensions.get() {
        None => {}
        Some(RawLine::Fragment) => return Err(FramingError::Fragment),
        Some(RawLine::Unseen) => return Err(FramingError::Unseen),
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 => return Err(FramingError::NoHost),
        (_, Some(_)) => return Err(FramingError::ManyHosts),
        (Some(host), None) if !host.as_bytes().iter().all(|byte| may_be_in_host(*byte)) => {
            return Err(FramingError::InvalidHost);
        }
        _ => {}
    }
    let mut encodings = head.headers.get_all(TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(FramingError::UnknownEncoding),
    }
}

/// RFC 3986 section 3.2: a name, an address, and a port.
fn may_be_in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
}
