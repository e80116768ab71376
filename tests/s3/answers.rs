//! Answers: request numbers, the form of errors, and unsupported requests.

use crate::common::http::{Connection, request};
use crate::rig::{Client, check, cluster, etag, fails, open, tag_of};
use crate::xml;

#[test]
fn every_answer_has_a_unique_number() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    let asked = [
        s3.get("/bucket/a"),
        s3.head("/bucket/a"),
        s3.get("/bucket/none"),
        s3.head("/bucket/none"),
        s3.get("/bucket?list-type=2"),
        s3.ask("GET", "/bucket/a", &[("If-None-Match", &tag_of(b"value"))], b""),
        s3.ask("PUT", "/bucket/a", &[("If-None-Match", "*")], b"x"),
        s3.ask("OPTIONS", "/bucket/a", &[], b""),
        s3.ask("BREW", "/bucket/a", &[], b""),
        s3.get("/bucket/%FF"),
        s3.delete("/bucket/a"),
    ];
    let mut ids: Vec<_> = asked.iter().map(|answer| answer.header("x-amz-request-id").unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), asked.len());
}

#[test]
fn errors_of_head_have_no_body_and_keep_the_connection() {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    let mut connection = Connection::open(None, &cluster.master.addr()).unwrap();
    let mark = "Host: x\r\nx-amz-a: b\r\n";
    let tag = tag_of(b"value");
    for (request, method, status) in [
        (format!("HEAD /bucket/none HTTP/1.1\r\n{mark}\r\n"), "HEAD", 404),
        (format!("HEAD /bucket/a HTTP/1.1\r\n{mark}\r\n"), "HEAD", 200),
        (format!("HEAD /bucket/a HTTP/1.1\r\n{mark}Range: bytes=9-\r\n\r\n"), "HEAD", 416),
        (format!("HEAD /bucket/a HTTP/1.1\r\n{mark}If-Match: \"x\"\r\n\r\n"), "HEAD", 412),
        (format!("HEAD /bucket/a HTTP/1.1\r\n{mark}If-None-Match: {tag}\r\n\r\n"), "HEAD", 304),
        (format!("GET /bucket/a HTTP/1.1\r\n{mark}If-None-Match: {tag}\r\n\r\n"), "GET", 304),
        (format!("HEAD /none HTTP/1.1\r\n{mark}\r\n"), "HEAD", 404),
        (format!("GET /bucket/a HTTP/1.1\r\n{mark}\r\n"), "GET", 200),
    ] {
        connection.send(request.as_bytes()).unwrap();
        let answer = connection.receive(method).unwrap();
        assert_eq!(answer.status, status, "{request}");
        check(&answer, method);
        if status == 304 {
            assert_eq!(etag(&answer), tag);
            assert_eq!(answer.header("content-type"), None);
        }
    }
}

#[test]
fn conditions_of_readers() {
    let (_cluster, s3) = open();
    let tag = s3.put("/bucket/a", b"value");
    let ago = "Mon, 01 Jan 2001 00:00:00 GMT";
    let ahead = "Thu, 01 Jan 2099 00:00:00 GMT";
    let strange = "\"0123456789abcdef0123456789abcdef\"";
    for (headers, status) in [
        (&[("If-Match", &*tag)][..], 200),
        (&[("If-Match", "*")], 200),
        (&[("If-Match", strange)], 412),
        (&[("If-None-Match", &*tag)], 304),
        (&[("If-None-Match", "*")], 304),
        (&[("If-None-Match", strange)], 200),
        (&[("If-Modified-Since", ago)], 200),
        (&[("If-Modified-Since", ahead)], 304),
        (&[("If-Unmodified-Since", ago)], 412),
        (&[("If-Unmodified-Since", ahead)], 200),
        (&[("If-Match", &*tag), ("If-Unmodified-Since", ago)], 200),
        (&[("If-None-Match", strange), ("If-Modified-Since", ahead)], 200),
        (&[("If-None-Match", &*tag), ("If-Modified-Since", ago)], 304),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = s3.ask(method, "/bucket/a", headers, b"");
            assert_eq!(answer.status, status, "{method} {headers:?}");
            if status == 304 {
                assert_eq!(etag(&answer), tag);
            } else if status == 412 && method == "GET" {
                fails(&answer, 412, "PreconditionFailed");
            }
        }
    }
    assert_eq!(s3.ask("GET", "/bucket/none", &[("If-Match", "*")], b"").status, 404);
}

