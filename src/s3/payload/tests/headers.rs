//! Headers that describe a body.

use hyper::HeaderMap;

use super::super::*;
use super::rig::*;

#[test]
fn headers_give_the_length_of_a_value() {
    let chunked = |length: &str| {
        headers(&[("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", length)])
    };
    let length = |headers: &HeaderMap, body| Announced::read(headers, body).map(|announced| announced.length);
    assert_eq!(length(&HeaderMap::new(), None), Ok(None));
    assert_eq!(length(&HeaderMap::new(), Some(7)), Ok(Some(7)));
    assert_eq!(length(&chunked("5"), Some(15)), Ok(Some(5)));
    assert_eq!(length(&chunked("5"), None), Ok(Some(5)));
    assert_eq!(length(&chunked("16"), Some(15)), Err(PayloadError::Short));
    assert_eq!(
        length(&headers(&[("content-encoding", "aws-chunked")]), Some(15)),
        Err(PayloadError::NoLength)
    );
    for wrong in ["", "+5", "-5", "5.0", "x", "99999999999999999999"] {
        assert!(matches!(length(&chunked(wrong), None), Err(PayloadError::Header(..))), "{wrong}");
    }
}

#[test]
fn malformed_and_unsupported_headers_are_refused() {
    let sha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    for pairs in [
        vec![("x-amz-content-sha256", "STREAMING-SOMETHING")],
        vec![("x-amz-content-sha256", &sha256[1..])],
        vec![("x-amz-content-sha256", "")],
        vec![("x-amz-content-sha256", sha256), ("content-encoding", "aws-chunked")],
        vec![("x-amz-checksum-crc32", "DUoRhQ")],
        vec![("x-amz-checksum-crc32", "AAAAAAAAAAA=")],
        vec![("x-amz-checksum-xxhash64", "AAAAAAAAAAA=")],
        vec![("x-amz-checksum-algorithm", "XXHASH64")],
        vec![("x-amz-sdk-checksum-algorithm", "MD5")],
        vec![("x-amz-trailer", "x-amz-checksum-crc32")],
    ] {
        let read = Announced::read(&headers(&pairs), Some(11));
        assert!(matches!(read, Err(PayloadError::Header(..))), "{pairs:?}: {read:?}");
    }
    let mut twice = headers(&[("x-amz-checksum-crc32", "DUoRhQ==")]);
    twice.append("x-amz-checksum-crc32", "AAAAAA==".parse().unwrap());
    assert!(matches!(Announced::read(&twice, None), Err(PayloadError::Header(..))));
    for trailer in ["x-amz-meta-a", "x-amz-checksum-xxhash64", "x-amz-checksum-crc32,x-amz-checksum-CRC32"] {
        let headers = headers(&[
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "11"),
            ("x-amz-trailer", trailer),
        ]);
        assert!(matches!(Announced::read(&headers, None), Err(PayloadError::Header(..))), "{trailer}");
    }
    for kind in
        ["STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"]
    {
        let read = Announced::read(&headers(&[("x-amz-content-sha256", kind)]), None);
        assert!(matches!(read, Err(PayloadError::Unsupported(_))), "{kind}");
    }
}

#[test]
fn content_md5_is_base64_of_16_bytes() {
    let md5 = |value: &str| {
        Announced::read(&headers(&[("content-md5", value)]), None).map(|announced| announced.md5)
    };
    let expected = *b"\x5e\xb6\x3b\xbb\xe0\x1e\xee\xd0\x93\xcb\x22\xbb\x8f\x5a\xcd\xc3";
    assert_eq!(md5("XrY7u+Ae7tCTyyK7j1rNww=="), Ok(Some(expected)));
    for wrong in ["", "XrY7u+Ae7tCTyyK7j1rNww", "5eb63bbbe01eeed093cb22bb8f5acdc3", "DUoRhQ=="] {
        assert_eq!(md5(wrong), Err(PayloadError::Md5), "{wrong}");
    }
}

#[test]
fn checksums_of_a_completed_object_are_not_those_of_the_body() {
    let headers = headers(&[
        ("x-amz-checksum-crc32", "DUoRhQ==-2"),
        ("x-amz-checksum-type", "COMPOSITE"),
        ("x-amz-content-sha256", "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"),
    ]);
    assert!(Announced::read(&headers, None).is_err());
    let body = |text: &'static str| {
        read(
            vec![Bytes::from_static(text.as_bytes())],
            Announced::read_framing(&headers, None).unwrap(),
            None,
        )
    };
    assert_eq!(body("hello world").outcome, Ok(vec![]));
    assert_eq!(body("hello warld").outcome, Err(PayloadError::Sha256));
}

#[test]
fn aws_chunked_is_not_stored_as_the_values_encoding() {
    for (encoding, stored) in [
        ("aws-chunked", None),
        ("AWS-Chunked,", None),
        ("", None),
        ("gzip", Some("gzip")),
        ("aws-chunked,gzip", Some("gzip")),
        ("gzip, aws-chunked", Some("gzip")),
        ("gzip, br", Some("gzip, br")),
    ] {
        assert_eq!(Announced::stored_encoding(encoding).as_deref(), stored, "{encoding}");
    }
}
