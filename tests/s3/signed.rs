//! Masters with credentials: signatures, rights, and refusals.

use std::time::Duration;

use crate::common::eventually;
use crate::common::http::{Response, request};
use crate::rig::{Client, Guarded, PATIENCE, check, eventually_holds_only, fails, tag_of, value};
use crate::signer::{
    CHUNKS_TRAILER, Headers, SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, Signer, UNSIGNED, sha256, sha256_sum,
};
use crate::xml;

const KEYS: &str = r#"
public-read = ["www"]

[[key]]
access = "reader"
secret = "reader-secret"
buckets = ["photos", "shared-*"]
allow = ["read"]

[[key]]
access = "writer"
secret = "writer-secret"
buckets = ["photos", "inbox"]
allow = ["write"]

[[key]]
access = "editor"
secret = "editor-secret"
buckets = ["photos"]
allow = ["read", "write"]

[[key]]
access = "admin"
secret = "admin-secret"
buckets = ["photos"]
allow = ["admin"]

[[key]]
access = "root"
secret = "root-secret"
buckets = ["*"]
allow = ["admin"]
"#;

fn guarded() -> Guarded {
    Guarded::new(KEYS, &[])
}

fn as_given(headers: &Headers) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Sends a request without changing it: signed before, or unsigned.
#[track_caller]
fn send(client: &Client, method: &str, target: &str, headers: &Headers, body: &[u8]) -> Response {
    let answer = request(&client.addr, method, target, &as_given(headers), body);
    check(&answer, method);
    answer
}

/// PUTs a body that is already framed, signed with that payload.
#[track_caller]
fn put_framed(
    client: &Client,
    target: &str,
    headers: &[(&str, &str)],
    payload: &str,
    body: impl FnOnce(&Signer, String) -> Vec<u8>,
) -> Response {
    let signer = client.signer.as_ref().unwrap();
    let mut all: Headers =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let seed = signer.sign("PUT", &client.addr, target, &mut all, payload);
    send(client, "PUT", target, &all, &body(signer, seed))
}

#[test]
fn bodies_can_be_signed_in_every_way() {
    let guarded = guarded();
    let root = guarded.client("root");
    let body = value(1, 200_000);
    let length = body.len().to_string();
    let decoded = ("x-amz-decoded-content-length", &*length);
    let sum = sha256_sum(&body);
    let stored = [
        ("/photos/hash", put_framed(&root, "/photos/hash", &[], &sha256(&body), |_, _| body.clone())),
        ("/photos/unsigned", put_framed(&root, "/photos/unsigned", &[], UNSIGNED, |_, _| body.clone())),
        (
            "/photos/chunks",
            put_framed(&root, "/photos/chunks", &[decoded], SIGNED_CHUNKS, |signer, seed| {
                let mut chunks = signer.chunks(seed);
                let mut framed: Vec<u8> = body.chunks(65_536).flat_map(|data| chunks.chunk(data)).collect();
                framed.extend(chunks.chunk(b""));
                framed.extend(b"\r\n");
                framed
            }),
        ),
        (
            "/photos/trailer",
            put_framed(
                &root,
                "/photos/trailer",
                &[decoded, ("x-amz-trailer", "x-amz-checksum-sha256")],
                SIGNED_CHUNKS_TRAILER,
                |signer, seed| {
                    let mut chunks = signer.chunks(seed);
                    let mut framed = chunks.chunk(&body);
                    framed.extend(chunks.chunk(b""));
                    framed.extend(chunks.trailer("x-amz-checksum-sha256", &sum));
                    framed
                },
            ),
        ),
        (
            "/photos/unsigned-trailer",
            put_framed(
                &root,
                "/photos/unsigned-trailer",
                &[decoded, ("x-amz-trailer", "x-amz-checksum-sha256"), ("content-encoding", "aws-chunked")],
                CHUNKS_TRAILER,
                |_, _| {
                    let head = format!("{:x}\r\n", body.len());
                    let tail = format!("\r\n0\r\nx-amz-checksum-sha256:{sum}\r\n\r\n");
                    [head.as_bytes(), &body, tail.as_bytes()].concat()
                },
            ),
        ),
    ];
    for (target, answer) in stored {
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert_eq!(answer.header("etag"), Some(&*tag_of(&body)), "{target}");
        let found = root.get(target);
        assert!(found.body == body, "{target}: {}", found.status);
        assert_eq!(found.header("content-encoding"), None, "{target}");
    }
    let with_sum = root.ask("HEAD", "/photos/trailer", &[("x-amz-checksum-mode", "ENABLED")], b"");
    assert_eq!(with_sum.header("x-amz-checksum-sha256"), Some(&*sum));
}