#[test]
fn ranges() {
    let (_cluster, s3) = open();
    let tag = s3.put("/bucket/a", b"0123456789");
    for (range, status, bytes, shown) in [
        ("bytes=0-0", 206, "0", "bytes 0-0/10"),
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=0-9", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=8-99", 206, "89", "bytes 8-9/10"),
        ("bytes=0-9223372036854775807", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=-99", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, "", "bytes */10"),
        ("bytes=10-20", 416, "", "bytes */10"),
        ("bytes=-0", 416, "", "bytes */10"),
        // an invalid range is ignored (RFC 9110 section 14.2), and several ranges return the whole object
        ("bytes=0-1,3-4", 200, "0123456789", ""),
        ("bytes=4-2", 200, "0123456789", ""),
        ("bytes=a-b", 200, "0123456789", ""),
        ("bytes=", 200, "0123456789", ""),
        ("lines=0-1", 200, "0123456789", ""),
        ("0-1", 200, "0123456789", ""),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = s3.ask(method, "/bucket/a", &[("Range", range)], b"");
            assert_eq!(answer.status, status, "{method} {range}: {}", answer.text());
            assert_eq!(answer.header("content-range").unwrap_or_default(), shown, "{method} {range}");
            if status == 416 {
                if method == "GET" {
                    fails(&answer, 416, "InvalidRange");
                }
                continue;
            }
            assert_eq!(answer.header("content-length"), Some(&*bytes.len().to_string()), "{method} {range}");
            assert_eq!(etag(&answer), tag);
            if method == "GET" {
                assert_eq!(answer.text(), bytes, "{range}");
            }
        }
    }
}

