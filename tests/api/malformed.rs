//! Requests that are malformed, truncated, or have unknown methods.

use std::collections::BTreeSet;

use crate::common::Cluster;
use crate::common::http::{Connection, Response};
use crate::rig::{cluster, cluster_with, keys, put, refused};

const METHODS: [&str; 7] = ["GET", "HEAD", "PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE"];

#[test]
fn other_methods_are_405_with_allow() {
    let cluster = cluster_with(&["/a"]);
    for method in ["POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "FOO", "get", "Put"] {
        let answer = cluster.request(method, "/a", b"");
        refused(&answer, 405);
        let allowed: BTreeSet<_> = answer.header("allow").unwrap().split(", ").collect();
        assert_eq!(allowed, BTreeSet::from(METHODS));
    }
}

/// Sends these bytes, and returns the first answer, and everything after it.
fn raw(addr: &str, bytes: &[u8]) -> std::io::Result<(Response, String)> {
    let mut connection = Connection::open(None, addr)?;
    // the server may refuse and close before it has read everything; its answer counts more than the failed
    // send
    let sent = connection.send(bytes);
    let answer = connection.receive("GET").map_err(|error| sent.err().unwrap_or(error))?;
    let rest = connection.finish().and_then(|()| connection.rest()).unwrap_or_default();
    Ok((answer, String::from_utf8_lossy(&rest).into_owned()))
}

#[test]
fn malformed_requests_are_4xx_and_do_no_harm() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let many_headers = "X: y\r\n".repeat(1000);
    let huge = "x".repeat(1 << 20);
    let requests = [
        // framing
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nvalue!",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5x\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nvalue",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nz\r\nvalue\r\n0\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nvalue\r\n0\r\n\r\n",
        // heads
        "GET /key HTTP/1.1\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\nA\0B: c\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n",
        &format!("GET /key HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n"),
        &format!("GET /key HTTP/1.1\r\nHost: x\r\nX: {huge}\r\n\r\n"),
        &format!("GET /{huge} HTTP/1.1\r\nHost: x\r\n\r\n"),
        &format!("{huge} /key HTTP/1.1\r\nHost: x\r\n\r\n"),
        // targets
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET key HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT evil:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT /key HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET evil:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /% HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET\r\n\r\n",
        "GET /key HTTP/9.9\r\nHost: x\r\n\r\n",
        "GET /key JUNK/1.1\r\nHost: x\r\n\r\n",
        "GET /key\r\n\r\n",
        // not HTTP at all
        "\0\0\0\0\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03\r\n\r\n",
        "hello\r\n\r\n",
        "{\"json\": true}\r\n\r\n",
    ];
    for request in requests {
        let shown: String = request.chars().take(200).collect();
        let (answer, rest) =
            raw(&addr, request.as_bytes()).unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(answer.status / 100, 4, "{shown:?}: {answer:?}");
        assert!(!rest.contains("HTTP/1.1 2") && !rest.contains("HTTP/1.1 3"), "{shown:?}: {rest:?}");
    }
    assert_unharmed(&cluster);
}

#[test]
fn truncated_requests_do_no_harm() {
    let cluster = cluster_with(&["/key"]);
    let addr = cluster.master.addr();
    for request in [
        "",
        "\r\n\r\n",
        "GET",
        "GET /key HTTP/1.1\r\nHost: x\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nval",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nval",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n",
        "PUT /new HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut connection = Connection::open(None, &addr).unwrap();
        connection.send(request.as_bytes()).unwrap();
        // an answer is allowed, but not required
        let answer = connection.finish().and_then(|()| connection.rest()).unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer:?}");
    }
    assert_unharmed(&cluster);
}

/// Asserts that the master is alive, has no key but `/key`, and never panicked.
#[track_caller]
fn assert_unharmed(cluster: &Cluster) {
    assert_eq!(cluster.request("GET", "/key", b"").status, 302);
    assert_eq!(keys(cluster, "/?list"), ["/key"]);
    assert!(!cluster.master.log().contains("panic"), "{}", cluster.master.log());
}

#[test]
fn chunked_framing_overrides_content_length_and_the_connection_closes() {
    let cluster = cluster_with(&["/key"]);
    let smuggling = "PUT /new HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                     5\r\nvalue\r\n0\r\n\r\nDELETE /key HTTP/1.1\r\nHost: x\r\n\r\n";
    let (answer, rest) = raw(&cluster.master.addr(), smuggling.as_bytes()).unwrap();
    assert_eq!((answer.status, rest.as_str()), (201, ""));
    assert_eq!(cluster.fetch("/new").text(), "value");
    assert_eq!(cluster.fetch("/key").status, 200);
}

#[test]
fn bytes_beyond_the_content_length_are_not_run_as_a_request() {
    let cluster = cluster();
    let bytes =
        b"PUT /key HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhelloGET /key HTTP/1.1\r\nHost: x\r\n\r\n";
    let (answer, rest) = raw(&cluster.master.addr(), bytes).unwrap();
    assert_eq!(answer.status, 201);
    assert!(!rest.contains("302"), "{rest}");
    assert_eq!(cluster.fetch("/key").text(), "he");
}

#[test]
fn http_1_0_is_served() {
    let cluster = cluster_with(&["/key"]);
    let (answer, _) = raw(&cluster.master.addr(), b"GET /key HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(answer.status, 302);
}
