//! How the master tells the two APIs apart, and that both have the same objects.

use crate::common::http::{Response, get_url, request};
use crate::common::{Cluster, free_port};
use crate::rig::{Client, check, cluster, eventually_holds_only, fails, open, tag_of};
use crate::signer::Signer;

/// Sends a request without adding a mark of S3.
fn plain(cluster: &Cluster, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    request(&cluster.master.addr(), method, target, headers, body)
}

/// Whether the S3 API answered; only it numbers its answers.
fn is_s3(answer: &Response) -> bool {
    answer.header("x-amz-request-id").is_some()
}

#[test]
fn a_header_a_query_or_a_signature_marks_an_s3_request() {
    let cluster = cluster(&[]);
    let addr = cluster.master.addr();
    let ask = |target: &str, headers: &[(&str, &str)]| plain(&cluster, "GET", target, headers, b"");
    let credential = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request";
    for headers in [
        &[("x-amz-date", "x")][..],
        &[("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")],
        &[("x-amz-meta-a", "b")],
        &[("amz-sdk-request", "attempt=1")],
        &[("Amz-Sdk-Invocation-Id", "1")],
        &[("authorization", credential)],
        &[("authorization", "AWS4-ECDSA-P256-SHA256 x")],
        &[("authorization", "AWS a:b")],
    ] {
        assert!(is_s3(&ask("/bucket/none", headers)), "{headers:?}");
    }
    for headers in
        [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "AWS4")], &[("amz", "x")]]
    {
        assert!(!is_s3(&ask("/bucket/none", headers)), "{headers:?}");
    }
    let presigned = Signer::new("a", "b").presign("GET", &addr, "/bucket/none", &Vec::new(), 60);
    assert!(is_s3(&ask(&presigned, &[])));
    for query in [
        "acl",
        "accelerate",
        "analytics",
        "attributes",
        "continuation-token=a",
        "cors",
        "delete",
        "delimiter=/",
        "encoding-type=url",
        "encryption",
        "fetch-owner=true",
        "intelligent-tiering",
        "inventory",
        "key-marker=a",
        "legal-hold",
        "lifecycle",
        "list-type=2",
        "location",
        "logging",
        "marker=a",
        "max-keys=1",
        "max-uploads=1",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "partNumber=1",
        "policy",
        "policyStatus",
        "prefix=a",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "response-content-type=a",
        "restore",
        "retention",
        "select",
        "start-after=a",
        "tagging",
        "torrent",
        "uploadId=a",
        "uploads",
        "versionId=null",
        "versioning",
        "versions",
        "website",
        "x-id=GetObject",
        "AWSAccessKeyId=a&Signature=b&Expires=1",
    ] {
        for query in [query.to_owned(), format!("a=b&{query}"), format!("{query}&a")] {
            assert!(is_s3(&ask(&format!("/bucket/?{query}"), &[])), "{query}");
        }
    }
    for query in ["list", "unlinked", "list&start=/bucket/a&limit=1", "a=acl", "ACL", "prefixes", ""] {
        assert!(!is_s3(&ask(&format!("/bucket/?{query}"), &[])), "{query}");
    }
}

#[test]
fn on_a_separate_port_every_request_is_s3() {
    let port = free_port();
    let cluster = cluster(&["--s3-port", &port.to_string()]);
    let addr = format!("127.0.0.1:{port}");
    let ask = |method: &str, target: &str, body: &[u8]| {
        let answer = request(&addr, method, target, &[], body);
        check(&answer, method);
        answer
    };
    let stored = ask("PUT", "/bucket/key", b"value");
    assert_eq!((stored.status, stored.header("etag")), (200, Some(&*tag_of(b"value"))));
    assert_eq!(ask("GET", "/bucket/key", b"").text(), "value");
    assert!(ask("GET", "/", b"").text().contains("<Name>bucket</Name>"));
    assert_eq!(ask("GET", "/bucket?list", b"").status, 200);
    fails(&ask("UNLINK", "/bucket/key", b""), 501, "NotImplemented");
    // the other port serves both APIs
    assert_eq!(cluster.fetch("/bucket/key").text(), "value");
    assert_eq!(Client::of(&cluster.master).bytes("/bucket/key"), b"value");
}

