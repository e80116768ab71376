//! PUT: what is stored, and what is refused.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use crate::common::http::{Connection, Response, request};
use crate::common::{Cluster, Fake, Master, Reply, eventually};
use crate::rig::{
    PATIENCE, cluster, eventually_no_files, half_an_upload, hex_md5, keys, put, refused, refuses, stored,
};

/// PUTs a value with a `Content-MD5`.
fn put_with_md5(cluster: &Cluster, target: &str, md5: &str, value: &[u8]) -> Response {
    request(&cluster.master.addr(), "PUT", target, &[("Content-MD5", md5)], value)
}

#[test]
fn put_stores_all_replicas() {
    let cluster = cluster();
    put(&cluster, "/key", b"value");
    let expected = [(b"/key".to_vec(), vec![b"value".to_vec(); 3])];
    assert_eq!(stored(&cluster), BTreeMap::from(expected));
}

#[test]
fn put_of_a_large_value_round_trips() {
    let cluster = cluster();
    let value: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_be_bytes).collect();
    put(&cluster, "/large", &value);
    assert!(cluster.fetch("/large").body == value);
}

#[test]
fn put_in_chunks_round_trips() {
    let cluster = cluster();
    let chunked = [("Transfer-Encoding", "chunked")];
    let body = b"3\r\nabc\r\n8;extension=1\r\ndefghijk\r\n0\r\nTrailer: x\r\n\r\n";
    let answer = request(&cluster.master.addr(), "PUT", "/key", &chunked, body);
    assert_eq!((answer.status, cluster.fetch("/key").text()), (201, "abcdefghijk".into()));
}

#[test]
fn put_answers_without_a_body() {
    let cluster = cluster();
    let answer = cluster.request("PUT", "/key", b"value");
    assert_eq!(
        (answer.status, answer.header("content-length"), answer.text()),
        (201, Some("0"), String::new())
    );
}

#[test]
fn put_of_an_existing_key_is_403() {
    let cluster = cluster();
    put(&cluster, "/key", b"first");
    refuses(&cluster, "PUT", "/key", b"second", 403);
    assert_eq!(cluster.fetch("/key").text(), "first");
}

#[test]
fn put_of_an_unlinked_key_replaces_it() {
    let cluster = cluster();
    put(&cluster, "/key", b"first");
    assert_eq!(cluster.request("UNLINK", "/key", b"").status, 204);
    put(&cluster, "/key", b"second");
    assert_eq!(cluster.fetch("/key").text(), "second");
}

#[test]
fn put_of_a_deleted_key_stores_it_again() {
    let cluster = cluster();
    put(&cluster, "/key", b"first");
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    put(&cluster, "/key", b"second");
    assert_eq!(cluster.fetch("/key").text(), "second");
}

#[test]
fn other_writes_to_a_key_that_is_being_written_are_409() {
    let cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    for method in ["PUT", "DELETE", "UNLINK", "RELINK", "REBALANCE"] {
        refuses(&cluster, method, "/key", b"x", 409);
    }
    upload.send(b"2").unwrap();
    assert_eq!(upload.receive("PUT").unwrap().status, 201);
    assert_eq!(cluster.fetch("/key").text(), "12");
}

#[test]
fn a_key_that_is_being_written_does_not_exist_yet() {
    let cluster = cluster();
    let _upload = half_an_upload(&cluster.master, "/key");
    refuses(&cluster, "GET", "/key", b"", 404);
    assert!(keys(&cluster, "/?list").is_empty());
}

#[test]
fn an_interrupted_upload_leaves_nothing() {
    let cluster = cluster();
    drop(half_an_upload(&cluster.master, "/key"));
    eventually("the key is free", PATIENCE, || cluster.request("PUT", "/key", b"whole").status == 201);
    assert_eq!(cluster.request("DELETE", "/key", b"").status, 204);
    eventually_no_files(&cluster);
}

