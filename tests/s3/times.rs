//! When an object was written: to the millisecond in XML, to the second in headers.
//!
//! Clients that synchronise compare this time with that of their local file, which existed before the upload.
//! If the time were truncated to a second, the object would be older than its file.

use std::time::SystemTime;

use crate::common::Cluster;
use crate::rig::{Client, open};
use crate::xml;

/// The moment before the first request; no time in an answer may be before it.
struct Clock(SystemTime);

impl Clock {
    /// Asserts that the times of all elements of that name have milliseconds, and that none is before the
    /// moment.
    #[track_caller]
    fn check(&self, answer: &str, name: &str) {
        let times = xml::texts(answer, name);
        assert!(!times.is_empty(), "no {name} in {answer}");
        for time in times {
            assert_eq!(time.len(), "2026-11-30T13:25:25.123Z".len(), "{name} is {time}");
            assert!(parsed(&time) >= self.0, "{name} is {time}, and the request is of {:?}", self.0);
        }
    }
}

#[track_caller]
fn parsed(time: &str) -> SystemTime {
    humantime::parse_rfc3339(time).unwrap_or_else(|error| panic!("{time}: {error}"))
}

fn last_modified(s3: &Client) -> String {
    xml::text(&s3.get("/bucket?list-type=2").text(), "LastModified").unwrap()
}

/// A store with one object.
fn with_one() -> (Cluster, Client) {
    let (cluster, s3) = open();
    s3.put("/bucket/a", b"value");
    (cluster, s3)
}

#[test]
fn no_listed_object_is_older_than_its_request() {
    let (_cluster, s3) = open();
    // several rounds, so that some begin in the second half of a second
    for _ in 0..8 {
        let clock = Clock(SystemTime::now());
        s3.put("/bucket/a", b"value");
        for target in ["/bucket", "/bucket?list-type=2", "/bucket?versions"] {
            clock.check(&s3.get(target).text(), "LastModified");
        }
    }
}

#[test]
fn no_copy_is_older_than_its_request() {
    let (_cluster, s3) = with_one();
    let clock = Clock(SystemTime::now());
    let copied = s3.ask("PUT", "/other/b", &[("x-amz-copy-source", "/bucket/a")], b"").text();
    clock.check(&copied, "LastModified");
    clock.check(&s3.get("/other?list-type=2").text(), "LastModified");
}

#[test]
fn no_time_of_an_upload_in_parts_is_older_than_its_request() {
    let (_cluster, s3) = with_one();
    let clock = Clock(SystemTime::now());
    let upload = s3.begin("/parts/c", &[]);
    clock.check(&s3.get("/parts?uploads").text(), "Initiated");
    let clock = Clock(SystemTime::now());
    let tag = s3.put_part("/parts/c", &upload, 1, b"part");
    clock.check(&s3.get(&format!("/parts/c?uploadId={upload}")).text(), "LastModified");
    let clock = Clock(SystemTime::now());
    let part = format!("/parts/c?partNumber=2&uploadId={upload}");
    clock.check(&s3.ask("PUT", &part, &[("x-amz-copy-source", "/bucket/a")], b"").text(), "LastModified");
    let clock = Clock(SystemTime::now());
    s3.complete("/parts/c", &upload, &[tag]);
    clock.check(&s3.get("/parts?list-type=2").text(), "LastModified");
}

#[test]
fn no_bucket_is_older_than_its_request() {
    let (_cluster, s3) = open();
    let clock = Clock(SystemTime::now());
    assert_eq!(s3.ask("PUT", "/bucket", &[], b"").status, 200);
    clock.check(&s3.get("/").text(), "CreationDate");
}

#[test]
fn a_replacement_is_not_older_than_the_object() {
    let (_cluster, s3) = with_one();
    for n in 0..8_u8 {
        let before = last_modified(&s3);
        s3.put("/bucket/a", &[n]);
        let after = last_modified(&s3);
        assert!(parsed(&after) >= parsed(&before), "the time went back from {before} to {after}");
    }
}

/// A client that sends the object's `Last-Modified` has that object, although the header has no milliseconds.
#[test]
fn headers_and_conditions_ignore_milliseconds() {
    let (_cluster, s3) = with_one();
    let listed = parsed(&last_modified(&s3));
    let header = s3.head("/bucket/a").header("last-modified").unwrap().to_owned();
    let cut = listed.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let shown = httpdate::parse_http_date(&header).unwrap();
    assert_eq!(shown.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), cut);
    for (condition, status) in [("If-Modified-Since", 304), ("If-Unmodified-Since", 200)] {
        assert_eq!(s3.ask("GET", "/bucket/a", &[(condition, &header)], b"").status, status, "{condition}");
    }
    let copy_source = ("x-amz-copy-source", "/bucket/a");
    for (condition, status) in
        [("x-amz-copy-source-if-modified-since", 412), ("x-amz-copy-source-if-unmodified-since", 200)]
    {
        let answer = s3.ask("PUT", "/bucket/b", &[copy_source, (condition, &header)], b"");
        assert_eq!(answer.status, status, "{condition}: {}", answer.text());
    }
}
