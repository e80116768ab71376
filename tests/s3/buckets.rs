//! Buckets: implicit and strict ones, and that no object is stored in a bucket that doesn't exist.

use std::collections::BTreeMap;
use std::sync::Barrier;

use crate::common::http::{Connection, head};
use crate::common::{Cluster, eventually};
use crate::rig::{Client, Halted, PATIENCE, cluster, completion, eventually_holds_only, fails, open, value};
use crate::xml;

fn strict() -> (Cluster, Client) {
    let cluster = cluster(&["--s3-buckets", "strict"]);
    let client = Client::of(&cluster.master);
    (cluster, client)
}

#[track_caller]
fn make(s3: &Client, bucket: &str) {
    let answer = s3.ask("PUT", bucket, &[], b"");
    assert_eq!((answer.status, answer.header("location")), (200, Some(bucket)), "{}", answer.text());
}

fn names(s3: &Client) -> Vec<String> {
    xml::texts(&s3.get("/").text(), "Name")
}

#[test]
fn an_implicit_bucket_exists_while_it_has_keys() {
    let (_cluster, s3) = open();
    assert!(names(&s3).is_empty());
    assert_eq!(s3.head("/bucket").status, 404);
    fails(&s3.get("/bucket?location"), 404, "NoSuchBucket");
    assert!(s3.keys("bucket").is_empty());
    s3.put("/bucket/a", b"value");
    assert_eq!(names(&s3), ["bucket"]);
    for target in ["/bucket", "/bucket/"] {
        let answer = s3.head(target);
        assert_eq!((answer.status, answer.header("x-amz-bucket-region")), (200, Some("us-east-1")));
        fails(&s3.delete(target), 409, "BucketNotEmpty");
    }
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert!(names(&s3).is_empty());
    fails(&s3.delete("/bucket"), 404, "NoSuchBucket");
    // unless it was created
    make(&s3, "/bucket");
    make(&s3, "/empty");
    s3.put("/bucket/a", b"value");
    fails(&s3.delete("/bucket"), 409, "BucketNotEmpty");
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert_eq!(names(&s3), ["bucket", "empty"]);
    assert_eq!(s3.delete("/bucket").status, 204);
    assert_eq!(names(&s3), ["empty"]);
}

#[test]
fn a_strict_bucket_must_be_created_first() {
    let (mut cluster, s3) = strict();
    make(&s3, "/bucket");
    s3.put("/bucket/a", b"value");
    let copy = [("x-amz-copy-source", "/bucket/a")];
    let from_none = [("x-amz-copy-source", "/none/a")];
    let attributes = [("x-amz-object-attributes", "ETag")];
    for (method, target, headers) in [
        ("GET", "/none", &[][..]),
        ("GET", "/none?list-type=2", &[]),
        ("GET", "/none?versions", &[]),
        ("GET", "/none?uploads", &[]),
        ("GET", "/none?location", &[]),
        ("GET", "/none?versioning", &[]),
        ("GET", "/none?acl", &[]),
        ("DELETE", "/none", &[]),
        ("GET", "/none/a", &[]),
        ("GET", "/none/a?acl", &[]),
        ("GET", "/none/a?attributes", &attributes),
        ("PUT", "/none/a", &[]),
        ("PUT", "/none/a", &copy),
        ("PUT", "/bucket/b", &from_none),
        ("DELETE", "/none/a", &[]),
        ("POST", "/none/a?uploads", &[]),
    ] {
        let answer = s3.ask(method, target, headers, b"");
        assert_eq!(answer.status, 404, "{method} {target}: {}", answer.text());
        fails(&answer, 404, "NoSuchBucket");
    }
    fails(&s3.delete_all("none", &["a"]), 404, "NoSuchBucket");
    for target in ["/none", "/none/a"] {
        assert_eq!(s3.head(target).status, 404);
    }
    // also after a restart
    fails(&s3.ask("PUT", "/bucket", &[], b""), 409, "BucketAlreadyOwnedByYou");
    cluster.master.restart();
    fails(&s3.ask("PUT", "/bucket", &[], b""), 409, "BucketAlreadyOwnedByYou");
    assert_eq!((names(&s3), s3.keys("bucket")), (vec!["bucket".to_owned()], vec!["a".to_owned()]));
    assert!(s3.get("/bucket?location").text().contains("<LocationConstraint"));
    assert!(s3.get("/bucket?versioning").text().contains("<VersioningConfiguration"));
    fails(&s3.delete("/bucket"), 409, "BucketNotEmpty");
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert_eq!(s3.delete("/bucket").status, 204);
    fails(&s3.get("/bucket"), 404, "NoSuchBucket");
    eventually_holds_only(&cluster, &[]);
}

#[test]
fn a_missing_bucket_is_reported_before_the_body_is_sent() {
    let (_cluster, s3) = strict();
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    let headers = [("expect", "100-continue"), ("x-amz-a", "b")];
    connection.send(&head(&s3.addr, "PUT", b"/none/a", &headers, 1 << 40)).unwrap();
    fails(&connection.receive_any("PUT").unwrap(), 404, "NoSuchBucket");
}

#[test]
fn deleting_a_bucket_ends_its_uploads() {
    let (cluster, s3) = strict();
    make(&s3, "/bucket");
    make(&s3, "/buckets");
    let kept = s3.begin("/buckets/a", &[]);
    let ended: Vec<_> = (0..3)
        .map(|n| {
            let target = format!("/bucket/{n}");
            let upload = s3.begin(&target, &[]);
            let tag = s3.put_part(&target, &upload, 1, b"part");
            (target, upload, tag)
        })
        .collect();
    assert_eq!(s3.delete("/bucket").status, 204);
    make(&s3, "/bucket");
    for (target, upload, tag) in ended {
        fails(&s3.complete(&target, &upload, &[tag]), 404, "NoSuchUpload");
    }
    eventually_holds_only(&cluster, &[]);
    let tag = s3.put_part("/buckets/a", &kept, 1, b"part");
    assert_eq!(s3.complete("/buckets/a", &kept, &[tag]).status, 200);
}

