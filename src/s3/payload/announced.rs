//! The headers of a request that describe its body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, HeaderName};

use super::error::PayloadError;
use crate::s3::checksum::{Algorithm, Sum};
use crate::s3::signature::unhex;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");
/// Both ask for a checksum to be computed, whether or not one is sent.
const ALGORITHMS: [HeaderName; 2] = [
    HeaderName::from_static("x-amz-sdk-checksum-algorithm"),
    HeaderName::from_static("x-amz-checksum-algorithm"),
];
/// Headers that begin like checksums but are none.
const NO_CHECKSUMS: [&str; 3] = ["x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type"];

/// The content encoding of chunks.
const AWS_CHUNKED: &str = "aws-chunked";

/// A request's body as its headers describe it.
#[derive(Debug)]
pub(in crate::s3) struct Announced {
    /// Length of the value in bytes, without any framing.
    pub(in crate::s3) length: Option<u64>,
    /// MD5 of the value.
    pub(in crate::s3) md5: Option<[u8; 16]>,
    pub(super) framing: Framing,
    /// SHA-256 of the value, which the request's signature covers.
    pub(super) sha256: Option<Vec<u8>>,
    /// Checksums to be computed, each once.
    pub(super) algorithms: Vec<Algorithm>,
    /// Checksums to be compared.
    pub(super) sums: Vec<Sum>,
    /// Checksums that will come as trailers.
    pub(super) promised: Vec<Algorithm>,
}

/// How a value is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Plain,
    /// In chunks, `aws-chunked`.
    Chunks,
    /// In chunks, each signed.
    SignedChunks,
}

impl Announced {
    /// Reads the headers. `body_length`: the length of the body with its framing, if known.
    ///
    /// # Errors
    ///
    /// The headers are malformed, contradict each other, or ask for something unsupported.
    pub(in crate::s3) fn read(headers: &HeaderMap, body_length: Option<u64>) -> Result<Self, PayloadError> {
        let mut announced = Self::read_framing(headers, body_length)?;
        announced.read_checksums(headers)?;
        Ok(announced)
    }

    /// As [`Announced::read`], for a completion, whose checksum headers are those of the object, not the body.
    pub(in crate::s3) fn read_framing(
        headers: &HeaderMap,
        body_length: Option<u64>,
    ) -> Result<Self, PayloadError> {
        let (framing, sha256) = framing(headers)?;
        let length =
            if framing == Framing::Plain { body_length } else { decoded_length(headers, body_length)? };
        let mut announced = Self {
            length,
            md5: md5(headers)?,
            framing,
            sha256,
            algorithms: Vec::new(),
            sums: Vec::new(),
            promised: Vec::new(),
        };
        announced.read_promises(headers)?;
        Ok(announced)
    }

    /// Whether the value is the whole body, without framing.
    pub(in crate::s3) fn is_plain(&self) -> bool {
        self.framing == Framing::Plain
    }

    /// Whether the chunks have signatures, to be checked with a
    /// [`ChunkSigner`](crate::s3::signature::ChunkSigner).
    pub(in crate::s3) fn has_signed_chunks(&self) -> bool {
        self.framing == Framing::SignedChunks
    }

    /// The value's own `Content-Encoding`, without `aws-chunked`.
    pub(in crate::s3) fn stored_encoding(encoding: &str) -> Option<String> {
        let own: Vec<&str> = items(encoding).filter(|item| !item.eq_ignore_ascii_case(AWS_CHUNKED)).collect();
        (!own.is_empty()).then(|| own.join(", "))
    }

    fn read_promises(&mut self, headers: &HeaderMap) -> Result<(), PayloadError> {
        for names in headers.get_all(TRAILER) {
            let names = names.to_str().map_err(|_error| PayloadError::Header(TRAILER, "isn't text"))?;
            for name in items(names) {
                let algorithm = Algorithm::of_header(name);
                let algorithm =
                    algorithm.ok_or(PayloadError::Header(TRAILER, "names no checksum that we know"))?;
                if self.promised.contains(&algorithm) {
                    return Err(PayloadError::Header(TRAILER, "names a checksum twice"));
                }
                self.promised.push(algorithm);
                self.compute(algorithm);
            }
        }
        if self.framing == Framing::Plain && !self.promised.is_empty() {
            return Err(PayloadError::Header(TRAILER, "needs a body in chunks"));
        }
        Ok(())
    }