#[test]
fn a_body_that_does_not_match_its_signature_is_not_stored() {
    let guarded = guarded();
    let root = guarded.client("root");
    root.put("/photos/a", b"old");
    let body = value(2, 150_000);
    let length = body.len().to_string();
    let decoded = ("x-amz-decoded-content-length", &*length);
    let mut spoilt = body.clone();
    spoilt[100_000] ^= 1;
    let wrong_chunk = |signed: &[u8], sent: &[u8], signer: &Signer, seed: String| {
        let mut chunks = signer.chunks(seed);
        let mut framed: Vec<u8> = Vec::new();
        for (signed, sent) in signed.chunks(65_536).zip(sent.chunks(65_536)) {
            let chunk = chunks.chunk(signed);
            let head = chunk.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
            framed.extend_from_slice(&chunk[..head]);
            framed.extend_from_slice(sent);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend(chunks.chunk(b""));
        framed.extend_from_slice(b"\r\n");
        framed
    };
    for target in ["/photos/a", "/photos/new"] {
        let answer = put_framed(&root, target, &[], &sha256(&body), |_, _| spoilt.clone());
        fails(&answer, 400, "XAmzContentSHA256Mismatch");
        let answer = put_framed(&root, target, &[decoded], SIGNED_CHUNKS, |signer, seed| {
            wrong_chunk(&body, &spoilt, signer, seed)
        });
        fails(&answer, 403, "SignatureDoesNotMatch");
        // valid chunks without an end
        let answer = put_framed(&root, target, &[decoded], SIGNED_CHUNKS, |signer, seed| {
            let mut chunks = signer.chunks(seed);
            body.chunks(65_536).flat_map(|data| chunks.chunk(data)).collect()
        });
        fails(&answer, 400, "IncompleteBody");
        // chunks without signatures
        let answer = put_framed(&root, target, &[decoded], SIGNED_CHUNKS, |_, _| {
            [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()
        });
        fails(&answer, 403, "SignatureDoesNotMatch");
        // a wrong seed signature
        let answer = put_framed(&root, target, &[decoded], SIGNED_CHUNKS, |signer, _| {
            wrong_chunk(&body, &body, signer, "0".repeat(64))
        });
        fails(&answer, 403, "SignatureDoesNotMatch");
        let trailer = [decoded, ("x-amz-trailer", "x-amz-checksum-sha256")];
        let answer = put_framed(&root, target, &trailer, SIGNED_CHUNKS_TRAILER, |signer, seed| {
            let mut chunks = signer.chunks(seed);
            let mut framed = chunks.chunk(&body);
            framed.extend(chunks.chunk(b""));
            let last =
                String::from_utf8(chunks.trailer("x-amz-checksum-sha256", &sha256_sum(&body))).unwrap();
            framed.extend(last.replace("trailer-signature:", "trailer-signature:0").into_bytes());
            framed
        });
        fails(&answer, 403, "SignatureDoesNotMatch");
        let answer = put_framed(&root, target, &trailer, CHUNKS_TRAILER, |_, _| {
            let tail = format!("\r\n0\r\nx-amz-checksum-sha256:{}\r\n\r\n", sha256_sum(b"other"));
            [format!("{:x}\r\n", body.len()).as_bytes(), &body, tail.as_bytes()].concat()
        });
        fails(&answer, 400, "BadDigest");
    }
    assert_eq!(root.bytes("/photos/a"), b"old");
    assert_eq!(root.keys("photos"), ["a"]);
    eventually_holds_only(&guarded.cluster, &[("/photos/a", b"old")]);
}

#[test]
fn wrong_signatures_are_refused() {
    let guarded = guarded();
    let root = guarded.client("root");
    root.put("/photos/a", b"value");
    let with = |signer: Signer| Client { signer: Some(signer), ..root.clone() };
    let own = root.signer.clone().unwrap();
    fails(&with(Signer::new("root", "root-secreT")).get("/photos/a"), 403, "SignatureDoesNotMatch");
    fails(&with(Signer::new("root", "reader-secret")).get("/photos/a"), 403, "SignatureDoesNotMatch");
    fails(&with(Signer::new("nobody", "root-secret")).get("/photos/a"), 403, "InvalidAccessKeyId");
    for skew in [Duration::from_mins(16), Duration::from_hours(24 * 365)] {
        for signer in [own.later(skew), own.earlier(skew)] {
            fails(&with(signer).get("/photos/a"), 403, "RequestTimeTooSkewed");
        }
    }
    for signer in [own.later(Duration::from_mins(10)), own.earlier(Duration::from_mins(10))] {
        assert_eq!(with(signer).bytes("/photos/a"), b"value");
    }
    // signed for another method, target, query, host, header or body
    let sign = |method: &str, target: &str, headers: &[(&str, &str)]| {
        root.headers(method, target, headers, &sha256(b""))
    };
    let signed = sign("GET", "/photos/a", &[("range", "bytes=0-0")]);
    assert_eq!(send(&root, "GET", "/photos/a", &signed, b"").text(), "v");
    let altered = |name: &str, value: &str| -> Headers {
        let other = |(own, kept): &(String, String)| {
            (own.clone(), if own == name { value.to_owned() } else { kept.clone() })
        };
        signed.iter().map(other).collect()
    };
    for (method, target, headers) in [
        ("HEAD", "/photos/a", signed.clone()),
        ("DELETE", "/photos/a", signed.clone()),
        ("GET", "/photos/b", signed.clone()),
        ("GET", "/photos/a?versionId=null", signed.clone()),
        ("GET", "/photos/a", altered("host", "other")),
        ("GET", "/photos/a", altered("range", "bytes=0-1")),
        ("GET", "/photos/a", altered("x-amz-content-sha256", UNSIGNED)),
        ("GET", "/photos/a", altered("x-amz-date", &own.later(Duration::from_secs(1)).date())),
    ] {
        let answer = send(&root, method, target, &headers, b"");
        assert_eq!(answer.status, 403, "{method} {target} {headers:?}");
        if method != "HEAD" {
            fails(&answer, 403, "SignatureDoesNotMatch");
        }
    }
    let missing: Headers = signed.iter().filter(|(name, _)| name != "range").cloned().collect();
    fails(&send(&root, "GET", "/photos/a", &missing, b""), 403, "SignatureDoesNotMatch");
    assert_eq!(root.bytes("/photos/a"), b"value");
}

/// The holder of a signed URL must not be able to change its meaning with an additional header.
#[test]
fn s3_headers_must_be_signed() {
    let guarded = guarded();
    let (editor, root) = (guarded.client("editor"), guarded.client("root"));
    root.put("/photos/secret", b"secret");
    let signer = editor.signer.clone().unwrap();
    let target = signer.presign("PUT", &editor.addr, "/photos/upload", &Headers::new(), 60);
    for (name, value) in [
        ("x-amz-copy-source", "/photos/secret"),
        ("x-amz-meta-a", "b"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-acl", "private"),
    ] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        fails(&send(&editor, "PUT", &target, &headers, b""), 403, "AccessDenied");
        let mut headers = editor.headers("PUT", "/photos/upload", &[], &sha256(b""));
        headers.push((name.to_owned(), value.to_owned()));
        fails(&send(&editor, "PUT", "/photos/upload", &headers, b""), 403, "AccessDenied");
    }
    fails(&root.get("/photos/upload"), 404, "NoSuchKey");
    // signed ones are accepted
    let meta: Headers = vec![("x-amz-meta-a".into(), "b".into())];
    let target = signer.presign("PUT", &editor.addr, "/photos/upload", &meta, 60);
    let answer = send(&editor, "PUT", &target, &meta, b"value");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(root.get("/photos/upload").header("x-amz-meta-a"), Some("b"));
}

#[test]
fn presigned_urls_work() {
    let guarded = guarded();
    let editor = guarded.client("editor");
    let signer = editor.signer.clone().unwrap();
    let none = Headers::new();
    let presign = |signer: &Signer, method: &str, target: &str, expires| {
        signer.presign(method, &editor.addr, target, &none, expires)
    };
    let put = presign(&signer, "PUT", "/photos/a", 60);
    let answer = send(&editor, "PUT", &put, &none, b"value");
    assert_eq!((answer.status, answer.header("etag")), (200, Some(&*tag_of(b"value"))));
    let get = presign(&signer, "GET", "/photos/a", 60);
    assert_eq!(send(&editor, "GET", &get, &none, b"").text(), "value");
    let typed = presign(&signer, "GET", "/photos/a?response-content-type=text%2Fplain", 60);
    let answer = send(&editor, "GET", &typed, &none, b"");
    assert_eq!((answer.text().as_str(), answer.header("content-type")), ("value", Some("text/plain")));
    // a range needn't be signed
    let range = vec![("range".to_owned(), "bytes=1-2".to_owned())];
    assert_eq!(send(&editor, "GET", &get, &range, b"").text(), "al");
    // valid only for this method, object, query and host
    for (method, target) in [
        ("HEAD", get.clone()),
        ("DELETE", get.clone()),
        ("PUT", get.clone()),
        ("GET", get.replace("/photos/a?", "/photos/b?")),
        ("GET", typed.replace("text%2Fplain", "text%2Fhtml")),
        ("GET", format!("{get}&response-expires=0")),
        ("GET", get.replace("X-Amz-Expires=60", "X-Amz-Expires=61")),
    ] {
        let answer = send(&editor, method, &target, &none, b"");
        assert_eq!(answer.status, 403, "{method} {target}: {}", answer.text());
    }
    let earlier = signer.earlier(Duration::from_mins(2));
    let expired = presign(&earlier, "GET", "/photos/a", 60);
    fails(&send(&editor, "GET", &expired, &none, b""), 403, "AccessDenied");
    let good = presign(&earlier, "GET", "/photos/a", 600);
    assert_eq!(send(&editor, "GET", &good, &none, b"").text(), "value");
    let future = presign(&signer.later(Duration::from_mins(20)), "GET", "/photos/a", 60);
    fails(&send(&editor, "GET", &future, &none, b""), 403, "RequestTimeTooSkewed");
    // no longer than a week
    let long = presign(&signer.earlier(Duration::from_hours(24 * 8)), "GET", "/photos/a", 30 * 24 * 3600);
    fails(&send(&editor, "GET", &long, &none, b""), 400, "AuthorizationQueryParametersError");
    // with the rights of the client that signed it
    let reader = guarded.client("reader").signer.unwrap();
    let answer = send(&editor, "PUT", &presign(&reader, "PUT", "/photos/a", 60), &none, b"other");
    fails(&answer, 403, "AccessDenied");
    assert_eq!(editor.bytes("/photos/a"), b"value");
}

#[test]
fn a_credential_allows_exactly_its_rights() {
    let guarded = guarded();
    let root = guarded.client("root");
    for target in ["/photos/a", "/inbox/a", "/shared-1/a", "/other/a"] {
        root.put(target, b"value");
    }
    let readers = &["reader", "editor", "admin", "root"][..];
    let writers = &["writer", "editor", "admin", "root"][..];
    let attributes = &[("x-amz-object-attributes", "ETag")][..];
    let (from_photos, from_other) =
        (&[("x-amz-copy-source", "/photos/a")][..], &[("x-amz-copy-source", "/other/a")][..]);
    let deletion = "<Delete><Object><Key>x</Key></Object></Delete>";
    for (allowed, method, target, headers, body) in [
        (readers, "GET", "/photos/a", &[][..], ""),
        (readers, "HEAD", "/photos/a", &[], ""),
        (readers, "GET", "/photos?list-type=2", &[], ""),
        (readers, "GET", "/photos?versions", &[], ""),
        (readers, "GET", "/photos/a?attributes", attributes, ""),
        (readers, "GET", "/photos/a?acl", &[], ""),
        (readers, "HEAD", "/photos", &[], ""),
        (writers, "PUT", "/photos/new", &[], "value"),
        (writers, "DELETE", "/photos/new", &[], ""),
        (writers, "POST", "/photos?delete", &[], deletion),
        (writers, "POST", "/photos/up?uploads", &[], ""),
        (writers, "GET", "/photos?uploads", &[], ""),
        (&["editor", "admin", "root"], "PUT", "/photos/copy", from_photos, ""),
        (&["root"], "PUT", "/photos/copy", from_other, ""),
        // the client may write there, but not read the source
        (&["root"], "PUT", "/inbox/copy", from_photos, ""),
        (&["root"], "GET", "/other/a", &[], ""),
        (&["reader", "root"], "GET", "/shared-1/a", &[], ""),
    ] {
        for access in ["reader", "writer", "editor", "admin", "root"] {
            let answer = guarded.client(access).ask(method, target, headers, body.as_bytes());
            let text = answer.text();
            if allowed.contains(&access) {
                assert!(answer.status < 300, "{access} {method} {target}: {text}");
            } else {
                assert_eq!(answer.status, 403, "{access} {method} {target}: {text}");
            }
        }
        let answer = guarded.anybody().ask(method, target, headers, body.as_bytes());
        assert_eq!(answer.status, 403, "anybody {method} {target}");
    }
    // only admins create and delete buckets
    for access in ["reader", "writer", "editor"] {
        fails(&guarded.client(access).delete("/photos"), 403, "AccessDenied");
        fails(&guarded.client(access).ask("PUT", "/photos", &[], b""), 403, "AccessDenied");
    }
    assert_eq!(guarded.client("admin").ask("PUT", "/photos", &[], b"").status, 200);
    fails(&guarded.client("admin").delete("/photos"), 409, "BucketNotEmpty");
    // each client sees the buckets that it may read
    for (access, seen) in [
        ("reader", &["photos", "shared-1"][..]),
        ("writer", &[]),
        ("root", &["inbox", "other", "photos", "shared-1"]),
    ] {
        let list = guarded.client(access).get("/").text();
        assert_eq!(crate::xml::texts(&list, "Name"), seen, "{access}");
    }
    fails(&guarded.anybody().get("/"), 403, "AccessDenied");
}

#[test]
fn copying_a_part_needs_the_right_to_read_its_source() {
    let guarded = guarded();
    let (root, editor) = (guarded.client("root"), guarded.client("editor"));
    root.put("/other/a", b"secret");
    root.put("/photos/a", b"value");
    let upload = editor.begin("/photos/b", &[]);
    let target = format!("/photos/b?partNumber=1&uploadId={upload}");
    fails(&editor.ask("PUT", &target, &[("x-amz-copy-source", "/other/a")], b""), 403, "AccessDenied");
    let answer = editor.ask("PUT", &target, &[("x-amz-copy-source", "/photos/a")], b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_public_bucket_can_be_read_without_credentials() {
    let guarded = guarded();
    guarded.client("root").put("/www/index.html", b"hello");
    let anybody = guarded.anybody();
    assert_eq!(anybody.bytes("/www/index.html"), b"hello");
    assert_eq!(anybody.keys("www"), ["index.html"]);
    for (method, target) in
        [("PUT", "/www/a"), ("DELETE", "/www/index.html"), ("DELETE", "/www"), ("GET", "/photos/a")]
    {
        fails(&anybody.ask(method, target, &[], b""), 403, "AccessDenied");
    }
    fails(&anybody.delete_all("www", &["index.html"]), 403, "AccessDenied");
    // a wrong signature is refused nevertheless
    let wrong = Client { signer: Some(Signer::new("root", "wrong")), ..anybody.clone() };
    fails(&wrong.get("/www/index.html"), 403, "SignatureDoesNotMatch");
    assert_eq!(anybody.bytes("/www/index.html"), b"hello");
}

#[test]
fn the_native_api_has_the_same_credentials() {
    let guarded = guarded();
    let root = guarded.client("root");
    root.put("/photos/a", b"value");
    let ask = |authorization: &str, method: &str, target: &str| {
        request(&root.addr, method, target, &[("authorization", authorization)], b"x")
    };
    assert_eq!(ask("Bearer reader-secret", "GET", "/photos/a").status, 302);
    assert_eq!(ask("Bearer reader-secret", "PUT", "/photos/b").status, 403);
    assert_eq!(ask("Basic ZWRpdG9yOmVkaXRvci1zZWNyZXQ=", "PUT", "/photos/b").status, 201);
    assert_eq!(root.bytes("/photos/b"), b"x");
    assert_eq!(request(&root.addr, "GET", "/photos/a", &[], b"").status, 401);
    // S3 doesn't accept them as credentials
    for authorization in ["Bearer root-secret", "Basic cm9vdDpyb290LXNlY3JldA=="] {
        let headers = vec![("authorization".into(), authorization.into()), ("x-amz-a".into(), "b".into())];
        let answer = send(&root, "GET", "/photos/a", &headers, b"");
        assert!([400, 403].contains(&answer.status), "{} {}", answer.status, answer.text());
    }
}

#[test]
fn credentials_are_reloaded() {
    let guarded = guarded();
    let (root, reader) = (guarded.client("root"), guarded.client("reader"));
    root.put("/photos/a", b"value");
    assert_eq!(reader.bytes("/photos/a"), b"value");
    guarded.reload(
        &KEYS.replace("\"reader-secret\"", "\"another-secret\"").replace("[\"www\"]", "[\"photos\"]"),
    );
    fails(&reader.get("/photos/a"), 403, "SignatureDoesNotMatch");
    assert_eq!(guarded.anybody().bytes("/photos/a"), b"value");
    let other = Client { signer: Some(Signer::new("reader", "another-secret")), ..reader };
    assert_eq!(other.bytes("/photos/a"), b"value");
}

#[test]
fn version_2_signatures_are_valid_in_urls_only() {
    let guarded = guarded();
    let root = guarded.client("root");
    root.put("/photos/a", b"value");
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    // valid signatures
    let signature = |text: &str| crate::signer::sha1_mac("root-secret", text);
    let header = format!("AWS root:{}", signature(&format!("GET\n\n\n{date}\n/photos/a")));
    let headers = vec![("authorization".into(), header), ("date".into(), date)];
    fails(&send(&root, "GET", "/photos/a", &headers, b""), 400, "InvalidRequest");
    let signature = crate::signer::encode(&signature("GET\n\n\n4102444800\n/photos/a"), "");
    for query in [
        format!("AWSAccessKeyId=root&Signature={signature}&Expires=4102444800"),
        format!("%41WSAccessKeyId=root&Signature={signature}&Expires=4102444800"),
        format!("AWSAccessKeyI%64=root&%53ignature={signature}&Expires=4102444800&x-id=GetObject"),
    ] {
        let ask = |query: &str| send(&root, "GET", &format!("/photos/a?{query}"), &Headers::new(), b"");
        assert_eq!(ask(&query).body, b"value", "{query}");
        fails(&ask(&query.replace("4102444800", "4102444801")), 403, "SignatureDoesNotMatch");
    }
}

#[test]
fn without_credentials_any_signature_is_accepted() {
    let cluster = crate::rig::cluster(&[]);
    let stranger = Client::with_key(&cluster.master, "stranger");
    let body = value(3, 100_000);
    stranger.put("/bucket/a", &body);
    assert_eq!(stranger.bytes("/bucket/a"), body);
    assert_eq!(stranger.keys("bucket"), ["a"]);
    let signer = stranger.signer.clone().unwrap();
    let old = signer.earlier(Duration::from_hours(24 * 365));
    for (signer, target) in [(&signer, "/bucket/a"), (&old, "/bucket/a?x-id=GetObject")] {
        let target = signer.presign("GET", &stranger.addr, target, &Headers::new(), 60);
        assert!(send(&stranger, "GET", &target, &Headers::new(), b"").body == body);
    }
    let target = "/bucket/a?AWSAccessKeyId=a&Signature=b&Expires=1";
    assert!(send(&stranger, "GET", target, &Headers::new(), b"").body == body);
    // chunks with any signatures, but complete ones
    let length = body.len().to_string();
    let decoded = [("x-amz-decoded-content-length", &*length)];
    let answer = put_framed(&stranger, "/bucket/b", &decoded, SIGNED_CHUNKS, |_, _| {
        let mut chunks = signer.chunks("0".repeat(64));
        let mut framed = chunks.chunk(&body);
        framed.extend(chunks.chunk(b""));
        framed.extend(b"\r\n");
        framed
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = put_framed(&stranger, "/bucket/c", &[], &sha256(b"other"), |_, _| body.clone());
    fails(&answer, 400, "XAmzContentSHA256Mismatch");
    eventually("only complete bodies are stored", PATIENCE, || stranger.keys("bucket") == ["a", "b"]);
}

/// A page is full of what the key may see: what it may not see takes no place in it.
#[test]
fn buckets_that_a_key_may_not_see_take_no_place_in_its_pages() {
    let guarded = guarded();
    let (root, reader) = (guarded.client("root"), guarded.client("reader"));
    let seen = ["photos", "shared-1", "shared-2", "www"];
    for bucket in ["a", "b", "c", "photos", "q", "r", "shared-1", "shared-2", "t", "www", "x"] {
        root.put(&format!("/{bucket}/key"), b"value");
    }
    for most in [1, 2, 10] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = reader.get(&format!("/?max-buckets={most}{token}&x-id=ListBuckets")).text();
            listed.extend(xml::texts(&page, "Name"));
            match xml::text(&page, "ContinuationToken") {
                Some(next) => token = format!("&continuation-token={next}"),
                None => break,
            }
        }
        assert_eq!(listed, seen, "{most}");
    }
}
