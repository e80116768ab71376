//! Browsers: preflight requests, and the headers that let a page read the answers.

use crate::common::http::{Response, request};
use crate::rig::{Client, Guarded, check, cluster, fails, open};

const ORIGIN: &str = "https://page.example";
const FLAGS: [&str; 2] = ["--s3-cors", "https://page.example,http://other.example:8080"];

fn preflight(addr: &str, target: &str, origin: &str, headers: &[(&str, &str)]) -> Response {
    let all = [&[("origin", origin), ("access-control-request-method", "PUT")], headers].concat();
    request(addr, "OPTIONS", target, &all, b"")
}

#[track_caller]
fn allowed(answer: &Response, origin: &str) {
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin), "{answer:?}");
    assert_eq!(answer.header("vary"), Some("Origin"));
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(["ETag", "x-amz-request-id"].iter().all(|name| exposed.contains(name)), "{exposed}");
}

#[test]
fn a_preflight_of_an_allowed_origin_succeeds() {
    let cluster = cluster(&FLAGS);
    let addr = cluster.master.addr();
    // without a signature, for every target
    for target in ["/bucket/a", "/bucket", "/", "/bucket/a?partNumber=1&uploadId=x"] {
        for origin in [ORIGIN, "http://other.example:8080"] {
            let asked = [("access-control-request-headers", "authorization, x-amz-date")];
            let answer = preflight(&addr, target, origin, &asked);
            assert_eq!(answer.status, 200, "{}", answer.text());
            check(&answer, "OPTIONS");
            allowed(&answer, origin);
            assert_eq!(answer.header("access-control-allow-headers"), Some(asked[0].1));
            let methods = answer.header("access-control-allow-methods").unwrap();
            for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
                assert!(methods.contains(method), "{methods}");
            }
            assert!(answer.header("access-control-max-age").is_some());
        }
    }
    for origin in ["https://evil.example", "http://page.example", "https://page.example:8443", "null", ""] {
        let answer = preflight(&addr, "/bucket/a", origin, &[]);
        fails(&answer, 403, "AccessDenied");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_page_may_read_answers_if_its_origin_is_allowed() {
    let cluster = cluster(&FLAGS);
    let s3 = Client::of(&cluster.master);
    s3.put("/bucket/a", b"value");
    for (method, target, status) in [
        ("GET", "/bucket/a", 200),
        ("GET", "/bucket/none", 404),
        ("HEAD", "/bucket/a", 200),
        ("GET", "/bucket", 200),
    ] {
        let answer = s3.ask(method, target, &[("origin", ORIGIN)], b"");
        assert_eq!(answer.status, status);
        allowed(&answer, ORIGIN);
        for headers in [&[("origin", "https://evil.example")][..], &[]] {
            let answer = s3.ask(method, target, headers, b"");
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
}

#[test]
fn any_origin_may_be_allowed() {
    let cluster = cluster(&["--s3-cors", "*"]);
    let answer = preflight(&cluster.master.addr(), "/bucket/a", "https://any.example", &[]);
    assert_eq!(answer.status, 200);
    allowed(&answer, "https://any.example");
}

#[test]
fn only_a_preflight_needs_no_credentials() {
    let keys = "[[key]]\naccess = \"a\"\nsecret = \"a-secret\"\nbuckets = [\"*\"]\nallow = [\"admin\"]\n";
    let guarded = Guarded::new(keys, &FLAGS);
    let anybody = guarded.anybody();
    assert_eq!(preflight(&anybody.addr, "/bucket/a", ORIGIN, &[]).status, 200);
    let answer = anybody.ask("GET", "/bucket/a", &[("origin", ORIGIN)], b"");
    fails(&answer, 403, "AccessDenied");
    allowed(&answer, ORIGIN);
}

#[test]
fn without_the_flag_no_origin_is_allowed() {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    let answer = s3.ask("GET", "/bucket/a", &[("origin", ORIGIN)], b"");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
    // the native API answers as without CORS
    let answer = preflight(&cluster.master.addr(), "/bucket/a", ORIGIN, &[]);
    assert_eq!((answer.status, answer.header("x-amz-request-id")), (405, None));
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = preflight(&cluster.master.addr(), "/bucket/a", ORIGIN, &[("x-amz-a", "b")]);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (501, None));
}
