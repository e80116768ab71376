//! Overwrites: each read returns one version of the object, completely.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::http::{Connection, head};
use crate::rig::{Client, Halted, eventually_holds_only, fails, open, tag_of, value};

const LARGE: usize = 48 << 20;

/// A reader that has read the answer's head and nothing else.
fn slow_reader(client: &Client, target: &str) -> Connection {
    let mut connection = Connection::open(None, &client.addr).unwrap();
    let headers = [("x-amz-a", "b"), ("connection", "close")];
    connection.send(&head(&client.addr, "GET", target.as_bytes(), &headers, 0)).unwrap();
    assert_eq!(connection.line().unwrap(), "HTTP/1.1 200 OK");
    while !connection.line().unwrap().is_empty() {}
    connection
}

#[test]
fn a_reader_gets_the_old_object_completely_despite_an_overwrite() {
    let (cluster, s3) = open();
    let (old, new) = (value(1, LARGE), value(2, 1000));
    s3.put("/bucket/a", &old);
    s3.put("/bucket/b", &old);
    let mut readers = [slow_reader(&s3, "/bucket/a"), slow_reader(&s3, "/bucket/b")];
    s3.put("/bucket/a", &new);
    assert_eq!(s3.bytes("/bucket/a"), new);
    assert_eq!(s3.delete("/bucket/b").status, 204);
    // also after the old files have been deleted
    eventually_holds_only(&cluster, &[("/bucket/a", &new)]);
    for reader in &mut readers {
        assert!(reader.rest().unwrap() == old, "the old object is incomplete or has wrong bytes");
    }
}

#[test]
fn an_object_is_unchanged_until_its_replacement_is_complete() {
    let (cluster, s3) = open();
    let (old, new) = (value(1, 10_000), value(2, 300_000));
    s3.put("/bucket/a", &old);
    let upload = Halted::begin(&s3, "/bucket/a", &[], &new);
    assert_eq!(s3.bytes("/bucket/a"), old);
    assert_eq!(s3.head("/bucket/a").header("etag"), Some(&*tag_of(&old)));
    assert_eq!(upload.finish().status, 200);
    assert_eq!(s3.bytes("/bucket/a"), new);
    // an interrupted upload changes nothing
    drop(Halted::begin(&s3, "/bucket/a", &[], &old));
    eventually_holds_only(&cluster, &[("/bucket/a", &new)]);
    assert_eq!(s3.bytes("/bucket/a"), new);
}

/// Tells the readers to stop, also when a writer panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn each_read_returns_exactly_one_write() {
    let (cluster, s3) = open();
    let (writing, reads) = (AtomicBool::new(true), AtomicUsize::new(0));
    s3.put("/bucket/a", &value(0, 1000));
    std::thread::scope(|scope| {
        let done = Done(&writing);
        let writers: Vec<_> = (1..=4)
            .map(|writer: u64| {
                let s3 = &s3;
                scope.spawn(move || {
                    for n in 0..30 {
                        let body =
                            value(writer * 1000 + n, usize::try_from(writer * 7000 * (n % 7)).unwrap());
                        assert_eq!(s3.put("/bucket/a", &body), tag_of(&body));
                    }
                })
            })
            .collect();
        for method in ["GET", "GET", "GET", "HEAD"] {
            let (s3, writing, reads) = (&s3, &writing, &reads);
            scope.spawn(move || {
                let mut sizes = std::collections::HashMap::new();
                while writing.load(Ordering::Relaxed) {
                    let answer = s3.ask(method, "/bucket/a", &[], b"");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let tag = answer.header("etag").unwrap().to_owned();
                    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
                    if method == "GET" {
                        assert_eq!((tag_of(&answer.body), answer.body.len()), (tag.clone(), length));
                    }
                    assert_eq!(*sizes.entry(tag).or_insert(length), length);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for writer in writers {
            writer.join().unwrap();
        }
        drop(done);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
    let last = s3.bytes("/bucket/a");
    eventually_holds_only(&cluster, &[("/bucket/a", &last)]);
}

/// The result is the same as if the slow write had finished just before the fast one.
#[test]
fn an_overtaken_write_succeeds() {
    let (cluster, s3) = open();
    let (slow, quick) = (value(1, 300_000), value(2, 1000));
    let upload = Halted::begin(&s3, "/bucket/a", &[], &slow);
    s3.put("/bucket/a", &quick);
    let answer = upload.finish();
    assert_eq!((answer.status, answer.header("etag")), (200, Some(&*tag_of(&slow))), "{}", answer.text());
    assert_eq!(s3.bytes("/bucket/a"), quick);
    eventually_holds_only(&cluster, &[("/bucket/a", &quick)]);
    // a deletion doesn't overtake it
    let upload = Halted::begin(&s3, "/bucket/a", &[], &slow);
    s3.put("/bucket/a", &quick);
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert_eq!(upload.finish().status, 200);
    assert_eq!(s3.bytes("/bucket/a"), slow);
    eventually_holds_only(&cluster, &[("/bucket/a", &slow)]);
}

#[test]
fn an_object_may_be_empty() {
    let (cluster, s3) = open();
    assert_eq!(s3.put("/bucket/a", b""), "\"d41d8cd98f00b204e9800998ecf8427e\"");
    for (range, status) in [("bytes=0-", 416), ("bytes=-1", 416), ("bytes=0-0", 416)] {
        let answer = s3.ask("GET", "/bucket/a", &[("range", range)], b"");
        assert!([status, 200].contains(&answer.status), "{range}: {}", answer.text());
        assert!(answer.status == 416 || answer.body.is_empty());
    }
    let answer = s3.get("/bucket/a");
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("0"), 0));
    assert_eq!(s3.head("/bucket/a").header("content-length"), Some("0"));
    assert!(s3.get("/bucket").text().contains("<Size>0</Size>"));
    // in both APIs
    assert_eq!(cluster.fetch("/bucket/a").status, 200);
    eventually_holds_only(&cluster, &[("/bucket/a", b"")]);
    // an empty object and a non-empty one can replace each other
    s3.put("/bucket/a", b"value");
    s3.put("/bucket/a", b"");
    assert_eq!(s3.bytes("/bucket/a"), b"");
    s3.put("/bucket/a", b"value");
    eventually_holds_only(&cluster, &[("/bucket/a", b"value")]);
    // an empty object can be copied
    s3.put("/bucket/empty", b"");
    let copied = s3.ask("PUT", "/bucket/a", &[("x-amz-copy-source", "/bucket/empty")], b"");
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(s3.bytes("/bucket/a"), b"");
    fails(
        &s3.ask("PUT", "/bucket/a", &[("content-length", "0"), ("content-md5", "x")], b""),
        400,
        "InvalidDigest",
    );
}