#[test]
fn headers_stored_with_an_object_are_returned() {
    let (_cluster, s3) = open();
    let said = [
        ("content-type", "text/x-test; charset=utf-8"),
        ("cache-control", "max-age=60"),
        ("content-disposition", "attachment; filename=\"a b.txt\""),
        ("content-encoding", "gzip"),
        ("content-language", "de"),
        ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
        ("x-amz-meta-a", "1"),
        ("x-amz-meta-long-name", "b c"),
    ];
    let stored = s3.ask("PUT", "/bucket/a", &said, b"value");
    assert_eq!(stored.status, 200, "{}", stored.text());
    for answer in [s3.get("/bucket/a"), s3.head("/bucket/a")] {
        for (name, value) in said {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(answer.header("content-length"), Some("5"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert!(answer.header("last-modified").is_some_and(|date| httpdate::parse_http_date(date).is_ok()));
    }
    // unless the reader overrides them
    let target = "/bucket/a?response-content-type=text%2Fplain&response-cache-control=no-store\
                  &response-content-disposition=inline&response-content-language=en\
                  &response-content-encoding=identity&response-expires=Thu%2C%2001%20Jan%202032%2000%3A00%3A00%20GMT";
    let answer = s3.get(target);
    for (name, value) in [
        ("content-type", "text/plain"),
        ("cache-control", "no-store"),
        ("content-disposition", "inline"),
        ("content-language", "en"),
        ("content-encoding", "identity"),
        ("expires", "Thu, 01 Jan 2032 00:00:00 GMT"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    fails(&s3.get("/bucket/a?response-content-type=a%0D%0Ab:c"), 400, "InvalidRequest");
    // an overwrite keeps none of them
    s3.put("/bucket/a", b"other");
    let answer = s3.head("/bucket/a");
    assert_eq!(answer.header("x-amz-meta-a"), None);
    assert_eq!(answer.header("content-type"), Some("binary/octet-stream"));
}

/// Requests of S3 that davkv doesn't implement.
#[test]
fn unsupported_requests_are_refused_and_change_nothing() {
    let cluster = cluster(&["--s3-buckets", "strict"]);
    let s3 = Client::of(&cluster.master);
    for bucket in ["/bucket", "/empty"] {
        assert_eq!(s3.ask("PUT", bucket, &[], b"").status, 200);
    }
    s3.put("/bucket/a", b"value");
    let of_buckets = [
        "accelerate",
        "analytics&id=a",
        "cors",
        "encryption",
        "intelligent-tiering&id=a",
        "inventory&id=a",
        "lifecycle",
        "logging",
        "metrics&id=a",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "tagging",
        "website",
    ];
    for query in of_buckets {
        for (method, bucket) in [("GET", "/bucket"), ("PUT", "/bucket"), ("DELETE", "/empty")] {
            let answer = s3.ask(method, &format!("{bucket}?{query}"), &[], b"");
            assert_eq!(answer.status, 501, "{method} {query}: {}", answer.text());
            fails(&answer, 501, "NotImplemented");
        }
    }
    for (method, query) in [
        ("GET", "tagging"),
        ("PUT", "tagging"),
        ("DELETE", "tagging"),
        ("GET", "torrent"),
        ("GET", "legal-hold"),
        ("PUT", "legal-hold"),
        ("DELETE", "legal-hold"),
        ("GET", "retention"),
        ("PUT", "retention"),
        ("DELETE", "retention"),
        ("PUT", "acl"),
        ("DELETE", "acl"),
        ("PUT", "torrent"),
        ("DELETE", "torrent"),
        ("POST", "restore"),
        ("POST", "select&select-type=2"),
        ("DELETE", "restore"),
        ("PUT", "restore"),
        // unknown requests must not be treated as known ones
        ("PUT", "newer"),
        ("DELETE", "newer"),
        ("POST", "newer"),
    ] {
        let answer = s3.ask(method, &format!("/bucket/a?{query}"), &[], b"");
        assert_eq!(answer.status, 501, "{method} {query}: {}", answer.text());
        fails(&answer, 501, "NotImplemented");
    }
    for (method, target) in [
        ("PUT", "/bucket?versioning"),
        ("PUT", "/bucket?acl"),
        ("DELETE", "/empty?acl"),
        ("DELETE", "/empty?versioning"),
        ("DELETE", "/empty?uploads"),
        ("DELETE", "/empty?newer"),
        ("PUT", "/bucket?newer"),
        ("POST", "/bucket"),
        ("POST", "/bucket/a"),
        ("POST", "/"),
        ("PUT", "/"),
        ("DELETE", "/"),
        ("PATCH", "/bucket/a"),
    ] {
        fails(&s3.ask(method, target, &[], b""), 501, "NotImplemented");
    }
    for header in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-acl", "public-read"),
        ("x-amz-grant-read", "id=a"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-website-redirect-location", "/a"),
        ("x-amz-write-offset-bytes", "0"),
    ] {
        let answer = s3.ask("PUT", "/bucket/a", &[header], b"other");
        assert_eq!(answer.status, 501, "{header:?}: {}", answer.text());
        fails(&answer, 501, "NotImplemented");
    }
    fails(
        &s3.ask("PUT", "/bucket/a", &[("x-amz-storage-class", "GLACIER")], b"x"),
        400,
        "InvalidStorageClass",
    );
    assert_eq!(s3.bytes("/bucket/a"), b"value");
    assert_eq!(xml::texts(&s3.get("/").text(), "Name"), ["bucket", "empty"]);
}

/// An HTML form upload.
#[test]
fn form_uploads_are_not_supported() {
    let (cluster, s3) = open();
    let form = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\n\
                --x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\nvalue\r\n--x--\r\n";
    for content_type in ["multipart/form-data; boundary=x", "Multipart/Form-Data; boundary=x"] {
        let headers = [("content-type", content_type)];
        fails(&s3.ask("POST", "/bucket", &headers, form.as_bytes()), 501, "NotImplemented");
    }
    assert!(s3.keys("bucket").is_empty());
    // without a mark, it is not a request of S3
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    let answer = request(&cluster.master.addr(), "POST", "/bucket", &headers, form.as_bytes());
    assert_eq!((answer.status, answer.header("x-amz-request-id")), (405, None));
}
