//! Errors of a body.

use std::fmt;

use hyper::header::HeaderName;

use crate::s3::checksum::Algorithm;

/// Why a body doesn't match its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::s3) enum PayloadError {
    /// A malformed header: `InvalidRequest`.
    Header(HeaderName, &'static str),
    /// `Content-MD5` is malformed: `InvalidDigest`.
    Md5,
    /// An unsupported way to send a body: `NotImplemented`.
    Unsupported(&'static str),
    /// No length where one is needed: `MissingContentLength`.
    NoLength,
    /// Signed chunks in a request without a signature: `AuthorizationHeaderMalformed`.
    Authorization(&'static str),
    /// A checksum that differs from the announced one: `BadDigest`.
    Digest(Algorithm),
    /// A SHA-256 that differs from the signed one: `XAmzContentSHA256Mismatch`.
    Sha256,
    /// A chunk, or the trailers, weren't signed with the request's key: `SignatureDoesNotMatch`.
    Signature,
    /// The body is shorter than announced: `IncompleteBody`.
    Short,
    /// The body is longer than announced: `IncompleteBody`, too, as in S3.
    Long,
    /// Malformed chunks: `InvalidRequest`.
    Framing(&'static str),
    /// Malformed trailers, or other trailers than announced: `MalformedTrailerError`.
    Trailer(&'static str),
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, why) => write!(f, "{name} {why}"),
            Self::Md5 => f.write_str("Content-MD5 isn't the base64 of 16 bytes"),
            Self::Digest(algorithm) => {
                write!(f, "the {} of the body isn't the announced one", algorithm.name())
            }
            Self::NoLength => f.write_str("x-amz-decoded-content-length is missing"),
            Self::Sha256 => f.write_str("the SHA-256 of the body isn't x-amz-content-sha256"),
            Self::Signature => f.write_str("a chunk of the body isn't signed, or not with this key"),
            Self::Short => f.write_str("the body is shorter than announced"),
            Self::Long => f.write_str("the body is longer than announced"),
            Self::Unsupported(why) | Self::Authorization(why) | Self::Framing(why) | Self::Trailer(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for PayloadError {}
