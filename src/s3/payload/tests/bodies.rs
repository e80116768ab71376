//! Bodies, whole and broken.

use std::convert::Infallible;
use std::mem::discriminant;

use futures_util::{FutureExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::HeaderMap;

use super::super::*;
use super::rig::*;
use crate::s3::checksum::Algorithm;

#[test]
fn the_examples_of_the_reference_are_read() {
    let value = vec![b'a'; 66560];
    let example = |kind: &str, seed: &str, sizes: [&str; 3], rest: &str| {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{SCOPE},SignedHeaders=host,Signature={seed}"
        );
        let mut pairs = vec![
            ("authorization", authorization.as_str()),
            ("content-encoding", "aws-chunked"),
            ("x-amz-content-sha256", kind),
            ("x-amz-date", DATE),
            ("x-amz-decoded-content-length", "66560"),
        ];
        if kind.ends_with("TRAILER") {
            pairs.push(("x-amz-trailer", "x-amz-checksum-crc32c"));
        }
        let mut body = Vec::new();
        for (signature, data) in sizes.into_iter().zip([&value[..65536], &value[65536..], &[]]) {
            body.extend(format!("{:x};chunk-signature={signature}\r\n", data.len()).bytes());
            body.extend(data);
            body.extend(if data.is_empty() { &b""[..] } else { b"\r\n" });
        }
        body.extend(rest.bytes());
        (headers(&pairs), body)
    };
    let chunks = example(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
        "\r\n",
    );
    // the example's Content-Length
    assert_eq!(chunks.1.len(), 66824);
    let with_trailers = example(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ],
        "x-amz-checksum-crc32c:sOO8/Q==\r\n\
         x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    );
    for ((headers, body), sums) in [(chunks, vec![]), (with_trailers, vec![sum(Algorithm::Crc32C, &value)])] {
        for step in [1000, 65536, body.len()] {
            let pieces = || body.chunks(step).map(Bytes::copy_from_slice).collect();
            let announced = || Announced::read(&headers, Some(body.len() as u64)).unwrap();
            assert_eq!(announced().length, Some(66560));
            let signer = ChunkSigner::new(SECRET, &headers).unwrap();
            let whole = read(pieces(), announced(), Some(signer));
            assert_eq!(whole.whole(), Some(&value[..]));
            assert_eq!(whole.outcome, Ok(sums.clone()));
            let other = ChunkSigner::new("another", &headers).unwrap();
            assert_eq!(read(pieces(), announced(), Some(other)).ended, Err(PayloadError::Signature));
            // without a signer signatures are ignored
            assert_eq!(read(pieces(), announced(), None).whole(), Some(&value[..]));
        }
    }
}

#[test]
fn bodies_in_chunks_of_real_clients_are_read() {
    let length = ("x-amz-decoded-content-length", "11");
    let unsigned = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    let encoded = ("content-encoding", "aws-chunked");
    for (pairs, body, algorithms) in [
        // pyarrow without keys
        (
            vec![encoded, length, ("x-amz-trailer", "x-amz-checksum-crc64nvme")],
            "B\r\nhello world\r\n0\r\nx-amz-checksum-crc64nvme:jSnVw/bqjr4=\r\n\r\n",
            vec![Algorithm::Crc64Nvme],
        ),
        // the SDK for JavaScript
        (
            vec![
                encoded,
                length,
                unsigned,
                ("x-amz-trailer", "x-amz-checksum-sha1"),
                ("x-amz-sdk-checksum-algorithm", "SHA1"),
            ],
            "6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-sha1:Kq5sNclPz7QV2+lfQIuc6R7oRu0=\r\n\r\n",
            vec![Algorithm::Sha1],
        ),
        // variations of line ends, case and spaces
        (vec![length, unsigned], "b\r\nhello world\r\n0\r\n\r\n", vec![]),
        (vec![length, unsigned], "b\r\nhello world\r\n0\r\n", vec![]),
        (vec![length, unsigned], "00b;x=y\r\nhello world\r\n000\r\n", vec![]),
        (
            vec![
                ("content-encoding", "gzip, AWS-chunked"),
                length,
                ("x-amz-trailer", "X-Amz-Checksum-CRC32"),
            ],
            "b\r\nhello world\r\n0\r\n\r\nX-Amz-Checksum-Crc32: DUoRhQ== \n\r\n\r\n",
            vec![Algorithm::Crc32],
        ),
        (
            vec![encoded, length, ("x-amz-trailer", "x-amz-checksum-crc32, x-amz-checksum-sha1")],
            "b\r\nhello world\r\n0\r\nx-amz-checksum-sha1:Kq5sNclPz7QV2+lfQIuc6R7oRu0=\nx-amz-checksum-crc32:DUoRhQ==",
            vec![Algorithm::Crc32, Algorithm::Sha1],
        ),
    ] {
        let read = read_all_ways(&headers(&pairs), body.as_bytes(), || None);
        assert_eq!(read.whole(), Some(&b"hello world"[..]), "{body}");
        let sums = algorithms.into_iter().map(|algorithm| sum(algorithm, b"hello world")).collect();
        assert_eq!(read.outcome, Ok(sums), "{body}");
    }
}

