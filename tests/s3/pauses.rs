//! Clients that pause in the middle of an object, over volumes that are less patient than ours.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::common::http::{Connection, head};
use crate::common::{Master, Volume, eventually};
use crate::rig::{Client, PATIENCE, fails, tag_of, value};

/// More than all buffers between a volume and the client hold.
const LARGE: usize = 64 << 20;

/// One volume with these times of nginx's, and a master over it.
fn impatient(edits: &[(&str, &str)], flags: &[&str]) -> (Master, Volume, tempfile::TempDir) {
    let tempdir = tempfile::tempdir().unwrap();
    let volume = Volume::start_edited(&tempdir.path().join("volume"), edits);
    let flags = [&["--replicas", "1"], flags].concat();
    let master = Master::start(&tempdir.path().join("db"), &[volume.addr()], &flags);
    (master, volume, tempdir)
}

/// Waits until the volume has an answer that nobody reads, and has hung up for that.
fn until_it_hangs_up(volume: &Volume) {
    eventually("the volume waits for its reader", PATIENCE, || volume.blocked_answers() > 0);
    eventually("the volume has hung up", PATIENCE, || volume.blocked_answers() == 0);
}

#[test]
fn a_reader_that_pauses_for_longer_than_its_volume_waits_gets_all_of_the_object() {
    let (master, volume, _tempdir) = impatient(&[("send_timeout 150s", "send_timeout 1s")], &[]);
    let s3 = Client::of(&master);
    let body = value(1, LARGE);
    s3.put("/bucket/a", &body);
    let mut stream = TcpStream::connect(&s3.addr).unwrap();
    let headers = [("x-amz-a", "b"), ("connection", "close")];
    stream.write_all(&head(&s3.addr, "GET", b"/bucket/a", &headers, 0)).unwrap();
    until_it_hangs_up(&volume);
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
    }
    let mut got = vec![0; LARGE / 4];
    stream.read_exact(&mut got).unwrap();
    // a second pause, as the volume has the rest ready again
    until_it_hangs_up(&volume);
    stream.read_to_end(&mut got).unwrap();
    assert!(got == body, "{} bytes", got.len());
    let log = master.log();
    assert!(!log.contains("can't be read to its end") && !log.contains("volume is down"), "{log}");
}

#[test]
fn an_uploader_that_pauses_is_answered_before_its_volume_hangs_up() {
    let edits = [("client_body_timeout 60s", "client_body_timeout 6s")];
    let (master, _volume, _tempdir) = impatient(&edits, &["--clienttimeout", "3s", "--streamtimeout", "1s"]);
    let s3 = Client::of(&master);
    let body = value(2, 8 << 20);
    let begin = |target: &str| {
        let mut connection = Connection::open(None, &s3.addr).unwrap();
        connection.send(&head(&s3.addr, "PUT", target.as_bytes(), &[("x-amz-a", "b")], body.len())).unwrap();
        connection.send(&body[..1 << 20]).unwrap();
        connection
    };
    let (mut stays_away, mut comes_back) = (begin("/bucket/a"), begin("/bucket/b"));
    // half as long as a client may pause
    std::thread::sleep(std::time::Duration::from_millis(1500));
    comes_back.send(&body[1 << 20..]).unwrap();
    let answer = comes_back.receive("PUT").unwrap();
    assert_eq!((answer.status, answer.header("etag")), (200, Some(&*tag_of(&body))), "{}", answer.text());
    fails(&stays_away.receive("PUT").unwrap(), 400, "RequestTimeout");
    let log = master.log();
    assert!(!log.contains("replica not written"), "{log}");
}
