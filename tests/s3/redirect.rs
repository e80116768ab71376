//! `--s3-redirect`: readers are redirected to the volumes.

use crate::common::http::{get_url, request};
use crate::rig::{Client, cluster, etag, fails, tag_of, value};

#[test]
fn readers_are_redirected_to_a_volume() {
    let cluster = cluster(&["--s3-redirect"]);
    let s3 = Client::of(&cluster.master);
    let body = value(1, 10_000);
    s3.ask("PUT", "/bucket/a", &[("content-type", "text/plain"), ("x-amz-meta-a", "b")], &body);
    let upload = s3.begin("/bucket/parts", &[]);
    let tag = s3.put_part("/bucket/parts", &upload, 1, &body);
    assert_eq!(s3.complete("/bucket/parts", &upload, &[tag]).status, 200);
    for target in ["/bucket/a", "/bucket/parts", "/bucket/a?x-id=GetObject", "/bucket/a?versionId=null"] {
        let answer = s3.get(target);
        assert_eq!((answer.status, answer.header("content-length")), (307, Some("0")), "{}", answer.text());
        assert_eq!(etag(&answer), etag(&s3.head(target)));
        let location = answer.header("location").unwrap();
        assert!(cluster.volumes.iter().any(|volume| location.contains(&volume.addr())), "{location}");
        assert!(get_url(location).body == body);
    }
    // the client repeats its range at the volume
    let answer = s3.ask("GET", "/bucket/a", &[("range", "bytes=1-3")], b"");
    assert_eq!(answer.status, 307);
    let (addr, path) = answer.header("location").unwrap()["http://".len()..].split_once('/').unwrap();
    let part = request(addr, "GET", format!("/{path}"), &[("range", "bytes=1-3")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &body[1..4]));
    // the master answers a HEAD itself
    let answer = s3.head("/bucket/a");
    assert_eq!((answer.status, answer.header("location")), (200, None));
    assert_eq!(answer.header("content-length"), Some("10000"));
    assert_eq!(answer.header("x-amz-meta-a"), Some("b"));
    // and requests that a volume can't answer
    for target in ["/bucket/a?response-content-type=text%2Fhtml", "/bucket/parts?partNumber=1"] {
        let answer = s3.get(target);
        assert!([200, 206].contains(&answer.status), "{target}: {}", answer.status);
        assert!(answer.body == body, "{target}");
    }
}

#[test]
fn missing_objects_are_not_redirected() {
    let cluster = cluster(&["--s3-redirect"]);
    let s3 = Client::of(&cluster.master);
    let tag = s3.put("/bucket/a", b"value");
    fails(&s3.get("/bucket/none"), 404, "NoSuchKey");
    fails(&s3.ask("GET", "/bucket/a", &[("range", "bytes=9-")], b""), 416, "InvalidRange");
    fails(&s3.ask("GET", "/bucket/a", &[("if-match", &tag_of(b"x"))], b""), 412, "PreconditionFailed");
    assert_eq!(s3.ask("GET", "/bucket/a", &[("if-none-match", &tag)], b"").status, 304);
    // an empty object has files on volumes, too
    s3.put("/bucket/empty", b"");
    let answer = s3.get("/bucket/empty");
    assert_eq!(answer.status, 307);
    let found = get_url(answer.header("location").unwrap());
    assert_eq!((found.status, found.body.len()), (200, 0));
}

#[test]
fn without_the_flag_the_master_sends_the_bytes() {
    let (_cluster, s3) = crate::rig::open();
    s3.put("/bucket/a", b"value");
    let answer = s3.get("/bucket/a");
    assert_eq!((answer.status, answer.header("location"), answer.text().as_str()), (200, None, "value"));
}
