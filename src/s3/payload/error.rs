//! What can be wrong with a body.

use std::fmt;

use hyper::header::HeaderName;

use crate::s3::checksum::Algorithm;

/// Why a body isn't what its request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::s3) enum PayloadError {
    /// A header, or trailer, that can't be understood: `InvalidRequest`.
    Header(HeaderName, &'static str),
    /// `Content-MD5` is none: `InvalidDigest`.
    Md5,
    /// A way to send a body that we don't know: `NotImplemented`.
    Unsupported(&'static str),
    /// No length where one is needed: `MissingContentLength`.
    NoLength,
    /// Signed chunks, and no signature that they could follow: `AuthorizationHeaderMalformed`.
    Authorization(&'static str),
    /// Another checksum than announced: `BadDigest`.
    Digest(Algorithm),
    /// Another SHA-256 than the request was signed with: `XAmzContentSHA256Mismatch`.
    Sha256,
    /// A chunk, or the trailers, weren't signed with the request's key: `SignatureDoesNotMatch`.
    Signature,
    /// It ended early: `IncompleteBody`.
    Short,
    /// It is longer than announced: `IncompleteBody`, too, as S3 has it.
    Long,
    /// Its chunks are malformed: `InvalidRequest`.
    Framing(&'static str),
    /// Its trailers are malformed, or not what was promised: `MalformedTrailerError`.
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