#[test]
fn bodies_without_chunks_of_real_clients_are_read() {
    for (pairs, body, algorithms) in [
        // an unframed body, as boto3 sends it
        (
            vec![
                ("x-amz-content-sha256", "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"),
                ("x-amz-checksum-sha256", "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek="),
                ("x-amz-sdk-checksum-algorithm", "SHA256"),
            ],
            "hello world",
            vec![Algorithm::Sha256],
        ),
        (
            vec![
                ("x-amz-content-sha256", "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"),
                ("x-amz-checksum-crc32", "DUoRhQ=="),
            ],
            "hello world",
            vec![Algorithm::Crc32],
        ),
        // checksums that are requested, but not sent
        (
            vec![("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("x-amz-checksum-algorithm", "crc32c")],
            "hello world",
            vec![Algorithm::Crc32C],
        ),
        (vec![], "hello world", vec![]),
    ] {
        let read = read_all_ways(&headers(&pairs), body.as_bytes(), || None);
        assert_eq!(read.whole(), Some(&b"hello world"[..]), "{body}");
        let sums = algorithms.into_iter().map(|algorithm| sum(algorithm, b"hello world")).collect();
        assert_eq!(read.outcome, Ok(sums), "{body}");
    }
}

#[test]
fn an_empty_value_is_read() {
    let empty = Upload { value: vec![], chunk: 1, signed: true, trailers: vec![Algorithm::Crc32] };
    let chunks = read_all_ways(&empty.headers(), &empty.body(), || empty.signer());
    assert_eq!((chunks.whole(), &chunks.outcome), (Some(&[][..]), &Ok(empty.sums())));

    let plain = headers(&[("x-amz-checksum-crc32", "AAAAAA==")]);
    let plain = read(vec![], Announced::read(&plain, Some(0)).unwrap(), None);
    assert_eq!((plain.whole(), &plain.outcome), (Some(&[][..]), &Ok(empty.sums())));
}

#[test]
fn malformed_chunks_are_refused() {
    let headers = headers(&[
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "5"),
    ]);
    let (framing, trailer) = (PayloadError::Framing(""), PayloadError::Trailer(""));
    let signature = format!("5;chunk-signature={}\r\nhello\r\n0\r\n\r\n", "x".repeat(64));
    let endless = format!("5;{}", "x".repeat(1022));
    let many = format!("5\r\nhello\r\n0\r\n{}", "\r\n".repeat(8193));
    for (body, expected) in [
        ("hello", &PayloadError::Short),
        ("hello\r\n", &framing),
        ("\r\n5\r\nhello\r\n0\r\n\r\n", &framing),
        ("5\nhello\r\n0\r\n\r\n", &framing),
        (" 5\r\nhello\r\n0\r\n\r\n", &framing),
        ("+5\r\nhello\r\n0\r\n\r\n", &framing),
        ("-5\r\nhello\r\n0\r\n\r\n", &framing),
        ("0x5\r\nhello\r\n0\r\n\r\n", &framing),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", &framing),
        ("5\r\nhello0\r\n\r\n", &framing),
        ("4\r\nhello\r\n0\r\n\r\n", &framing),
        (&signature, &framing),
        ("5;chunk-signature=\r\nhello\r\n0\r\n\r\n", &framing),
        (&endless, &framing),
        ("6\r\nhello!\r\n0\r\n\r\n", &PayloadError::Long),
        ("ffffffffffffffff\r\nhello!", &PayloadError::Long),
        ("4\r\nhell\r\n0\r\n\r\n", &PayloadError::Short),
        ("5\r\nhello\r\n", &PayloadError::Short),
        ("5\r\nhello\r\n0", &PayloadError::Short),
        ("5\r\nhello\r\n0\r\n\r\nmore", &trailer),
        ("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", &trailer),
        (&many, &trailer),
    ] {
        let read = read_all_ways(&headers, body.as_bytes(), || None);
        assert_eq!(read.whole(), None, "{body}");
        let wrong = read.ended.unwrap_err();
        assert_eq!(discriminant(&wrong), discriminant(expected), "{body}: {wrong}");
    }
    let most = format!("5;{}\r\nhello\r\n0\r\n{}", "x".repeat(1020), "\r\n".repeat(8192));
    assert_eq!(read_all_ways(&headers, most.as_bytes(), || None).whole(), Some(&b"hello"[..]));
}

#[test]
fn trailers_must_be_those_that_were_announced() {
    let headers = headers(&[
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "11"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ]);
    for (trailers, expected) in [
        ("", PayloadError::Trailer("an announced trailer is missing")),
        ("x-amz-checksum-crc32:DUoRhA==", PayloadError::Digest(Algorithm::Crc32)),
        ("x-amz-checksum-crc32:DUoRhQ=", PayloadError::Trailer("a checksum isn't base64 of its length")),
        ("x-amz-checksum-crc32:", PayloadError::Trailer("a checksum isn't base64 of its length")),
        ("x-amz-checksum-crc32", PayloadError::Trailer("a trailer has no colon")),
        ("x-amz-checksum-crc32:\u{e9}", PayloadError::Trailer("a checksum isn't base64 of its length")),
        (
            "x-amz-checksum-crc32:DUoRhQ==\r\nx-amz-checksum-crc32:DUoRhQ==",
            PayloadError::Trailer("a trailer wasn't announced, or comes twice"),
        ),
        (
            "x-amz-checksum-crc32:DUoRhQ==\r\nx-amz-meta-a:b",
            PayloadError::Trailer("a trailer wasn't announced, or comes twice"),
        ),
    ] {
        let body = format!("b\r\nhello world\r\n0\r\n{trailers}\r\n\r\n");
        let read = read_all_ways(&headers, body.as_bytes(), || None);
        assert_eq!(read.outcome, Err(expected), "{trailers}");
        assert_eq!(read.whole(), None);
    }
}

#[test]
fn signed_chunks_must_be_signed_each_and_in_order() {
    let upload =
        Upload { value: b"aaaabbbbcccc".to_vec(), chunk: 4, signed: true, trailers: vec![Algorithm::Crc32] };
    let body = String::from_utf8(upload.body()).unwrap();
    let lines: Vec<&str> = body.split_inclusive("\r\n").collect();
    let unsigned = |line: usize| {
        let mut lines = lines.clone();
        lines[line] = if line == 6 { "0\r\n" } else { "4\r\n" };
        lines.concat()
    };
    let swapped = |a: usize, b: usize| {
        let mut lines = lines.clone();
        lines.swap(a, b);
        lines.swap(a + 1, b + 1);
        lines.concat()
    };
    let without_trailer_signature = [&lines[..8], &lines[9..]].concat().concat();
    let left_out = [&lines[..2], &lines[4..]].concat().concat();
    let forged = body.replace("bbbb", "bbbc");
    for other in
        [unsigned(0), unsigned(4), unsigned(6), swapped(0, 2), without_trailer_signature, left_out, forged]
    {
        let read = read_all_ways(&upload.headers(), other.as_bytes(), || upload.signer());
        assert_eq!(read.outcome, Err(PayloadError::Signature), "{other}");
        assert_eq!(read.whole(), None);
    }
    // trailers' names are signed in lower case
    let upper = body.replace("x-amz-", "X-Amz-");
    for body in [body, upper] {
        let read = read_all_ways(&upload.headers(), body.as_bytes(), || upload.signer());
        assert_eq!(read.whole(), Some(&upload.value[..]), "{body}");
    }
}

#[test]
fn chunks_are_signed_exactly_if_that_was_announced() {
    let upload = |signed| Upload { value: b"hello world".to_vec(), chunk: 4, signed, trailers: vec![] };
    let signer = || upload(true).signer();
    let bare = read_all_ways(&upload(true).headers(), &upload(false).body(), signer);
    assert_eq!((bare.whole(), &bare.outcome), (None, &Err(PayloadError::Signature)));
    for signed in [false, true] {
        let unsigned = read_all_ways(&upload(false).headers(), &upload(signed).body(), signer);
        assert_eq!(unsigned.whole(), Some(&b"hello world"[..]));
        assert!(!upload(false).announced().has_signed_chunks());
    }
    assert!(upload(true).announced().has_signed_chunks());
}

#[test]
fn a_body_without_chunks_must_be_what_its_headers_say() {
    let sha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    for (name, value, expected) in [
        ("x-amz-content-sha256", sha256, PayloadError::Sha256),
        (
            "x-amz-checksum-sha256",
            "uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
            PayloadError::Digest(Algorithm::Sha256),
        ),
        ("x-amz-checksum-crc32", "DUoRhQ==", PayloadError::Digest(Algorithm::Crc32)),
        ("x-amz-checksum-crc64nvme", "jSnVw/bqjr4=", PayloadError::Digest(Algorithm::Crc64Nvme)),
    ] {
        let headers = headers(&[(name, value)]);
        for length in [None, Some(11)] {
            let read = |body: &'static [u8]| {
                read(vec![Bytes::from_static(body)], Announced::read(&headers, length).unwrap(), None)
            };
            assert_eq!(read(b"hello world").whole(), Some(&b"hello world"[..]), "{name}");
            let other = read(b"hello warld");
            assert_eq!(other.outcome, Err(expected.clone()), "{name}");
            assert_eq!(other.whole(), None);
            if length.is_some() {
                assert!(other.data.is_empty(), "{name}: the last bytes weren't held back");
                assert_eq!(read(b"hello").ended, Err(PayloadError::Short));
                assert_eq!(read(b"hello world!").ended, Err(PayloadError::Long));
            }
        }
    }
}

