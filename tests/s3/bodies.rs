//! Requests in XML, and the checks of their bodies.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::common::http::{Connection, head, request};
use crate::rig::{Client, Guarded, check, fails, open};
use crate::signer::{CHUNKS_TRAILER, UNSIGNED, sha256, sha256_sum};
use crate::xml;

const DELETE_A: &str = "<Delete><Object><Key>a</Key></Object></Delete>";

fn md5_base64(body: &[u8]) -> String {
    STANDARD.encode(Md5::digest(body))
}

#[test]
fn a_deletion_reports_the_result_for_each_object() {
    let (_cluster, s3) = open();
    let tag = s3.put("/bucket/a", b"value");
    s3.put("/bucket/b", b"value");
    let delete = |xml: &str| {
        let answer = s3.ask("POST", "/bucket?delete", &[], xml.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    };
    let answer = delete(
        "<Delete><Object><Key>a</Key><ETag>\"x\"</ETag></Object><Object><Key>b</Key><VersionId>7</VersionId></Object>\
         <Object><Key>none</Key></Object><Object><Key></Key></Object></Delete>",
    );
    assert_eq!(xml::all_inner(&answer, "Deleted"), ["<Key>none</Key>"], "{answer}");
    let errors: Vec<_> = xml::all_inner(&answer, "Error")
        .iter()
        .map(|error| (xml::text(error, "Key").unwrap_or_default(), xml::text(error, "Code").unwrap()))
        .collect();
    let expected = [("a", "PreconditionFailed"), ("b", "NoSuchVersion"), ("", "UserKeyMustBeSpecified")];
    assert_eq!(errors, expected.map(|(key, code)| (key.to_owned(), code.to_owned())));
    assert_eq!(s3.keys("bucket"), ["a", "b"]);
    // in quiet mode, only failures
    let answer = delete(&format!(
        "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n  <Quiet>true</Quiet>\n  \
         <Object>\n<Key>a</Key><ETag>{tag}</ETag></Object><Object><Key>b</Key><VersionId>null</VersionId></Object>\
         <Object><Key>b</Key></Object></Delete>\n"
    ));
    assert!(!answer.contains("<Deleted>") && !answer.contains("<Error>"), "{answer}");
    assert!(s3.keys("bucket").is_empty());
}

#[test]
fn a_request_deletes_at_most_1000_objects() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    let keys = |count: usize| {
        let mut xml = String::from("<Delete>");
        for n in 0..count {
            write!(xml, "<Object><Key>{}{n}</Key></Object>", "x".repeat(1000)).unwrap();
        }
        xml + "<Object><Key>a</Key></Object></Delete>"
    };
    fails(&s3.ask("POST", "/bucket?delete", &[], b"<Delete></Delete>"), 400, "MalformedXML");
    fails(&s3.ask("POST", "/bucket?delete", &[], keys(1000).as_bytes()), 400, "MalformedXML");
    assert_eq!(s3.keys("bucket"), ["a"]);
    let answer = s3.ask("POST", "/bucket?delete", &[], keys(999).as_bytes());
    assert_eq!(xml::all_inner(&answer.text(), "Deleted").len(), 1000);
    assert!(s3.keys("bucket").is_empty());
}

#[test]
fn an_xml_body_must_match_its_headers() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    let body = DELETE_A.as_bytes();
    let (sum, other) = (sha256_sum(body), sha256_sum(b"other"));
    let delete = |header: (&str, &str)| s3.ask("POST", "/bucket?delete", &[header], body);
    fails(&delete(("content-md5", &md5_base64(b"other"))), 400, "BadDigest");
    fails(&delete(("content-md5", "x")), 400, "InvalidDigest");
    fails(&delete(("x-amz-checksum-sha256", &other)), 400, "BadDigest");
    fails(&delete(("x-amz-checksum-sha256", "x")), 400, "InvalidRequest");
    fails(&delete(("x-amz-checksum-crc32", "AAAAAA==")), 400, "BadDigest");
    fails(&delete(("x-amz-content-sha256", &sha256(b"other"))), 400, "XAmzContentSHA256Mismatch");
    assert_eq!(s3.keys("bucket"), ["a"]);
    for header in [
        ("content-md5", &*md5_base64(body)),
        ("x-amz-checksum-sha256", &*sum),
        ("x-amz-content-sha256", &*sha256(body)),
        ("x-amz-content-sha256", UNSIGNED),
    ] {
        s3.put("/bucket/a", b"value");
        assert_eq!(delete(header).status, 200, "{header:?}");
        assert!(s3.keys("bucket").is_empty());
    }
    // in chunks
    s3.put("/bucket/a", b"value");
    let framed = |sum: &str| {
        let head = format!("{:x}\r\n{DELETE_A}\r\n0\r\nx-amz-checksum-sha256:{sum}\r\n\r\n", body.len());
        let length = body.len().to_string();
        let headers = [
            ("x-amz-content-sha256", CHUNKS_TRAILER),
            ("x-amz-decoded-content-length", &*length),
            ("x-amz-trailer", "x-amz-checksum-sha256"),
        ];
        s3.ask("POST", "/bucket?delete", &headers, head.as_bytes())
    };
    fails(&framed(&other), 400, "BadDigest");
    assert_eq!(s3.keys("bucket"), ["a"]);
    let answer = framed(&sum);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(s3.keys("bucket").is_empty());
}