#[test]
fn a_bucket_with_a_write_under_way_cannot_be_deleted_and_blocks_nothing() {
    let (cluster, s3) = strict();
    make(&s3, "/bucket");
    let body = value(1, 100_000);
    let upload = Halted::begin(&s3, "/bucket/a", &[], &body);
    fails(&s3.delete("/bucket"), 409, "OperationAborted");
    // clients often create a bucket to make sure that it exists
    fails(&s3.ask("PUT", "/bucket", &[], b""), 409, "BucketAlreadyOwnedByYou");
    s3.put("/bucket/b", b"value");
    assert_eq!(s3.keys("bucket"), ["b"]);
    assert_eq!(upload.finish().status, 200);
    assert_eq!(s3.keys("bucket"), ["a", "b"]);
    // an upload whose client has disconnected ends soon
    drop(Halted::begin(&s3, "/bucket/a", &[], &body));
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert_eq!(s3.delete("/bucket/b").status, 204);
    eventually("the bucket can be deleted", PATIENCE, || s3.delete("/bucket").status == 204);
    eventually_holds_only(&cluster, &[]);
}

/// Stores an object in parts; returns the status of the first failed request, or 200.
fn put_in_parts(s3: &Client, target: &str) -> u16 {
    let begun = s3.ask("POST", &format!("{target}?uploads"), &[], b"");
    let Some(upload) = xml::text(&begun.text(), "UploadId") else { return begun.status };
    let stored = s3.ask("PUT", &format!("{target}?partNumber=1&uploadId={upload}"), &[], b"part");
    let Some(tag) = stored.header("etag") else { return stored.status };
    let target = format!("{target}?uploadId={upload}");
    s3.ask("POST", &target, &[], completion(&[tag.to_owned()]).as_bytes()).status
}

/// Whatever the order of the requests, no object exists without its bucket.
#[test]
fn no_object_is_left_in_a_deleted_bucket() {
    const ROUNDS: usize = 40;
    let (cluster, s3) = strict();
    make(&s3, "/sources");
    s3.put("/sources/a", b"copied");
    let mut outcomes = BTreeMap::<String, usize>::new();
    for _ in 0..ROUNDS {
        make(&s3, "/bucket");
        let begin = Barrier::new(4);
        let copy = [("x-amz-copy-source", "/sources/a")];
        let put = || s3.ask("PUT", "/bucket/put", &[], b"put").status;
        let copy = || s3.ask("PUT", "/bucket/copy", &copy, b"").status;
        let parts = || put_in_parts(&s3, "/bucket/parts");
        let writers: [&(dyn Fn() -> u16 + Sync); 3] = [&put, &copy, &parts];
        let (statuses, deleted) = std::thread::scope(|scope| {
            let begin = &begin;
            let writers = writers.map(|write| {
                scope.spawn(move || {
                    begin.wait();
                    write()
                })
            });
            begin.wait();
            let deleted = s3.delete("/bucket").status;
            (writers.map(|writer| writer.join().unwrap()), deleted)
        });
        let found = s3.ask("HEAD", "/bucket", &[], b"").status;
        assert_eq!(found, if deleted == 204 { 404 } else { 200 }, "deleted: {deleted}");
        assert!([204, 409].contains(&deleted), "{deleted}");
        let list = cluster.request("GET", "/bucket/?list", b"").text();
        for (status, key) in statuses.into_iter().zip(["put", "copy", "parts"]) {
            assert!([200, 404].contains(&status), "{key}: {status}");
            let stored = list.contains(&format!("\"/bucket/{key}\""));
            assert_eq!(stored, status == 200, "{key}: {status}, {list}");
            assert!(!stored || found == 200, "{key} is stored without its bucket: {list}");
            if stored {
                assert_eq!(s3.delete(&format!("/bucket/{key}")).status, 204);
            }
        }
        *outcomes.entry(format!("{statuses:?} {deleted}")).or_default() += 1;
        assert_eq!(s3.delete("/bucket").status, if deleted == 204 { 404 } else { 204 });
    }
    println!("{outcomes:?}");
    eventually_holds_only(&cluster, &[("/sources/a", b"copied")]);
}

#[test]
fn buckets_are_listed_in_pages() {
    let (cluster, s3) = open();
    let all: Vec<String> = (0..25).map(|n| format!("bucket-{n:02}")).collect();
    for (n, name) in all.iter().enumerate() {
        if n % 2 == 0 {
            make(&s3, &format!("/{name}"));
        } else {
            s3.put(&format!("/{name}/key"), b"value");
        }
    }
    assert_eq!(cluster.request("PUT", "/key", b"in no bucket").status, 201);
    assert_eq!(names(&s3), all);
    for most in [1, 7, 24, 25, 26] {
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let page = s3.get(&format!("/?max-buckets={most}{token}&x-id=ListBuckets")).text();
            let names = xml::texts(&page, "Name");
            assert!(names.len() <= most);
            listed.extend(names);
            match xml::text(&page, "ContinuationToken") {
                Some(next) => token = format!("&continuation-token={next}"),
                None => break,
            }
        }
        assert_eq!(listed, all, "{most}");
    }
    let page = s3.get("/?prefix=bucket-1&x-id=ListBuckets").text();
    assert_eq!(xml::texts(&page, "Name"), all[10..20]);
}
