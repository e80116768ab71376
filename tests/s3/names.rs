//! Names of objects and buckets.

use crate::common::http::Connection;
use crate::rig::{Client, Guarded, check, cluster, eventually_holds_only, fails, open};
use crate::signer::encode;
use crate::xml;

const ROOT: &str =
    "[[key]]\naccess = \"root\"\nsecret = \"root-secret\"\nbuckets = [\"*\"]\nallow = [\"admin\"]\n";

/// Unusual but valid keys, in byte order.
const KEYS: [&str; 38] = [
    " ",
    " a ",
    "!",
    "\"quoted\"",
    "#a",
    "%",
    "%2F",
    "%zz",
    "&amp;",
    "'",
    "(a)*",
    "+",
    "..",
    "../..",
    "./a",
    "/",
    "//",
    "/a",
    ":@,;=$",
    "<Key>",
    "=a&b=c",
    "?",
    "?acl",
    "A",
    "[a]{b}|^`",
    "\\",
    "a",
    "a b",
    "a+b",
    "a/",
    "a/../b",
    "a//b",
    "a?list-type=2",
    "part/0000000000000001/00001",
    "~-._",
    "\u{a0}\u{feff}",
    "\u{e4}\u{f6}\u{fc}",
    "\u{1f600}",
];

/// The HTTP library would drop it, and what follows it.
#[test]
fn a_raw_number_sign_is_refused_and_touches_no_other_object() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    for target in ["/bucket/a#b", "/bucket/#a", "/bucket#/a", "/bucket/a?x-id=GetObject#b"] {
        for (method, body) in [("GET", &b""[..]), ("DELETE", b""), ("PUT", b"other"), ("POST", b"<a/>")] {
            fails(&s3.ask(method, target, &[("x-amz-a", "b")], body), 400, "InvalidRequest");
        }
    }
    assert_eq!(s3.bytes("/bucket/a"), b"value");
    fails(&s3.get("/bucket/a%23b"), 404, "NoSuchKey");
}

#[test]
fn unusual_keys_are_valid() {
    let guarded = Guarded::new(ROOT, &[]);
    let (open_cluster, anybody) = open();
    let signed = guarded.client("root");
    assert!(KEYS.is_sorted());
    for (cluster, s3) in [(&guarded.cluster, &signed), (&open_cluster, &anybody)] {
        for key in KEYS {
            let target = format!("/bucket/{}", encode(key, "/"));
            s3.put(&target, key.as_bytes());
        }
        for key in KEYS {
            let target = format!("/bucket/{}", encode(key, "/"));
            assert_eq!(s3.bytes(&target), key.as_bytes(), "{key}");
            assert_eq!(s3.head(&target).status, 200, "{key}");
        }
        assert_eq!(s3.keys("bucket"), KEYS);
        let encoded = s3.get("/bucket?list-type=2&encoding-type=url").text();
        assert_eq!(xml::texts(&encoded, "Key"), KEYS.map(|key| encode(key, "/*")));
        // they can be copied and deleted by name
        for key in KEYS {
            let source = encode(&format!("bucket/{key}"), "/");
            let copied = s3.ask("PUT", "/other/copy", &[("x-amz-copy-source", &source)], b"");
            assert_eq!(copied.status, 200, "{key}: {}", copied.text());
            assert_eq!(s3.bytes("/other/copy"), key.as_bytes());
        }
        let (one_by_one, together) = KEYS.split_at(KEYS.len() / 2);
        for key in one_by_one {
            assert_eq!(s3.delete(&format!("/bucket/{}", encode(key, "/"))).status, 204, "{key}");
        }
        assert_eq!(s3.keys("bucket"), together);
        let deleted = s3.delete_all("bucket", together).text();
        assert_eq!(xml::texts(&deleted, "Key"), together, "{deleted}");
        assert!(s3.keys("bucket").is_empty());
        eventually_holds_only(cluster, &[("/other/copy", KEYS[KEYS.len() - 1].as_bytes())]);
    }
}

#[test]
fn a_key_is_its_decoded_path() {
    let (_cluster, s3) = open();
    for (target, key) in [
        ("/bucket/a+b", "a+b"),
        ("/bucket/a%2Bb", "a+b"),
        ("/bucket/a%2Fb", "a/b"),
        ("/bucket/a%2fb", "a/b"),
        ("/bucket%2Fa", "a"),
        ("/b%75cket/%61", "a"),
        ("/bucket/!$&'()*,;:@=[]", "!$&'()*,;:@=[]"),
        ("/bucket/a?x-id=PutObject", "a"),
        ("/bucket/%C3%A4", "\u{e4}"),
        ("/bucket/\u{e4}", "\u{e4}"),
    ] {
        s3.put(target, target.as_bytes());
        assert_eq!(s3.keys("bucket"), [key], "{target}");
        assert_eq!(s3.bytes(&format!("/bucket/{}", encode(key, ""))), target.as_bytes());
        assert_eq!(s3.delete(target).status, 204, "{target}");
        assert!(s3.keys("bucket").is_empty(), "{target}");
    }
}

