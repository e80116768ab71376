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
        "GET /key HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET /key HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET http://x/key HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x y\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x/y\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x@y\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x, y\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x#y\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: ÿ\r\n\r\n",
        "GET /key HTTP/1.1\r\nHost: x\u{7f}\r\n\r\n",
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
        "GET /key#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /key# HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /#key HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET #/key HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /?list#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /?alive#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://x/key#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://x#/key HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /key#part HTTP/1.0\r\n\r\n",
        "\r\nGET /key#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "DELETE /key#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "UNLINK /key#part HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /new#part HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nvalue",
        "PUT /new#part HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /key  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /key x HTTP/1.1\r\nHost: x\r\n\r\n",
        "DELETE /key\u{1} HTTP/1.1\r\nHost: x\r\n\r\n",
        "DELETE /key\u{7f} HTTP/1.1\r\nHost: x\r\n\r\n",
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

/// hyper drops a fragment without a word; each answer is the one to the request as it was sent, in whatever pieces.
#[test]
fn a_fragment_is_refused_with_its_remedy_and_the_connection_goes_on() {
    let cluster = cluster_with(&["/a", "/a#b"]);
    let mut connection = Connection::open(None, &cluster.master.addr()).unwrap();
    let mut ask = |method: &str, rest: &str| {
        for piece in format!("{method} {rest}").into_bytes().chunks(7) {
            connection.send(piece).unwrap();
        }
        connection.receive(method).unwrap()
    };
    for method in ["GET", "DELETE", "GET"] {
        let answer = ask(method, "/a#b HTTP/1.1\r\nHost: x\r\n\r\n");
        refused(&answer, 400);
        assert!(answer.text().contains("%23"), "{}", answer.text());
        assert_eq!(ask("GET", "/a HTTP/1.1\r\nHost: x\r\nX: #\r\n\r\n").status, 302);
        assert_eq!(ask("GET", "/a%23b HTTP/1.1\r\nHost: x\r\n\r\n").status, 302);
        let put = "/a#c HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nvalue\r\n\r\n";
        refused(&ask("PUT", put), 400);
    }
    assert_eq!(keys(&cluster, "/?list"), ["/a", "/a#b"]);
    assert_eq!(ask("PUT", "/c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n#\n#").status, 201);
    assert_eq!(ask("GET", "/c HTTP/1.1\r\nHost: x\r\n\r\n").status, 302);
    let chunks = "/d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n#\n#\r\n0\r\n\r\n";
    assert_eq!(ask("PUT", chunks).status, 201);
    assert_eq!(ask("GET", "/d HTTP/1.1\r\nHost: x\r\n\r\n").status, 302);
    refused(&ask("GET", "/d#e HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
}

/// Where it isn't known how the next request began, it isn't run.
#[test]
fn a_request_that_came_with_the_end_of_another_one_is_not_run() {
    let cluster = cluster_with(&["/a"]);
    for first in [
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        "PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        "PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n",
    ] {
        let both = format!("{first}DELETE /a#b HTTP/1.1\r\nHost: x\r\n\r\n");
        let (answer, rest) = raw(&cluster.master.addr(), both.as_bytes()).unwrap();
        assert!(matches!(answer.status, 201 | 302), "{first}: {answer:?}");
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400"), "{first}: {rest}");
        assert_eq!(cluster.fetch("/a").text(), "/a");
    }
}

#[test]
fn an_empty_host_and_an_address_are_hosts() {
    let cluster = cluster_with(&["/key"]);
    for host in ["", "x", "x:80", "127.0.0.1:3000", "[::1]:3000", "a-b.c_d%41"] {
        let request = format!("GET /key HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(raw(&cluster.master.addr(), request.as_bytes()).unwrap().0.status, 302, "{host:?}");
    }
}

#[test]
fn http_1_0_is_served() {
    let cluster = cluster_with(&["/key"]);
    let (answer, _) = raw(&cluster.master.addr(), b"GET /key HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(answer.status, 302);
}