#[test]
fn invalid_xml_is_a_client_error() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    for body in [
        "x",
        "<",
        "<Delete>",
        "<Other></Other>",
        "<Delete><Object></Object></Delete>",
        "<Delete><Object><Key>a</Key></Object>",
        "<Delete><Object><Key>a<Key>b</Key></Key></Object></Delete>",
        "<Delete><Object><Key>a</Key></Object></Delete><Delete></Delete>",
        "<Delete><Object><Key>&a;</Key></Object></Delete>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><Delete><Object><Key>&b;</Key></Object></Delete>",
        "<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>",
        "\u{feff}{}",
    ] {
        let answer = s3.ask("POST", "/bucket?delete", &[], body.as_bytes());
        fails(&answer, 400, "MalformedXML");
    }
    for body in [&b"<Delete><Object><Key>\xff</Key></Object></Delete>"[..], &[0; 100], &[0xff; 100]] {
        assert_eq!(s3.ask("POST", "/bucket?delete", &[], body).status, 400);
    }
    let answer = s3.ask("POST", "/bucket?delete", &[], b"");
    assert_eq!(answer.status, 400, "{}", answer.text());
    // shorter than announced
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    let headers = [("x-amz-a", "b")];
    connection.send(&head(&s3.addr, "POST", b"/bucket?delete", &headers, 1000)).unwrap();
    connection.send(DELETE_A.as_bytes()).unwrap();
    connection.finish().unwrap();
    let answer = connection.receive("POST").unwrap();
    check(&answer, "POST");
    fails(&answer, 400, "IncompleteBody");
    // longer than the limit
    let body = format!("<Delete>{}</Delete>", " ".repeat(5 << 20));
    fails(&s3.ask("POST", "/bucket?delete", &[], body.as_bytes()), 400, "MaxMessageLengthExceeded");
    assert_eq!(s3.keys("bucket"), ["a"]);
}

#[test]
fn xml_is_read_only_from_clients_that_may_send_it() {
    let keys =
        "[[key]]\naccess = \"root\"\nsecret = \"root-secret\"\nbuckets = [\"*\"]\nallow = [\"admin\"]\n";
    let guarded = Guarded::new(keys, &[]);
    let root = guarded.client("root");
    root.put("/bucket/a", b"value");
    // the body of any other client isn't asked for
    let mut connection = Connection::open(None, &root.addr).unwrap();
    let headers = [("x-amz-a", "b"), ("expect", "100-continue")];
    connection.send(&head(&root.addr, "POST", b"/bucket?delete", &headers, 1000)).unwrap();
    fails(&connection.receive_any("POST").unwrap(), 403, "AccessDenied");
    // a body that was changed on its way is refused
    let signed = root.headers("POST", "/bucket?delete", &[], &sha256(DELETE_A.as_bytes()));
    let signed: Vec<_> = signed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let other = DELETE_A.replace('a', "b");
    let answer = request(&root.addr, "POST", "/bucket?delete", &signed, other.as_bytes());
    fails(&answer, 400, "XAmzContentSHA256Mismatch");
    assert_eq!(root.keys("bucket"), ["a"]);
    let answer = request(&root.addr, "POST", "/bucket?delete", &signed, DELETE_A.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(root.keys("bucket").is_empty());
}

/// A body in HTTP chunks has no content length to check.
#[test]
fn bodies_may_be_in_http_chunks() {
    let (_cluster, s3): (_, Client) = open();
    let framed = b"3\r\nval\r\n2\r\nue\r\n0\r\n\r\n";
    let chunked = [("transfer-encoding", "chunked")];
    assert_eq!(s3.ask("PUT", "/bucket/a", &chunked, framed).status, 200);
    assert_eq!(s3.bytes("/bucket/a"), b"value");
    assert_eq!(s3.ask("PUT", "/bucket/empty", &chunked, b"0\r\n\r\n").status, 200);
    assert_eq!(s3.bytes("/bucket/empty"), b"");
    // truncated
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    let headers = [("x-amz-a", "b"), ("transfer-encoding", "chunked")];
    connection.send(&head(&s3.addr, "PUT", b"/bucket/a", &headers, 0)).unwrap();
    connection.send(b"5\r\nother\r\n").unwrap();
    connection.finish().unwrap();
    fails(&connection.receive("PUT").unwrap(), 400, "IncompleteBody");
    assert_eq!(s3.bytes("/bucket/a"), b"value");
}
