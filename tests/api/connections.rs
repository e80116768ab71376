//! One connection: `100 Continue`, refusals before the body is read, many requests.

use crate::common::http::{Connection, head};
use crate::rig::{cluster, half_an_upload, put, refused};

#[test]
fn expect_100_continue_is_honoured() {
    let cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive_any("PUT").unwrap().status, 201);
}

#[test]
fn a_refusal_is_sent_instead_of_100_continue() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let targets = [("/key", 403), ("/%FF", 400), ("/a%", 400), ("/new?list", 400)];
    for (target, status) in targets {
        let mut connection = Connection::open(None, &addr).unwrap();
        let head = head(&addr, "PUT", target.as_bytes(), &[("Expect", "100-continue")], 5);
        connection.send(&head).unwrap();
        let refusal = connection.receive_any("PUT").unwrap();
        refused(&refusal, status);
        // the unread body would be taken for the next request
        assert_eq!(refusal.header("connection"), Some("close"), "{target}");
        assert!(connection.rest().unwrap().is_empty());
    }
}

#[test]
fn a_refusal_is_sent_before_the_body_is_read() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    connection.send(&head(&addr, "PUT", b"/key", &[], 1 << 40)).unwrap();
    refused(&connection.receive("PUT").unwrap(), 403);
}

#[test]
fn a_refused_client_that_sends_its_whole_body_first_reads_the_refusal() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    let value = vec![0; 8 << 20];
    connection.send(&head(&addr, "PUT", b"/key", &[], value.len())).unwrap();
    connection.send(&value).unwrap();
    refused(&connection.receive("PUT").unwrap(), 403);
}

#[test]
fn a_connection_serves_many_requests() {
    let cluster = cluster();
    let addr = cluster.master.addr();
    let mut connection = Connection::open(None, &addr).unwrap();
    let requests: [(&str, &[u8], u16); 6] = [
        ("PUT", b"value", 201),
        ("PUT", b"other", 403),
        ("GET", b"", 302),
        ("HEAD", b"", 302),
        ("DELETE", b"", 204),
        ("GET", b"", 404),
    ];
    for (method, body, status) in requests {
        connection.send(&[&head(&addr, method, b"/key", &[], body.len()), body].concat()).unwrap();
        assert_eq!(connection.receive(method).unwrap().status, status, "{method}");
    }
}
