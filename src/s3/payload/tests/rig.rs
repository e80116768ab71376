//! Helpers for the tests: bodies, a client's signer, and reading.

use std::convert::Infallible;
use std::future::ready;

use futures_util::{FutureExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::HeaderMap;
use hyper::header::HeaderName;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest as _, Sha256};

use super::super::*;
use crate::s3::checksum::{Algorithm, Hasher};

pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub(super) const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";
pub(super) const DATE: &str = "20130524T000000Z";

pub(super) fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |&(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    pairs.iter().map(pair).collect()
}

/// The result of reading a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) data: Vec<u8>,
    /// The last item of the body.
    pub(super) ended: Result<(), PayloadError>,
    /// The outcome after the body's end.
    pub(super) outcome: Result<Vec<Sum>, PayloadError>,
}

impl Read {
    /// The value, if it is whole.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        assert_eq!(self.ended.clone().err(), self.outcome.clone().err(), "they disagree");
        self.ended.is_ok().then_some(&self.data)
    }
}

/// Reads a body that comes in these pieces.
pub(super) fn read(pieces: Vec<Bytes>, announced: Announced, signer: Option<ChunkSigner>) -> Read {
    // this body panics if it is polled after its end
    let frames = stream::unfold(pieces.into_iter(), |mut pieces| {
        ready(pieces.next().map(|piece| (Ok::<_, Infallible>(Frame::data(piece)), pieces)))
    });
    let (mut payload, outcome) = Payload::new(StreamBody::new(frames), announced, signer);
    let mut data = Vec::new();
    let ended = loop {
        let hint = payload.size_hint().exact();
        match payload.frame().now_or_never().unwrap() {
            None => break Ok(()),
            Some(Ok(frame)) => {
                assert!(!payload.is_end_stream() || outcome.finish().is_ok());
                let piece = frame.into_data().unwrap();
                assert_eq!(payload.size_hint().exact(), hint.map(|hint| hint - piece.len() as u64));
                data.extend(piece);
            }
            Some(Err(ReadError::Payload(wrong))) => {
                let again = payload.frame().now_or_never().unwrap();
                assert!(
                    matches!(again, Some(Err(ReadError::Payload(again))) if again == wrong),
                    "it went on"
                );
                break Err(wrong);
            }
            Some(Err(ReadError::Body(never))) => match never {},
        }
    };
    Read { data, ended, outcome: outcome.finish() }
}

/// Reads a body in one piece and in pieces of several lengths, and asserts that the results are the same.
pub(super) fn read_all_ways(
    headers: &HeaderMap,
    body: &[u8],
    signer: impl Fn() -> Option<ChunkSigner>,
) -> Read {
    let announced = || Announced::read(headers, None).unwrap();
    let whole = read(vec![Bytes::copy_from_slice(body)], announced(), signer());
    for step in 1..body.len().min(200) {
        let pieces = body.chunks(step).map(Bytes::copy_from_slice).collect();
        let other = read(pieces, announced(), signer());
        assert_eq!((&other.ended, &other.outcome), (&whole.ended, &whole.outcome), "in steps of {step}");
        assert!(whole.ended.is_err() || other.data == whole.data, "in steps of {step}");
    }
    whole
}

pub(super) fn sum(algorithm: Algorithm, data: &[u8]) -> Sum {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(data);
    hasher.finish()
}

/// Signs as clients do.
pub(super) struct Signer {
    key: [u8; 32],
    previous: String,
}

pub(super) fn hmac(key: &[u8], data: &str) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().into()
}

pub(super) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

impl Signer {
    pub(super) fn new() -> Self {
        let key =
            SCOPE.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| hmac(&key, part).into());
        Self { key: key.try_into().unwrap(), previous: hex([7; 32]) }
    }

    pub(super) fn authorization() -> String {
        format!("AWS4-HMAC-SHA256 Credential=A/{SCOPE}, SignedHeaders=host, Signature={}", hex([7; 32]))
    }

    pub(super) fn next(&mut self, kind: &str, hashes: &str) -> String {
        let text = format!("AWS4-HMAC-SHA256-{kind}\n{DATE}\n{SCOPE}\n{}\n{hashes}", self.previous);
        self.previous = hex(hmac(&self.key, &text));
        self.previous.clone()
    }

    pub(super) fn chunk(&mut self, data: &[u8]) -> String {
        self.next("PAYLOAD", &format!("{}\n{}", hex(Sha256::digest(b"")), hex(Sha256::digest(data))))
    }

    pub(super) fn trailers(&mut self, lines: &str) -> String {
        self.next("TRAILER", &hex(Sha256::digest(lines)))
    }
}

/// An upload in chunks, as a client sends it.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) value: Vec<u8>,
    pub(super) chunk: usize,
    pub(super) signed: bool,
    pub(super) trailers: Vec<Algorithm>,
}

impl Upload {
    pub(super) fn headers(&self) -> HeaderMap {
        let names: Vec<&str> = self.trailers.iter().map(|algorithm| algorithm.header()).collect();
        let kind = match (self.signed, self.trailers.is_empty()) {
            (false, _) => "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            (true, true) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            (true, false) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        };
        headers(&[
            ("authorization", &Signer::authorization()),
            ("x-amz-content-sha256", kind),
            ("x-amz-date", DATE),
            ("x-amz-decoded-content-length", &self.value.len().to_string()),
            ("x-amz-trailer", &names.join(",")),
        ])
    }

    pub(super) fn announced(&self) -> Announced {
        Announced::read(&self.headers(), None).unwrap()
    }

    pub(super) fn signer(&self) -> Option<ChunkSigner> {
        self.signed.then(|| ChunkSigner::new(SECRET, &self.headers()).unwrap())
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let (mut body, mut signer) = (Vec::new(), Signer::new());
        for data in self.value.chunks(self.chunk).chain([&[][..]]) {
            body.extend(format!("{:x}", data.len()).bytes());
            if self.signed {
                body.extend(format!(";chunk-signature={}", signer.chunk(data)).bytes());
            }
            body.extend(b"\r\n");
            body.extend(data);
            if !data.is_empty() {
                body.extend(b"\r\n");
            }
        }
        let mut lines: Vec<String> = self
            .trailers
            .iter()
            .map(|algorithm| format!("{}:{}\n", algorithm.header(), sum(*algorithm, &self.value).base64()))
            .collect();
        body.extend(lines.concat().replace('\n', "\r\n").bytes());
        lines.sort();
        if self.signed && !lines.is_empty() {
            body.extend(format!("x-amz-trailer-signature:{}\r\n", signer.trailers(&lines.concat())).bytes());
        }
        body.extend(b"\r\n");
        body
    }

    pub(super) fn sums(&self) -> Vec<Sum> {
        self.trailers.iter().map(|algorithm| sum(*algorithm, &self.value)).collect()
    }
}

pub(super) fn uploads() -> impl Strategy<Value = Upload> {
    let trailers = proptest::sample::subsequence(Algorithm::ALL.to_vec(), 0..=Algorithm::ALL.len());
    (vec(any::<u8>(), 0..300), 1..400_usize, any::<bool>(), trailers.prop_shuffle())
        .prop_map(|(value, chunk, signed, trailers)| Upload { value, chunk, signed, trailers })
}

/// Splits the bytes at the places.
pub(super) fn cut(bytes: &[u8], places: &[Index]) -> Vec<Bytes> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|ends| bytes.slice(ends[0]..ends[1])).collect()
}
