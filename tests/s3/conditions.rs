//! Conditional writes, also concurrent ones.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::http::{Connection, head};
use crate::rig::{Halted, etag, eventually_holds_only, fails, open, tag_of, value};
use crate::xml;

const CLIENTS: usize = 32;

#[test]
fn of_many_concurrent_creations_one_succeeds() {
    let (cluster, s3) = open();
    for round in 0..4 {
        let target = format!("/bucket/{round}");
        let winners: Vec<usize> = std::thread::scope(|scope| {
            let (s3, target) = (&s3, &target);
            let write = move |client: usize| {
                let body = value(client as u64, 1000 + client);
                let answer = s3.ask("PUT", target, &[("If-None-Match", "*")], &body);
                match answer.status {
                    200 => return Some(client),
                    409 => fails(&answer, 409, "ConditionalRequestConflict"),
                    _ => fails(&answer, 412, "PreconditionFailed"),
                }
                None
            };
            let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || write(client))).collect();
            clients.into_iter().filter_map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(winners.len(), 1, "{winners:?}");
        let won = value(winners[0] as u64, 1000 + winners[0]);
        assert_eq!(s3.bytes(&target), won);
        assert_eq!(s3.delete(&target).status, 204);
    }
    eventually_holds_only(&cluster, &[]);
}

#[test]
fn counters_lose_no_increment() {
    const COUNTERS: usize = 8;
    const COUNTS: usize = 10;
    let (cluster, s3) = open();
    s3.put("/bucket/counter", b"0");
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..COUNTERS {
            scope.spawn(|| {
                let mut counted = 0;
                while counted < COUNTS {
                    let found = s3.get("/bucket/counter");
                    let next = found.text().parse::<usize>().unwrap() + 1;
                    let condition = [("If-Match", &*etag(&found))];
                    let answer = s3.ask("PUT", "/bucket/counter", &condition, next.to_string().as_bytes());
                    match answer.status {
                        200 => counted += 1,
                        409 | 412 => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        _ => panic!("{}", answer.text()),
                    }
                }
            });
        }
    });
    println!("{} writes were refused", refused.load(Ordering::Relaxed));
    let total = (COUNTERS * COUNTS).to_string();
    assert_eq!(s3.bytes("/bucket/counter"), total.as_bytes());
    eventually_holds_only(&cluster, &[("/bucket/counter", total.as_bytes())]);
}

#[test]
fn a_write_takes_effect_only_if_its_condition_holds() {
    let (cluster, s3) = open();
    let put = |target: &str, condition: (&str, &str), body: &[u8]| s3.ask("PUT", target, &[condition], body);
    fails(&put("/bucket/a", ("If-Match", &tag_of(b"1")), b"2"), 404, "NoSuchKey");
    assert_eq!(put("/bucket/a", ("If-None-Match", "*"), b"1").status, 200);
    fails(&put("/bucket/a", ("If-None-Match", "*"), b"2"), 412, "PreconditionFailed");
    fails(&put("/bucket/a", ("If-Match", &tag_of(b"2")), b"2"), 412, "PreconditionFailed");
    assert_eq!(put("/bucket/a", ("If-Match", &tag_of(b"1")), b"2").status, 200);
    // with or without quotes
    assert_eq!(put("/bucket/a", ("If-Match", tag_of(b"2").trim_matches('"')), b"1").status, 200);
    for condition in [("If-Match", "*"), ("If-None-Match", "\"x\"")] {
        fails(&put("/bucket/a", condition, b"3"), 501, "NotImplemented");
    }
    let both = [("If-Match", "\"x\""), ("If-None-Match", "*")];
    fails(&s3.ask("PUT", "/bucket/a", &both, b"3"), 501, "NotImplemented");
    assert_eq!(s3.bytes("/bucket/a"), b"1");
    // deletions
    let delete = |condition| s3.ask("DELETE", "/bucket/a", &[("If-Match", condition)], b"");
    fails(&delete("\"x\""), 412, "PreconditionFailed");
    assert_eq!(delete(&tag_of(b"1")).status, 204);
    fails(&s3.get("/bucket/a"), 404, "NoSuchKey");
    eventually_holds_only(&cluster, &[]);
}

#[test]
fn a_condition_must_also_hold_at_the_end() {
    let (cluster, s3) = open();
    let body = value(1, 100_000);
    let tag = s3.put("/bucket/a", b"old");
    let first = Halted::begin(&s3, "/bucket/new", &[("If-None-Match", "*")], &body);
    let same = Halted::begin(&s3, "/bucket/a", &[("If-Match", &tag)], &body);
    s3.put("/bucket/new", b"other");
    s3.put("/bucket/a", b"other");
    for upload in [first, same] {
        let answer = upload.finish();
        assert!([409, 412].contains(&answer.status), "{}", answer.text());
    }
    // the value is gone, or is the same again
    let tag = tag_of(b"other");
    let gone = Halted::begin(&s3, "/bucket/a", &[("If-Match", &tag)], &body);
    assert_eq!(s3.delete("/bucket/a").status, 204);
    fails(&gone.finish(), 404, "NoSuchKey");
    eventually_holds_only(&cluster, &[("/bucket/new", b"other")]);
}

#[test]
fn a_refusal_is_sent_before_the_body() {
    let (_cluster, s3) = open();
    let tag = s3.put("/bucket/a", b"old");
    for (target, headers, status) in [
        ("/bucket/a", &[("If-None-Match", "*")][..], 412),
        ("/bucket/a", &[("If-Match", "\"x\"")], 412),
        ("/bucket/none", &[("If-Match", &*tag)], 404),
        ("/bucket/a?partNumber=1&uploadId=0", &[], 404),
        ("/bucket/a", &[("content-md5", "x")], 400),
        ("/bucket/a", &[("x-amz-acl", "public-read")], 501),
        ("/bucket/a?partNumber=1", &[], 400),
        ("/bucket/a?uploadId=1", &[], 400),
    ] {
        let mut connection = Connection::open(None, &s3.addr).unwrap();
        let headers = [headers, &[("expect", "100-continue"), ("x-amz-a", "b")]].concat();
        connection.send(&head(&s3.addr, "PUT", target.as_bytes(), &headers, 1 << 30)).unwrap();
        assert_eq!(connection.receive_any("PUT").unwrap().status, status, "{target} {headers:?}");
    }
    assert_eq!(s3.bytes("/bucket/a"), b"old");
}

#[test]
fn copies_may_have_conditions_on_source_and_target() {
    let (_cluster, s3) = open();
    let (source, target) = (s3.put("/bucket/source", b"source"), s3.put("/bucket/target", b"target"));
    let ago = "Mon, 01 Jan 2001 00:00:00 GMT";
    let copy = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("x-amz-copy-source", "bucket/source")]].concat();
        s3.ask("PUT", "/bucket/target", &headers, b"")
    };
    for headers in [
        &[("x-amz-copy-source-if-match", "\"x\"")][..],
        &[("x-amz-copy-source-if-none-match", &*source)],
        &[("x-amz-copy-source-if-unmodified-since", ago)],
        &[("If-None-Match", "*")],
        &[("If-Match", &*source)],
    ] {
        fails(&copy(headers), 412, "PreconditionFailed");
        assert_eq!(s3.bytes("/bucket/target"), b"target");
    }
    let headers = [("If-Match", &*target), ("x-amz-copy-source-if-match", &*source)];
    let copied = copy(&headers);
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(xml::text(&copied.text(), "ETag").unwrap(), source);
    assert_eq!(s3.bytes("/bucket/target"), b"source");
}