#[test]
fn an_object_is_the_same_in_both_apis() {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"from S3");
    let found = cluster.request("GET", "/bucket/a", b"");
    assert_eq!(found.status, 302);
    assert_eq!(found.header("etag"), Some(&*tag_of(b"from S3")));
    assert_eq!(get_url(found.header("location").unwrap()).text(), "from S3");
    assert_eq!(cluster.request("PUT", "/bucket/b", b"native").status, 201);
    let found = s3.get("/bucket/b");
    assert_eq!((found.status, found.text().as_str()), (200, "native"));
    assert_eq!(found.header("etag"), Some(&*tag_of(b"native")));
    assert_eq!(found.header("content-type"), Some("binary/octet-stream"));
    let list = cluster.request("GET", "/bucket/?list", b"").text();
    assert_eq!(list.trim(), r#"{"next":"","keys":["/bucket/a","/bucket/b"]}"#);
    assert_eq!(s3.keys("bucket"), ["a", "b"]);
    // both APIs return the same bytes for any key
    for key in ["ä b", "a%2Fb", "q?list", "plus+", "#", "a//b", "é/", "'\"<&>"] {
        let target = format!("/bucket/{}", crate::signer::encode(key, "/"));
        s3.put(&target, key.as_bytes());
        assert_eq!(cluster.fetch(&target).text(), key);
        assert_eq!(cluster.request("DELETE", &target, b"").status, 204);
        fails(&s3.get(&target), 404, "NoSuchKey");
        assert_eq!(cluster.request("PUT", &target, b"native").status, 201);
        assert_eq!(s3.bytes(&target), b"native");
    }
}

#[test]
fn values_are_immutable_only_in_the_native_api() {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"old");
    assert_eq!(cluster.request("PUT", "/bucket/a", b"other").status, 403);
    assert_eq!(s3.bytes("/bucket/a"), b"old");
    assert_eq!(cluster.request("PUT", "/bucket/b", b"old").status, 201);
    s3.put("/bucket/b", b"new");
    assert_eq!(cluster.fetch("/bucket/b").text(), "new");
    eventually_holds_only(&cluster, &[("/bucket/a", b"old"), ("/bucket/b", b"new")]);
}

#[test]
fn an_unlinked_key_does_not_exist_in_s3() {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    assert_eq!(cluster.request("UNLINK", "/bucket/a", b"").status, 204);
    fails(&s3.get("/bucket/a"), 404, "NoSuchKey");
    assert_eq!(s3.head("/bucket/a").status, 404);
    assert!(s3.keys("bucket").is_empty());
    // and can still be relinked
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert!(s3.delete_all("bucket", &["a"]).text().contains("<Deleted>"));
    assert_eq!(cluster.request("RELINK", "/bucket/a", b"").status, 204);
    assert_eq!(s3.bytes("/bucket/a"), b"value");
    // a new object can replace it
    assert_eq!(cluster.request("UNLINK", "/bucket/a", b"").status, 204);
    let stored = s3.ask("PUT", "/bucket/a", &[("If-None-Match", "*")], b"new");
    assert_eq!(stored.status, 200, "{}", stored.text());
    eventually_holds_only(&cluster, &[("/bucket/a", b"new")]);
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert_eq!(cluster.request("RELINK", "/bucket/a", b"").status, 404);
    eventually_holds_only(&cluster, &[]);
}

#[test]
fn with_protect_objects_are_kept_until_they_are_unlinked() {
    let cluster = cluster(&["--protect"]);
    let s3 = Client::of(&cluster.master);
    s3.put("/bucket/a", b"value");
    fails(&s3.delete("/bucket/a"), 403, "AccessDenied");
    fails(&s3.ask("PUT", "/bucket/a", &[], b"other"), 403, "AccessDenied");
    let all = s3.delete_all("bucket", &["a"]).text();
    assert!(all.contains("<Code>AccessDenied</Code>"), "{all}");
    assert_eq!(s3.bytes("/bucket/a"), b"value");
    // parts of uploads are not protected
    let upload = s3.begin("/bucket/b", &[]);
    s3.put_part("/bucket/b", &upload, 1, b"first");
    let tag = s3.put_part("/bucket/b", &upload, 1, b"second");
    assert_eq!(s3.complete("/bucket/b", &upload, &[tag]).status, 200);
    eventually_holds_only(&cluster, &[("/bucket/a", b"value"), ("/bucket/b", b"second")]);
}