#[test]
fn all_checksums_are_compared_and_returned() {
    let good =
        [("x-amz-checksum-crc32", "DUoRhQ=="), ("x-amz-checksum-sha1", "Kq5sNclPz7QV2+lfQIuc6R7oRu0=")];
    let body = || vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
    let whole = read(body(), Announced::read(&headers(&good), None).unwrap(), None);
    let mut sums = whole.outcome.unwrap();
    sums.sort_by_key(|sum| sum.algorithm.name());
    assert_eq!(sums, [Algorithm::Crc32, Algorithm::Sha1].map(|algorithm| sum(algorithm, b"hello world")));
    for (at, algorithm) in [(0, Algorithm::Crc32), (1, Algorithm::Sha1)] {
        let other = sum(algorithm, b"hello").base64();
        let mut one_wrong = good;
        one_wrong[at].1 = &other;
        let read = read(body(), Announced::read(&headers(&one_wrong), None).unwrap(), None);
        assert_eq!(read.ended, Err(PayloadError::Digest(algorithm)));
    }
}

#[test]
fn a_body_that_breaks_off_or_is_dropped_is_not_whole() {
    for length in [None, Some(5)] {
        let announced = Announced::read(&HeaderMap::new(), length).unwrap();
        let frames = stream::iter([Ok(Frame::data(Bytes::from_static(b"hel"))), Err("reset")]);
        let (mut payload, outcome) = Payload::new(StreamBody::new(frames), announced, None);
        assert_eq!(outcome.finish(), Err(PayloadError::Short), "before it began");
        assert!(payload.frame().now_or_never().unwrap().unwrap().is_ok());
        assert!(matches!(payload.frame().now_or_never().unwrap(), Some(Err(ReadError::Body("reset")))));
        assert!(matches!(
            payload.frame().now_or_never().unwrap(),
            Some(Err(ReadError::Payload(PayloadError::Short)))
        ));
        drop(payload);
        assert_eq!(outcome.finish(), Err(PayloadError::Short));
    }
}

#[test]
fn slices_are_passed_on_and_not_copied() {
    let upload = Upload { value: vec![7; 100_000], chunk: 65536, signed: true, trailers: vec![] };
    let body = Bytes::from(upload.body());
    let frames = [Ok::<_, Infallible>(Frame::data(body.clone()))];
    let (mut payload, _) =
        Payload::new(StreamBody::new(stream::iter(frames)), upload.announced(), upload.signer());
    while let Some(frame) = payload.frame().now_or_never().unwrap() {
        let data = frame.unwrap().into_data().unwrap();
        assert!(body.as_ptr_range().contains(&data.as_ptr()));
    }
}