#[test]
fn a_key_has_at_most_1024_bytes() {
    let (cluster, s3) = open();
    for long in ["a".repeat(1024), "\u{e4}".repeat(512), "a/".repeat(512), "?".repeat(1024)] {
        let target = format!("/bucket/{}", encode(&long, "/"));
        s3.put(&target, b"value");
        assert_eq!(s3.bytes(&target), b"value");
        assert_eq!(s3.keys("bucket"), [long.as_str()]);
        let upload = s3.begin(&target, &[]);
        let tag = s3.put_part(&target, &upload, 1, b"parts");
        assert_eq!(s3.complete(&target, &upload, &[tag]).status, 200);
        assert_eq!(s3.bytes(&target), b"parts");
        let target = format!("{target}a");
        fails(&s3.ask("PUT", &target, &[], b"value"), 400, "KeyTooLongError");
        fails(&s3.get(&target), 400, "KeyTooLongError");
        fails(&s3.delete(&target), 400, "KeyTooLongError");
        fails(&s3.ask("POST", &format!("{target}?uploads"), &[], b""), 400, "KeyTooLongError");
        let target = format!("/bucket/{}", encode(&long, "/"));
        assert_eq!(s3.delete(&target).status, 204);
    }
    eventually_holds_only(&cluster, &[]);
}

#[test]
fn invalid_keys_are_refused() {
    let (cluster, s3) = open();
    for bad in ["%FF", "a%C3", "%ED%A0%80", "%C0%AF"] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            fails(&s3.ask(method, &format!("/bucket/{bad}"), &[], b""), 400, "InvalidURI");
        }
        assert_eq!(s3.head(&format!("/bucket/{bad}")).status, 400);
    }
    // control characters would break lines
    for bad in ["%00", "a%0Ab", "%0D", "%09", "%1F", "%7F", "%C2%85", "%C2%9F"] {
        let target = format!("/bucket/{bad}");
        fails(&s3.ask("PUT", &target, &[], b"value"), 400, "InvalidArgument");
        fails(&s3.ask("POST", &format!("{target}?uploads"), &[], b""), 400, "InvalidArgument");
        s3.put("/other/a", b"value");
        let copied = s3.ask("PUT", &target, &[("x-amz-copy-source", "/other/a")], b"");
        fails(&copied, 400, "InvalidArgument");
        fails(&s3.get(&target), 404, "NoSuchKey");
        assert_eq!(s3.delete(&target).status, 204);
    }
    assert!(s3.keys("bucket").is_empty());
    eventually_holds_only(&cluster, &[("/other/a", b"value")]);
}

#[test]
fn names_of_buckets() {
    let good = ["abc", "a-b", "a.b.c", "0ab", &*"a".repeat(63)];
    let bad = [
        "ab",
        &*"a".repeat(64),
        "Abc",
        "a_b",
        "-abc",
        "abc-",
        ".abc",
        "a..b",
        "192.168.0.1",
        "xn--abc",
        "%C3%A4bc",
        "a%20b",
        "a%00b",
    ];
    // created buckets need S3's names, in either mode
    for mode in ["implicit", "strict"] {
        let cluster = cluster(&["--s3-buckets", mode]);
        let s3 = Client::of(&cluster.master);
        for name in good {
            assert_eq!(s3.ask("PUT", &format!("/{name}"), &[], b"").status, 200, "{name}");
        }
        for name in bad {
            fails(&s3.ask("PUT", &format!("/{name}"), &[], b""), 400, "InvalidBucketName");
        }
        let mut sorted = good;
        sorted.sort_unstable();
        assert_eq!(xml::texts(&s3.get("/").text(), "Name"), sorted);
    }
    // implicit buckets may have any segment as a name
    let (_cluster, s3) = open();
    for name in ["ab", "Abc", "a_b", "%C3%A4bc", "a%20b", ".", "..", "192.168.0.1"] {
        s3.put(&format!("/{name}/key"), b"value");
        assert_eq!(s3.bytes(&format!("/{name}/key")), b"value");
        assert_eq!(s3.keys(name), ["key"]);
        assert_eq!(s3.head(&format!("/{name}")).status, 200);
    }
    for name in ["", "a%00b", "a%0Ab", &*"a".repeat(256)] {
        fails(&s3.ask("PUT", &format!("/{name}/key"), &[], b"value"), 400, "InvalidBucketName");
    }
}

/// davkv doesn't support bucket names in `Host`, so that no `Host` hides a bucket.
#[test]
fn the_host_never_names_a_bucket() {
    let (_cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    for host in ["bucket.s3.example.com", "other", "other.localhost:3000", "[::1]", "", "*"] {
        let answer = s3.ask("GET", "/bucket/a", &[("host", host)], b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, "value"), "{host}");
    }
    for host in ["x y", "\"", "bucket/a"] {
        fails(&s3.ask("GET", "/bucket/a", &[("host", host)], b""), 400, "InvalidRequest");
    }
    // a request in HTTP/1.0 has no `Host`
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    connection.send(b"GET /bucket/a HTTP/1.0\r\nx-amz-a: b\r\n\r\n").unwrap();
    let answer = connection.receive("GET").unwrap();
    check(&answer, "GET");
    assert_eq!(answer.text(), "value");
}