#[test]
fn a_body_that_ends_early_is_400() {
    let cluster = cluster();
    let mut upload = half_an_upload(&cluster.master, "/key");
    upload.finish().unwrap();
    // the client may get an answer or a closed connection: both are legal
    if let Ok(answer) = upload.receive("PUT") {
        refused(&answer, 400);
    }
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn a_body_that_stalls_is_408() {
    let cluster = Cluster::new(3, &["--clienttimeout", "100ms"]);
    let mut upload = half_an_upload(&cluster.master, "/key");
    refused(&upload.receive("PUT").unwrap(), 408);
}

#[test]
fn put_of_an_empty_value_is_411() {
    let cluster = cluster();
    refuses(&cluster, "PUT", "/key", b"", 411);
}

#[test]
fn put_without_a_length_is_411() {
    let cluster = cluster();
    let mut connection = Connection::open(None, &cluster.master.addr()).unwrap();
    connection.send(b"PUT /key HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    refused(&connection.receive("PUT").unwrap(), 411);
}

#[test]
fn put_of_an_empty_value_in_chunks_is_411() {
    let cluster = cluster();
    let chunked = [("Transfer-Encoding", "chunked")];
    refused(&request(&cluster.master.addr(), "PUT", "/key", &chunked, b"0\r\n\r\n"), 411);
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn put_without_a_key_is_400() {
    let cluster = cluster();
    refuses(&cluster, "PUT", "/", b"value", 400);
}

#[test]
fn content_md5_is_base64_or_hex() {
    let cluster = cluster();
    let md5 = Md5::digest(b"value");
    let (base64, digits) = (STANDARD.encode(md5), hex_md5(b"value"));
    for (key, announced) in [("/a", &base64), ("/b", &digits), ("/c", &digits.to_uppercase())] {
        assert_eq!(put_with_md5(&cluster, key, announced, b"value").status, 201, "{announced}");
    }
}

/// curl -C sends this to resume an upload.
#[test]
fn a_partial_put_is_400_and_nothing_is_stored() {
    let cluster = cluster();
    let range = [("Content-Range", "bytes 5-9/10")];
    let answer = request(&cluster.master.addr(), "PUT", "/key", &range, b"value");
    assert_eq!((answer.status, answer.text().contains("send all of it")), (400, true));
    assert_eq!(cluster.request("GET", "/key", b"").status, 404);
}

#[test]
fn a_wrong_content_md5_is_400_and_nothing_is_stored() {
    let cluster = cluster();
    for announced in [STANDARD.encode(Md5::digest(b"other")), hex_md5(b"other")] {
        refused(&put_with_md5(&cluster, "/key", &announced, b"value"), 400);
    }
    refuses(&cluster, "GET", "/key", b"", 404);
    eventually_no_files(&cluster);
}

#[test]
fn a_malformed_content_md5_is_400() {
    let cluster = cluster();
    for announced in ["", "x", "d41d8cd98f00b204e9800998ecf8427", "AAAA", "gggggggggggggggggggggggggggggggg"]
    {
        refused(&put_with_md5(&cluster, "/key", announced, b"value"), 400);
    }
}

#[test]
fn content_md5_is_checked_even_if_md5s_are_not_stored() {
    let cluster = Cluster::new(3, &["--md5sum", "false"]);
    refused(&put_with_md5(&cluster, "/key", &hex_md5(b"other"), b"value"), 400);
    assert_eq!(put_with_md5(&cluster, "/key", &hex_md5(b"value"), b"value").status, 201);
    let answer = cluster.request("GET", "/key", b"");
    assert_eq!((answer.status, answer.header("content-md5"), answer.header("etag")), (302, None, None));
}

#[test]
fn put_with_too_few_volumes_is_503_with_retry_after() {
    let mut cluster = cluster();
    cluster.volumes[1].kill();
    let answer = cluster.request("PUT", "/key", b"value");
    refused(&answer, 503);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    refuses(&cluster, "GET", "/key", b"", 404);
}

#[test]
fn put_on_full_volumes_is_507() {
    let full = Fake::new(|request| Reply::Status(if request.method == "PUT" { 507 } else { 404 }));
    let tempdir = tempfile::tempdir().unwrap();
    let master = Master::start(&tempdir.path().join("db"), &[full.addr()], &["--replicas", "1"]);
    refused(&request(&master.addr(), "PUT", "/key", &[], b"value"), 507);
}