    fn read_checksums(&mut self, headers: &HeaderMap) -> Result<(), PayloadError> {
        for name in ALGORITHMS {
            let Some(value) = one(headers, &name)? else { continue };
            let algorithm = Algorithm::named(value);
            self.compute(
                algorithm
                    .ok_or(PayloadError::Header(name, "is none of CRC32, CRC32C, CRC64NVME, SHA1, SHA256"))?,
            );
        }
        for name in headers.keys() {
            if !name.as_str().starts_with("x-amz-checksum-") || NO_CHECKSUMS.contains(&name.as_str()) {
                continue;
            }
            // accepting it without comparing it would mislead the client
            let algorithm = Algorithm::of_header(name.as_str());
            let algorithm =
                algorithm.ok_or_else(|| PayloadError::Header(name.clone(), "is no checksum that we know"))?;
            let sum = one(headers, name)?.and_then(|value| Sum::parse(algorithm, value));
            self.sums
                .push(sum.ok_or_else(|| PayloadError::Header(name.clone(), "isn't base64 of its length"))?);
            self.compute(algorithm);
        }
        Ok(())
    }

    pub(in crate::s3) fn compute(&mut self, algorithm: Algorithm) {
        if !self.algorithms.contains(&algorithm) {
            self.algorithms.push(algorithm);
        }
    }
}

/// How the value is framed, and its SHA-256.
fn framing(headers: &HeaderMap) -> Result<(Framing, Option<Vec<u8>>), PayloadError> {
    let encodings = headers.get_all(CONTENT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    // anonymous clients send no other header
    let is_chunked = encodings.flat_map(items).any(|item| item.eq_ignore_ascii_case(AWS_CHUNKED));
    let unsigned = if is_chunked { Framing::Chunks } else { Framing::Plain };
    match one(headers, &CONTENT_SHA256)? {
        None | Some("UNSIGNED-PAYLOAD") => Ok((unsigned, None)),
        Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Ok((Framing::Chunks, None)),
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") => {
            Ok((Framing::SignedChunks, None))
        }
        Some(ecdsa) if ecdsa.starts_with("STREAMING-AWS4-ECDSA-") => {
            Err(PayloadError::Unsupported("chunks signed with ECDSA (Signature Version 4A) aren't supported"))
        }
        Some(digits) => {
            let sha256 = unhex(digits.as_bytes());
            let sha256 = sha256
                .ok_or(PayloadError::Header(CONTENT_SHA256, "is neither 64 hex digits nor a known word"))?;
            if is_chunked {
                return Err(PayloadError::Header(CONTENT_SHA256, "can't be the SHA-256 of a body in chunks"));
            }
            Ok((Framing::Plain, Some(sha256.to_vec())))
        }
    }
}

/// The length of a value in chunks; the body is longer.
fn decoded_length(headers: &HeaderMap, body_length: Option<u64>) -> Result<Option<u64>, PayloadError> {
    let length = one(headers, &DECODED_LENGTH)?.ok_or(PayloadError::NoLength)?;
    // `parse` accepts a sign
    let digits = Some(length).filter(|length| !length.starts_with('+'));
    let length: Option<u64> = digits.and_then(|digits| digits.parse().ok());
    let length = length.ok_or(PayloadError::Header(DECODED_LENGTH, "is no length"))?;
    if body_length.is_some_and(|body| body < length) {
        return Err(PayloadError::Short);
    }
    Ok(Some(length))
}

fn md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, PayloadError> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let md5 = STANDARD.decode(value).ok().and_then(|md5| md5.try_into().ok());
    md5.map(Some).ok_or(PayloadError::Md5)
}

/// The header's value, if it is there; it must be there once.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, PayloadError> {
    let mut values = headers.get_all(name).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(PayloadError::Header(name.clone(), "comes twice"));
    }
    value
        .to_str()
        .map(|value| Some(value.trim()))
        .map_err(|_error| PayloadError::Header(name.clone(), "isn't text"))
}

/// The items of a comma-separated list.
fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}
