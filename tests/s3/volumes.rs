//! Volumes that are down, that fail midway, or whose files are damaged.

use std::fs;

use crate::common::http::{Connection, head};
use crate::common::{Cluster, Volume, eventually};
use crate::rig::{Client, PATIENCE, cluster, eventually_holds_only, fails, tag_of, value};
use crate::xml;

const LARGE: usize = 48 << 20;

fn brief() -> (Cluster, Client) {
    let cluster = cluster(&["--voltimeout", "500ms", "--streamtimeout", "2s"]);
    let client = Client::of(&cluster.master);
    (cluster, client)
}

#[test]
fn writes_need_all_volumes_and_reads_one() {
    let (mut cluster, s3) = brief();
    let tag = s3.put("/bucket/a", b"value");
    let upload = s3.begin("/bucket/b", &[]);
    let part = s3.put_part("/bucket/b", &upload, 1, b"part");
    cluster.volumes[0].kill();
    let refused = |answer: &crate::common::Response| {
        fails(answer, 503, "ServiceUnavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
    };
    refused(&s3.ask("PUT", "/bucket/a", &[], b"other"));
    refused(&s3.ask("PUT", "/bucket/c", &[("x-amz-copy-source", "/bucket/a")], b""));
    refused(&s3.ask("PUT", &format!("/bucket/b?partNumber=2&uploadId={upload}"), &[], b"part"));
    refused(&s3.complete("/bucket/b", &upload, std::slice::from_ref(&part)));
    for _ in 0..6 {
        assert_eq!(s3.bytes("/bucket/a"), b"value");
    }
    assert_eq!(s3.keys("bucket"), ["a"]);
    cluster.volumes[1].kill();
    for _ in 0..6 {
        assert_eq!(s3.bytes("/bucket/a"), b"value");
    }
    cluster.volumes[2].kill();
    let answer = s3.get("/bucket/a");
    refused(&answer);
    // the master answers from the index
    assert_eq!(s3.head("/bucket/a").header("etag"), Some(&*tag));
    assert_eq!(s3.keys("bucket"), ["a"]);
    for volume in &mut cluster.volumes {
        volume.restart();
    }
    eventually("all volumes are in use again", PATIENCE, || {
        s3.complete("/bucket/b", &upload, std::slice::from_ref(&part)).status == 200
    });
    eventually_holds_only(&cluster, &[("/bucket/a", b"value"), ("/bucket/b", b"part")]);
}

#[test]
fn a_deletion_needs_no_volume() {
    let (mut cluster, s3) = brief();
    s3.put("/bucket/a", b"value");
    s3.put("/bucket/b", b"value");
    for volume in &mut cluster.volumes {
        volume.kill();
    }
    assert_eq!(s3.delete("/bucket/a").status, 204);
    assert_eq!(xml::texts(&s3.delete_all("bucket", &["b"]).text(), "Key"), ["b"]);
    assert!(s3.keys("bucket").is_empty());
    for volume in &mut cluster.volumes {
        volume.restart();
    }
    eventually_holds_only(&cluster, &[]);
}

/// The volume that waits for its reader: only its connection has unsent bytes.
#[track_caller]
fn serving(cluster: &Cluster) -> usize {
    let port = |volume: &Volume| volume.addr().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let mut found = None;
    eventually("a volume waits for its reader", PATIENCE, || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let waits = |volume: &Volume| {
            let own = format!(":{:04X}", port(volume));
            table.lines().any(|line| {
                // NUMBER: LOCAL REMOTE STATE SENT:RECEIVED …
                let columns: Vec<&str> = line.split_whitespace().collect();
                columns[1].ends_with(&own) && columns[3] == "01" && !columns[4].starts_with("00000000:")
            })
        };
        found = cluster.volumes.iter().position(waits);
        found.is_some()
    });
    found.unwrap()
}

/// How often a read moved to another volume in the middle of an object.
fn failovers(cluster: &Cluster) -> usize {
    cluster.master.log().matches("a replica can't be read to its end").count()
}

#[test]
fn a_read_continues_at_another_volume() {
    let (mut cluster, s3) = brief();
    let body = value(1, LARGE);
    let range = format!("bytes=1000-{}", LARGE - 1001);
    for (headers, part) in [(&[][..], &body[..]), (&[("range", &*range)], &body[1000..LARGE - 1000])] {
        for round in 0..3 {
            // of one object, the log is told once a minute
            let key = format!("/bucket/{}-{round}", part.len());
            s3.put(&key, &body);
            let mut connection = Connection::open(None, &s3.addr).unwrap();
            let headers = [headers, &[("x-amz-a", "b"), ("connection", "close")]].concat();
            connection.send(&head(&s3.addr, "GET", key.as_bytes(), &headers, 0)).unwrap();
            let status = connection.line().unwrap();
            assert!(status.starts_with("HTTP/1.1 20"), "{status}");
            while !connection.line().unwrap().is_empty() {}
            // the object exceeds the buffers between the volume and its reader
            let killed = serving(&cluster);
            let before = failovers(&cluster);
            cluster.volumes[killed].kill();
            assert!(connection.rest().unwrap() == part, "round {round}: without volume {killed}");
            cluster.volumes[killed].restart();
            assert_eq!(failovers(&cluster), before + 1, "{}", cluster.master.log());
        }
    }
}

#[test]
fn a_read_that_cannot_continue_is_truncated() {
    let (mut cluster, s3) = brief();
    let body = value(1, LARGE);
    s3.put("/bucket/a", &body);
    let mut connection = Connection::open(None, &s3.addr).unwrap();
    connection.send(&head(&s3.addr, "GET", b"/bucket/a", &[("x-amz-a", "b")], 0)).unwrap();
    assert_eq!(connection.line().unwrap(), "HTTP/1.1 200 OK");
    while !connection.line().unwrap().is_empty() {}
    for volume in &mut cluster.volumes {
        volume.kill();
    }
    // the answer ends before its announced length
    let read = connection.rest().map_or(0, |bytes| bytes.len());
    assert!(read < LARGE, "{read}");
    eventually("the truncated answer is logged", PATIENCE, || {
        cluster.master.log().contains("an answer broke off")
    });
}

#[test]
fn damage_is_not_absence() {
    let (cluster, s3) = brief();
    let body = value(1, 100_000);
    s3.put("/bucket/a", &body);
    // truncate replicas, as a power cut of a volume may; reads use the others
    for (n, volume) in cluster.volumes.iter().enumerate() {
        let path = volume.dir().join(&volume.paths()[0]);
        fs::write(path, &body[..50_000]).unwrap();
        if n < 2 {
            for _ in 0..4 {
                assert!(s3.bytes("/bucket/a") == body);
            }
        }
    }
    fails(&s3.get("/bucket/a"), 500, "InternalError");
    let copied = s3.ask("PUT", "/bucket/b", &[("x-amz-copy-source", "/bucket/a")], b"");
    fails(&copied, 500, "InternalError");
    assert_eq!(s3.head("/bucket/a").header("etag"), Some(&*tag_of(&body)));
    let log = cluster.master.log();
    assert!(log.contains("replica missing, torn or stale"), "{log}");
    assert!(log.lines().any(|line| line.contains("InternalError") && line.contains("damaged")), "{log}");
    // overwriting repairs the object
    s3.put("/bucket/a", &body);
    assert!(s3.bytes("/bucket/a") == body);
}
